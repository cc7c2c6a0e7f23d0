//! Anthropic's messages.

mod decode;
mod encode;

pub(super) use decode::{Stream, whole};
pub(super) use encode::encode;

/// To whom the signatures belong.
const FORMAT: &str = "anthropic";

/// Before thoughts that are only there encrypted; no signature has a colon.
const REDACTED: &str = "redacted:";
