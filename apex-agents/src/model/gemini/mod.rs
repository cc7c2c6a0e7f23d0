//! Google's `generateContent`.

mod decode;
mod encode;

pub(super) use decode::{Stream, whole};
pub(super) use encode::encode;

/// To whom the signatures belong.
const FORMAT: &str = "gemini";
