//! What clients meet: HTTP, and connections that stay.

use apex_core::config::{Checks, Environment, FaultCode, Section};
use apex_transport::{ConnectionConfig, HttpConfig, HubConfig, TransportConfig};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Plain HTTP.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ServerSection {
    /// Where to listen, an address and a port, for hosts that let Apex listen.
    #[schemars(with = "String", extend("format" = "socket-address"))]
    pub listen: SocketAddr,
    /// The pages that may use the service: exact origins such as `https://chat.example.com`.
    pub origins: Vec<String>,
    /// Where the routes begin, such as `/apex`; empty for the root.
    pub prefix: String,
    /// The certificate to serve with TLS, as PEM, those that vouch for it after it; looked at again while it serves.
    pub certificate: Option<PathBuf>,
    /// Its private key, as PEM without a passphrase.
    pub private_key: Option<PathBuf>,
    /// Proxies between clients and this process that add the address that they saw to `X-Forwarded-For`. With 0, a
    /// client's address is that of the socket.
    #[schemars(range(min = 0, max = 16))]
    pub trusted_proxies: usize,
    /// Bodies, heads and sockets.
    #[serde(flatten)]
    pub http: HttpConfig,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8000).into(),
            origins: Vec::new(),
            prefix: String::new(),
            certificate: None,
            private_key: None,
            trusted_proxies: 0,
            http: HttpConfig::default(),
        }
    }
}

impl Section for ServerSection {
    fn check(&self, checks: &mut Checks<'_>) {
        let accepted = |config: TransportConfig| config.validate().is_ok();
        checks.require(
            &["origins"],
            accepted(TransportConfig { origins: self.origins.clone(), ..TransportConfig::default() }),
            FaultCode::Format,
            "one of them is no origin",
            "write scheme, host and, unless it is the scheme's own, port in small letters: https://chat.example.com",
        );
        checks.require(
            &["prefix"],
            accepted(TransportConfig { prefix: self.prefix.clone(), ..TransportConfig::default() }),
            FaultCode::Format,
            "is no path",
            "leave it empty, or begin with / and do not end with it, such as /apex",
        );
        let plain = |origin: &String| origin.starts_with("http:") || origin.contains("//localhost");
        checks.require(
            &["origins"],
            checks.environment() == Environment::Development || !self.origins.iter().any(plain),
            FaultCode::Insecure,
            "a page without TLS, or of the developer's own machine, may use the service",
            "leave https origins only",
        );
        self.check_tls(checks);
    }
}

impl ServerSection {
    #[cfg(feature = "tls")]
    fn check_tls(&self, checks: &mut Checks<'_>) {
        let (certificate, private_key) = (self.certificate.as_deref(), self.private_key.as_deref());
        apex_transport::tls::check(certificate, private_key, checks);
    }

    #[cfg(not(feature = "tls"))]
    fn check_tls(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["certificate", "private_key"],
            self.certificate.is_none() && self.private_key.is_none(),
            FaultCode::Conflict,
            "this build of Apex cannot serve with TLS",
            "turn its feature `tls` on, or leave both files away",
        );
    }

    /// The pair to serve with.
    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<apex_transport::TlsFiles> {
        let (certificate, private_key) = (self.certificate.clone()?, self.private_key.clone()?);
        Some(apex_transport::TlsFiles { certificate, private_key })
    }
}

/// Clients that are connected.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ConnectionsSection {
    /// Everybody together.
    #[serde(flatten)]
    pub hub: HubConfig,
    /// One client's conversation.
    #[serde(flatten)]
    pub connection: ConnectionConfig,
}

impl Section for ConnectionsSection {
    fn check(&self, checks: &mut Checks<'_>) {
        self.connection.check(checks);
        self.hub.check(checks);
    }
}
