//! The addresses of web servers that a host calls, read in one place.

use super::{Checks, DatabaseHost, FaultCode};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;

/// The address of a web server: scheme, host, port and path, without a password, a query or a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebUrl {
    text: String,
    secure: bool,
    host: DatabaseHost,
}

/// Why a text is no address; it does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadWebUrl(&'static str);

impl WebUrl {
    /// How JSON Schema names it.
    pub(super) const FORMAT: &'static str = "web-url";

    /// The address of a proxy, which may have a user and a password and has no path; says whether it has them.
    ///
    /// # Errors
    /// It is none.
    pub fn of_proxy(text: &str) -> Result<(Self, bool), BadWebUrl> {
        let (scheme, rest) = split(text)?;
        let (login, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let url: Self = format!("{scheme}://{host}").parse()?;
        if host.trim_end_matches('/').contains('/') {
            return Err(BadWebUrl("has a path"));
        }
        Ok((url, !login.is_empty()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether nobody on the way can read what is said: it is encrypted, or stays on this machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.secure || self.host.is_local()
    }

    /// Judges where it leads: in the clear to another machine only in development.
    pub fn check(&self, checks: &mut Checks<'_>, key: &str) {
        checks.require_outside_development(
            &[key],
            self.is_private(),
            FaultCode::Insecure,
            "leads to another machine without TLS: keys and messages can be read on the way",
            "write https://, or put a proxy with TLS before that server",
        );
    }
}

fn split(text: &str) -> Result<(&'static str, &str), BadWebUrl> {
    let of = |scheme: &'static str| Some((scheme, text.strip_prefix(scheme)?.strip_prefix("://")?));
    of("https").or_else(|| of("http")).ok_or(BadWebUrl("begins with neither https:// nor http://"))
}

impl FromStr for WebUrl {
    type Err = BadWebUrl;

    fn from_str(text: &str) -> Result<Self, BadWebUrl> {
        let (scheme, rest) = split(text)?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadWebUrl("has spaces or characters that must be percent-encoded"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains(['?', '#']) {
            return Err(BadWebUrl("has a query or a fragment"));
        }
        if authority.contains('@') {
            return Err(BadWebUrl("has a user or a password"));
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
            Some(_) => return Err(BadWebUrl("has an IPv6 address that is none")),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
            return Err(BadWebUrl("names no host"));
        }
        let usual = if scheme == "https" { 443 } else { 80 };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => Some(usual),
            None => None,
            Some(port) => port.parse().ok().filter(|port| *port != 0),
        };
        let port = port.ok_or(BadWebUrl("has a port that is none of 1 to 65535"))?;
        let host = DatabaseHost::Tcp { host: host.to_owned(), port };
        Ok(Self { text: text.to_owned(), secure: scheme == "https", host })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for BadWebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadWebUrl {}

impl<'de> Deserialize<'de> for WebUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for WebUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WebUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": Self::FORMAT, "pattern": "^https?://[^@?#]+$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_scheme_host_and_port_and_nothing_secret() {
        for (good, private) in [
            ("https://api.example.com/v1", true),
            ("http://127.0.0.1:11434/v1", true),
            ("http://localhost", true),
            ("http://[::1]:8000/", true),
            ("https://[2001:db8::1]", true),
            ("http://vllm.internal:8000/v1", false),
            ("http://[2001:db8::1]/v1", false),
        ] {
            let url: WebUrl = good.parse().unwrap();
            assert_eq!((url.as_str(), url.is_private()), (good, private));
        }
        for (bad, problem) in [
            ("", "neither"),
            ("api.example.com", "neither"),
            ("ftp://a", "neither"),
            ("HTTPS://a", "neither"),
            ("https:/a", "neither"),
            ("https://", "host"),
            ("https:///v1", "host"),
            ("https://a b", "spaces"),
            ("https://ä.example", "spaces"),
            ("https://a:0", "port"),
            ("https://a:99999", "port"),
            ("https://a:", "port"),
            ("https://a:8x", "port"),
            ("https://[::1", "IPv6"),
            ("https://[::1]8", "port"),
            ("https://[a]", "IPv6"),
            ("https://u:p@a", "password"),
            ("https://a?k=v", "query"),
            ("https://a/v1#x", "fragment"),
            ("https://a$b", "host"),
        ] {
            let error = bad.parse::<WebUrl>().unwrap_err().to_string();
            assert!(error.contains(problem), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_proxy_may_have_a_login_and_no_path() {
        let (url, login) = WebUrl::of_proxy("http://user:p%40ss@proxy:3128").unwrap();
        assert_eq!((url.as_str(), login), ("http://proxy:3128", true));
        assert!(!WebUrl::of_proxy("https://proxy:3128/").unwrap().1);
        for bad in ["proxy:3128", "http://proxy:3128/path", "socks5://proxy", "http://user@"] {
            assert!(WebUrl::of_proxy(bad).is_err(), "{bad}");
        }
    }
}
