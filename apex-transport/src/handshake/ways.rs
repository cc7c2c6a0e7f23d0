//! The ways in that are built in, as methods of the chain.

use super::{AuthMethod, Knock, SESSION_COOKIE};
use crate::protocol::SUBPROTOCOL;
use apex_core::auth::{Credential, Door, Way};
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use std::sync::Arc;

const OPERATION: &str = "handshake";

/// The longest token.
const MAX_TOKEN: usize = 8 * 1024;

/// The longest ticket; ours have 43 characters.
const MAX_TICKET: usize = 128;

/// Names under which clients put tokens into a query, where none belongs.
const TOKENS_IN_QUERY: [&str; 6] =
    ["token", "access_token", "bearer", "jwt", "authorization", "id_token"];

/// The four ways by which a request itself may bring a credential, in the order of the protocol.
pub(super) fn built_in() -> Vec<Arc<dyn AuthMethod>> {
    vec![Arc::new(Bearer), Arc::new(Subprotocol), Arc::new(Query), Arc::new(Cookie)]
}

#[derive(Debug)]
struct Bearer;

impl AuthMethod for Bearer {
    fn name(&self) -> &'static str {
        Way::Bearer.as_str()
    }
    fn way(&self) -> Way {
        Way::Bearer
    }
    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>> {
        Ok(bearer(knock.headers)?.map(Credential::Token))
    }
}

#[derive(Debug)]
struct Subprotocol;

impl AuthMethod for Subprotocol {
    fn name(&self) -> &'static str {
        Way::Subprotocol.as_str()
    }
    fn way(&self) -> Way {
        Way::Subprotocol
    }
    fn opens(&self, door: Door) -> bool {
        door == Door::Connection
    }
    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>> {
        Protocols::read(knock.headers).map(|protocols| protocols.credential).map_err(bad)
    }
}

#[derive(Debug)]
struct Query;

impl AuthMethod for Query {
    fn name(&self) -> &'static str {
        Way::Query.as_str()
    }
    fn way(&self) -> Way {
        Way::Query
    }
    fn opens(&self, door: Door) -> bool {
        door == Door::Connection
    }
    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>> {
        Ok(ticket_in_query(knock.query)?.map(Credential::Ticket))
    }
}

#[derive(Debug)]
struct Cookie;

impl AuthMethod for Cookie {
    fn name(&self) -> &'static str {
        Way::Cookie.as_str()
    }
    fn way(&self) -> Way {
        Way::Cookie
    }
    /// A browser sends it along unasked: it says nothing about what the page wants.
    fn is_ambient(&self) -> bool {
        true
    }
    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>> {
        if knock.door == Door::Connection && knock.origin.is_none() {
            return Ok(None);
        }
        Ok(cookie(knock.headers, SESSION_COOKIE)?.map(Credential::Token))
    }
}

/// Whether the public subprotocol was offered and is to be echoed.
pub(super) fn offers_subprotocol(headers: &HeaderMap) -> bool {
    // Also beside a credential that is refused: a page gets the close code only if its subprotocol was accepted.
    let offers =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).any(|offer| offer.trim() == SUBPROTOCOL)
}

/// Refuses a token in the query, whatever the chain is made of.
pub(super) fn refuse_token_in_query(query: Option<&str>) -> Result<()> {
    for pair in query.unwrap_or_default().split('&') {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        if TOKENS_IN_QUERY.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(bad(
                "a token in the query would end up in access logs and is never accepted; buy a ticket",
            ));
        }
    }
    Ok(())
}

/// The one value of a header that must not come twice: a second one is how a request is smuggled past a proxy.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(bad("a header with a credential came twice"));
    }
    value.to_str().map(Some).map_err(|_| bad("a header with a credential is not plain text"))
}

pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<Secret<String>>> {
    let Some(value) = single(headers, &AUTHORIZATION)? else {
        return Ok(None);
    };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    // Another scheme counts as absent: it may be meant for a proxy on the way.
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    token_of(token.trim()).map(Some)
}

pub(crate) fn cookie(headers: &HeaderMap, wanted: &str) -> Result<Option<Secret<String>>> {
    let mut found = None;
    for value in headers.get_all(COOKIE) {
        let value = value.to_str().map_err(|_| bad("a cookie is not plain text"))?;
        for pair in value.split(';') {
            let Some((name, value)) = pair.trim().split_once('=') else {
                continue;
            };
            if name == wanted && found.replace(value).is_some() {
                return Err(bad("the session cookie came twice"));
            }
        }
    }
    found.map(token_of).transpose()
}

/// What a request offers as WebSocket subprotocols.
#[derive(Debug)]
struct Protocols {
    offered: bool,
    credential: Option<Credential>,
}

impl Protocols {
    fn read(headers: &HeaderMap) -> Result<Self, &'static str> {
        let mut protocols = Self { offered: false, credential: None };
        for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            let value = value.to_str().map_err(|_| "the subprotocols are not plain text")?;
            for offer in value.split(',').map(str::trim) {
                protocols.take(offer)?;
            }
        }
        if protocols.credential.is_some() && !protocols.offered {
            return Err("a credential by subprotocol comes with `apex.v1`, which is echoed");
        }
        Ok(protocols)
    }

    fn take(&mut self, offer: &str) -> Result<(), &'static str> {
        const WRONG: &str = "the credential by subprotocol is malformed";
        let credential = if offer == SUBPROTOCOL {
            self.offered = true;
            return Ok(());
        } else if let Some(token) = offer.strip_prefix("apex.bearer.") {
            Credential::Token(token_of(token).map_err(|_| WRONG)?)
        } else if let Some(ticket) = offer.strip_prefix("apex.ticket.") {
            Credential::Ticket(ticket_of(ticket).map_err(|_| WRONG)?)
        } else {
            return Ok(());
        };
        if self.credential.replace(credential).is_some() {
            return Err("more than one credential by subprotocol");
        }
        Ok(())
    }
}

fn ticket_in_query(query: Option<&str>) -> Result<Option<Secret<String>>> {
    let mut found = None;
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name == "ticket" && found.replace(value).is_some() {
            return Err(bad("more than one ticket in the query"));
        }
    }
    found.map(ticket_of).transpose()
}

fn token_of(text: &str) -> Result<Secret<String>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || text.len() > MAX_TOKEN || !text.bytes().all(plain) {
        return Err(bad("the token is malformed"));
    }
    Ok(Secret::new(text.to_owned()))
}

fn ticket_of(text: &str) -> Result<Secret<String>> {
    // A token in the place of a ticket has dots.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if text.is_empty() || text.len() > MAX_TICKET || !text.bytes().all(plain) {
        return Err(bad("the ticket is malformed"));
    }
    Ok(Secret::new(text.to_owned()))
}

fn bad(message: &'static str) -> Error {
    Error::new(Kind::Unauthenticated, OPERATION, message)
}
