use serde::{Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;

/// The longest name.
const LONGEST: usize = 48;

/// The name of a PostgreSQL schema, in which everything is kept; `apex` where nothing is said. It needs no quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(String);

/// Why a text is not the name of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSchemaName;

impl SchemaName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("apex".to_owned())
    }
}

impl FromStr for SchemaName {
    type Err = BadSchemaName;

    fn from_str(name: &str) -> Result<Self, BadSchemaName> {
        let of_ours = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let good = (1..=LONGEST).contains(&name.len())
            && name.bytes().all(of_ours)
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.starts_with("pg_")
            && name != "information_schema";
        if good { Ok(Self(name.to_owned())) } else { Err(BadSchemaName) }
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadSchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the name of a schema is 1 to 48 small letters, digits and underscores, and begins with neither a digit \
             nor pg_",
        )
    }
}

impl std::error::Error for BadSchemaName {}

impl<'de> Deserialize<'de> for SchemaName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for SchemaName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SchemaName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^(?!pg_)[a-z_][a-z0-9_]*$"
        })
    }
}

impl serde::Serialize for SchemaName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_schema_needs_no_quotes() {
        for good in ["apex", "a", "_x9", &"a".repeat(48)] {
            assert_eq!(good.parse::<SchemaName>().unwrap().as_str(), good);
        }
        let bad = ["", "Apex", "9a", "a-b", "a b", "pg_apex", "a\"b", "ä", "information_schema"];
        for bad in bad.into_iter().chain([&*"a".repeat(49)]) {
            assert_eq!(bad.parse::<SchemaName>(), Err(BadSchemaName), "{bad}");
        }
    }
}
