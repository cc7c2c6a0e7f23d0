//! Whatever leaves the service is looked through for credentials, in every test of this suite: what is traced, counted,
//! answered and sent is taken apart into words, and none of them may be of a credential that the service has handed out.

use super::http::Answer;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Recorder, SharedString, Unit};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, Once};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static HANDED_OUT: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// The shortest part of a credential that is worth looking for.
const SHORTEST: usize = 20;

/// Begins to look at what is traced and counted, by every test of this process.
pub(crate) fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(Watch).unwrap();
        metrics::set_global_recorder(Watch).unwrap();
    });
}

/// Notes a credential.
pub(crate) fn note(credential: &str) {
    let parts = credential.split('.').filter(|part| part.len() >= SHORTEST);
    HANDED_OUT.lock().unwrap().extend(parts.map(str::to_owned));
}

/// Notes the credentials that an answer hands out, and looks through any other.
pub(crate) fn answer(path: &str, answer: &Answer) {
    let hands_out =
        ["/auth/dev", "/auth/refresh", "/auth/ticket"].iter().any(|p| path.ends_with(p));
    if !hands_out || answer.status >= 300 {
        return look("an answer", &answer.text());
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    for field in ["token", "refresh", "ticket"] {
        if let Some(credential) = body[field].as_str() {
            note(credential);
        }
    }
    for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
        let pair = cookie.split(';').next().unwrap_or_default();
        note(pair.split_once('=').map_or("", |(_, value)| value));
    }
}

/// Ends the process when a credential is in there: a panic in a task of the service's would be caught by it.
pub(crate) fn look(place: &str, text: &str) {
    if let Some(found) = found(text) {
        let text = text.replace(found, "CREDENTIAL");
        let _ = writeln!(std::io::stderr(), "a credential is in {place}: {text}");
        std::process::abort();
    }
}

/// The part of a credential that is in there.
pub(crate) fn found(text: &str) -> Option<&str> {
    let handed_out = HANDED_OUT.lock().unwrap();
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    words.find(|word| handed_out.contains(*word))
}

struct Watch;

#[derive(Default)]
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Watch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("apex") || *metadata.level() <= Level::DEBUG
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut said = Said::default();
        span.record(&mut said);
        look("a span", &said.0);
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut said = Said::default();
        values.record(&mut said);
        look("a span", &said.0);
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        look("the log", &said.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Recorder for Watch {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &metrics::Metadata<'_>) -> Counter {
        look("a metric", &key.to_string());
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &metrics::Metadata<'_>) -> Gauge {
        look("a metric", &key.to_string());
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        look("a metric", &key.to_string());
        Histogram::noop()
    }
}
