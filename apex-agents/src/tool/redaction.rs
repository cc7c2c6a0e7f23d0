use serde_json::Value;
use std::fmt;

/// Takes secrets out of what users and logs see of a tool call.
pub trait Redact: fmt::Debug + Send + Sync {
    /// Changes the arguments of a call of `tool` into what may be shown. The tool itself gets the true ones.
    fn redact(&self, tool: &str, arguments: &mut Value);
}

/// Takes out values whose name says that they are secret (`password`, `api_key`, `…_token`, `authorization` and the
/// like) and values that look like a well-known kind of credential.
#[derive(Debug, Clone, Copy, Default)]
pub struct SecretNames;

const REDACTED: &str = "[redacted]";

/// A name holds a secret when it holds one of these, apart from separators and case.
const NAMES: [&str; 8] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "authorization",
    "credential",
    "privatekey",
];

/// How well-known credentials begin.
const BEGINNINGS: [&str; 10] = [
    "sk-",
    "Bearer ",
    "Basic ",
    "ghp_",
    "github_pat_",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
    "-----BEGIN",
];

impl Redact for SecretNames {
    fn redact(&self, _tool: &str, arguments: &mut Value) {
        redact(arguments);
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) if looks_secret(text) => *value = REDACTED.into(),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Bool(_) | Value::Null => {}
                    field if names_secret(name) => *field = REDACTED.into(),
                    field => redact(field),
                }
            }
        }
        _ => {}
    }
}

fn names_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // `token` is a credential, `max_tokens` is a number.
    plain.ends_with("token") || NAMES.iter().any(|secret| plain.contains(secret))
}

fn looks_secret(text: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_go_and_everything_else_stays() {
        let mut arguments = json!({
            "query": "spend by day",
            "max_tokens": 5,
            "api-key": "k",
            "nested": [{"accessToken": "t", "note": "sk-live-123", "secret": {"a": 1}}],
            "has_password": true,
        });
        SecretNames.redact("any", &mut arguments);
        let expected = json!({
            "query": "spend by day",
            "max_tokens": 5,
            "api-key": "[redacted]",
            "nested": [{"accessToken": "[redacted]", "note": "[redacted]", "secret": "[redacted]"}],
            "has_password": true,
        });
        assert_eq!(arguments, expected);
    }
}
