//! Types of other languages, made from the JSON Schema of the Rust types: the schema is read into declarations
//! ([`model`]), which each language prints.

mod model;
mod python;
mod typescript;

pub(crate) use model::Model;
