//! The log of Apex, on its way to the host's own.

use netra_apex::core::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

/// How many records wait for a host that is slow to write them; what comes then is counted.
const WAITING: usize = 4_096;

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// 10 for debug, 20 for info, 30 for warnings, 40 for errors; 5 for what is finer than debug.
    pub level: u8,
    /// Which part of Apex says it, such as `apex_agents::engine`.
    pub target: String,
    /// What it says.
    pub message: String,
    /// The facts beside it.
    pub fields: Map<String, Value>,
    /// How many records before it were dropped because nobody took them.
    pub dropped: u64,
}

/// Where the host takes records.
#[derive(Debug)]
pub struct Logs(Mutex<Receiver<Record>>);

impl Logs {
    /// Begins to collect what this process's Apex says from this level on (as in [`Record`]). Once for a process.
    ///
    /// # Errors
    /// `conflict` the second time.
    pub fn collect(level: u8) -> Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let collector = Collector { sender, level: filter(level), dropped: Arc::default() };
        let subscriber = Registry::default().with(collector);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| {
            Error::new(Kind::Conflict, "logs.collect", "the log has been taken already")
        })?;
        Ok(Self(Mutex::new(receiver)))
    }

    /// The next record; blocks until there is one. `None` when no more can come.
    #[must_use]
    pub fn next(&self) -> Option<Record> {
        self.0.lock().ok()?.recv().ok()
    }
}

fn filter(level: u8) -> LevelFilter {
    match level {
        0..10 => LevelFilter::TRACE,
        10..20 => LevelFilter::DEBUG,
        20..30 => LevelFilter::INFO,
        30..40 => LevelFilter::WARN,
        40..50 => LevelFilter::ERROR,
        _ => LevelFilter::OFF,
    }
}

struct Collector {
    sender: SyncSender<Record>,
    level: LevelFilter,
    dropped: Arc<AtomicU64>,
}

impl<S: Subscriber> Layer<S> for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("apex")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let record = Record {
            level: number(*metadata.level()),
            target: metadata.target().to_owned(),
            message: said.message,
            fields: said.fields,
            dropped: self.dropped.swap(0, Ordering::Relaxed),
        };
        if let Err(lost) = self.sender.try_send(record) {
            let (std::sync::mpsc::TrySendError::Full(record)
            | std::sync::mpsc::TrySendError::Disconnected(record)) = lost;
            self.dropped.fetch_add(record.dropped + 1, Ordering::Relaxed);
        }
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn note(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, value.into());
    }
}
