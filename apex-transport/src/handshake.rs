//! The chain of ways in, applied to a request. What a request presents is read first, without waiting; then every
//! credential that decides is verified.
//!
//! The order is that of the protocol, section 1: bearer token, subprotocol, ticket in the query, session cookie, and
//! where there is none of them, the first message. The first one present decides; one that is present and bad is
//! refused, never passed over.

use crate::protocol::SUBPROTOCOL;
use apex_core::auth::{Auth, Credential, Entry, Presented, Way};
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL};

/// The name of the session cookie.
pub const SESSION_COOKIE: &str = "__Host-apex_session";

const OPERATION: &str = "handshake";

/// The longest token.
const MAX_TOKEN: usize = 8 * 1024;

/// The longest ticket; ours have 43 characters.
const MAX_TICKET: usize = 128;

/// Names under which clients put tokens into a query, where none belongs.
const TOKENS_IN_QUERY: [&str; 6] =
    ["token", "access_token", "bearer", "jwt", "authorization", "id_token"];

/// The pages that may use the service.
#[derive(Debug, Clone)]
pub(crate) struct Origins(Vec<String>);

impl Origins {
    pub(crate) fn new(allowed: Vec<String>) -> Self {
        Self(allowed)
    }

    /// The origin of the page that a request comes from; `None` when no page sent it.
    ///
    /// # Errors
    /// `origin_denied` for one that is not on the list, for `null` and for more than one.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Option<String>> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Ok(None);
        };
        match origin.to_str() {
            Ok(origin) if origins.next().is_none() && self.0.iter().any(|o| o == origin) => {
                Ok(Some(origin.to_owned()))
            }
            _ => Err(Error::new(
                Kind::OriginDenied,
                OPERATION,
                "this page may not use this service; its origin is not on the allow list",
            )),
        }
    }
}

/// What an upgrade request presents.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The page that it comes from.
    pub(crate) origin: Option<String>,
    /// Whether the subprotocol was offered and is to be echoed.
    pub(crate) subprotocol: bool,
    /// The credentials, first the one that decides; or why what is presented cannot be one.
    pub(crate) credentials: Result<Vec<(Way, Credential)>>,
}

impl Offer {
    /// Reads what a request presents whose origin has been checked.
    pub(crate) fn read(headers: &HeaderMap, query: Option<&str>, origin: Option<String>) -> Self {
        let protocols = Protocols::read(headers);
        Self {
            credentials: credentials(headers, &protocols, query, origin.is_some()),
            subprotocol: protocols.as_ref().is_ok_and(|p| p.offered),
            origin,
        }
    }

    /// The way that decides; `None` where nothing is presented, or nothing that could be read.
    pub(crate) fn way(&self) -> Option<Way> {
        let first = self.credentials.as_ref().ok()?.first();
        first.map(|(way, _)| *way)
    }

    /// Verifies what was presented. `None` means that the client is to say who it is.
    ///
    /// # Errors
    /// As [`Auth::authenticate`]; `forbidden` for credentials of different users.
    pub(crate) async fn verify(self, auth: &Auth) -> Result<Option<Entry>> {
        let mut entry: Option<Entry> = None;
        for (way, credential) in self.credentials? {
            let presented = Presented { way, origin: self.origin.clone() };
            let verified = auth.authenticate(&credential, &presented).await;
            match (&entry, verified) {
                (None, verified) => entry = Some(verified?),
                (Some(first), Ok(other)) => {
                    if first.principal.user() != other.principal.user() {
                        return Err(Error::new(
                            Kind::Forbidden,
                            OPERATION,
                            "the credentials of this request belong to different users",
                        ));
                    }
                }
                // The first one has decided; a later bad one lets nobody in and keeps nobody out.
                (Some(_), Err(error)) if is_refusal(&error) => {}
                (Some(_), Err(error)) => return Err(error),
            }
        }
        Ok(entry)
    }
}

/// What a plain request presents: a bearer token or the cookie.
pub(crate) fn plain_credential(headers: &HeaderMap) -> Result<Option<(Way, Credential)>> {
    if let Some(token) = bearer(headers)? {
        return Ok(Some((Way::Bearer, Credential::Token(token))));
    }
    Ok(cookie(headers)?.map(|token| (Way::Cookie, Credential::Token(token))))
}

fn credentials(
    headers: &HeaderMap,
    protocols: &Result<Protocols, &'static str>,
    query: Option<&str>,
    from_allowed_page: bool,
) -> Result<Vec<(Way, Credential)>> {
    let mut found = Vec::new();
    if let Some(token) = bearer(headers)? {
        found.push((Way::Bearer, Credential::Token(token)));
    }
    match protocols {
        Ok(protocols) => {
            let credential = protocols.credential.clone();
            found.extend(credential.map(|credential| (Way::Subprotocol, credential)));
        }
        Err(wrong) => return Err(bad(wrong)),
    }
    if let Some(ticket) = ticket_in_query(query)? {
        found.push((Way::Query, Credential::Ticket(ticket)));
    }
    if found.is_empty()
        && from_allowed_page
        && let Some(token) = cookie(headers)?
    {
        found.push((Way::Cookie, Credential::Token(token)));
    }
    Ok(found)
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

fn bearer(headers: &HeaderMap) -> Result<Option<Secret<String>>> {
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

fn cookie(headers: &HeaderMap) -> Result<Option<Secret<String>>> {
    let mut found = None;
    for value in headers.get_all(COOKIE) {
        let value = value.to_str().map_err(|_| bad("a cookie is not plain text"))?;
        for pair in value.split(';') {
            let Some((name, value)) = pair.trim().split_once('=') else {
                continue;
            };
            if name == SESSION_COOKIE && found.replace(value).is_some() {
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
        if TOKENS_IN_QUERY.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(bad(
                "a token in the query would end up in access logs and is never accepted; buy a ticket",
            ));
        }
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

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unauthenticated | Kind::TokenExpired)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://chat.example.com";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn offer(pairs: &[(&str, &str)], query: &str) -> Offer {
        let headers = headers(pairs);
        let origin = Origins::new(vec![PAGE.into()]).check(&headers).unwrap();
        Offer::read(&headers, Some(query), origin)
    }

    fn ways(pairs: &[(&str, &str)], query: &str) -> Vec<Way> {
        let credentials = offer(pairs, query).credentials.unwrap();
        credentials.into_iter().map(|(way, _)| way).collect()
    }

    #[test]
    fn the_order_is_that_of_the_protocol() {
        let all = [
            ("authorization", "Bearer t"),
            ("sec-websocket-protocol", "apex.v1, apex.ticket.t"),
            ("cookie", "a=b; __Host-apex_session=t"),
            ("origin", PAGE),
        ];
        assert_eq!(ways(&all, "ticket=t"), [Way::Bearer, Way::Subprotocol, Way::Query]);
        assert_eq!(ways(&all[1..], ""), [Way::Subprotocol]);
        assert_eq!(ways(&all[2..], "a=1&ticket=t"), [Way::Query]);
        assert_eq!(ways(&all[2..], ""), [Way::Cookie]);
        assert_eq!(ways(&all[3..], ""), []);
    }

    #[test]
    fn a_cookie_counts_only_for_an_allowed_page() {
        assert_eq!(ways(&[("cookie", "__Host-apex_session=t")], ""), []);
    }

    #[test]
    fn another_scheme_counts_as_absent() {
        assert_eq!(ways(&[("authorization", "Basic dTpw")], ""), []);
        assert_eq!(ways(&[("authorization", "bearer  t")], ""), [Way::Bearer]);
    }

    #[test]
    fn what_is_present_and_malformed_is_refused() {
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
        let jwt = "aaa.bbb.ccc";
        for (pairs, query) in [
            (vec![("authorization", "Bearer")], String::new()),
            (vec![("authorization", "Bearer a b")], String::new()),
            (vec![("authorization", long.as_str())], String::new()),
            (vec![], "ticket=".into()),
            (vec![("authorization", "Bearer a"), ("authorization", "Bearer b")], String::new()),
            (vec![("sec-websocket-protocol", "apex.ticket.t")], String::new()),
            (vec![("sec-websocket-protocol", "apex.v1, apex.ticket.t=")], String::new()),
            (
                vec![("sec-websocket-protocol", "apex.v1, apex.ticket.a, apex.ticket.b")],
                String::new(),
            ),
            (
                vec![
                    ("sec-websocket-protocol", "apex.v1, apex.ticket.a"),
                    ("sec-websocket-protocol", "apex.bearer.b"),
                ],
                String::new(),
            ),
            (vec![], "ticket=a&ticket=b".into()),
            (vec![], format!("ticket={jwt}")),
            (vec![], format!("token={jwt}")),
            (vec![], format!("x=1&Access_Token={jwt}")),
            (
                vec![("origin", PAGE), ("cookie", "__Host-apex_session=a; __Host-apex_session=b")],
                String::new(),
            ),
        ] {
            let error = offer(&pairs, &query).credentials.unwrap_err();
            assert_eq!(error.kind(), Kind::Unauthenticated, "{pairs:?} {query}");
            assert!(!format!("{error:?}").contains(jwt));
        }
    }

    #[test]
    fn only_the_public_subprotocol_is_echoed() {
        let with = |value| offer(&[("sec-websocket-protocol", value)], "").subprotocol;
        assert!(with("apex.v1"));
        assert!(with("chat, apex.v1, apex.ticket.t"));
        assert!(!with("chat"));
    }

    proptest::proptest! {
        /// Whatever a request carries, reading it neither panics nor repeats it, and an unknown page never passes.
        #[test]
        fn any_headers_are_read_or_refused(
            names in proptest::collection::vec(0_usize..5, 0..6),
            values in proptest::collection::vec("[ -~]{0,30}|(Bearer |apex\\.v1, apex\\.(ticket|bearer)\\.|__Host-apex_session=)CANARY[-~ ]{0,9}", 6),
            query in proptest::option::of("(ticket=|token=|&)?(CANARY)?[!-~]{0,20}"),
        ) {
            let known = ["authorization", "sec-websocket-protocol", "cookie", "origin", "x-other"];
            let pairs: Vec<_> = names
                .iter()
                .zip(&values)
                .map(|(name, value)| (known[*name], value.trim()))
                .collect();
            let headers = headers(&pairs);
            let origin = Origins::new(vec![PAGE.into()]).check(&headers);
            let from_page = headers.get(ORIGIN).is_some();
            proptest::prop_assert_eq!(origin.is_err(), from_page);
            let offer = Offer::read(&headers, query.as_deref(), None);
            let shown = format!("{offer:?}");
            proptest::prop_assert!(!shown.contains("CANARY"), "{}", shown);
            let _ = plain_credential(&headers);
        }
    }

    #[test]
    fn origins_are_compared_exactly() {
        let origins = Origins::new(vec![PAGE.into()]);
        for denied in [
            "null",
            "http://chat.example.com",
            "https://chat.example.com:8443",
            "https://chat.example.com.evil.example",
            "https://evil-chat.example.com",
            "https://CHAT.example.com",
            "https://chat.example.com/",
            "",
        ] {
            let error = origins.check(&headers(&[("origin", denied)])).unwrap_err();
            assert_eq!(error.kind(), Kind::OriginDenied, "{denied}");
        }
        let twice = headers(&[("origin", PAGE), ("origin", PAGE)]);
        assert!(origins.check(&twice).is_err());
        assert_eq!(origins.check(&headers(&[])).unwrap(), None);
    }
}
