use jsonschema::Validator;
use serde_json::Value;
use std::fmt::Write as _;

/// How many faults are told at once.
const MOST_FAULTS: usize = 5;

/// A compiled JSON Schema.
#[derive(Debug)]
pub(crate) struct Shape(Validator);

impl Shape {
    /// Compiles a schema; `Err` says what is wrong with it.
    pub(crate) fn compile(schema: &Value) -> Result<Self, String> {
        jsonschema::validator_for(schema).map(Self).map_err(|fault| fault.to_string())
    }

    /// Where a value does not fit and why, without the value itself: it may hold secrets.
    pub(crate) fn faults(&self, value: &Value) -> Option<String> {
        let mut faults = self.0.iter_errors(value).peekable();
        faults.peek()?;
        let mut told = String::new();
        for (n, fault) in faults.enumerate() {
            if n == MOST_FAULTS {
                told.push_str("; and more");
                break;
            }
            let separator = if n == 0 { "" } else { "; " };
            let at = match fault.instance_path().as_str() {
                "" => "/",
                path => path,
            };
            let _ = write!(told, "{separator}at {at}: {}", fault.masked());
        }
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_say_where_and_why_but_not_the_value() {
        let schema =
            json!({"type": "object", "required": ["a"], "properties": {"b": {"type": "integer"}}});
        let shape = Shape::compile(&schema).unwrap();
        assert_eq!(shape.faults(&json!({"a": 1, "b": 2})), None);
        let told = shape.faults(&json!({"b": "hunter2"})).unwrap();
        assert!(told.contains("at /b:") && told.contains("integer"), "{told}");
        assert!(told.contains("\"a\" is a required property"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(Shape::compile(&json!({"type": "nothing"})).is_err());
    }
}
