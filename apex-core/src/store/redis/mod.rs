//! What nodes share for a short time, in Redis 7: tickets, logins, limits, wake-ups, and hints of breakers. A single
//! server, one under Sentinel, or a cluster; conversations, runs and results stand elsewhere, in a database.
//!
//! A Redis that forgets everything costs logins, tickets and what was revoked within the last day; nothing else.
//! Replication in Redis is asynchronous, so after a failover a write that was acknowledged may be gone: a used ticket
//! may be there again for the rest of its time.

mod breaker;
mod client;
mod cluster;
mod error;
mod limit;
mod link;
pub(crate) mod log;
mod mark;
mod portable;
mod resolve;
mod route;
mod session;
mod ticket;
mod value;
mod wakeup;

use super::Stores;
use super::transfer::{Logins, Portable, Rows};
use crate::auth::{SessionStore, TicketStore};
use crate::clock::Clock;
use crate::config::{DatabaseKind, DatabaseUrl, Environment};
use crate::error::{Error, Kind, Result};
use crate::health::Probe;
use crate::id::NodeId;
use crate::limit::LimitStore;
use crate::resilience::BreakerExchange;
use crate::run::{RunLimits, Wakeup};
use async_trait::async_trait;
use client::Client;
use log::RedisRunLog;
use std::sync::Arc;
use std::time::Duration;
use wakeup::RedisWakeup;

/// Where a Redis is, and how it is used.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// The address: servers, sentinels, or nodes of a cluster.
    pub url: DatabaseUrl,
    /// What all keys begin with; `apex` unless said otherwise. Two that share a Redis need two.
    pub prefix: String,
    /// The environment that the keys belong to: they are marked with it, and refused where another mark is found.
    pub environment: Environment,
    /// How long making a connection may take.
    pub connect: Duration,
    /// How long an answer may take.
    pub answer: Duration,
    /// Calls under way at a time, with each server; four times as many may wait.
    pub calls: usize,
}

impl RedisOptions {
    /// The defaults for a Redis at `url`.
    #[must_use]
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            prefix: "apex".to_owned(),
            environment: Environment::default(),
            connect: Duration::from_secs(1),
            answer: Duration::from_millis(500),
            calls: 1_024,
        }
    }
}

/// What is kept in a Redis. Cheap to clone; the connections close with the last clone.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Tickets.
    pub tickets: Arc<dyn TicketStore>,
    /// Logins.
    pub sessions: Arc<dyn SessionStore>,
    /// Limits that hold over all nodes.
    pub limits: Arc<dyn LimitStore>,
    /// Hints that a store has something new, for all nodes.
    pub wakeup: Arc<dyn Wakeup>,
    /// What nodes tell each other about dependencies.
    pub breakers: Arc<dyn BreakerExchange>,
    /// Whether Redis answers, and what is published there comes back. A node cannot serve without it.
    pub probe: Arc<dyn Probe>,
    rows: Arc<dyn Rows>,
    client: Arc<Client>,
    waker: Arc<RedisWakeup>,
}

/// Connects to a Redis and checks that its keys belong to this environment. To be called in a Tokio runtime.
///
/// # Errors
/// `config_invalid` for an address of something else, a bad prefix, the keys of another environment;
/// `unavailable` or `storage_failed` with the cause when it cannot be used.
pub async fn open(options: &RedisOptions, clock: &dyn Clock) -> Result<Redis> {
    if options.url.kind() != DatabaseKind::Redis {
        return Err(Error::new(Kind::Config, "redis.open", "this is no address of a Redis")
            .with("url", &options.url));
    }
    let client = Arc::new(Client::open(options).await?);
    let wakeup = Arc::new(RedisWakeup::start(Arc::clone(&client), NodeId::new(clock)));
    let woken: Arc<dyn Wakeup> = Arc::<RedisWakeup>::clone(&wakeup);
    let sessions =
        Arc::new(session::RedisSessionStore::new(Arc::clone(&client), Arc::clone(&woken)));
    let rows = portable::RedisPortable::new(Arc::clone(&client), Arc::clone(&sessions));
    Ok(Redis {
        tickets: Arc::new(ticket::RedisTicketStore::new(Arc::clone(&client))),
        sessions,
        rows: Arc::new(rows),
        limits: Arc::new(limit::RedisLimitStore::new(Arc::clone(&client))),
        wakeup: woken,
        breakers: Arc::new(breaker::RedisBreakerExchange::new(Arc::clone(&client))),
        probe: Arc::new(RedisProbe { client: Arc::clone(&client), wakeup: Arc::clone(&wakeup) }),
        client,
        waker: wakeup,
    })
}

impl Redis {
    /// Keeps tickets, logins and limits here instead. The stores have to wake by [`Redis::wakeup`] already.
    #[must_use]
    pub fn of(&self, stores: Stores) -> Stores {
        let logins = Logins(Arc::clone(&self.rows), Arc::clone(&self.sessions));
        Stores {
            portable: Portable { logins: Some(logins), ..stores.portable },
            tickets: Arc::clone(&self.tickets),
            sessions: Arc::clone(&self.sessions),
            limits: Arc::clone(&self.limits),
            wakeup: Arc::clone(&self.wakeup),
            ..stores
        }
    }

    /// Keeps the events of runs here instead; everything else of the runs stays where it is. It costs the events of the
    /// last moments where Redis loses its memory or fails over, which readers are told by a `reset`; never an outcome.
    /// The stores have to wake by [`Redis::wakeup`] already, and to have the same limits.
    ///
    /// # Errors
    /// `config_invalid` where the runs are not in SQLite or PostgreSQL, or where this Redis throws keys out when it is
    /// full; `unavailable` or `storage_failed` when it cannot be asked.
    pub async fn with_event_log(
        &self,
        stores: Stores,
        limits: RunLimits,
        clock: Arc<dyn Clock>,
    ) -> Result<Stores> {
        let runs = Arc::clone(&stores.runs);
        let log = RedisRunLog::open(&self.client, &self.waker, runs, clock, limits).await?;
        let log = Arc::new(log);
        let users = Arc::new(log::Users::new(Arc::clone(&stores.users), Arc::clone(&log)));
        Ok(Stores { runs: log, users, ..stores })
    }
}

#[derive(Debug)]
struct RedisProbe {
    client: Arc<Client>,
    wakeup: Arc<RedisWakeup>,
}

#[async_trait]
impl Probe for RedisProbe {
    fn dependency(&self) -> &str {
        "redis"
    }

    fn is_required(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<()> {
        self.client.ping().await?;
        self.wakeup.canary().await
    }
}
