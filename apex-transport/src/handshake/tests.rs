use super::*;
use apex_core::config::Secret;
use http::header::{HeaderName, ORIGIN};

/// The longest token.
const MAX_TOKEN: usize = 8 * 1024;

const PAGE: &str = "https://chat.example.com";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn offer_by(chain: &Chain, pairs: &[(&str, &str)], query: &str, door: Door) -> Offer {
    let headers = headers(pairs);
    let origin = Origins::new(vec![PAGE.into()]).check(&headers).unwrap();
    let caller = Caller { origin, ..Caller::default() };
    chain.read(&headers, Some(query), &caller, door)
}

fn offer(pairs: &[(&str, &str)], query: &str) -> Offer {
    offer_by(&Chain::default(), pairs, query, Door::Connection)
}

fn ways(pairs: &[(&str, &str)], query: &str) -> Vec<Way> {
    let found = offer(pairs, query).found.unwrap();
    found.into_iter().map(|found| found.method.way()).collect()
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
        (vec![("sec-websocket-protocol", "apex.v1, apex.ticket.a, apex.ticket.b")], String::new()),
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
        let error = offer(&pairs, &query).found.unwrap_err();
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
    assert!(with("apex.v1, apex.ticket.="), "a page has to hear that it is refused");
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
        for door in [Door::Connection, Door::Request] {
            let query = query.as_deref();
            let offer = Chain::default().read(&headers, query, &Caller::default(), door);
            let shown = format!("{offer:?}");
            proptest::prop_assert!(!shown.contains("CANARY"), "{}", shown);
        }
    }
}

#[test]
fn a_plain_request_brings_a_bearer_token_or_the_cookie() {
    let all = [
        ("cookie", "__Host-apex_session=t"),
        ("sec-websocket-protocol", "apex.v1, apex.ticket.t"),
        ("authorization", "Bearer t"),
    ];
    let ways = |pairs: &[(&str, &str)]| {
        let offer = offer_by(&Chain::default(), pairs, "ticket=t", Door::Request);
        (offer.way(), offer.is_ambient())
    };
    assert_eq!(ways(&all), (Some(Way::Bearer), false));
    assert_eq!(ways(&all[..2]), (Some(Way::Cookie), true));
    assert_eq!(ways(&all[1..2]), (None, false));
}

/// A way of a host's own.
#[derive(Debug)]
struct ApiKey;

impl AuthMethod for ApiKey {
    fn name(&self) -> &'static str {
        "api-key"
    }
    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>> {
        let key = knock.headers.get("x-api-key").and_then(|key| key.to_str().ok());
        Ok(key.map(|key| Credential::Token(Secret::new(key.to_owned()))))
    }
}

#[test]
fn a_host_takes_out_reorders_and_adds() {
    let standard = ["bearer", "subprotocol", "query", "cookie", "hello"];
    assert_eq!(Chain::default().names(), standard);
    let chain = Chain::default().without("query").without("hello").first(Arc::new(ApiKey));
    assert_eq!(chain.names(), ["api-key", "bearer", "subprotocol", "cookie"]);
    let pairs = [("authorization", "Bearer t"), ("x-api-key", "k")];
    let door = Door::Connection;
    assert_eq!(offer_by(&chain, &pairs, "ticket=t", door).way(), Some(Way::Own));
    assert_eq!(offer_by(&chain, &[], "ticket=t", door).way(), None);
    let last = chain.then(Arc::new(ApiKey)).ordered(&["cookie", "subprotocol"]);
    assert_eq!(last.names(), ["cookie", "subprotocol", "bearer", "api-key"]);
    assert_eq!(Chain::of(vec![Arc::new(ApiKey)]).names(), ["api-key"]);
    // A token in the query is refused whatever the chain is made of.
    assert!(offer_by(&last, &[], "token=t", door).found.is_err());
}
