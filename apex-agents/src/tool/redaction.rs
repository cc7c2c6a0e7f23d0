use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Takes secrets out of what users and logs see of a tool call.
pub trait Redact: fmt::Debug + Send + Sync {
    /// Changes the arguments of a call of `tool` into what may be shown. The tool itself gets the true ones.
    fn redact(&self, tool: &str, arguments: &mut Value);

    /// Takes secrets out of a text: what is said in events, and what models are sent.
    fn redact_text(&self, text: &mut String) {
        let mut value = Value::String(std::mem::take(text));
        self.redact("", &mut value);
        *text = value.as_str().map_or_else(|| REDACTED.to_owned(), str::to_owned);
    }
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

    fn redact_text(&self, text: &mut String) {
        if let Cow::Owned(masked) = masked(text) {
            *text = masked;
        }
    }
}

/// The fewest characters of a credential after its beginning.
const SHORTEST: usize = 16;

/// The text with what looks like a credential masked, wherever it stands.
fn masked(text: &str) -> Cow<'_, str> {
    let mut kept = Cow::Borrowed(text);
    if text.len() < SHORTEST {
        return kept;
    }
    for beginning in BEGINNINGS {
        let mut from = 0;
        while let Some(found) = kept.get(from..).and_then(|rest| rest.find(beginning)) {
            let at = from + found;
            let behind = at + beginning.len();
            let rest = kept.get(behind..).unwrap_or_default();
            let fits = |c: char| c.is_ascii_alphanumeric() || "_-./+=~".contains(c);
            let length = match beginning {
                "-----BEGIN" => {
                    rest.find("-----END").map_or(rest.len(), |end| end + "-----END".len())
                }
                _ => rest.find(|c: char| !fits(c)).unwrap_or(rest.len()),
            };
            let inside =
                kept.get(..at).is_some_and(|before| before.ends_with(char::is_alphanumeric));
            if inside || length < SHORTEST {
                from = behind;
                continue;
            }
            kept.to_mut().replace_range(at..behind + length, REDACTED);
            from = at + REDACTED.len();
        }
    }
    kept
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

    #[test]
    fn credentials_within_a_text_go_and_words_stay() {
        for (text, kept) in [
            ("the key is sk-live-0123456789abcdef, use it", "the key is [redacted], use it"),
            (
                "Authorization: Bearer abcdef.ghijkl.mnopqr\nHost: a",
                "Authorization: [redacted]\nHost: a",
            ),
            ("ghp_0123456789abcdef and ghp_fedcba9876543210", "[redacted] and [redacted]"),
            ("-----BEGIN KEY-----\nabc\n-----END KEY-----", "[redacted] KEY-----"),
            (
                "Basic facts about risk-free tasks; a task-oriented-and-long-word",
                "Basic facts about risk-free tasks; a task-oriented-and-long-word",
            ),
        ] {
            let mut text = text.to_owned();
            SecretNames.redact_text(&mut text);
            assert_eq!(text, kept);
        }
    }
}
