use super::burst::BurstPolicy;
use crate::config::{Environment, HumanDuration, duration};
use crate::limit::Rate;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// How logins, tickets and their record behave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct AuthConfig {
    /// Where this process runs; the development login is open in development only.
    #[serde(skip)]
    pub environment: Environment,
    /// How long a ticket is good.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "60s"))]
    pub ticket_life: Duration,
    /// The tickets of one user that may be unused at a time.
    #[schemars(range(min = 1, max = 1_000))]
    pub unused_tickets: usize,
    /// How fast one user may buy tickets, over all nodes.
    #[serde(skip)]
    pub ticket_rate: Rate,
    /// Whether a ticket is good only from the address that bought it; `server.trusted_proxies` has to be right then.
    pub ticket_address: bool,
    /// How long a token is good before its login has to be renewed.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "24h"))]
    pub token_life: Duration,
    /// How long a login may stay without being renewed.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "90d"))]
    pub idle_life: Duration,
    /// How long a login is good, however often it is renewed.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "90d"))]
    pub session_life: Duration,
    /// How long the record of logins, entries and refusals is kept.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1h", "x-maximum" = "3650d"))]
    pub audit_life: Duration,
    /// What that record keeps of clients' addresses: all, their network, or nothing.
    pub addresses: AddressMask,
    /// From when on refusals are an alarm.
    #[serde(skip)]
    pub bursts: BurstPolicy,
}

impl Default for AuthConfig {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            environment: Environment::default(),
            ticket_life: Duration::from_secs(30),
            unused_tickets: 32,
            ticket_rate: Rate { burst: 120, refill: Duration::from_millis(500) },
            ticket_address: false,
            token_life: 12 * HOUR,
            idle_life: 7 * 24 * HOUR,
            session_life: 30 * 24 * HOUR,
            audit_life: 90 * 24 * HOUR,
            addresses: AddressMask::Network,
            bursts: BurstPolicy::default(),
        }
    }
}

/// What the record keeps of a client's address.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AddressMask {
    /// All of it.
    Full,
    /// Its network: the first 24 bits of an IPv4 address, the first 48 of an IPv6 one.
    #[default]
    Network,
    /// Nothing.
    Nothing,
}

impl AddressMask {
    /// What is kept of an address.
    #[must_use]
    pub fn apply(self, address: IpAddr) -> Option<String> {
        match (self, address.to_canonical()) {
            (Self::Full, address) => Some(address.to_string()),
            (Self::Network, IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Some(format!("{a}.{b}.{c}.0/24"))
            }
            (Self::Network, IpAddr::V6(address)) => {
                let [a, b, c, ..] = address.segments();
                Some(format!("{a:x}:{b:x}:{c:x}::/48"))
            }
            (Self::Nothing, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_far_as_the_host_wants() {
        for (address, full, network) in [
            ("192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1:2::3", "2001:db8:1::/48"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(AddressMask::Full.apply(address).as_deref(), Some(full));
            assert_eq!(AddressMask::Network.apply(address).as_deref(), Some(network));
            assert_eq!(AddressMask::Nothing.apply(address), None);
        }
    }
}
