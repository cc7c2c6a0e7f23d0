//! A runner that plays a script named in the message, over a real run log.

use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::{AgentOutcome, Decision, Event, RunResult, RunStatus};
use apex_core::id::{ApprovalId, CallId, RunId, StepId, ThreadId};
use apex_core::money::Usage;
use apex_core::principal::Principal;
use apex_core::run::{
    Accepted, Claim, Claimed, Emitter, Live, Message, NewRun, RunState, Runner, Signal,
};
use apex_core::store::Stores;
use apex_core::thread::{Role, ThreadMessage};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

/// Plays what a message says: `thoughts N` thinks N times, `big N` thinks N times 8 KiB, `deltas N` shows N pieces of
/// text, `hold` goes on until it is cancelled or told `release`, `ask` waits for a decision, `report` makes one,
/// `slow N` waits N ms before each thought, `panic` panics in the call itself.
#[derive(Debug, Clone)]
pub(crate) struct ScriptedRunner {
    stores: Stores,
    live: Live,
    clock: Arc<dyn Clock>,
}

const STEP: StepId = StepId(1);
const AGENT: &str = "scripted";

impl ScriptedRunner {
    pub(crate) fn new(stores: Stores, live: Live, clock: Arc<dyn Clock>) -> Self {
        Self { stores, live, clock }
    }

    /// The approval that a run asks for.
    pub(crate) fn approval(run: RunId) -> ApprovalId {
        ApprovalId::derived(&[run.as_bytes()])
    }

    /// Plays what there is to play, and whatever waits for one of these to end.
    fn work(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let claim = Claim { node: self.stores.node, max: 16 };
            for claimed in self.stores.runs.claim(claim).await.unwrap() {
                let player = self.clone();
                tokio::spawn(async move {
                    player.play(claimed).await;
                    player.work().await;
                });
            }
        })
    }

    async fn play(&self, claimed: Claimed) {
        let words: Vec<&str> = claimed.text.split(' ').collect();
        let number = |word: &str| -> u64 {
            let place = words.iter().position(|known| *known == word);
            place.map_or(0, |place| words[place + 1].parse().unwrap())
        };
        let run = claimed.lease.run;
        let mut emitter = Emitter::new(
            Arc::clone(&self.stores.runs),
            Arc::clone(&self.clock),
            self.live.clone(),
            claimed.lease.clone(),
        );
        let started = Event::AgentStarted {
            step: STEP,
            agent: AGENT.into(),
            purpose: claimed.text.clone(),
            attempt: claimed.attempt,
            needs: Vec::new(),
        };
        emitter.append(vec![started], None, Some(RunState::Running)).await.unwrap();
        let (thoughts, big) = (number("thoughts").max(1), number("big"));
        for n in 0..thoughts + big {
            if words.contains(&"slow") {
                tokio::time::sleep(Duration::from_millis(number("slow"))).await;
            }
            let note = if n < thoughts { format!("thought {n}") } else { "x".repeat(8 * 1024) };
            self.think(&mut emitter, note).await;
        }
        let mut offset = 0;
        for n in 0..number("deltas") {
            let text = format!("piece {n} ");
            let length = text.len() as u64;
            emitter.show(Event::Delta { step: STEP, offset, text });
            offset += length;
            tokio::task::yield_now().await;
        }
        if words.contains(&"ask") {
            self.ask(&mut emitter, run).await;
        }
        let mut cancelled_by = None;
        while words.contains(&"hold") {
            let signals = emitter.append(vec![], None, None).await.unwrap();
            cancelled_by = signals.cancelled_by;
            if cancelled_by.is_some() || signals.stopped.contains(&STEP) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if words.contains(&"report") {
            self.report(&claimed.principal, run).await;
        }
        let completed = Event::AgentCompleted {
            step: STEP,
            agent: AGENT.into(),
            outcome: AgentOutcome::Ok,
            elapsed_ms: 1,
            output: serde_json::Value::Null,
            usage: Usage::NONE,
            models: Vec::new(),
            plan: Vec::new(),
        };
        let (end, state) = match cancelled_by {
            Some(by) => {
                (Event::RunCancelled { elapsed_ms: 1, usage: Usage::NONE, by }, RunState::Cancelled)
            }
            None => (
                Event::RunCompleted {
                    elapsed_ms: 1,
                    usage: Usage::NONE,
                    degraded: Vec::new(),
                    result: RunResult {
                        status: RunStatus::Answered,
                        text: "done".into(),
                        artifacts: Vec::new(),
                    },
                },
                RunState::Completed,
            ),
        };
        emitter.append(vec![completed, end], None, Some(state)).await.unwrap();
    }

    async fn think(&self, emitter: &mut Emitter, note: String) {
        let thought = Event::AgentThinking { step: STEP, agent: AGENT.into(), note };
        emitter.append(vec![thought], None, None).await.unwrap();
    }

    /// Asks and goes on when it is decided; it holds its place meanwhile, unlike a real run.
    async fn ask(&self, emitter: &mut Emitter, run: RunId) {
        let approval = Self::approval(run);
        let request = Event::ApprovalRequested {
            step: STEP,
            approval,
            call: CallId(1),
            tool: "delete".into(),
            arguments: serde_json::json!({}),
            digest: "d1".into(),
            expires_at: self.clock.now().plus(Duration::from_secs(60)),
        };
        emitter.append(vec![request], None, None).await.unwrap();
        loop {
            let signals = emitter.append(vec![], None, None).await.unwrap();
            if let Some((_, decision, by)) = signals.decided.first() {
                let decided =
                    Event::ApprovalDecided { approval, decision: *decision, by: Some(*by) };
                emitter.append(vec![decided], None, None).await.unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn report(&self, principal: &Principal, run: RunId) {
        for (name, media_type, content) in [
            ("report.json", "application/json", "{\"schema\":\"apex.report/1\"}"),
            ("report.md", "text/markdown; charset=utf-8", "# Report"),
            ("report.html", "text/html; charset=utf-8", "<h1>Report</h1>"),
        ] {
            self.stores
                .artifacts
                .put(principal, run, name, media_type, Bytes::from_static(content.as_bytes()))
                .await
                .unwrap();
        }
    }
}

#[async_trait]
impl Runner for ScriptedRunner {
    async fn start(&self, principal: &Principal, message: Message) -> Result<Accepted> {
        assert!(!message.text.contains("panic"), "as asked");
        for file in &message.attachments {
            self.stores.files.info(principal, *file).await?;
        }
        if let Some(thread) = message.thread
            && self.stores.threads.thread(principal, thread).await?.owner != principal.user()
        {
            return Err(Error::not_found("scripted.start", "thread"));
        }
        let mut digest = DefaultHasher::new();
        (&message.text, message.thread).hash(&mut digest);
        let mut content = [0; 32];
        content[..8].copy_from_slice(&digest.finish().to_be_bytes());
        let new = NewRun {
            run: RunId::new(&*self.clock),
            request: message.request_id,
            digest: content,
            thread: message
                .thread
                .unwrap_or_else(|| ThreadId::derived(&[message.request_id.as_bytes()])),
            parent: None,
            text: message.text.clone(),
            attachments: message.attachments.clone(),
            agents: vec![AGENT.into()],
            budget: None,
            trace: apex_core::trace::incoming(),
        };
        let started = self.stores.runs.start(principal, new).await?;
        let said = ThreadMessage {
            run: started.run,
            role: Role::User,
            text: message.text,
            attachments: message.attachments,
            at: self.clock.now(),
        };
        self.stores.threads.add(principal, started.thread, said).await?;
        tokio::spawn(self.clone().work());
        Ok(Accepted { request_id: message.request_id, thread: started.thread, run: started.run })
    }

    async fn cancel(&self, principal: &Principal, run: RunId) -> Result<()> {
        let runs = &self.stores.runs;
        runs.signal(principal, run, Signal::Cancel).await.map(drop)
    }

    async fn stop(&self, principal: &Principal, run: RunId, step: StepId) -> Result<()> {
        let runs = &self.stores.runs;
        runs.signal(principal, run, Signal::Stop(step)).await.map(drop)
    }

    async fn decide(
        &self,
        principal: &Principal,
        run: RunId,
        approval: ApprovalId,
        digest: &str,
        decision: Decision,
    ) -> Result<()> {
        self.stores.runs.view(principal, run).await?;
        if approval != Self::approval(run) || digest != "d1" {
            return Err(Error::new(Kind::Conflict, "scripted.decide", "another call"));
        }
        let signal = Signal::Decide { approval, digest: digest.to_owned(), decision };
        self.stores.runs.signal(principal, run, signal).await.map(drop)
    }
}
