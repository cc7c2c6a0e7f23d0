//! The events of runs in Redis streams, for hosts that trade some durability for speed.
//!
//! Runs, leases, fences, requests, inboxes and outcomes stay in the database, which decides who may write. What an
//! append brings goes to Redis by one atomic script (fence, expected number, end, the same batch again, trimming,
//! expiry, wake-up); the database is told at a claim, at a change of state, at the end, and otherwise at each third of
//! the lease or after 256 events: then it gets everything that the log has come to since, as a snapshot, and the newest
//! checkpoint.
//!
//! # What goes first
//!
//! What the database has to know goes there first and then to Redis. So a state, above all the end, is never shown
//! before it is certain. The database keeps the events of such a batch until the next one, and who reads puts them
//! after those of Redis; so a crash in between costs nothing: the log is whole, only in two places, and the next writer
//! brings Redis up to date. Everything else is recorded when Redis says so, and may be lost with it.
//!
//! # What is lost with Redis, and how that is found
//!
//! Redis may come back empty, or with a log that is shorter than what it had acknowledged. A writer knows its head and
//! brings it to every append; a reader compares the log with what the database knows of it and with how far this
//! process has seen it go; and a claim compares the server (its process, and its life as a primary) with the one that
//! last knew the log as a whole. Whoever finds a log short makes a new epoch in the database, under the run's fence,
//! with the snapshot that is left, and only then a new log in Redis in place of the one that was found. A writer that
//! lives has the whole snapshot, so readers miss detail and no outcome; where it died too, the run goes on from what the
//! database was told last, 5 s before at most as leases are set.
//!
//! # While Redis is away
//!
//! Appends go to the database alone, at its pace, and are brought to Redis afterwards. Readers who are not further back
//! than what the database keeps go on; others wait. Nothing is claimed meanwhile, because nobody knows where a log
//! ends.

mod erase;
mod life;
mod mend;
mod read;
pub(crate) mod script;
mod streams;
mod write;

use super::client::Client;
use super::wakeup::RedisWakeup;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::id::{RunId, ThreadId};
use crate::principal::Principal;
use crate::resilience::Effect;
use crate::run::ledger::Ledger;
use crate::run::{
    Append, Appended, Claim, Claimed, InboxPage, Lease, NewRun, Page, RunLimits, RunLog, RunState,
    RunView, Signal, Started,
};
use async_trait::async_trait;
pub(super) use erase::Users;
use life::{Away, Lives, Seen};
use std::sync::Arc;
use streams::Streams;

/// Runs in a database, their events in Redis.
#[derive(Debug)]
pub(super) struct RedisRunLog {
    runs: Arc<dyn RunLog>,
    streams: Streams,
    wakeup: Arc<RedisWakeup>,
    clock: Arc<dyn Clock>,
    limits: RunLimits,
    lives: Lives,
    seen: Seen,
    away: Away,
}

impl RedisRunLog {
    /// Checks that Redis keeps what it is given, and that `runs` is a database that works with it.
    pub(super) async fn open(
        client: &Arc<Client>,
        wakeup: &Arc<RedisWakeup>,
        runs: Arc<dyn RunLog>,
        clock: Arc<dyn Clock>,
        limits: RunLimits,
    ) -> Result<Self> {
        if runs.ledger().is_none() {
            return Err(Error::new(
                Kind::Config,
                "redis.event_log",
                "the events of runs can be kept in Redis only where the runs are in SQLite or PostgreSQL",
            ));
        }
        check_policy(client).await?;
        Ok(Self {
            runs,
            streams: Streams::new(Arc::clone(client), limits),
            wakeup: Arc::clone(wakeup),
            clock,
            limits,
            lives: Lives::default(),
            seen: Seen::default(),
            away: Away::default(),
        })
    }

    fn ledger(&self) -> Result<&dyn Ledger> {
        // It was there when this was opened.
        self.runs
            .ledger()
            .ok_or_else(|| Error::internal("run_log", "the database no longer has a ledger"))
    }
}

/// Refuses a Redis that throws keys out when it is full: a log would go with them, of a run that is under way.
async fn check_policy(client: &Client) -> Result<()> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let key = client.key("l", "");
    let told: String = client.call("redis.event_log", Effect::Read, &key, &info).await?;
    let policy = told.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    match policy.map(str::trim) {
        Some("noeviction") => Ok(()),
        policy => Err(Error::new(
            Kind::Config,
            "redis.event_log",
            "this Redis throws keys out when it is full, and the events of runs with them: set maxmemory-policy to \
             noeviction, or turn redis.event_log off",
        )
        .with("policy", policy.unwrap_or("unknown"))),
    }
}

#[async_trait]
impl RunLog for RedisRunLog {
    async fn start(&self, principal: &Principal, run: NewRun) -> Result<Started> {
        // Its log begins in Redis with the first claim.
        self.runs.start(principal, run).await
    }

    async fn begun(&self, principal: &Principal, run: &NewRun) -> Result<Option<Started>> {
        self.runs.begun(principal, run).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        // Nothing is taken that could not be begun.
        self.streams.ping().await?;
        let mut begun = Vec::new();
        for claimed in self.runs.claim(claim).await? {
            let lease = claimed.lease.clone();
            match self.begin(claimed).await {
                Ok(claimed) => begun.push(claimed),
                Err(error) => {
                    tracing::warn!(run = %lease.run, %error, "a run is given back: its log cannot be reached");
                    self.give_back(&lease).await;
                }
            }
        }
        Ok(begun)
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        let appended = self.write(lease, batch).await;
        if let Ok(appended) = &appended {
            self.seen.note(lease.run, appended.epoch, appended.head);
        }
        appended
    }

    async fn queued(&self) -> Result<Option<u64>> {
        self.runs.queued().await
    }

    async fn signal(&self, principal: &Principal, run: RunId, signal: Signal) -> Result<RunState> {
        let state = self.runs.signal(principal, run, signal).await?;
        // Only a hint for the writer, who looks by itself whenever it renews its lease.
        if !state.is_terminal()
            && let Err(error) = self.streams.asked(run).await
        {
            tracing::debug!(%run, %error, "the writer of a run learns late what was asked");
        }
        Ok(state)
    }

    async fn view(&self, principal: &Principal, run: RunId) -> Result<RunView> {
        self.view_of(principal, run).await
    }

    async fn read(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<Page> {
        self.page_of(principal, run, after, max).await
    }

    async fn inbox(&self, principal: &Principal, after: u64, max: usize) -> Result<InboxPage> {
        self.runs.inbox(principal, after, max).await
    }

    async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<RunId>> {
        let forgotten = self.runs.forget(principal, thread).await?;
        for run in &forgotten {
            self.delete(*run).await;
        }
        Ok(forgotten)
    }
}

impl RedisRunLog {
    /// Deletes the log of a run that is no longer on record. Where that fails it goes with its age: nobody is let at it
    /// any more.
    async fn delete(&self, run: RunId) {
        self.lives.forget(run);
        self.seen.forget(run);
        if let Err(error) = self.streams.delete(run).await {
            tracing::warn!(%run, %error, "the log of a run that is gone stays in Redis until it lapses");
        }
    }
}
