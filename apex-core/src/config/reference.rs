//! What an operator reads about a configuration type, generated from it.

use super::Section;
use super::loaded::Listed;
use super::schema::Node;
use serde_json::Value;
use std::fmt::Write;

/// The JSON Schema of a configuration, as it is published.
#[must_use]
pub fn json_schema<T: Section>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The reference table of a configuration in Markdown: each field with its variable, what it holds, its default and
/// what it is for.
#[must_use]
pub fn reference<T: Section>(prefix: &str) -> String {
    let schema = json_schema::<T>();
    let mut page =
        String::from("| key | variable | holds | default | what it is |\n|---|---|---|---|---|\n");
    for field in Node::of(&schema).fields() {
        let variable = field.variable(prefix);
        let file = if field.secret {
            format!("`{variable}`, `{variable}_FILE`")
        } else {
            format!("`{variable}`")
        };
        let holds = if field.secret { format!("a secret: {}", field.hint()) } else { field.hint() };
        let default = if field.default.is_null() {
            "none".to_owned()
        } else {
            format!("`{}`", Listed::show(field, &field.default))
        };
        let description = field.description.replace('|', "\\|");
        // Writing to a String cannot fail.
        let _ =
            writeln!(page, "| `{}` | {file} | {holds} | {default} | {description} |", field.key);
    }
    page
}
