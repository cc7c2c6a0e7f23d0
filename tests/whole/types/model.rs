//! What the schema declares, without a language.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// All declarations, by name.
pub(crate) struct Model {
    pub(super) items: BTreeMap<String, Item>,
}

/// A named type.
pub(super) struct Item {
    pub(super) doc: String,
    pub(super) shape: Shape,
}

pub(super) enum Shape {
    Alias(Type),
    /// Fields, and what they are added to.
    Object {
        bases: Vec<String>,
        fields: Vec<Field>,
    },
}

pub(super) struct Field {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) required: bool,
    pub(super) of: Type,
}

#[derive(PartialEq)]
pub(super) enum Type {
    Named(String),
    Literal(String),
    Text,
    Integer,
    Number,
    Boolean,
    Null,
    Anything,
    List(Box<Self>),
    Union(Vec<Self>),
}

impl Model {
    /// Reads `$defs`; `tagged` names the choices whose members are told apart by one field, with what the members'
    /// names are made of: the field, what comes before, and what comes behind.
    pub(crate) fn read(
        definitions: &Map<String, Value>,
        tagged: &[(&str, (&str, &str, &str))],
    ) -> Self {
        let mut model = Self { items: BTreeMap::new() };
        for (name, schema) in definitions {
            let naming = tagged.iter().find(|(of, _)| of == name).map(|(_, naming)| *naming);
            match naming {
                Some(naming) => model.choice(name, schema, naming),
                None => model.define(name, schema),
            }
        }
        model
    }

    fn add(&mut self, name: &str, schema: &Value, shape: Shape) {
        let doc = schema["description"].as_str().unwrap_or_default().to_owned();
        let before = self.items.insert(name.to_owned(), Item { doc, shape });
        assert!(before.is_none(), "{name} is there twice");
    }

    fn define(&mut self, name: &str, schema: &Value) {
        let shape = if schema["properties"].is_object() {
            Shape::Object { bases: Vec::new(), fields: self.fields(name, schema) }
        } else {
            Shape::Alias(self.of(name, schema))
        };
        self.add(name, schema, shape);
    }

    /// A choice: what all members share is an object of its own, each member another, and the choice names them.
    fn choice(&mut self, name: &str, schema: &Value, (tag, before, behind): (&str, &str, &str)) {
        let shared = format!("{name}Fields");
        let fields = self.fields(name, schema);
        let bases = if fields.is_empty() { Vec::new() } else { vec![shared.clone()] };
        if !fields.is_empty() {
            self.add(&shared, schema, Shape::Object { bases: Vec::new(), fields });
        }
        let mut members = Vec::new();
        for member in schema["oneOf"].as_array().unwrap() {
            let tag = member["properties"][tag]["const"].as_str().unwrap();
            let own = format!("{before}{}{behind}", pascal(tag));
            let mut bases = bases.clone();
            bases.extend(reference(member));
            let fields = self.fields(&own, member);
            self.add(&own, member, Shape::Object { bases, fields });
            members.push(Type::Named(own));
        }
        self.add(name, schema, Shape::Alias(Type::Union(members)));
    }

    fn fields(&mut self, owner: &str, schema: &Value) -> Vec<Field> {
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let field = |(name, of): (&String, &Value)| Field {
            name: name.clone(),
            doc: of["description"].as_str().unwrap_or_default().to_owned(),
            required: required.iter().any(|required| required == name),
            of: self.of(&format!("{owner}{}", pascal(name)), of),
        };
        properties.iter().map(field).collect()
    }

    /// A type where it is used; an object without a name gets `name`.
    fn of(&mut self, name: &str, schema: &Value) -> Type {
        if let Some(named) = reference(schema) {
            return Type::Named(named);
        }
        if let Some(text) = schema["const"].as_str() {
            return Type::Literal(text.to_owned());
        }
        if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            return union(choices.iter().map(|choice| self.of(name, choice)).collect());
        }
        if let Some(kinds) = schema["type"].as_array() {
            let one = |kind: &Value| self.simple(name, schema, kind.as_str().unwrap());
            return union(kinds.iter().map(one).collect());
        }
        match schema["type"].as_str() {
            Some(kind) => self.simple(name, schema, kind),
            None => Type::Anything,
        }
    }

    fn simple(&mut self, name: &str, schema: &Value, kind: &str) -> Type {
        match kind {
            "string" => Type::Text,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            "null" => Type::Null,
            "array" => Type::List(Box::new(self.of(name, &schema["items"]))),
            "object" => {
                self.define(name, schema);
                Type::Named(name.to_owned())
            }
            other => panic!("{name} is of the unknown type {other}"),
        }
    }
}

fn union(members: Vec<Type>) -> Type {
    let mut different = Vec::new();
    for member in members {
        if !different.contains(&member) {
            different.push(member);
        }
    }
    if different.len() == 1 { different.remove(0) } else { Type::Union(different) }
}

fn reference(schema: &Value) -> Option<String> {
    Some(schema["$ref"].as_str()?.strip_prefix("#/$defs/")?.to_owned())
}

fn pascal(snake: &str) -> String {
    snake
        .split('_')
        .map(|word| {
            let (first, rest) = word.split_at(usize::from(!word.is_empty()));
            first.to_uppercase() + rest
        })
        .collect()
}
