//! What clients meet: HTTP, and connections that stay.

use apex_core::config::{Checks, Environment, FaultCode, HumanDuration, Section, duration};
use apex_transport::{ConnectionConfig, HttpConfig, HubConfig, TransportConfig};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
    /// The largest JSON body, in bytes.
    #[schemars(range(min = 1_024, max = 16_777_216))]
    pub body_bytes: usize,
    /// How long a body may bring nothing.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub body_idle: Duration,
    /// How long the headers may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "60s"))]
    pub headers_within: Duration,
    /// The largest head of a request, in bytes.
    #[schemars(range(min = 8_192, max = 65_536))]
    pub header_bytes: usize,
    /// Headers of a request.
    #[schemars(range(min = 16, max = 256))]
    pub headers: usize,
    /// TCP connections of the bundled server.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub sockets: usize,
    /// How long verifying a credential may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "60s"))]
    pub auth_within: Duration,
    /// How long a shutdown may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "10m"))]
    pub shutdown_within: Duration,
}

impl Default for ServerSection {
    fn default() -> Self {
        let HttpConfig {
            body_bytes,
            body_idle,
            headers_within,
            header_bytes,
            headers,
            sockets,
            auth_within,
            shutdown_within,
        } = HttpConfig::default();
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8000).into(),
            origins: Vec::new(),
            prefix: String::new(),
            certificate: None,
            private_key: None,
            trusted_proxies: 0,
            body_bytes,
            body_idle,
            headers_within,
            header_bytes,
            headers,
            sockets,
            auth_within,
            shutdown_within,
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

    pub(super) fn http(&self) -> HttpConfig {
        HttpConfig {
            body_bytes: self.body_bytes,
            body_idle: self.body_idle,
            headers_within: self.headers_within,
            header_bytes: self.header_bytes,
            headers: self.headers,
            sockets: self.sockets,
            auth_within: self.auth_within,
            shutdown_within: self.shutdown_within,
        }
    }
}

/// Clients that are connected.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ConnectionsSection {
    /// Connections on this node.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub total: usize,
    /// Of them, those that have not said who they are; at most total.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub unknown: usize,
    /// Connections of one user, over all nodes.
    #[schemars(range(min = 1, max = 10_000))]
    pub per_user: usize,
    /// What clients are told to wait before they come back elsewhere.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "5m"))]
    pub drain_after: Duration,
    /// How much more they are told to wait, each a random part of it.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "5m"))]
    pub drain_jitter: Duration,
    /// The largest frame of a client's, in bytes.
    #[schemars(range(min = 4_096, max = 1_048_576))]
    pub frame_bytes: usize,
    /// The largest frame before the client is in, in bytes; at most frame_bytes.
    #[schemars(range(min = 1_024, max = 1_048_576))]
    pub hello_bytes: usize,
    /// How long a client may take to say who it is.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "60s"))]
    pub hello_within: Duration,
    /// Frames that a client may send a second.
    #[schemars(range(min = 1, max = 10_000))]
    pub frames_per_s: u32,
    /// Frames that a client may send at once; at least frames_per_s.
    #[schemars(range(min = 1, max = 100_000))]
    pub frames_burst: u32,
    /// Bad frames within a minute that end the conversation.
    #[schemars(range(min = 1, max = 1_000))]
    pub bad_frames: usize,
    /// Runs that a client may follow.
    #[schemars(range(min = 1, max = 10_000))]
    pub subscriptions: usize,
    /// How often the server pings.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "60s"))]
    pub heartbeat: Duration,
    /// How many pings may stay without any sign of life.
    #[schemars(range(min = 1, max = 10))]
    pub missed_heartbeats: u32,
    /// How long before the end of its credential a client is told.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub expiring: Duration,
    /// Bytes that may wait to be read by a client.
    #[schemars(range(min = 16_384, max = 16_777_216))]
    pub outbound_bytes: usize,
    /// How long one of them may wait.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "5m"))]
    pub outbound_wait: Duration,
    /// Calls of a client that may be under way at a time.
    #[schemars(range(min = 1, max = 1_000))]
    pub calls: usize,
    /// How long a call may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub call_within: Duration,
    /// How long the other side may take to answer a close.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "60s"))]
    pub close_within: Duration,
}

impl Default for ConnectionsSection {
    fn default() -> Self {
        let HubConfig { connections: total, unknown, per_user, drain_after, drain_jitter } =
            HubConfig::default();
        let ConnectionConfig {
            frame_bytes,
            hello_bytes,
            hello_within,
            frames_per_s,
            frames_burst,
            bad_frames,
            subscriptions,
            heartbeat,
            missed_heartbeats,
            expiring,
            outbound_bytes,
            outbound_wait,
            calls,
            call_within,
            close_within,
        } = ConnectionConfig::default();
        Self {
            total,
            unknown,
            per_user,
            drain_after,
            drain_jitter,
            frame_bytes,
            hello_bytes,
            hello_within,
            frames_per_s,
            frames_burst,
            bad_frames,
            subscriptions,
            heartbeat,
            missed_heartbeats,
            expiring,
            outbound_bytes,
            outbound_wait,
            calls,
            call_within,
            close_within,
        }
    }
}

impl Section for ConnectionsSection {
    fn check(&self, checks: &mut Checks<'_>) {
        for (keys, holds, problem) in [
            (
                ["hello_bytes", "frame_bytes"],
                self.hello_bytes <= self.frame_bytes,
                "is larger than frame_bytes",
            ),
            (
                ["frames_burst", "frames_per_s"],
                self.frames_burst >= self.frames_per_s,
                "is less than frames_per_s",
            ),
            (["unknown", "total"], self.unknown <= self.total, "is more than total"),
            (["per_user", "total"], self.per_user <= self.total, "is more than total"),
        ] {
            checks.require(&keys, holds, FaultCode::Conflict, problem, "change one of the two");
        }
    }
}

impl ConnectionsSection {
    pub(super) fn hub(&self) -> HubConfig {
        HubConfig {
            connections: self.total,
            unknown: self.unknown,
            per_user: self.per_user,
            drain_after: self.drain_after,
            drain_jitter: self.drain_jitter,
        }
    }

    pub(super) fn connection(&self) -> ConnectionConfig {
        ConnectionConfig {
            frame_bytes: self.frame_bytes,
            hello_bytes: self.hello_bytes,
            hello_within: self.hello_within,
            frames_per_s: self.frames_per_s,
            frames_burst: self.frames_burst,
            bad_frames: self.bad_frames,
            subscriptions: self.subscriptions,
            heartbeat: self.heartbeat,
            missed_heartbeats: self.missed_heartbeats,
            expiring: self.expiring,
            outbound_bytes: self.outbound_bytes,
            outbound_wait: self.outbound_wait,
            calls: self.calls,
            call_within: self.call_within,
            close_within: self.close_within,
        }
    }
}
