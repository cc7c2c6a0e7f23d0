//! From where a request comes: which page, and which address.

use apex_core::auth::{Door, Presented, Way};
use apex_core::error::{Error, Kind, Result};
use apex_core::id::CorrelationId;
use http::header::{HeaderMap, HeaderName, ORIGIN};
use std::net::{IpAddr, SocketAddr};

const OPERATION: &str = "handshake";

/// What proxies say about where a request came from.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address at the other end of a request's socket. The bundled server knows it; a host that mounts the service in
/// a server of its own puts it into the request's extensions, where addresses matter to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Who is at the door, before anything is verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The page that the request comes from; it is on the allow list.
    pub(crate) origin: Option<String>,
    /// The client's address, where it is known.
    pub(crate) address: Option<IpAddr>,
    /// The request's id.
    pub(crate) correlation: Option<CorrelationId>,
}

impl Caller {
    pub(crate) fn presents(&self, way: Way, door: Door) -> Presented {
        let Self { origin, address, correlation } = self;
        let (origin, address, correlation) = (origin.clone(), *address, *correlation);
        Presented { way, door, origin, address, correlation }
    }
}

/// The address of the client behind so many proxies that the host trusts. Each proxy adds the address that it saw at
/// the right end of the list, so only that many entries from the right were not made up by the client. `None` where
/// there are fewer: then some proxy is not where the host says.
pub(crate) fn client_address(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    trusted_proxies: usize,
) -> Option<IpAddr> {
    let Some(back) = trusted_proxies.checked_sub(1) else {
        return peer.map(|peer| peer.to_canonical());
    };
    let lists: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|list| list.to_str().unwrap_or("")).collect();
    let entry = lists.iter().flat_map(|list| list.split(',')).rev().nth(back)?.trim();
    let address = entry.parse::<IpAddr>().ok();
    // Some proxies add the port.
    let address = address.or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn origins_are_compared_exactly() {
        let origins = Origins::new(vec!["https://chat.example.com".into()]);
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
        let twice = headers(&[
            ("origin", "https://chat.example.com"),
            ("origin", "https://chat.example.com"),
        ]);
        assert!(origins.check(&twice).is_err());
        assert_eq!(origins.check(&headers(&[])).unwrap(), None);
    }

    #[test]
    fn the_address_is_what_the_last_trusted_proxy_saw() {
        let peer: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let lists = [("x-forwarded-for", "6.6.6.6, 192.0.2.7"), ("x-forwarded-for", "10.0.0.2")];
        let known = |proxies| {
            client_address(&headers(&lists), Some(peer), proxies).map(|known| known.to_string())
        };
        assert_eq!(
            known(0).as_deref(),
            Some("10.0.0.1"),
            "what a client claims counts for nothing"
        );
        assert_eq!(known(1).as_deref(), Some("10.0.0.2"));
        assert_eq!(known(2).as_deref(), Some("192.0.2.7"));
        assert_eq!(known(3).as_deref(), Some("6.6.6.6"));
        assert_eq!(known(4), None);
        for (entry, address) in [
            ("192.0.2.7:4711", Some("192.0.2.7")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("unknown", None),
            ("", None),
        ] {
            let seen = client_address(&headers(&[("x-forwarded-for", entry)]), Some(peer), 1);
            assert_eq!(seen.map(|seen| seen.to_string()).as_deref(), address, "{entry}");
        }
        assert_eq!(client_address(&headers(&[]), Some(peer), 1), None);
        assert_eq!(client_address(&headers(&[]), None, 0), None);
    }
}
