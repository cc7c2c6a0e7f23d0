//! What a configuration type may contain, read from its JSON Schema: one definition (the Rust type) for reading,
//! checking, listing and documenting.

use super::report::FaultCode;
use super::{DatabaseUrl, WebUrl, duration};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Schemas nest no deeper than this; it only ends a definition that refers to itself.
const MAX_DEPTH: usize = 8;

/// A group of fields, or a field.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Group(BTreeMap<String, Node>),
    Leaf(Box<Field>),
}

/// One field.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// Dotted.
    pub(super) key: String,
    pub(super) shape: Shape,
    pub(super) secret: bool,
    pub(super) format: Option<String>,
    pub(super) default: Value,
    pub(super) description: String,
}

/// What a value looks like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Flag,
    Integer {
        min: Option<i128>,
        max: Option<i128>,
    },
    Number {
        min: Option<f64>,
        max: Option<f64>,
    },
    Text {
        min: usize,
        max: usize,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    Choice(Vec<String>),
    List(Box<Shape>),
    /// Anything else: only its own `Deserialize` knows.
    Other,
}

/// Why a value does not fit.
#[derive(Debug, PartialEq)]
pub(super) struct Misfit {
    pub(super) code: FaultCode,
    pub(super) problem: String,
    pub(super) advice: String,
}

impl Node {
    /// Reads a root schema.
    pub(super) fn of(schema: &Value) -> Self {
        let definitions = schema.get("$defs").and_then(Value::as_object);
        Reader { definitions }.node(schema, "", 0)
    }

    /// Each field below, in the order of their keys.
    pub(super) fn fields(&self) -> Vec<&Field> {
        match self {
            Self::Leaf(field) => vec![field],
            Self::Group(members) => members.values().flat_map(Self::fields).collect(),
        }
    }
}

impl Field {
    /// What it holds, in words.
    pub(super) fn hint(&self) -> String {
        match self.format.as_deref() {
            Some(DatabaseUrl::FORMAT) => {
                "the address of a database, such as postgres://USER@HOST/NAME".to_owned()
            }
            Some(WebUrl::FORMAT) => {
                "the address of a web server, such as https://HOST/v1".to_owned()
            }
            Some("socket-address") => "an address and a port, such as 127.0.0.1:8000".to_owned(),
            _ => self.shape.expected(),
        }
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.key.replace(['.', '-'], "_").to_uppercase())
    }
}

struct Reader<'a> {
    definitions: Option<&'a Map<String, Value>>,
}

impl<'a> Reader<'a> {
    fn node(&self, schema: &'a Value, key: &str, depth: usize) -> Node {
        let (target, optional) = self.resolve(schema);
        let properties = target.get("properties").and_then(Value::as_object);
        if let Some(properties) = properties
            && depth < MAX_DEPTH
            && !optional
        {
            let member = |(name, schema): (&String, &'a Value)| {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                (name.clone(), self.node(schema, &key, depth + 1))
            };
            return Node::Group(properties.iter().map(member).collect());
        }
        // What stands beside a reference belongs to this field, not to the type.
        let own = |name: &str| schema.get(name).or_else(|| target.get(name));
        let description = own("description").and_then(Value::as_str).unwrap_or_default();
        Node::Leaf(Box::new(Field {
            key: key.to_owned(),
            shape: self.shape(target, schema),
            secret: own("writeOnly") == Some(&Value::Bool(true)),
            format: format_of(target).map(str::to_owned),
            default: schema.get("default").cloned().unwrap_or(Value::Null),
            description: description.split_whitespace().collect::<Vec<_>>().join(" "),
        }))
    }

    /// The schema behind references and `null` alternatives, and whether there was such an alternative.
    fn resolve(&self, schema: &'a Value) -> (&'a Value, bool) {
        let mut current = schema;
        let mut optional = has_type(schema, "null");
        for _ in 0..MAX_DEPTH {
            if let Some(reference) = current.get("$ref").and_then(Value::as_str) {
                let name = reference.rsplit('/').next().unwrap_or_default();
                let Some(target) = self.definitions.and_then(|d| d.get(name)) else {
                    break;
                };
                current = target;
            } else if let Some([one, other]) =
                current.get("anyOf").and_then(Value::as_array).map(Vec::as_slice)
            {
                let (some, none) =
                    if has_type(other, "null") { (one, other) } else { (other, one) };
                if !has_type(none, "null") {
                    break;
                }
                current = some;
                optional = true;
            } else {
                break;
            }
        }
        (current, optional)
    }

    fn shape(&self, target: &'a Value, field: &'a Value) -> Shape {
        let bound = |name: &str| field.get(name).or_else(|| target.get(name));
        let integer =
            |name| bound(name).and_then(Value::as_number).and_then(serde_json::Number::as_i128);
        let number = |name| bound(name).and_then(Value::as_f64);
        let length = |name, otherwise| {
            bound(name)
                .and_then(Value::as_u64)
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(otherwise)
        };
        let limit = |name, otherwise| {
            bound(name)
                .and_then(Value::as_str)
                .and_then(|t| duration::parse(t).ok())
                .unwrap_or(otherwise)
        };
        if let Some(choices) = choices(target) {
            Shape::Choice(choices)
        } else if has_type(target, "boolean") {
            Shape::Flag
        } else if has_type(target, "integer") {
            Shape::Integer { min: integer("minimum"), max: integer("maximum") }
        } else if has_type(target, "number") {
            Shape::Number { min: number("minimum"), max: number("maximum") }
        } else if has_type(target, "string") && format_of(target) == Some("human-duration") {
            Shape::Duration {
                min: limit("x-minimum", Duration::ZERO),
                max: limit("x-maximum", Duration::MAX),
            }
        } else if has_type(target, "string") {
            Shape::Text { min: length("minLength", 0), max: length("maxLength", 65_536) }
        } else if has_type(target, "array")
            && let Some(items) = target.get("items")
        {
            let (inner, _) = self.resolve(items);
            Shape::List(Box::new(self.shape(inner, items)))
        } else {
            Shape::Other
        }
    }
}

/// The values of an enumeration without content, in either of the two ways in which it is written.
fn choices(schema: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(text).collect();
    }
    let variants = schema.get("oneOf").and_then(Value::as_array)?;
    let mut all = Vec::new();
    for variant in variants {
        if let Some(value) = variant.get("const") {
            all.push(text(value)?);
        } else {
            let values = variant.get("enum").and_then(Value::as_array)?;
            all.extend(values.iter().map(text).collect::<Option<Vec<_>>>()?);
        }
    }
    Some(all)
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|t| t == name),
        _ => false,
    }
}

fn format_of(schema: &Value) -> Option<&str> {
    schema.get("format").and_then(Value::as_str)
}

impl Shape {
    /// Checks a value and gives it in the type of the field: text, as from the environment, is read as what the
    /// field holds.
    pub(super) fn fit(&self, value: Value, from_text: bool) -> Result<Value, Misfit> {
        match (self, value) {
            (Self::Other, Value::String(text)) if from_text => {
                Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
            }
            (Self::Other, value) => Ok(value),
            (Self::Flag, Value::Bool(flag)) => Ok(Value::Bool(flag)),
            (Self::Flag, Value::String(text))
                if from_text && (text == "true" || text == "false") =>
            {
                Ok(Value::Bool(text == "true"))
            }
            (Self::Integer { min, max }, value) => {
                let read = match &value {
                    Value::Number(number) => number.as_i128(),
                    Value::String(text) if from_text => text.trim().parse().ok(),
                    _ => None,
                };
                let read = read.ok_or_else(|| self.wrong_type())?;
                if min.is_some_and(|min| read < min) || max.is_some_and(|max| read > max) {
                    return Err(self.out_of_range());
                }
                let number = i64::try_from(read)
                    .map(Value::from)
                    .or_else(|_| u64::try_from(read).map(Value::from));
                number.map_err(|_| self.out_of_range())
            }
            (Self::Number { min, max }, value) => {
                let read = match &value {
                    Value::Number(number) => number.as_f64(),
                    Value::String(text) if from_text => text.trim().parse().ok(),
                    _ => None,
                };
                let read = read.filter(|n| n.is_finite()).ok_or_else(|| self.wrong_type())?;
                if min.is_some_and(|min| read < min) || max.is_some_and(|max| read > max) {
                    return Err(self.out_of_range());
                }
                Ok(Value::from(read))
            }
            (Self::Text { min, max }, Value::String(text)) => {
                // Lines are allowed inside: a key may be PEM.
                let stray = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
                if text.contains(stray) || text.trim() != text {
                    return Err(Misfit {
                        code: FaultCode::Format,
                        problem: "begins or ends with white space, or contains a control character"
                            .to_owned(),
                        advice: "remove it; a trailing newline is the usual culprit".to_owned(),
                    });
                }
                let length = text.chars().count();
                if length < *min || length > *max {
                    return Err(self.out_of_range());
                }
                Ok(Value::String(text))
            }
            (Self::Duration { min, max }, Value::String(text)) => {
                let read = duration::parse(&text).map_err(|problem| Misfit {
                    code: FaultCode::Type,
                    problem: problem.to_owned(),
                    advice: format!("give {}", self.expected()),
                })?;
                if read < *min || read > *max {
                    return Err(self.out_of_range());
                }
                Ok(Value::String(text))
            }
            (Self::Choice(choices), Value::String(text)) => {
                if choices.contains(&text) {
                    return Ok(Value::String(text));
                }
                let hint = super::report::nearest(&text, choices.iter().map(String::as_str))
                    .map(|near| format!("; did you mean `{near}`?"));
                Err(Misfit {
                    code: FaultCode::Range,
                    problem: "is not one of the choices".to_owned(),
                    advice: format!("give {}{}", self.expected(), hint.unwrap_or_default()),
                })
            }
            (Self::List(item), Value::Array(items)) => items
                .into_iter()
                .map(|value| item.fit(value, from_text))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            (Self::List(item), Value::String(text)) if from_text => {
                let items = text.split(',').map(|part| item.fit(part.trim().into(), true));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            (_, _) => Err(self.wrong_type()),
        }
    }

    /// What the field holds, in words.
    pub(super) fn expected(&self) -> String {
        let range = |min: Option<String>, max: Option<String>| match (min, max) {
            (Some(min), Some(max)) => format!(" from {min} to {max}"),
            (Some(min), None) => format!(" of at least {min}"),
            (None, Some(max)) => format!(" of at most {max}"),
            (None, None) => String::new(),
        };
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Integer { min, max } => {
                format!(
                    "a whole number{}",
                    range(min.map(|n| n.to_string()), max.map(|n| n.to_string()))
                )
            }
            Self::Number { min, max } => {
                format!("a number{}", range(min.map(|n| n.to_string()), max.map(|n| n.to_string())))
            }
            Self::Text { min: 0, max } if *max >= 65_536 => "a text".to_owned(),
            Self::Text { min, max } => format!("a text of {min} to {max} characters"),
            Self::Duration { min, max } => {
                let min = (!min.is_zero()).then(|| duration::format(*min));
                let max = (*max != Duration::MAX).then(|| duration::format(*max));
                format!("a duration such as 30s{}", range(min, max))
            }
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
            Self::List(item) => format!("a list, each {}", item.expected()),
            Self::Other => "a value as the reference describes it".to_owned(),
        }
    }

    fn wrong_type(&self) -> Misfit {
        Misfit {
            code: FaultCode::Type,
            problem: format!("is not {}", self.expected()),
            advice: format!("give {}", self.expected()),
        }
    }

    fn out_of_range(&self) -> Misfit {
        Misfit {
            code: FaultCode::Range,
            problem: "is out of range".to_owned(),
            advice: format!("give {}", self.expected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Secret, duration};
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize, schemars::JsonSchema, Default)]
    #[serde(default)]
    #[allow(dead_code, reason = "only the schema is looked at")]
    struct Inner {
        /// How
        /// many.
        #[schemars(range(min = 1, max = 9))]
        count: u32,
        key: Option<Secret<String>>,
        #[serde(with = "duration")]
        #[schemars(with = "duration::HumanDuration", extend("x-maximum" = "60s"))]
        wait: Duration,
        origins: Vec<String>,
    }

    #[derive(Deserialize, schemars::JsonSchema, Default)]
    #[serde(default)]
    #[allow(dead_code, reason = "only the schema is looked at")]
    struct Outer {
        environment: Environment,
        inner: Inner,
    }

    fn field(name: &str) -> Field {
        let schema = schemars::schema_for!(Outer).to_value();
        let node = Node::of(&schema);
        node.fields().into_iter().find(|f| f.key == name).unwrap().clone()
    }

    #[test]
    fn fields_are_read_with_shape_default_and_mark() {
        assert_eq!(field("inner.count").shape, Shape::Integer { min: Some(1), max: Some(9) });
        assert_eq!(field("inner.count").description, "How many.");
        assert_eq!(field("inner.count").default, json!(0));
        assert_eq!(field("inner.count").variable("APEX"), "APEX_INNER_COUNT");
        assert!(field("inner.key").secret);
        assert!(matches!(field("inner.key").shape, Shape::Text { .. }));
        assert!(
            matches!(field("inner.wait").shape, Shape::Duration { max, .. } if max.as_secs() == 60)
        );
        assert_eq!(field("inner.wait").default, json!("0s"));
        assert!(matches!(field("environment").shape, Shape::Choice(c) if c.len() == 3));
    }

    #[test]
    fn text_is_read_as_what_the_field_holds() {
        let count = field("inner.count").shape;
        assert_eq!(count.fit(json!("7"), true).unwrap(), json!(7));
        assert_eq!(count.fit(json!("7"), false).unwrap_err().code, FaultCode::Type);
        assert_eq!(count.fit(json!(10), false).unwrap_err().code, FaultCode::Range);
        let origins = field("inner.origins").shape;
        assert_eq!(origins.fit(json!("a, b"), true).unwrap(), json!(["a", "b"]));
        assert_eq!(
            field("inner.key").shape.fit(json!("key\n"), false).unwrap_err().code,
            FaultCode::Format
        );
        let choice = field("environment").shape.fit(json!("developement"), true).unwrap_err();
        assert!(choice.advice.contains("did you mean `development`?"), "{choice:?}");
    }
}
