//! The chain of ways in, applied to a request. What a request presents is read first, without waiting; then every
//! credential that decides is verified.
//!
//! The order is that of the protocol, section 1: bearer token, subprotocol, ticket in the query, session cookie, and
//! where there is none of them, the first message. The first one present decides; one that is present and bad is
//! refused, never passed over. A host may take ways out of the [`Chain`], reorder them and add its own.

mod origin;
mod ways;

pub use origin::PeerAddress;
pub(crate) use origin::{Caller, Origins, client_address};
#[cfg(feature = "jwt")]
pub(crate) use ways::bearer;
pub(crate) use ways::cookie;

use apex_core::auth::{Auth, Credential, Door, Entry, Presented, Way};
use apex_core::error::{Error, Kind, Result};
use async_trait::async_trait;
use http::header::HeaderMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The name of the session cookie.
pub const SESSION_COOKIE: &str = "__Host-apex_session";

/// The name of the cookie that renews a session.
pub const REFRESH_COOKIE: &str = "__Host-apex_refresh";

/// The name of the cookie that a browser keeps while its user logs in at a provider.
#[cfg(feature = "oidc")]
pub(crate) const OIDC_COOKIE: &str = "__Host-apex_oidc";

const OPERATION: &str = "handshake";

/// A request at the door, as far as ways in look at it.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query.
    pub query: Option<&'a str>,
    /// The page that it comes from; it is on the allow list.
    pub origin: Option<&'a str>,
    /// The client's address, where it is known.
    pub address: Option<IpAddr>,
    /// What it is to open.
    pub door: Door,
}

/// One way in. The built-in ones are `bearer`, `subprotocol`, `query` and `cookie`; a host adds its own, such as an
/// API key in a header of its own, or what a proxy in front has verified.
#[async_trait]
pub trait AuthMethod: fmt::Debug + Send + Sync {
    /// Its name, unique within a chain.
    fn name(&self) -> &'static str;

    /// As what it counts in metrics and on record.
    fn way(&self) -> Way {
        Way::Own
    }

    /// Whether it is looked at for such a door.
    fn opens(&self, _door: Door) -> bool {
        true
    }

    /// Whether browsers send it along unasked, as they do with cookies. Such a credential is read only where there is
    /// no other, and changes something only with the proof that a page of the allow list asks.
    fn is_ambient(&self) -> bool {
        false
    }

    /// What the request presents by this way, read without waiting; `None` when nothing is there. It must be no more
    /// than a look: what is present decides, also when it turns out to be bad.
    ///
    /// # Errors
    /// `unauthenticated` for what is there and cannot be a credential.
    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>>;

    /// Verifies what was found; ours ask [`Auth`].
    ///
    /// # Errors
    /// As [`Auth::authenticate`].
    async fn verify(
        &self,
        auth: &Auth,
        credential: &Credential,
        presented: &Presented,
    ) -> Result<Entry> {
        auth.authenticate(credential, presented).await
    }
}

/// The ways in, in the order in which they are looked at. Whether a client that presents nothing may say `hello` is the
/// last of them.
#[derive(Debug, Clone)]
pub struct Chain {
    methods: Vec<Arc<dyn AuthMethod>>,
    hello: bool,
}

impl Default for Chain {
    fn default() -> Self {
        Self { methods: ways::built_in(), hello: true }
    }
}

impl Chain {
    /// A chain of exactly these ways, without `hello`.
    #[must_use]
    pub fn of(methods: Vec<Arc<dyn AuthMethod>>) -> Self {
        Self { methods, hello: false }
    }

    /// Without the way of that name; `hello` is one too.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.methods.retain(|method| method.name() != name);
        self.hello &= name != Way::Hello.as_str();
        self
    }

    /// With a way before all others; one of the same name goes.
    #[must_use]
    pub fn first(self, method: Arc<dyn AuthMethod>) -> Self {
        let mut chain = self.without(method.name());
        chain.methods.insert(0, method);
        chain
    }

    /// With a way after all others but `hello`; one of the same name goes.
    #[must_use]
    pub fn then(self, method: Arc<dyn AuthMethod>) -> Self {
        let mut chain = self.without(method.name());
        chain.methods.push(method);
        chain
    }

    /// In the order of those names; ways that are not named keep their order behind them.
    #[must_use]
    pub fn ordered(mut self, names: &[&str]) -> Self {
        let place = |method: &Arc<dyn AuthMethod>| {
            names.iter().position(|name| *name == method.name()).unwrap_or(names.len())
        };
        self.methods.sort_by_key(place);
        self
    }

    /// The names of the ways, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let methods = self.methods.iter().map(|method| method.name());
        methods.chain(self.hello.then_some(Way::Hello.as_str())).collect()
    }

    /// By which ways a request presents a credential, first the one that decides; nothing is verified. For a host that
    /// wants to know what its proxies leave of a request.
    ///
    /// # Errors
    /// `unauthenticated` for what is there and cannot be a credential.
    pub fn presented(&self, knock: &Knock<'_>) -> Result<Vec<&'static str>> {
        Ok(self.find(knock)?.iter().map(|found| found.method.name()).collect())
    }

    /// Reads what a request presents whose origin has been checked.
    pub(crate) fn read(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        caller: &Caller,
        door: Door,
    ) -> Offer {
        let (origin, address) = (caller.origin.as_deref(), caller.address);
        let knock = &Knock { headers, query, origin, address, door };
        Offer {
            found: self.find(knock),
            subprotocol: ways::offers_subprotocol(headers),
            caller: caller.clone(),
            door,
            hello: self.hello,
        }
    }

    fn find(&self, knock: &Knock<'_>) -> Result<Vec<Found>> {
        ways::refuse_token_in_query(knock.query)?;
        let mut found: Vec<Found> = Vec::new();
        for method in self.methods.iter().filter(|method| method.opens(knock.door)) {
            if method.is_ambient() && !found.is_empty() {
                continue;
            }
            if let Some(credential) = method.find(knock)? {
                found.push(Found { method: Arc::clone(method), credential });
            }
        }
        Ok(found)
    }
}

/// A credential that a request presents.
#[derive(Debug)]
struct Found {
    method: Arc<dyn AuthMethod>,
    credential: Credential,
}

/// What a request presents.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Whether the subprotocol was offered and is to be echoed.
    pub(crate) subprotocol: bool,
    /// Who is at the door.
    pub(crate) caller: Caller,
    /// The credentials, first the one that decides; or why what is presented cannot be one.
    found: Result<Vec<Found>>,
    door: Door,
    hello: bool,
}

impl Offer {
    /// The way that decides; `None` where nothing is presented, or nothing that could be read.
    pub(crate) fn way(&self) -> Option<Way> {
        let first = self.found.as_ref().ok()?.first();
        first.map(|found| found.method.way())
    }

    /// Whether nothing is presented.
    pub(crate) fn is_silent(&self) -> bool {
        self.found.as_ref().is_ok_and(Vec::is_empty)
    }

    /// Whether what decides is sent along by browsers unasked.
    pub(crate) fn is_ambient(&self) -> bool {
        let first = self.found.as_ref().ok().and_then(|found| found.first());
        first.is_some_and(|found| found.method.is_ambient())
    }

    /// Verifies what was presented. `None` means that the client is to say who it is.
    ///
    /// # Errors
    /// As [`Auth::authenticate`]; `forbidden` for credentials of different users; `unauthenticated` where nothing is
    /// presented and `hello` is no way in.
    pub(crate) async fn verify(self, auth: &Auth) -> Result<Option<Entry>> {
        let found = self.found.inspect_err(|error| {
            // What cannot be read came by no way that could be named.
            auth.note_refusal(error, &self.caller.presents(Way::Own, self.door));
        })?;
        let mut entry: Option<Entry> = None;
        for Found { method, credential } in found {
            let presented = self.caller.presents(method.way(), self.door);
            let verified = method.verify(auth, &credential, &presented).await;
            match (&entry, verified) {
                (None, verified) => entry = Some(verified?),
                (Some(first), Ok(other)) => {
                    if first.principal.user() != other.principal.user() {
                        let error = Error::new(
                            Kind::Forbidden,
                            OPERATION,
                            "the credentials of this request belong to different users",
                        );
                        auth.note_refusal(&error, &presented);
                        return Err(error);
                    }
                }
                // The first one has decided; a later bad one lets nobody in and keeps nobody out.
                (Some(_), Err(error)) if is_refusal(&error) => {}
                (Some(_), Err(error)) => return Err(error),
            }
        }
        if entry.is_none() && !(self.hello && self.door == Door::Connection) {
            return Err(Error::new(
                Kind::Unauthenticated,
                OPERATION,
                "this needs a credential, such as a bearer token or the session cookie",
            ));
        }
        Ok(entry)
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unauthenticated | Kind::TokenExpired)
}

#[cfg(test)]
mod tests;
