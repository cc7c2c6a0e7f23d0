//! Redis Cluster: which node has which keys, and a route to each.

use super::error::Why;
use super::link::{Hear, Link, Settings};
use super::resolve::Resolver;
use super::route::{Failed, Route};
use crate::config::DatabaseHost;
use crate::error::{Failure, Kind, Result};
use crate::resilience::Effect;
use parking_lot::Mutex;
use redis::{Cmd, Value, from_redis_value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The slots of every cluster.
const SLOTS: u16 = 16_384;
/// So many nodes are known at most.
const NODES: usize = 1_000;
/// So many times a call is sent on to another node.
const TURNS: usize = 5;
/// The map is asked for at most this often.
const MAP_EVERY: Duration = Duration::from_millis(100);

/// Where a server says that a key is.
#[derive(Debug, Clone)]
pub(super) struct Redirect {
    /// Only this time, while the key is on its way.
    pub(super) once: bool,
    pub(super) host: DatabaseHost,
}

/// The ways to all nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<DatabaseHost>,
    settings: Arc<Settings>,
    state: Mutex<State>,
    asking: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    /// First and last slot of a range, and whose it is.
    ranges: Vec<(u16, u16, DatabaseHost)>,
    /// Slots that have moved since.
    moved: HashMap<u16, DatabaseHost>,
    routes: HashMap<DatabaseHost, Arc<Route>>,
}

impl State {
    fn owner(&self, slot: u16) -> Option<DatabaseHost> {
        let range = |(first, last, _): &&(u16, u16, DatabaseHost)| (*first..=*last).contains(&slot);
        let in_map = || self.ranges.iter().find(range).map(|(_, _, host)| host);
        self.moved.get(&slot).or_else(in_map).cloned()
    }
}

impl Cluster {
    pub(super) fn new(seeds: Vec<DatabaseHost>, settings: Arc<Settings>) -> Self {
        Self { seeds, settings, state: Mutex::default(), asking: tokio::sync::Mutex::new(None) }
    }

    /// Makes a call at the node that has `key`, as [`Route::attempt`].
    pub(super) async fn attempt(
        &self,
        operation: &'static str,
        effect: Effect,
        key: &[u8],
        command: &Cmd,
    ) -> Result<Value, Failed> {
        let slot = slot_of(key);
        let mut redirect: Option<Redirect> = None;
        let mut turn = 0;
        loop {
            turn += 1;
            let (host, asking) = match redirect.take() {
                Some(Redirect { once: true, host }) => (host, true),
                _ => (self.owner(slot).await.map_err(Failed::Why)?, false),
            };
            let failed = match self.route(&host).attempt(operation, effect, asking, command).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            if turn == TURNS {
                return Err(failed);
            }
            let (why, sent) = match &failed {
                // A queue that is full says nothing about where the keys are.
                Failed::Before(error) if error.kind() == Kind::PoolExhausted => return Err(failed),
                Failed::Before(_) => (None, false),
                Failed::Why(why) => (Some(why), !why.said),
            };
            if let Some(to) = why.and_then(|why| why.redirect.clone()) {
                if !to.once {
                    self.state.lock().moved.insert(slot, to.host.clone());
                }
                redirect = Some(to);
                continue;
            }
            // Perhaps another node has its slots now. What was not sent, or refused, can be sent there.
            let lost = match why.map(|why| why.failure) {
                None | Some(Failure::ReadOnly | Failure::Connection | Failure::Timeout) => true,
                Some(_) => false,
            };
            if !lost || !self.has_moved(slot, &host).await || sent {
                return Err(failed);
            }
        }
    }

    /// A connection of its own to any node, which hears what that says unasked.
    pub(super) async fn open(&self, hear: &Hear) -> Result<Link, Why> {
        let mut last = None;
        for host in self.hosts() {
            let resolver = Resolver::Node(host);
            match resolver.connect(&self.settings, Some(Arc::clone(hear))).await {
                Ok(link) => return Ok(link),
                Err(why) => last = Some(why),
            }
        }
        Err(last.unwrap_or_else(nobody))
    }

    /// The ways to all nodes that have slots.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Route>>, Why> {
        self.ask_for_map().await?;
        let owners: Vec<DatabaseHost> =
            self.state.lock().ranges.iter().map(|(_, _, owner)| owner.clone()).collect();
        let mut hosts: Vec<DatabaseHost> = Vec::new();
        for owner in owners {
            if !hosts.contains(&owner) {
                hosts.push(owner);
            }
        }
        Ok(hosts.iter().map(|host| self.route(host)).collect())
    }

    /// The node that has a slot.
    async fn owner(&self, slot: u16) -> Result<DatabaseHost, Why> {
        if let Some(host) = self.state.lock().owner(slot) {
            return Ok(host);
        }
        self.ask_for_map().await?;
        self.state.lock().owner(slot).ok_or_else(|| {
            Why::unfit(
                Failure::Connection,
                "no node of the cluster has this key's slot; look at CLUSTER INFO",
                "the cluster",
                "the map has a hole",
            )
        })
    }

    /// Asks for the map again; whether the slot is elsewhere by now.
    async fn has_moved(&self, slot: u16, host: &DatabaseHost) -> bool {
        self.ask_for_map().await.is_ok() && self.state.lock().owner(slot).as_ref() != Some(host)
    }

    /// Asks one node after the other for the map, one caller at a time.
    async fn ask_for_map(&self) -> Result<(), Why> {
        let wanted = Instant::now();
        let mut asked = self.asking.lock().await;
        // Somebody else has asked while this caller waited, or just before.
        if asked.is_some_and(|at| at + MAP_EVERY > wanted) {
            return Ok(());
        }
        let mut last = None;
        for host in self.hosts() {
            let route = self.route(&host);
            let mut command = redis::cmd("CLUSTER");
            command.arg("SLOTS");
            match route.attempt("redis.cluster", Effect::Read, false, &command).await {
                Ok(map) => {
                    let ranges = ranges(map, &host);
                    if ranges.is_empty() {
                        last = Some(nobody());
                        continue;
                    }
                    self.learn(ranges);
                    *asked = Some(Instant::now());
                    return Ok(());
                }
                Err(Failed::Why(why)) => last = Some(why),
                Err(Failed::Before(error)) => {
                    let failure = error.failure().unwrap_or(Failure::Connection);
                    let cause = error.to_string();
                    last = Some(Why::unfit(failure, error.message(), &host.to_string(), &cause));
                }
            }
        }
        Err(last.unwrap_or_else(nobody))
    }

    fn learn(&self, ranges: Vec<(u16, u16, DatabaseHost)>) {
        let mut state = self.state.lock();
        state.moved.clear();
        // A node that has left the cluster takes its connection with it.
        let (known, seeds) = (&ranges, &self.seeds);
        state.routes.retain(|host, _| {
            known.iter().any(|(_, _, owner)| owner == host) || seeds.contains(host)
        });
        state.ranges = ranges;
    }

    /// Every node that is known: first those of the map, then those of the address.
    fn hosts(&self) -> Vec<DatabaseHost> {
        let state = self.state.lock();
        let mut hosts: Vec<DatabaseHost> = Vec::new();
        for host in state.ranges.iter().map(|(_, _, host)| host).chain(&self.seeds) {
            if !hosts.contains(host) && hosts.len() < NODES {
                hosts.push(host.clone());
            }
        }
        hosts
    }

    fn route(&self, host: &DatabaseHost) -> Arc<Route> {
        let mut state = self.state.lock();
        let route = state.routes.entry(host.clone());
        let made = || Route::new(Resolver::Node(host.clone()), Arc::clone(&self.settings));
        Arc::clone(route.or_insert_with(made))
    }
}

fn nobody() -> Why {
    Why::unfit(
        Failure::Connection,
        "no node of the cluster can be reached",
        "the cluster",
        "none answered",
    )
}

/// The ranges of `CLUSTER SLOTS`, each with its primary; `host` is who answered.
fn ranges(map: Value, host: &DatabaseHost) -> Vec<(u16, u16, DatabaseHost)> {
    let Value::Array(rows) = map else { return Vec::new() };
    rows.into_iter().filter_map(|row| range(row, host)).collect()
}

fn range(row: Value, asked: &DatabaseHost) -> Option<(u16, u16, DatabaseHost)> {
    let Value::Array(parts) = row else { return None };
    let mut parts = parts.into_iter();
    let first = from_redis_value(parts.next()?).ok()?;
    let last = from_redis_value(parts.next()?).ok()?;
    let Value::Array(primary) = parts.next()? else { return None };
    let mut primary = primary.into_iter();
    let named: Option<String> = from_redis_value(primary.next()?).ok()?;
    let port = from_redis_value(primary.next()?).ok()?;
    let host = match (named.filter(|name| !name.is_empty() && name != "?"), asked) {
        (Some(name), _) => name,
        // A node that does not know its own name is where it was asked.
        (None, DatabaseHost::Tcp { host, .. }) => host.clone(),
        (None, DatabaseHost::Unix(_)) => return None,
    };
    Some((first, last, DatabaseHost::Tcp { host, port }))
}

/// The slot of a key: the checksum of what stands between its first braces, or of the whole
/// (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{foo}.bar"), 12_182);
        assert_eq!(slot_of(b"x{foo}{bar}"), 12_182);
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
    }
}
