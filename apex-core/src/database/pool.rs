//! The connections that are open: idle, in use, or being made.

use super::connection::{Connection, Server, Target};
use super::fault::NoConnection;
use crate::error::Failure;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// How long a connection may take to say that it is alive.
const PING: Duration = Duration::from_millis(300);

/// The server processes that are remembered to be ended; the server ends the others when it notices.
const THROWN_AWAY: usize = 1_000;

/// Who waits for a connection, and since when.
type Waiter = (oneshot::Sender<Result<Lease, NoConnection>>, Instant);

/// The open connections. It does not decide who gets one: whoever asks has a place already.
#[derive(Debug)]
pub(super) struct Pool {
    target: Target,
    limit: usize,
    ping_after: Duration,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one used last is used next, so that those not needed stay idle.
    idle: Vec<Idle>,
    /// Idle, in use and being made.
    open: usize,
    waiting: VecDeque<Waiter>,
    /// The host that took writes last.
    preferred: usize,
    /// When a connection was last found to have died without a word: what was idle then is asked before it is used.
    suspected: Option<Instant>,
    /// Server processes whose connection was thrown away and that may not have noticed.
    thrown_away: Vec<Server>,
    closed: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Arc<Connection>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(
        target: Target,
        limit: usize,
        ping_after: Duration,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self { target, limit, ping_after, runtime, state: Mutex::default() })
    }

    /// A connection that is alive as far as can be told. A connection that is being made is not given up with the
    /// one who waits for it: the next one gets it.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Lease, NoConnection> {
        loop {
            let Some((idle, ask)) = self.pop() else {
                break;
            };
            let client = &idle.connection.client;
            if client.is_closed() {
                continue;
            }
            if !ask || matches!(timeout(PING, client.check_connection()).await, Ok(Ok(()))) {
                return Ok(idle);
            }
            self.suspect();
        }
        let connection = self.wait_for_one();
        match connection.await {
            Ok(connection) => connection,
            Err(_) => Err(NoConnection::refused(
                Failure::Connection,
                "the database is closed",
                String::new(),
                "",
            )),
        }
    }

    fn pop(self: &Arc<Self>) -> Option<(Lease, bool)> {
        let mut state = self.state.lock();
        let Idle { connection, since } = state.idle.pop()?;
        let ask = since.elapsed() >= self.ping_after
            || state.suspected.is_some_and(|suspected| since <= suspected);
        drop(state);
        Some((self.lease(connection), ask))
    }

    fn lease(self: &Arc<Self>, connection: Arc<Connection>) -> Lease {
        Lease { connection, pool: Arc::clone(self), fate: Fate::ThrownAway }
    }

    fn wait_for_one(self: &Arc<Self>) -> oneshot::Receiver<Result<Lease, NoConnection>> {
        let (waiter, connection) = oneshot::channel();
        let mut state = self.state.lock();
        if state.closed {
            return connection;
        }
        state.waiting.retain(|(waiter, _)| !waiter.is_closed());
        state.waiting.push_back((waiter, Instant::now()));
        self.make_one(&mut state);
        connection
    }

    /// Begins to make a connection where there is room for one.
    fn make_one(self: &Arc<Self>, state: &mut State) {
        if state.open >= self.limit || state.closed {
            return;
        }
        state.open += 1;
        let pool = Arc::clone(self);
        self.runtime.spawn(async move {
            let making = Making(Some(pool));
            making.finish().await;
        });
    }

    /// Connects to the first host that takes writes, the one that did so last before the others.
    async fn connect(&self) -> Result<Connection, NoConnection> {
        let first = self.state.lock().preferred;
        let hosts = self.target.hosts();
        let mut worst: Option<NoConnection> = None;
        for step in 0..hosts {
            let host = (first + step) % hosts;
            match self.target.connect(host, true).await {
                Ok((connection, _)) => {
                    self.state.lock().preferred = host;
                    return Ok(connection);
                }
                // That a standby takes no writes is expected; that the other host is gone is the news.
                Err(error) if worst.as_ref().is_none_or(|w| w.failure == Failure::ReadOnly) => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(worst.unwrap_or_else(|| {
            NoConnection::refused(Failure::Connection, "there is no host", String::new(), "")
        }))
    }

    /// Gives a connection to who waits for one, or keeps it.
    fn put(self: &Arc<Self>, connection: Arc<Connection>) {
        loop {
            let mut state = self.state.lock();
            if state.closed {
                state.open = state.open.saturating_sub(1);
                return;
            }
            let Some((waiter, _)) = state.waiting.pop_front() else {
                state.idle.push(Idle { connection, since: Instant::now() });
                return;
            };
            drop(state);
            match waiter.send(Ok(self.lease(Arc::clone(&connection)))) {
                // Who waited has gone: that is no reason to throw the connection away.
                Err(Ok(mut lease)) => lease.fate = Fate::Elsewhere,
                _ => return,
            }
        }
    }

    fn throw_away(&self, connection: &Connection) {
        connection.kill();
        let mut state = self.state.lock();
        if state.thrown_away.len() < THROWN_AWAY {
            state.thrown_away.push(connection.server.clone());
        }
    }

    fn lost(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.open = state.open.saturating_sub(1);
        state.waiting.retain(|(waiter, _)| !waiter.is_closed());
        if !state.waiting.is_empty() {
            self.make_one(&mut state);
        }
    }

    /// Notes that a connection died without a word: others may have, too.
    pub(super) fn suspect(&self) {
        self.state.lock().suspected = Some(Instant::now());
    }

    /// Notes that a host takes no writes any more: its idle connections are closed.
    pub(super) fn distrust(self: &Arc<Self>, host: usize) {
        let (leave, keep): (Vec<_>, Vec<_>) = {
            let mut state = self.state.lock();
            let idle = std::mem::take(&mut state.idle);
            idle.into_iter().partition(|idle| idle.connection.server.host == host)
        };
        let mut state = self.state.lock();
        state.open -= leave.len();
        state.idle.extend(keep);
    }

    /// Server processes that are to be ended.
    pub(super) fn thrown_away(&self) -> Vec<Server> {
        std::mem::take(&mut self.state.lock().thrown_away)
    }

    /// How many connections are open, and how many of them idle.
    pub(super) fn count(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.open, state.idle.len())
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The host that took writes last.
    pub(super) fn preferred(&self) -> usize {
        self.state.lock().preferred
    }

    /// Closes what is idle, and the rest when it comes back.
    pub(super) fn close(&self) {
        let (idle, waiting) = {
            let mut state = self.state.lock();
            state.closed = true;
            state.open -= state.idle.len();
            (std::mem::take(&mut state.idle), std::mem::take(&mut state.waiting))
        };
        drop((idle, waiting));
    }
}

/// A connection that is being made; counted as open until it is known to fail, also when its task is dropped.
struct Making(Option<Arc<Pool>>);

impl Making {
    async fn finish(mut self) {
        let Some(pool) = self.0.clone() else {
            return;
        };
        let began = Instant::now();
        match pool.connect().await {
            Ok(connection) => {
                self.0 = None;
                pool.put(Arc::new(connection));
            }
            Err(error) => {
                // Everyone who has waited for this try is told the cause at once; the others get a try of their own.
                let told: VecDeque<Waiter> = {
                    let mut state = pool.state.lock();
                    let all = std::mem::take(&mut state.waiting);
                    let (told, later) = all.into_iter().partition(|(_, since)| *since <= began);
                    state.waiting = later;
                    told
                };
                for (waiter, _) in told {
                    let _ = waiter.send(Err(error.clone()));
                }
            }
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.lost();
        }
    }
}

/// A connection in use. Dropping it throws the connection away.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Arc<Connection>,
    pool: Arc<Pool>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    ThrownAway,
    GivenBack,
    /// Another lease has it.
    Elsewhere,
}

impl Lease {
    /// Gives it back for the next one; it must be outside a transaction, with nothing under way.
    pub(super) fn give_back(mut self) {
        self.fate = Fate::GivenBack;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.fate {
            Fate::GivenBack if !self.connection.client.is_closed() => {
                self.pool.put(Arc::clone(&self.connection));
            }
            Fate::Elsewhere => {}
            Fate::GivenBack | Fate::ThrownAway => {
                if !self.connection.client.is_closed() {
                    self.pool.throw_away(&self.connection);
                }
                self.pool.lost();
            }
        }
    }
}
