use crate::clock::Timestamp;
use crate::config::Secret;
use crate::id::CorrelationId;
use crate::principal::Principal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// By which way a client came in; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `Authorization: Bearer`.
    Bearer,
    /// A token or ticket as a WebSocket subprotocol.
    Subprotocol,
    /// A ticket in the query.
    Query,
    /// The session cookie.
    Cookie,
    /// The first message.
    Hello,
    /// A way that the host has added.
    Own,
}

impl Way {
    const ALL: [Self; 6] =
        [Self::Bearer, Self::Subprotocol, Self::Query, Self::Cookie, Self::Hello, Self::Own];

    /// Its name, as in stores and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Subprotocol => "subprotocol",
            Self::Query => "query",
            Self::Cookie => "cookie",
            Self::Hello => "hello",
            Self::Own => "own",
        }
    }

    /// The way of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.as_str() == name)
    }
}

/// What a credential is to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// A connection that lasts: each entry goes on record.
    Connection,
    /// One request: only refusals go on record.
    #[default]
    Request,
}

/// Something that may let a user in.
#[derive(Clone)]
pub enum Credential {
    /// A login's token, from a header, a cookie or a `hello`.
    Token(Secret<String>),
    /// A ticket.
    Ticket(Secret<String>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Ticket(_) => "Ticket(…)",
        })
    }
}

/// How a credential was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The way.
    pub way: Way,
    /// What it is to open.
    pub door: Door,
    /// The page's origin, if a page presents it.
    pub origin: Option<String>,
    /// The client's address, where it is known.
    pub address: Option<IpAddr>,
    /// The request's id, which leads from the record to logs and to what the client was told.
    pub correlation: Option<CorrelationId>,
}

impl Presented {
    /// A credential that came by that way for one request, and nothing else known.
    #[must_use]
    pub fn by(way: Way) -> Self {
        Self { way, door: Door::default(), origin: None, address: None, correlation: None }
    }
}

/// A user who is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who, and what they may do.
    pub principal: Principal,
    /// By which way.
    pub way: Way,
    /// When the credential runs out.
    pub expires_at: Timestamp,
}

/// A new login, or one that was renewed.
#[derive(Clone)]
pub struct Login {
    /// The token that lets in; shown once.
    pub token: Secret<String>,
    /// Who is in.
    pub principal: Principal,
    /// When the token runs out.
    pub expires_at: Timestamp,
    /// The token that renews the login, once; shown once.
    pub refresh: Secret<String>,
    /// When the login is over unless it is renewed.
    pub lapses_at: Timestamp,
}

/// A new ticket.
#[derive(Clone)]
pub struct Ticket {
    /// The ticket; shown once.
    pub ticket: Secret<String>,
    /// When it lapses.
    pub expires_at: Timestamp,
}
