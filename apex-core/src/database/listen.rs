//! Notifications, on a connection that is made again by itself.

use super::connection::{Connection, Messages};
use super::fault::NoConnection;
use super::pool::Pool;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::ToSql;

/// How often the connection proves that a notification gets through.
const CANARY_EVERY: Duration = Duration::from_secs(5);

/// How long that may take.
const CANARY_WITHIN: Duration = Duration::from_secs(2);

/// The longest wait before the next try to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What a listener hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard<'n> {
    /// A notification.
    Notified {
        /// Where it was sent to.
        channel: &'n str,
        /// What was sent.
        payload: &'n str,
    },
    /// Notifications may have been missed: look by yourself.
    Gap,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    pub(super) fn start(
        pool: Arc<Pool>,
        runtime: &Handle,
        channels: &[&'static str],
        heard: impl Fn(Heard<'_>) + Send + Sync + 'static,
    ) -> Self {
        let channels = channels.to_vec();
        Self(runtime.spawn(async move {
            let mut wait = Duration::from_millis(50);
            loop {
                let began = Instant::now();
                if let Err(refused) = listen(&pool, &channels, &heard).await {
                    tracing::warn!(error = %refused.error("database.listen"), "not listening");
                }
                metrics::counter!("apex_database_listen_reconnects_total").increment(1);
                if began.elapsed() > CANARY_EVERY {
                    wait = Duration::from_millis(50);
                }
                sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }))
    }
}

async fn listen(
    pool: &Pool,
    channels: &[&'static str],
    heard: &(dyn Fn(Heard<'_>) + Send + Sync),
) -> Result<(), NoConnection> {
    let target = pool.target();
    let first = pool.preferred();
    let mut refused = None;
    for step in 0..target.hosts() {
        match target.connect((first + step) % target.hosts(), true).await {
            Ok((connection, messages)) => {
                if let Err(error) = hear(&connection, messages, channels, heard).await {
                    tracing::warn!(%error, "the connection that listens ended");
                }
                connection.kill();
                return Ok(());
            }
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Listens until the connection ends or a canary does not come back.
async fn hear(
    connection: &Connection,
    mut messages: Messages,
    channels: &[&'static str],
    heard: &(dyn Fn(Heard<'_>) + Send + Sync),
) -> Result<(), tokio_postgres::Error> {
    let client = &connection.client;
    let canary = format!("apex_canary_{}", connection.server.pid);
    for channel in channels.iter().copied().chain([canary.as_str()]) {
        client.batch_execute(&format!("LISTEN {}", quoted(channel))).await?;
    }
    heard(Heard::Gap);
    let mut number = 0_u64;
    let mut next = Instant::now();
    // A canary that is on its way: its number, and when it must be there.
    let mut due: Option<(String, Instant)> = None;
    loop {
        let until = due.as_ref().map_or(next, |(_, by)| *by);
        let left = until.saturating_duration_since(Instant::now());
        match timeout(left, messages.recv()).await {
            Ok(None) => return Ok(()),
            Ok(Some(message)) if message.channel() == canary => {
                if due.as_ref().is_some_and(|(sent, _)| sent == message.payload()) {
                    due = None;
                    next = Instant::now() + CANARY_EVERY;
                }
            }
            Ok(Some(message)) => {
                heard(Heard::Notified { channel: message.channel(), payload: message.payload() });
            }
            Err(_) if due.is_some() => {
                tracing::warn!("a notification to ourselves did not come back");
                return Ok(());
            }
            Err(_) => {
                number += 1;
                let payload = number.to_string();
                due = Some((payload.clone(), Instant::now() + CANARY_WITHIN));
                let parameters: [&(dyn ToSql + Sync); 2] = [&canary, &payload];
                let sent = client.execute("SELECT pg_notify($1, $2)", &parameters);
                match timeout(CANARY_WITHIN, sent).await {
                    Ok(sent) => sent.map(drop)?,
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}

fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}
