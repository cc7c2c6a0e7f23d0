use super::status::{Line, Status};
use crate::error::{Error, Outcome, Result};
use crate::resilience::Deadline;
use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use serde_json::Map;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// So many bad looks in a row make a dependency count as gone; one good look brings it back.
const BAD_LOOKS: u32 = 3;

/// Looks at one dependency.
#[async_trait]
pub trait Probe: fmt::Debug + Send + Sync {
    /// The dependency's name, as in metrics: `postgres`.
    fn dependency(&self) -> &str;

    /// Whether this node cannot serve without it.
    fn is_required(&self) -> bool;

    /// Asks it for something small that only a working one answers.
    ///
    /// # Errors
    /// It did not answer as it should.
    async fn probe(&self) -> Result<()>;
}

/// A dependency under watch.
#[derive(Debug)]
pub(super) struct Watched {
    probe: Arc<dyn Probe>,
    limit: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    looked: bool,
    gone: bool,
    bad_in_a_row: u32,
}

impl Watched {
    pub(super) fn new(probe: Arc<dyn Probe>, limit: Duration) -> Self {
        Self { probe, limit, seen: Mutex::default() }
    }

    /// Looks, and says how it is doing.
    pub(super) async fn look(&self) -> Line {
        let began = Instant::now();
        let deadline = Deadline::after(self.limit);
        // A host's probe that panics has not answered.
        let probe = AssertUnwindSafe(self.probe.probe()).catch_unwind().map(|answer| {
            answer.unwrap_or_else(|_| Err(Error::internal("health.probe", "the probe panicked")))
        });
        let result = deadline.limit("health.probe", Outcome::NotApplied, probe).await;
        let took = began.elapsed();
        let dependency = self.probe.dependency();
        metrics::histogram!("apex_health_probe_seconds", "dependency" => dependency.to_owned())
            .record(took);
        let status = self.judge(result.is_ok());
        metrics::gauge!("apex_health_dependency", "dependency" => dependency.to_owned())
            .set(status.level());
        Line {
            name: format!("{dependency}:responseTime"),
            component: "datastore",
            status,
            value: u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into(),
            unit: "ms",
            output: result.err().map(|error| format!("{}: {error}", error.code())),
            more: Map::new(),
        }
    }

    /// A single bad look is a warning, so that one slow moment does not take the node out. The first look has no
    /// past to lean on and decides by itself.
    fn judge(&self, good: bool) -> Status {
        let mut seen = self.seen.lock();
        seen.bad_in_a_row = if good { 0 } else { seen.bad_in_a_row.saturating_add(1) };
        seen.gone = !good && (seen.gone || !seen.looked || seen.bad_in_a_row >= BAD_LOOKS);
        seen.looked = true;
        match (good, seen.gone && self.probe.is_required()) {
            (true, _) => Status::Pass,
            (false, false) => Status::Warn,
            (false, true) => Status::Fail,
        }
    }
}
