//! The chain against a slow reference, which is written from the protocol's text and shares no code with it.

#![no_main]

#[path = "request.rs"]
mod request;

use apex_core::auth::Door;
use apex_transport::{Chain, Knock};
use http::header::HeaderMap;
use std::sync::LazyLock;

static CHAIN: LazyLock<Chain> = LazyLock::new(Chain::default);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (query, headers) = request::head(bytes);
    for door in [Door::Connection, Door::Request] {
        for origin in [None, Some("https://chat.example.com")] {
            let query = query.as_deref();
            let knock = Knock { headers: &headers, query, origin, address: None, door };
            let told = CHAIN.presented(&knock).ok();
            assert_eq!(
                told,
                reference(&headers, query, origin.is_some(), door),
                "{headers:?} {query:?}"
            );
        }
    }
});

/// The ways, or `None` for a request that is refused as it is.
fn reference(
    headers: &HeaderMap,
    query: Option<&str>,
    page: bool,
    door: Door,
) -> Option<Vec<&'static str>> {
    let connection = door == Door::Connection;
    let pairs: Vec<(String, String)> = query
        .unwrap_or("")
        .split('&')
        .map(|pair| match pair.find('=') {
            Some(at) => (pair[..at].to_owned(), pair[at + 1..].to_owned()),
            None => (pair.to_owned(), String::new()),
        })
        .collect();
    for (name, _) in &pairs {
        let name = name.to_lowercase();
        if ["token", "access_token", "bearer", "jwt", "authorization", "id_token"]
            .contains(&name.as_str())
        {
            return None;
        }
    }
    let mut ways = Vec::new();

    let authorization: Vec<_> = headers.get_all("authorization").iter().collect();
    if authorization.len() > 1 {
        return None;
    }
    if let Some(value) = authorization.first() {
        let value = text(value.as_bytes())?;
        let mut words = value.splitn(2, ' ');
        let scheme = words.next().unwrap_or("");
        if scheme.to_lowercase() == "bearer" {
            if !is_credential(words.next().unwrap_or("").trim(), 8 * 1024) {
                return None;
            }
            ways.push("bearer");
        }
    }

    if connection {
        let mut offers = Vec::new();
        let mut unreadable = false;
        for value in headers.get_all("sec-websocket-protocol") {
            match text(value.as_bytes()) {
                Some(value) => offers.extend(value.split(',').map(|offer| offer.trim().to_owned())),
                None => unreadable = true,
            }
        }
        let credentials: Vec<&String> = offers
            .iter()
            .filter(|offer| offer.starts_with("apex.bearer.") || offer.starts_with("apex.ticket."))
            .collect();
        let malformed = credentials.iter().any(|offer| match offer.strip_prefix("apex.bearer.") {
            Some(token) => !is_credential(token, 8 * 1024),
            None => !is_ticket(&offer["apex.ticket.".len()..]),
        });
        if unreadable || malformed || credentials.len() > 1 {
            return None;
        }
        if credentials.len() == 1 {
            if !offers.iter().any(|offer| offer == "apex.v1") {
                return None;
            }
            ways.push("subprotocol");
        }
        let tickets: Vec<&String> =
            pairs.iter().filter(|(name, _)| name == "ticket").map(|(_, value)| value).collect();
        if tickets.len() > 1 || tickets.iter().any(|ticket| !is_ticket(ticket)) {
            return None;
        }
        ways.extend(tickets.first().map(|_| "query"));
    }

    if ways.is_empty() && (page || !connection) {
        let mut sessions = Vec::new();
        for value in headers.get_all("cookie") {
            let value = text(value.as_bytes())?;
            for pair in value.split(';') {
                if let Some(session) = pair.trim().strip_prefix("__Host-apex_session=") {
                    sessions.push(session.to_owned());
                }
            }
        }
        if sessions.len() > 1 || sessions.iter().any(|session| !is_credential(session, 8 * 1024)) {
            return None;
        }
        ways.extend(sessions.first().map(|_| "cookie"));
    }
    Some(ways)
}

/// Visible ASCII, with spaces and tabs between.
fn text(bytes: &[u8]) -> Option<String> {
    let plain = bytes.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e));
    plain.then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn is_credential(text: &str, most: usize) -> bool {
    !text.is_empty()
        && text.len() <= most
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.')
}

/// A ticket has no dots: a signed token in its place is refused.
fn is_ticket(text: &str) -> bool {
    is_credential(text, 128) && !text.contains('.')
}
