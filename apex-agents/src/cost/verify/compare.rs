//! Two reports, leaf by leaf.

use crate::cost::report::Report;
use serde_json::Value;

/// Adds what differs to `faults`; how many leaves were compared.
pub(super) fn differences(report: &Report, expected: &Report, faults: &mut Vec<String>) -> u64 {
    match (serde_json::to_value(report), serde_json::to_value(expected)) {
        (Ok(found), Ok(expected)) => leaf(&mut String::new(), &found, &expected, faults),
        _ => {
            faults.push("the report cannot be written as JSON".to_owned());
            0
        }
    }
}

fn leaf(path: &mut String, found: &Value, expected: &Value, faults: &mut Vec<String>) -> u64 {
    let length = path.len();
    let mut count = 0;
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for ((name, x), y) in a.iter().zip(b.values()) {
                path.push_str(if length == 0 { "" } else { "." });
                path.push_str(name);
                count += leaf(path, x, y, faults);
                path.truncate(length);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (number, (x, y)) in a.iter().zip(b).enumerate() {
                path.push_str(&format!("[{number}]"));
                count += leaf(path, x, y, faults);
                path.truncate(length);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            faults.push(format!(
                "{path}: the report has {} entries, the records give {}",
                a.len(),
                b.len()
            ));
        }
        (a, b) => {
            count = 1;
            if a != b {
                faults.push(format!(
                    "{path}: the report says {}, the records give {}",
                    short(a),
                    short(b)
                ));
            }
        }
    }
    count
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
