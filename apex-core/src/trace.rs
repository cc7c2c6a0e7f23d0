//! Traces across processes: where a piece of work stands in a trace, by W3C Trace Context, and the seam by which the
//! host's exporter learns of it. Spans themselves are `tracing`'s; which exporter there is, if any, is the host's
//! business.

use crate::id::RunId;
use futures_util::future::Either;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use tracing::Span;

/// A place in a trace, as the header `traceparent` has it: `00-<trace>-<span>-<flags>`, in lower-case hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

/// Joins spans of `tracing` to the traces of the host's exporter.
///
/// The library makes spans and knows no exporter; with a bridge its spans hang under those of whoever asked, and what it
/// asks in turn hangs under its own. It is called in the middle of things: it must neither wait nor fail.
pub trait TraceBridge: fmt::Debug + Send + Sync {
    /// Hangs a span that was just made under one of another process.
    fn adopt(&self, span: &Span, parent: TraceParent);

    /// Where a span of this process stands, for those that are asked from within it; `None` where it is not exported.
    fn place_of(&self, span: &Span) -> Option<TraceParent>;
}

tokio::task_local! {
    static INCOMING: TraceParent;
    static BRIDGE: Arc<dyn TraceBridge>;
}

/// Does work that somebody at this place of a trace asked for: a run that it starts belongs to that trace, on whatever
/// node it goes on.
pub async fn coming_from<F: Future>(place: Option<TraceParent>, work: F) -> F::Output {
    match place {
        Some(place) => INCOMING.scope(place, work).await,
        None => work.await,
    }
}

/// The place in a trace from which the work of this task was asked for.
#[must_use]
pub fn incoming() -> Option<TraceParent> {
    INCOMING.try_with(|place| *place).ok()
}

/// Does work whose requests to others are to belong to its trace.
pub fn bridged<F: Future>(
    bridge: Option<Arc<dyn TraceBridge>>,
    work: F,
) -> impl Future<Output = F::Output> {
    // Not an `async fn`, which would keep the work twice.
    match bridge {
        Some(bridge) => Either::Left(BRIDGE.scope(bridge, work)),
        None => Either::Right(work),
    }
}

/// What the header `traceparent` of a request says that this task makes now; `None` where nobody exports its span.
#[must_use]
pub fn outgoing() -> Option<TraceParent> {
    BRIDGE.try_with(|bridge| bridge.place_of(&Span::current())).ok().flatten()
}

impl TraceParent {
    /// A place of these bytes; `None` where either is all zero, which means none.
    #[must_use]
    pub fn new(trace: [u8; 16], span: [u8; 8], sampled: bool) -> Option<Self> {
        let is_there = trace.iter().any(|byte| *byte != 0) && span.iter().any(|byte| *byte != 0);
        is_there.then_some(Self { trace, span, sampled })
    }

    /// The place under which all attempts of a run hang that nobody's trace asked for: its trace has the run's own id,
    /// so that it is one trace on however many nodes.
    #[must_use]
    pub fn of_run(run: RunId) -> Self {
        let trace = *run.as_bytes();
        let [.., a, b, c, d, e, f, g, _] = trace;
        // Never zero, and the same on every node.
        Self { trace, span: [a, b, c, d, e, f, g, 1], sampled: true }
    }

    /// The id of the trace.
    #[must_use]
    pub const fn trace(&self) -> [u8; 16] {
        self.trace
    }

    /// The id of the span.
    #[must_use]
    pub const fn span(&self) -> [u8; 8] {
        self.span
    }

    /// Whether whoever asked records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.sampled
    }
}

/// What is wrong with a text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadTraceParent;

impl fmt::Display for BadTraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a traceparent: 00-<32 hexadecimal digits>-<16>-<2>, none of the first two all zero",
        )
    }
}

impl std::error::Error for BadTraceParent {}

impl FromStr for TraceParent {
    type Err = BadTraceParent;

    /// As the standard says: versions to come may have more behind the flags, and capitals are refused.
    fn from_str(text: &str) -> Result<Self, BadTraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(BadTraceParent);
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let [version] = bytes(version)?;
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(BadTraceParent);
        }
        let [flags] = bytes(flags)?;
        Self::new(bytes(trace)?, bytes(span)?, flags & 1 == 1).ok_or(BadTraceParent)
    }
}

/// So many bytes from lower-case hexadecimal.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], BadTraceParent> {
    let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 2 * N || !text.bytes().all(plain) {
        return Err(BadTraceParent);
    }
    let mut all = [0; N];
    for (place, byte) in all.iter_mut().enumerate() {
        let pair = text.get(2 * place..2 * place + 2).ok_or(BadTraceParent)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| BadTraceParent)?;
    }
    Ok(all)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.sampled))
    }
}

impl Serialize for TraceParent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for TraceParent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TraceParent".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A place in a trace, as the header `traceparent` of W3C Trace Context has it",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let place: TraceParent = text.parse().unwrap();
        assert_eq!((place.to_string(), place.is_sampled()), (text.to_owned(), true));
        let json = serde_json::to_string(&place).unwrap();
        assert_eq!(serde_json::from_str::<TraceParent>(&json).unwrap(), place);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more";
        assert_eq!(later.parse::<TraceParent>().map(|place| place.is_sampled()), Ok(false));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(BadTraceParent), "{bad}");
        }
    }

    #[test]
    fn a_run_that_nobody_traces_has_a_trace_of_its_own() {
        let run = RunId::derived(&[b"run"]);
        let place = TraceParent::of_run(run);
        assert_eq!((place.trace(), place), (*run.as_bytes(), TraceParent::of_run(run)));
        assert!(place.to_string().parse() == Ok(place));
    }

    #[derive(Debug)]
    struct Here(TraceParent);

    impl TraceBridge for Here {
        fn adopt(&self, _: &Span, _: TraceParent) {}
        fn place_of(&self, _: &Span) -> Option<TraceParent> {
            Some(self.0)
        }
    }

    #[tokio::test]
    async fn a_place_is_known_within_the_work_and_nowhere_else() {
        let place = TraceParent::of_run(RunId::derived(&[b"run"]));
        coming_from(Some(place), async { assert_eq!(incoming(), Some(place)) }).await;
        coming_from(None, async { assert_eq!(incoming(), None) }).await;
        bridged(Some(Arc::new(Here(place))), async { assert_eq!(outgoing(), Some(place)) }).await;
        assert_eq!((incoming(), outgoing()), (None, None));
    }
}
