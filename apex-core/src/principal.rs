//! Who acts, and what they may do. Every call that reads or writes takes a [`Principal`]; there is no default one.

use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, UserId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One right.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Start runs.
    Run,
    /// Read one's own runs, threads, files and results.
    Read,
    /// Cancel one's own runs.
    Cancel,
    /// See operator details.
    Admin,
}

impl Scope {
    const ALL: [Self; 4] = [Self::Run, Self::Read, Self::Cancel, Self::Admin];

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Its name, as on the wire and in stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Read => "read",
            Self::Cancel => "cancel",
            Self::Admin => "admin",
        }
    }
}

/// A set of [`Scope`]s; a list of names on the wire and in stores.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// What an ordinary user may do: run, read and cancel.
    pub const USER: Self = Self(Scope::Run.bit() | Scope::Read.bit() | Scope::Cancel.bit());

    /// These and one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Whether `scope` is among them.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// The scopes in these as well as in `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names with spaces between them, as tokens carry them.
    #[must_use]
    pub fn to_names(self) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }

    /// The scopes among names with spaces between them; other names are passed over.
    #[must_use]
    pub fn from_names(names: &str) -> Self {
        let known = |name: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == name);
        names.split(' ').filter_map(known).collect()
    }

    /// Each scope in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |s| self.contains(*s))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// A user who has been let in, with what that entry allows.
///
/// It cannot be deserialised, defaulted or changed. Apex makes one from a verified credential or from the owner
/// that a run was recorded with; a host that has verified a user by its own means vouches for them by
/// [`Principal::vouched`].
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    user: UserId,
    scopes: Scopes,
    session: Option<SessionId>,
}

impl Principal {
    /// A principal that the host vouches for: the host, not Apex, has verified who this is.
    #[must_use]
    pub fn vouched(user: UserId, scopes: Scopes) -> Self {
        Self { user, scopes, session: None }
    }

    /// A principal that came in by a login.
    pub(crate) fn from_session(user: UserId, scopes: Scopes, session: SessionId) -> Self {
        Self { user, scopes, session: Some(session) }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// What the user may do by this entry.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// The login that it came from, if any.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Passes when the principal has `scope`.
    ///
    /// # Errors
    /// [`Kind::Forbidden`].
    pub fn require(&self, scope: Scope, operation: &'static str) -> Result<()> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Forbidden,
            operation,
            format!("this needs the scope {scope:?}").to_lowercase(),
        ))
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({} {:?})", self.user, self.scopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_missing_scope_is_named() {
        let principal =
            Principal::vouched(UserId::new(&SystemClock), Scopes::NONE.with(Scope::Read));
        assert!(principal.require(Scope::Read, "test").is_ok());
        let error = principal.require(Scope::Run, "test").unwrap_err();
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(error.to_string().contains("scope run"), "{error}");
    }

    #[test]
    fn scopes_are_names_in_json() {
        let json = serde_json::to_string(&Scopes::USER).unwrap();
        assert_eq!(json, r#"["run","read","cancel"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(&json).unwrap(), Scopes::USER);
        assert_eq!(Scopes::USER.to_names(), "run read cancel");
        assert_eq!(Scopes::from_names("cancel root run  read"), Scopes::USER);
        assert_eq!(Scopes::from_names(""), Scopes::NONE);
    }
}
