use super::model::{Field, Model, Shape, Type};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// How long a line may be.
const LINE: usize = 120;

/// Words of the language that are names in the schema.
const KEYWORDS: [&str; 3] = ["from", "class", "in"];

impl Model {
    /// As a module of Python: `TypedDict`s, because frames are what `json` reads.
    pub(crate) fn python(&self) -> String {
        let mut text = "\"\"\"Made from the schema of the wire and of reports; the tests say how it is made anew.\"\"\"\n\n\
            from __future__ import annotations\n\n\
            from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict\n\n\
            if TYPE_CHECKING:\n    from typing_extensions import NotRequired\n"
            .to_owned();
        // Bases and the members of aliases are looked up when the module is loaded: those first.
        let mut printed = BTreeSet::new();
        for name in self.items.keys() {
            self.python_item(&mut text, name, &mut printed);
        }
        // Two empty lines around a class, however it stands to what comes before and after.
        while text.contains("\n\n\n\n") {
            text = text.replace("\n\n\n\n", "\n\n\n");
        }
        text.trim_end().to_owned() + "\n"
    }

    fn python_item<'a>(
        &'a self,
        text: &mut String,
        name: &'a str,
        printed: &mut BTreeSet<&'a str>,
    ) {
        if !printed.insert(name) {
            return;
        }
        let item = &self.items[name];
        match &item.shape {
            Shape::Alias(of) => {
                for named in names(of) {
                    self.python_item(text, named, printed);
                }
                write!(text, "\n{name}: TypeAlias = {}\n", alias(of)).unwrap();
                doc(text, "", &item.doc);
            }
            Shape::Object { bases, fields } => {
                for base in bases {
                    self.python_item(text, base, printed);
                }
                object(text, name, &item.doc, bases, fields);
            }
        }
    }
}

fn object(text: &mut String, name: &str, words: &str, bases: &[String], fields: &[Field]) {
    if fields.iter().any(|field| KEYWORDS.contains(&field.name.as_str())) {
        return with_keywords(text, name, words, fields);
    }
    let bases = if bases.is_empty() { "TypedDict".to_owned() } else { bases.join(", ") };
    write!(text, "\n\nclass {name}({bases}):\n").unwrap();
    doc(text, "    ", words);
    if !words.is_empty() && !fields.is_empty() {
        text.push('\n');
    }
    for field in fields {
        writeln!(text, "    {}: {}", field.name, printed(field)).unwrap();
        doc(text, "    ", &field.doc);
    }
    if fields.is_empty() && words.is_empty() {
        text.push_str("    pass\n");
    }
    text.push('\n');
}

/// A class cannot have a field of such a name.
fn with_keywords(text: &mut String, name: &str, words: &str, fields: &[Field]) {
    write!(text, "\n\n{name} = TypedDict(\n    \"{name}\",\n    {{\n").unwrap();
    for field in fields {
        writeln!(text, "        {:?}: {:?},", field.name, printed(field)).unwrap();
    }
    text.push_str("    },\n)\n");
    doc(text, "", words);
    text.push_str("\n\n");
}

/// As docstrings are: on lines that are not too long.
fn doc(text: &mut String, indent: &str, words: &str) {
    if words.is_empty() {
        return;
    }
    let mut line = format!("{indent}\"\"\"");
    let begins = line.len();
    for word in words.split_whitespace() {
        let first = line.len() == begins || line == indent;
        if line.len() + word.len() + "\"\"\"".len() >= LINE {
            writeln!(text, "{line}").unwrap();
            indent.clone_into(&mut line);
        } else if !first {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(text, "{line}\"\"\"").unwrap();
}

fn printed(field: &Field) -> String {
    let of = print(&field.of);
    if field.required { of } else { format!("NotRequired[{of}]") }
}

/// The right side of an alias, over several lines where it is long.
fn alias(of: &Type) -> String {
    let line = print(of);
    if line.len() + 40 <= LINE {
        return line;
    }
    let Type::Union(members) = of else {
        return line;
    };
    if members.iter().all(|member| matches!(member, Type::Literal(_))) {
        let members = members.iter().map(|member| match member {
            Type::Literal(value) => format!("    {value:?},\n"),
            _ => String::new(),
        });
        return format!("Literal[\n{}]", members.collect::<String>());
    }
    let members: Vec<String> = members.iter().map(print).collect();
    format!("(\n    {}\n)", members.join("\n    | "))
}

fn print(of: &Type) -> String {
    match of {
        Type::Named(name) => name.clone(),
        Type::Literal(value) => format!("Literal[{value:?}]"),
        Type::Text => "str".to_owned(),
        Type::Integer => "int".to_owned(),
        Type::Number => "float".to_owned(),
        Type::Boolean => "bool".to_owned(),
        Type::Null => "None".to_owned(),
        Type::Anything => "object".to_owned(),
        Type::List(of) => format!("list[{}]", print(of)),
        Type::Union(members) if members.iter().all(|of| matches!(of, Type::Literal(_))) => {
            let values = members.iter().map(|of| match of {
                Type::Literal(value) => format!("{value:?}"),
                _ => String::new(),
            });
            format!("Literal[{}]", values.collect::<Vec<_>>().join(", "))
        }
        Type::Union(members) => members.iter().map(print).collect::<Vec<_>>().join(" | "),
    }
}

fn names(of: &Type) -> Vec<&str> {
    match of {
        Type::Named(name) => vec![name],
        Type::List(of) => names(of),
        Type::Union(members) => members.iter().flat_map(names).collect(),
        _ => Vec::new(),
    }
}
