use crate::protocol::Limits;
use apex_core::config::{Checks, FaultCode, HumanDuration, Section, duration};
use apex_core::error::{Error, Kind, Result};
use apex_core::file::FileLimits;
use apex_core::run::RunLimits;
use serde::Deserialize;
use std::time::Duration;

/// How the transport behaves. The defaults are those of the protocol, section 5; [`TransportConfig::validate`] says
/// what is out of range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportConfig {
    /// The pages that may use the service: exact origins such as `https://chat.example.com`. One list for upgrades
    /// and for cross-origin requests.
    pub origins: Vec<String>,
    /// Where the routes begin, such as `/apex`; empty for the root.
    pub prefix: String,
    /// Proxies between clients and this process that the host trusts to add the address that they saw to
    /// `X-Forwarded-For`; at most 16. With 0, the address is that of the socket.
    pub trusted_proxies: usize,
    /// One client's conversation.
    pub connection: ConnectionConfig,
    /// Everybody together.
    pub hub: HubConfig,
    /// Plain HTTP.
    pub http: HttpConfig,
    /// What the log allows, to be told to clients.
    pub runs: RunLimits,
    /// What the file store allows, to be told to clients and to be enforced on bodies.
    pub files: FileLimits,
    /// Tickets of one user that may be unused, to be told to clients.
    pub unused_tickets: usize,
}

/// One client's conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ConnectionConfig {
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

/// Everybody together, on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct HubConfig {
    /// Connections on this node.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(rename = "total")]
    pub connections: usize,
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
}

/// Plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct HttpConfig {
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

impl Section for ConnectionConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        let (hello, burst) = (["hello_bytes", "frame_bytes"], ["frames_burst", "frames_per_s"]);
        let (fits, enough) =
            (self.hello_bytes <= self.frame_bytes, self.frames_burst >= self.frames_per_s);
        one_of_two(checks, &hello, fits, "is larger than frame_bytes");
        one_of_two(checks, &burst, enough, "is less than frames_per_s");
    }
}

impl Section for HubConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        for (key, value) in [("unknown", self.unknown), ("per_user", self.per_user)] {
            one_of_two(checks, &[key, "total"], value <= self.connections, "is more than total");
        }
    }
}

fn one_of_two(checks: &mut Checks<'_>, keys: &[&str], holds: bool, problem: &'static str) {
    checks.require(keys, holds, FaultCode::Conflict, problem, "change one of the two");
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            prefix: String::new(),
            trusted_proxies: 0,
            connection: ConnectionConfig::default(),
            hub: HubConfig::default(),
            http: HttpConfig::default(),
            runs: RunLimits::default(),
            files: FileLimits::default(),
            unused_tickets: 32,
        }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            frame_bytes: 64 * 1024,
            hello_bytes: 12 * 1024,
            hello_within: Duration::from_secs(5),
            frames_per_s: 20,
            frames_burst: 40,
            bad_frames: 10,
            subscriptions: 100,
            heartbeat: Duration::from_secs(20),
            missed_heartbeats: 2,
            expiring: Duration::from_secs(60),
            outbound_bytes: 256 * 1024,
            outbound_wait: Duration::from_secs(10),
            calls: 32,
            call_within: Duration::from_secs(30),
            close_within: Duration::from_secs(3),
        }
    }
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            connections: 10_000,
            unknown: 512,
            per_user: 20,
            drain_after: Duration::from_secs(1),
            drain_jitter: Duration::from_secs(4),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            body_idle: Duration::from_secs(30),
            headers_within: Duration::from_secs(10),
            header_bytes: 32 * 1024,
            headers: 64,
            sockets: 20_000,
            auth_within: Duration::from_secs(5),
            shutdown_within: Duration::from_secs(15),
        }
    }
}

impl TransportConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// `config_invalid`, with every fault in its message.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Faults::default();
        self.check_places(&mut faults);
        faults.range("trusted_proxies", self.trusted_proxies, 0, 16);
        self.connection.check_ranges(&mut faults);
        self.hub.check_ranges(&mut faults);
        self.http.check_ranges(&mut faults);
        faults.into_result()
    }

    /// What clients are told.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let connection = &self.connection;
        Limits {
            frame_bytes: connection.frame_bytes,
            frames_per_s: connection.frames_per_s,
            frames_burst: connection.frames_burst,
            subscriptions: connection.subscriptions,
            outbound_bytes: connection.outbound_bytes,
            outbound_ms: u64::try_from(connection.outbound_wait.as_millis()).unwrap_or(u64::MAX),
            connections: self.hub.per_user,
            running_runs: self.runs.running,
            queued_runs: self.runs.queued,
            unused_tickets: self.unused_tickets,
            file_bytes: self.files.file_bytes,
        }
    }

    fn check_places(&self, faults: &mut Faults) {
        for origin in &self.origins {
            if !is_origin(origin) {
                faults.add(format!(
                    "origins: `{origin}` is not an origin; write scheme, host and, unless it is the scheme's own, \
                     port in lower case, such as https://chat.example.com or http://127.0.0.1:8000"
                ));
            }
        }
        let prefix = &self.prefix;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        if !prefix.is_empty()
            && (!prefix.starts_with('/') || prefix.ends_with('/') || !prefix.chars().all(plain))
        {
            faults.add(format!(
                "prefix: `{prefix}` must be empty or begin with `/`, not end with it, and be plain, such as /apex"
            ));
        }
    }
}

impl ConnectionConfig {
    fn check_ranges(&self, faults: &mut Faults) {
        let seconds = Duration::from_secs;
        faults.range("connection.frame_bytes", self.frame_bytes, 4 << 10, 1 << 20);
        faults.range("connection.hello_bytes", self.hello_bytes, 1 << 10, self.frame_bytes);
        faults.time("connection.hello_within", self.hello_within, seconds(1), seconds(60));
        faults.range("connection.frames_per_s", self.frames_per_s, 1, 10_000);
        faults.range("connection.frames_burst", self.frames_burst, self.frames_per_s, 100_000);
        faults.range("connection.bad_frames", self.bad_frames, 1, 1_000);
        faults.range("connection.subscriptions", self.subscriptions, 1, 10_000);
        faults.time("connection.heartbeat", self.heartbeat, seconds(1), seconds(60));
        faults.range("connection.missed_heartbeats", self.missed_heartbeats, 1, 10);
        faults.time("connection.expiring", self.expiring, Duration::ZERO, seconds(3_600));
        faults.range("connection.outbound_bytes", self.outbound_bytes, 16 << 10, 16 << 20);
        faults.time("connection.outbound_wait", self.outbound_wait, seconds(1), seconds(300));
        faults.range("connection.calls", self.calls, 1, 1_000);
        faults.time("connection.call_within", self.call_within, seconds(1), seconds(600));
        faults.time(
            "connection.close_within",
            self.close_within,
            Duration::from_millis(100),
            seconds(60),
        );
    }
}

impl HubConfig {
    fn check_ranges(&self, faults: &mut Faults) {
        faults.range("hub.connections", self.connections, 1, 1_000_000);
        faults.range("hub.unknown", self.unknown, 1, self.connections);
        faults.range("hub.per_user", self.per_user, 1, 10_000);
        for (key, value) in
            [("hub.drain_after", self.drain_after), ("hub.drain_jitter", self.drain_jitter)]
        {
            faults.time(key, value, Duration::ZERO, Duration::from_secs(300));
        }
    }
}

impl HttpConfig {
    fn check_ranges(&self, faults: &mut Faults) {
        let seconds = Duration::from_secs;
        faults.range("http.body_bytes", self.body_bytes, 1 << 10, 16 << 20);
        faults.time("http.body_idle", self.body_idle, seconds(1), seconds(600));
        faults.time("http.headers_within", self.headers_within, seconds(1), seconds(60));
        faults.range("http.header_bytes", self.header_bytes, 8 << 10, 64 << 10);
        faults.range("http.headers", self.headers, 16, 256);
        faults.range("http.sockets", self.sockets, 1, 1_000_000);
        faults.time("http.auth_within", self.auth_within, Duration::from_millis(100), seconds(60));
        faults.time("http.shutdown_within", self.shutdown_within, Duration::ZERO, seconds(600));
    }
}

/// Every fault of a configuration.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        self.0.push(fault);
    }

    fn range<T: PartialOrd + std::fmt::Display>(&mut self, key: &str, value: T, min: T, max: T) {
        if value < min || value > max {
            self.add(format!("{key}: {value} is not within {min} to {max}"));
        }
    }

    fn time(&mut self, key: &str, value: Duration, min: Duration, max: Duration) {
        if value < min || value > max {
            self.add(format!("{key}: {value:?} is not within {min:?} to {max:?}"));
        }
    }

    fn into_result(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Config,
            "transport.config",
            format!("the transport cannot start:\n- {}", self.0.join("\n- ")),
        ))
    }
}

/// Whether `text` is an origin as browsers send it.
fn is_origin(text: &str) -> bool {
    let rest = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) if !rest.ends_with(":443") => rest,
        (_, Some(rest)) if !rest.ends_with(":80") => rest,
        _ => return false,
    };
    let Ok(authority) = rest.parse::<http::uri::Authority>() else {
        return false;
    };
    authority.as_str() == rest
        && !rest.contains('@')
        && !rest.contains('*')
        && !authority.host().is_empty()
        && !rest.ends_with(':')
        && rest.chars().all(|c| !c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_those_of_the_protocol() {
        let config = TransportConfig::default();
        config.validate().unwrap();
        let limits = config.limits();
        assert_eq!(limits.frame_bytes, 65_536);
        assert_eq!((limits.frames_per_s, limits.frames_burst), (20, 40));
        assert_eq!((limits.subscriptions, limits.connections), (100, 20));
        assert_eq!((limits.running_runs, limits.queued_runs), (4, 16));
        assert_eq!((limits.outbound_bytes, limits.outbound_ms), (262_144, 10_000));
        assert_eq!((limits.unused_tickets, limits.file_bytes), (32, 2 << 30));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let mut config = TransportConfig {
            origins: vec!["https://ok.example".into(), "*".into()],
            prefix: "apex/".into(),
            ..TransportConfig::default()
        };
        config.connection.frame_bytes = 1;
        config.hub.unknown = 1_000_000;
        config.http.headers = 0;
        let error = config.validate().unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        for part in ["`*`", "prefix", "frame_bytes", "hub.unknown", "http.headers"] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        assert!(!error.message().contains("ok.example"));
    }

    #[test]
    fn origins_are_exact() {
        for good in ["https://chat.example.com", "http://127.0.0.1:8000", "http://[::1]:8000"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "null",
            "chat.example.com",
            "https://",
            "https://a/",
            "https://A.example",
            "https://a:443",
            "http://a:80",
            "https://u@a",
            "https://*.a",
            "ws://a",
            "https://a:",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
