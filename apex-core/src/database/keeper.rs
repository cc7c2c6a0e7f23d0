//! Watches what is held: limits, leaks, connections that died without a word, and how full it is.

use super::connection::Connection;
use super::session::{Held, Taken};
use super::work::Inner;
use crate::health::Resource;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);

/// A statement that is not answered for longer is asked after; if the server still works on it, then twice as long
/// later.
const SILENCE: Duration = Duration::from_millis(300);

/// The longest time between two questions about the same statement.
const SILENCE_MOST: Duration = Duration::from_secs(10);

/// How long the answer to such a question may take.
const ASK: Duration = Duration::from_millis(300);

/// How long when it is asked over the connection that there is, which may have died with the others.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long a statement may go past its limit, which the server keeps, before the session is taken.
const GRACE: Duration = Duration::from_secs(1);

/// How often the gauges are set and the forecast observes.
const PUBLISH: Duration = Duration::from_secs(10);

/// How often old operations are forgotten.
const SWEEP: Duration = Duration::from_secs(60 * 60);

/// What the server does for each of the processes that are asked after.
const STATES: &str = "SELECT pid, extract(epoch FROM backend_start)::text, coalesce(state, '') \
                      FROM pg_stat_activity WHERE pid = ANY($1)";

/// Watches until the database is dropped.
pub(super) async fn keep(database: Weak<Inner>, forecast: Arc<Resource>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asker = Asker::default();
    let mut published = Instant::now();
    let mut swept = Instant::now();
    let mut most = 0_usize;
    loop {
        ticks.tick().await;
        let Some(database) = database.upgrade() else {
            return;
        };
        let held = database.held();
        let wanted = held.len() + database.admission.waiting().iter().sum::<usize>();
        most = most.max(wanted);
        for session in &held {
            keep_limits(&database, session);
        }
        asker.ask(&database, &held).await;
        asker.end(&database).await;
        if published.elapsed() >= PUBLISH {
            published = Instant::now();
            forecast.observe(most as f64);
            most = wanted;
            database.statistics().publish();
        }
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            database.sweep_operations().await;
        }
    }
}

/// Takes back what went past a limit, and reports what is on the way there.
fn keep_limits(database: &Arc<Inner>, held: &Arc<Held>) {
    let config = &database.config;
    let age = held.since.elapsed();
    let transaction = held.open.load(Ordering::Acquire);
    let taken = if age >= config.leak_take_back {
        Some(Taken::Leak)
    } else if transaction && age >= config.transaction {
        Some(Taken::Transaction)
    } else if held.waits_for_answer().is_some_and(|wait| wait >= config.statement + GRACE) {
        Some(Taken::Statement)
    } else {
        None
    };
    if let Some(taken) = taken {
        tracing::error!(
            operation = held.access.operation,
            taken_at = %held.site,
            held = ?age,
            reason = taken.name(),
            "a database session is taken back"
        );
        database.evict(held, taken);
    } else if age >= config.leak_warn && !held.warned.swap(true, Ordering::AcqRel) {
        metrics::counter!("apex_database_leaks_total").increment(1);
        tracing::warn!(
            operation = held.access.operation,
            taken_at = %held.site,
            held = ?age,
            "a database session is held for long"
        );
    }
}

/// Finds the statements whose answer will never come: the server has nothing to do for their connection, or does not
/// know it any more.
#[derive(Default)]
struct Asker {
    connection: Option<Connection>,
    /// By session: the statement asked after, when to ask again, and whether the server had nothing to do for it.
    asked: HashMap<usize, Question>,
}

struct Question {
    sent: u64,
    again: Instant,
    wait: Duration,
    idle: bool,
}

impl Asker {
    async fn ask(&mut self, database: &Arc<Inner>, held: &[Arc<Held>]) {
        let now = Instant::now();
        // Only the host that is asked knows its processes.
        let host = database.pool.preferred();
        let silent: Vec<_> = held
            .iter()
            .filter(|held| held.connection.server.host == host)
            .filter(|held| held.waits_for_answer().is_some_and(|wait| wait >= SILENCE))
            .collect();
        self.asked.retain(|key, question| {
            silent.iter().any(|held| key_of(held) == *key && held.sent() == question.sent)
        });
        let due: Vec<_> = silent
            .into_iter()
            .filter(|held| self.asked.get(&key_of(held)).is_none_or(|asked| now >= asked.again))
            .collect();
        if due.is_empty() {
            return;
        }
        let pids: Vec<i32> = due.iter().map(|held| held.connection.server.pid).collect();
        let Some(states) = self.states(database, &pids).await else {
            return;
        };
        for held in due {
            let server = &held.connection.server;
            let works = states.iter().any(|(pid, started, state)| {
                *pid == server.pid && *started == server.started && !state.starts_with("idle")
            });
            let question = self.asked.entry(key_of(held)).or_insert(Question {
                sent: held.sent(),
                again: now,
                wait: SILENCE,
                idle: false,
            });
            if works {
                question.idle = false;
                question.again = now + question.wait;
                question.wait = (question.wait * 2).min(SILENCE_MOST);
            } else if question.idle {
                tracing::warn!(
                    operation = held.access.operation,
                    "a connection to the database died without a word"
                );
                database.pool.suspect();
                database.evict(held, Taken::Silent);
            } else {
                // An answer may have been on its way just now: the next look decides.
                question.idle = true;
                question.again = now;
            }
        }
    }

    /// Ends the server's processes whose connections were thrown away.
    async fn end(&mut self, database: &Arc<Inner>) {
        let thrown_away = database.pool.thrown_away();
        if thrown_away.is_empty() {
            return;
        }
        for new in [false, true] {
            let Some(connection) = self.take(database, new).await else {
                continue;
            };
            if let Ok(Ok(())) = timeout(limit(new), connection.end_others(&thrown_away)).await {
                self.connection = Some(connection);
                return;
            }
        }
    }

    /// What the server says of its processes; none where it cannot be asked.
    async fn states(&mut self, database: &Arc<Inner>, pids: &[i32]) -> Option<Vec<State>> {
        for new in [false, true] {
            let Some(connection) = self.take(database, new).await else {
                continue;
            };
            if let Ok(Ok(states)) = timeout(limit(new), states(&connection, pids)).await {
                self.connection = Some(connection);
                return Some(states);
            }
        }
        None
    }

    /// The connection that there is, or a new one.
    async fn take(&mut self, database: &Arc<Inner>, new: bool) -> Option<Connection> {
        let host = database.pool.preferred();
        if new {
            let made = database.pool.target().connect(host, false).await;
            return made.ok().map(|(connection, _)| connection);
        }
        self.connection.take().filter(|known| known.server.host == host)
    }
}

fn limit(new: bool) -> Duration {
    if new { ASK } else { ASK_AGAIN }
}

/// A process of the server's, when it began, and what it does.
type State = (i32, String, String);

async fn states(
    connection: &Connection,
    pids: &[i32],
) -> Result<Vec<State>, tokio_postgres::Error> {
    let (statement, _) = connection.prepared(STATES).await?;
    let rows = connection.client.query(&statement, &[&pids]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

fn key_of(held: &Arc<Held>) -> usize {
    Arc::as_ptr(held) as usize
}
