//! Calls of Redis, whatever it consists of.

use super::RedisOptions;
use super::cluster::Cluster;
use super::error::{Why, garbled};
use super::link::{Hear, Link, Settings};
use super::resolve::Resolver;
use super::route::{Failed, Route};
use crate::clock::Timestamp;
use crate::config::RedisTopology;
use crate::error::{Error, Kind, Phase, Result};
use crate::resilience::Effect;
use redis::{Cmd, FromRedisValue, Script, ToRedisArgs, Value, from_redis_value};
use std::sync::Arc;

/// The way to a Redis, and the names of our keys there.
#[derive(Debug)]
pub(super) struct Client {
    ways: Ways,
    /// `<the host's>:<environment>:`
    prefix: String,
    mark: String,
}

#[derive(Debug)]
enum Ways {
    One(Arc<Route>),
    Cluster(Box<Cluster>),
}

impl Client {
    /// Finds the server and checks that it belongs to this environment.
    ///
    /// # Errors
    /// `config_invalid` for a prefix with other characters, a file of an authority that is none, and another
    /// environment's keys; why the server cannot be reached.
    pub(super) async fn open(options: &RedisOptions) -> Result<Self> {
        check_prefix(&options.prefix)?;
        let mark = format!("{}:environment", options.prefix);
        let settings = Arc::new(Settings::new(options, mark.clone())?);
        let hosts = options.url.hosts().to_vec();
        let ways = match options.url.topology() {
            RedisTopology::Servers => {
                Ways::One(Route::new(Resolver::Servers(hosts), Arc::clone(&settings)))
            }
            RedisTopology::Sentinel(name) => {
                let resolver = Resolver::Sentinel { sentinels: hosts, name: name.clone() };
                Ways::One(Route::new(resolver, Arc::clone(&settings)))
            }
            RedisTopology::Cluster => {
                Ways::Cluster(Box::new(Cluster::new(hosts, Arc::clone(&settings))))
            }
        };
        let prefix = format!("{}:{}:", options.prefix, options.environment);
        let client = Self { ways, prefix, mark };
        client.check_mark(options).await?;
        Ok(client)
    }

    /// The name of a key: `room` is a letter or two of ours, `what` names the thing.
    pub(super) fn key(&self, room: &str, what: impl std::fmt::Display) -> String {
        format!("{}{room}:{what}", self.prefix)
    }

    /// Makes a call about `key`.
    ///
    /// # Errors
    /// What the server says, by its class; `unavailable` with the cause where it cannot be reached;
    /// `deadline_exceeded` where it does not answer; `pool_exhausted` where too many calls wait.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        operation: &'static str,
        effect: Effect,
        key: &str,
        command: &Cmd,
    ) -> Result<T> {
        let done = self.attempt(operation, effect, key, command).await;
        typed(operation, done.map_err(|failed| failed.error(operation, effect))?)
    }

    /// Runs a script on `key`, in one atomic step. The server keeps scripts by their digest, and may forget them.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        operation: &'static str,
        effect: Effect,
        script: &Lua,
        key: &str,
        arguments: impl ToRedisArgs,
    ) -> Result<T> {
        self.script_on(operation, effect, script, [key], arguments).await
    }

    /// Runs a script on keys with one hash tag, as [`Self::script`].
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) async fn script_on<T: FromRedisValue, const N: usize>(
        &self,
        operation: &'static str,
        effect: Effect,
        script: &Lua,
        keys: [&str; N],
        arguments: impl ToRedisArgs,
    ) -> Result<T> {
        let key = keys.first().copied().unwrap_or_default();
        let by = |name, body: &str| {
            let mut command = redis::cmd(name);
            command.arg(body).arg(N).arg(&keys[..]).arg(&arguments);
            command
        };
        let known = by("EVALSHA", &script.digest);
        let done = match self.attempt(operation, effect, key, &known).await {
            Err(Failed::Why(Why { code: Some(code), .. })) if code == "NOSCRIPT" => {
                self.attempt(operation, effect, key, &by("EVAL", script.source)).await
            }
            done => done,
        };
        typed(operation, done.map_err(|failed| failed.error(operation, effect))?)
    }

    /// A connection of its own, which hears what is published.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn hear(&self, hear: Hear) -> Result<Link> {
        let link = match &self.ways {
            Ways::One(route) => route.open(hear).await,
            Ways::Cluster(cluster) => cluster.open(&hear).await,
        };
        link.map_err(|why| why.error(Phase::BeforeCommit, "redis.subscribe"))
    }

    /// Tells the end of every key of a room, in no order, some of them perhaps twice.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) async fn scan(
        &self,
        operation: &'static str,
        room: &str,
        mut each: impl FnMut(&str) + Send,
    ) -> Result<()> {
        let unread = |failed: Failed| failed.error(operation, Effect::Read);
        let start = self.key(room, "");
        let routes = match &self.ways {
            Ways::One(route) => vec![Arc::clone(route)],
            Ways::Cluster(cluster) => {
                cluster.primaries().await.map_err(|why| unread(Failed::Why(why)))?
            }
        };
        for route in routes {
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                // A prefix has no letter that means something in a pattern.
                scan.arg(cursor).arg("MATCH").arg(format!("{start}*")).arg("COUNT").arg(1_000);
                let some = route.attempt(operation, Effect::Read, false, &scan).await;
                let (next, keys): (u64, Vec<String>) = typed(operation, some.map_err(unread)?)?;
                for end in keys.iter().filter_map(|key| key.strip_prefix(&start)) {
                    each(end);
                }
                if next == 0 {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    /// The server's time.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub(super) async fn time(&self, operation: &'static str) -> Result<Timestamp> {
        let time = redis::cmd("TIME");
        let (seconds, micros): (i64, i64) =
            self.call(operation, Effect::Read, &self.mark, &time).await?;
        Ok(Timestamp::from_millis(seconds.saturating_mul(1_000).saturating_add(micros / 1_000)))
    }

    /// Asks for something small that only a working server answers.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn ping(&self) -> Result<()> {
        let mut get = redis::cmd("GET");
        get.arg(&self.mark);
        self.call::<Value>("redis.ping", Effect::Read, &self.mark, &get).await.map(drop)
    }

    async fn attempt(
        &self,
        operation: &'static str,
        effect: Effect,
        key: &str,
        command: &Cmd,
    ) -> Result<Value, Failed> {
        match &self.ways {
            Ways::One(route) => route.attempt(operation, effect, false, command).await,
            Ways::Cluster(cluster) => {
                cluster.attempt(operation, effect, key.as_bytes(), command).await
            }
        }
    }

    /// A single server is looked at on every connection; of a cluster one node has the mark.
    async fn check_mark(&self, options: &RedisOptions) -> Result<()> {
        self.ping().await?;
        if matches!(self.ways, Ways::One(_)) {
            return Ok(());
        }
        let mut set = redis::cmd("SET");
        set.arg(&self.mark).arg(options.environment.as_str()).arg("NX").arg("GET");
        let known: Option<String> =
            self.call("redis.open", Effect::Idempotent, &self.mark, &set).await?;
        options.environment.admit(&options.url.to_string(), known.as_deref())
    }
}

/// A script of ours.
#[derive(Debug)]
pub(super) struct Lua {
    source: &'static str,
    digest: String,
}

impl Lua {
    pub(super) fn new(source: &'static str) -> Self {
        Self { source, digest: Script::new(source).get_hash().to_owned() }
    }
}

fn typed<T: FromRedisValue>(operation: &'static str, value: Value) -> Result<T> {
    from_redis_value(value).map_err(|error| garbled(operation, error))
}

fn check_prefix(prefix: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if (1..=64).contains(&prefix.len()) && prefix.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Config,
        "redis.open",
        "the prefix of the keys in Redis is 1 to 64 letters, digits and _-.: of ASCII",
    ))
}
