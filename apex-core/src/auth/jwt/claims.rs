use crate::clock::Timestamp;
use crate::id::SessionId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// What a token of ours is for. One use has one type in the header and one value in the claims, so that a token for
/// one can never stand in for a token for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenUse {
    /// Lets a user in.
    Access,
    /// Renews a login. Ours are no signed tokens but random ones; a host's may be.
    Refresh,
    /// Opens one connection. Ours are no signed tokens but random ones; a host's may be.
    Ticket,
    /// Lets a named service in.
    Service,
}

impl TokenUse {
    /// Every use.
    pub const ALL: [Self; 4] = [Self::Access, Self::Refresh, Self::Ticket, Self::Service];

    /// The `typ` of the header; that of access tokens is the one of RFC 9068.
    #[must_use]
    pub const fn header_type(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Refresh => "apex-refresh+jwt",
            Self::Ticket => "apex-ticket+jwt",
            Self::Service => "apex-service+jwt",
        }
    }

    /// How long such a token may be good.
    #[must_use]
    pub const fn longest_life(self) -> Duration {
        const HOUR: u64 = 60 * 60;
        Duration::from_secs(match self {
            // Less than a store keeps what was revoked.
            Self::Access => 24 * HOUR,
            Self::Refresh => 90 * 24 * HOUR,
            Self::Ticket => 60,
            Self::Service => HOUR,
        })
    }
}

/// What a token says. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// Whom it is about.
    pub sub: String,
    /// Whom it is meant for.
    pub aud: Audience,
    /// When it is over.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
    /// From when on it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// What it is for.
    #[serde(default, rename = "apex_use", skip_serializing_if = "Option::is_none")]
    pub token_use: Option<TokenUse>,
    /// What it allows: names with spaces between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The login that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionClaim>,
    /// Whatever else it says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A login's id; what other issuers put in its place is kept as it is and means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SessionClaim {
    /// A login of ours.
    Ours(SessionId),
    /// Something else.
    Other(Value),
}

/// Whom a token is meant for: one, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    /// Whether `who` is among them.
    #[must_use]
    pub fn contains(&self, who: &str) -> bool {
        match self {
            Self::One(one) => one == who,
            Self::Many(many) => many.iter().any(|one| one == who),
        }
    }
}

impl Claims {
    /// When it is over.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        seconds(self.exp)
    }

    /// When it was made.
    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        seconds(self.iat)
    }

    /// From when on it is good, where it says so.
    #[must_use]
    pub fn begins_at(&self) -> Option<Timestamp> {
        self.nbf.map(seconds)
    }

    /// The login of ours that it came from.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.sid {
            Some(SessionClaim::Ours(session)) => Some(session),
            Some(SessionClaim::Other(_)) | None => None,
        }
    }

    /// A text among the other claims.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.other.get(name).and_then(Value::as_str)
    }
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1_000))
}
