use super::driver::Driver;
use super::lease::Writer;
use super::outcome;
use super::shared::Shared;
use super::trace::Trace;
use crate::failure::Failure;
use apex_core::error::{Error, Result, correlation};
use apex_core::event::{AgentOutcome, Event, ToolOutcome};
use apex_core::money::Usage;
use apex_core::run::{Claim, Claimed, RunState, Topic};
use apex_core::thread::{Role, ThreadMessage};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How often a node looks for work without being woken, at least; also how often lost runs are found.
const LOOK: Duration = Duration::from_secs(5);

/// Claims runs and works on them, as many at the same time as this node may, until it is told to drain; then it
/// waits for those that it has.
pub(super) async fn work(
    shared: Arc<Shared>,
    running: Arc<AtomicUsize>,
    draining: CancellationToken,
    leaving: CancellationToken,
) {
    let mut runs = JoinSet::new();
    let mut woken = shared.stores.wakeup.listen(Topic::Work);
    let look = shared.options.renew_every().min(LOOK);
    while !draining.is_cancelled() {
        let free = shared.options.parallel_runs.saturating_sub(runs.len());
        for (claimed, at) in claim(&shared, free).await {
            runs.spawn(drive(Arc::clone(&shared), claimed, at, leaving.clone()));
        }
        running.store(runs.len(), Ordering::Relaxed);
        tokio::select! {
            () = draining.cancelled() => {}
            () = woken.wait(look) => {}
            Some(_) = runs.join_next() => {}
        }
        while runs.try_join_next().is_some() {}
    }
    while runs.join_next().await.is_some() {
        running.store(runs.len(), Ordering::Relaxed);
    }
}

async fn claim(shared: &Shared, max: usize) -> Vec<(Claimed, Instant)> {
    if max == 0 {
        return Vec::new();
    }
    let node = shared.stores.node;
    // The lease is counted from before the claim: the answer may have taken its time.
    let at = Instant::now();
    match shared.stores.runs.claim(Claim { node, max }).await {
        Ok(claimed) => claimed.into_iter().map(|claimed| (claimed, at)).collect(),
        Err(error) => {
            shared.observer.errors().record(&error, None);
            Vec::new()
        }
    }
}

async fn drive(
    shared: Arc<Shared>,
    claimed: Claimed,
    claimed_at: Instant,
    leaving: CancellationToken,
) {
    let (run, attempt) = (claimed.lease.run, claimed.attempt);
    let trace = Trace::begin(&shared, &claimed).await;
    let span = trace.run();
    let (id, user) = (correlation::of_message(claimed.request), claimed.principal.user());
    // A run may wait for long, and many may: what is rare is kept apart.
    let driven = async {
        let driver = Driver::new(Arc::clone(&shared), claimed.clone(), claimed_at, trace, leaving);
        let driven = match driver {
            Ok(driver) => driver.run().await,
            Err(error) => Box::pin(refuse(&shared, &claimed, claimed_at, error)).await,
        };
        if let Err(error) = driven {
            tracing::warn!(%run, attempt, "a run was lost to this node");
            shared.observer.errors().record(&error, Some(user));
        }
    };
    correlation::carrying(id, driven.instrument(span)).await;
}

/// Ends a run whose saved state cannot be read: what is open is closed as its log tells it.
async fn refuse(shared: &Shared, claimed: &Claimed, claimed_at: Instant, why: Error) -> Result<()> {
    let view = shared.stores.runs.view(&claimed.principal, claimed.lease.run).await?;
    let mut events = Vec::new();
    let agent_of = |step| {
        let known = view.snapshot.steps.iter().rfind(|view| view.step == step);
        known.map(|view| view.agent.clone()).unwrap_or_default()
    };
    for open in &view.snapshot.open_calls {
        events.push(Event::ToolCompleted {
            step: open.step,
            agent: agent_of(open.step),
            call: open.call,
            tool: open.tool.clone(),
            outcome: ToolOutcome::Interrupted,
            elapsed_ms: 0,
            summary: "its node was lost before it ended".to_owned(),
        });
    }
    for open in view.snapshot.steps.iter().filter(|step| step.outcome.is_none()) {
        events.push(Event::AgentCompleted {
            step: open.step,
            agent: open.agent.clone(),
            outcome: AgentOutcome::Interrupted,
            elapsed_ms: 0,
            output: Value::Null,
            usage: Usage::NONE,
            models: Vec::new(),
            plan: Vec::new(),
        });
    }
    let now = shared.clock.now();
    let failure = Failure::from(why);
    let mut writer = Writer::new(shared, claimed, claimed_at);
    let message = ThreadMessage {
        run: claimed.lease.run,
        role: Role::Assistant,
        text: failure.told(),
        attachments: Vec::new(),
        at: now,
    };
    let insist = claimed.attempt <= shared.options.runs.attempts;
    writer.say(claimed, message, insist).await?;
    events.push(Event::RunFailed {
        elapsed_ms: u64::try_from(now.since(claimed.started_at).as_millis()).unwrap_or(u64::MAX),
        usage: Usage::NONE,
        error: failure.report(),
    });
    let ended = outcome::Ended::of(&events, None, Some(&failure));
    let seen = Trace::seen(&events);
    writer.append(events, None, Some(RunState::Failed)).await?;
    Trace::begin(shared, claimed).await.tell(seen);
    if let Some(ended) = ended {
        ended.tell(shared, claimed);
    }
    Ok(())
}
