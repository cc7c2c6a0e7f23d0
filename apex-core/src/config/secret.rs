use serde::{Deserialize, Deserializer};
use zeroize::Zeroize;

/// A value that must not be shown: it has no `Debug`, `Display` or `Serialize`, and its memory is wiped on drop.
///
/// ```compile_fail,E0277
/// let secret = apex_core::config::Secret::new("key".to_owned());
/// println!("{secret:?}");
/// ```
/// ```compile_fail,E0277
/// let secret = apex_core::config::Secret::new("key".to_owned());
/// println!("{secret}");
/// ```
/// ```compile_fail,E0277
/// let secret = apex_core::config::Secret::new("key".to_owned());
/// let shown = serde_json::to_string(&secret);
/// ```
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// In a schema a secret is what it hides, marked `writeOnly`: the mark by which the loader knows to hide it.
impl<T: Zeroize + schemars::JsonSchema> schemars::JsonSchema for Secret<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = generator.subschema_for::<T>();
        schema.insert("writeOnly".to_owned(), true.into());
        schema
    }
}
