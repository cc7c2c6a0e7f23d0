use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The longest text id, in bytes.
const MAX: usize = 64;

/// A client's own id of a frame; the answer repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum FrameId {
    /// A whole number.
    Number(u64),
    /// A text of 1 to 64 bytes.
    Text(#[schemars(length(min = 1, max = 64))] String),
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<u64> for FrameId {
    fn from(n: u64) -> Self {
        Self::Number(n)
    }
}

impl From<&str> for FrameId {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for FrameId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = FrameId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an `id` that is a whole number or a text of 1 to {MAX} bytes")
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<FrameId, E> {
                Ok(FrameId::Number(n))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FrameId, E> {
                if text.is_empty() || text.len() > MAX {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(FrameId::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
