use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where this process runs; it decides how strict the rest is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A developer's machine: the development login is open.
    Development,
    /// A rehearsal of production.
    Staging,
    /// The real thing. The default, so that what is forgotten is strict.
    #[default]
    Production,
}

impl Environment {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    /// The name, as it is configured and as a database is marked with it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// Judges the mark that a database carries before anything is read from or written to it. `None` is a database
    /// without a mark: the caller marks it, in the transaction that makes its tables, with [`as_str`](Self::as_str).
    ///
    /// # Errors
    /// [`Kind::Config`] when the mark is another environment's, or not one that this version knows.
    pub fn admit(self, database: &str, mark: Option<&str>) -> Result<()> {
        match mark {
            None => Ok(()),
            Some(mark) if mark == self.as_str() => Ok(()),
            Some(mark) => {
                let mark: String = mark.chars().take(32).flat_map(char::escape_debug).collect();
                let message = format!(
                    "the database belongs to {mark} and this process runs in {self}: check `environment` and the \
                     database's address; nothing was read or written"
                );
                Err(Error::new(Kind::Config, "database.open", message).with("database", database))
            }
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_serves_its_own_environment_only() {
        for here in Environment::ALL {
            assert_eq!(serde_json::to_value(here).unwrap(), here.as_str());
            assert!(here.admit("x", None).is_ok());
            for there in Environment::ALL {
                assert_eq!(here.admit("x", Some(there.as_str())).is_ok(), here == there);
            }
        }
        let error = Environment::Development.admit("main.db", Some("production")).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("belongs to production"), "{error}");
        assert!(Environment::Production.admit("x", Some("")).is_err());
    }
}
