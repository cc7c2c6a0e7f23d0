use super::model::{Field, Model, Shape, Type};
use std::fmt::Write as _;

impl Model {
    /// As a module of TypeScript.
    pub(crate) fn typescript(&self) -> String {
        let head = "// Made from the schema of the wire and of reports; the tests say how it is made anew.\n";
        let mut text = head.to_owned();
        for (name, item) in &self.items {
            text.push('\n');
            doc(&mut text, "", &item.doc);
            match &item.shape {
                Shape::Alias(of) => writeln!(text, "export type {name} = {};", print(of)),
                Shape::Object { bases, fields } => object(&mut text, name, bases, fields),
            }
            .unwrap();
        }
        text
    }
}

fn object(text: &mut String, name: &str, bases: &[String], fields: &[Field]) -> std::fmt::Result {
    let extends =
        if bases.is_empty() { String::new() } else { format!(" extends {}", bases.join(", ")) };
    writeln!(text, "export interface {name}{extends} {{")?;
    for field in fields {
        doc(text, "  ", &field.doc);
        let may = if field.required { "" } else { "?" };
        writeln!(text, "  {}{may}: {};", field.name, print(&field.of))?;
    }
    writeln!(text, "}}")
}

fn doc(text: &mut String, indent: &str, words: &str) {
    if words.is_empty() {
        return;
    }
    writeln!(text, "{indent}/** {} */", words.replace('\n', &format!("\n{indent} * "))).unwrap();
}

fn print(of: &Type) -> String {
    match of {
        Type::Named(name) => name.clone(),
        Type::Literal(value) => format!("{value:?}"),
        Type::Text => "string".to_owned(),
        Type::Integer | Type::Number => "number".to_owned(),
        Type::Boolean => "boolean".to_owned(),
        Type::Null => "null".to_owned(),
        Type::Anything => "unknown".to_owned(),
        Type::List(of) => format!("({})[]", print(of)).replace("(string)[]", "string[]"),
        Type::Union(members) => members.iter().map(print).collect::<Vec<_>>().join(" | "),
    }
}
