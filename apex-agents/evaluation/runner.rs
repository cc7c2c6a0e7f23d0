//! Runs the evaluation sets: each case is a run of the whole team without a model, of a user of its own,
//! on stores in memory and in virtual time.

use apex_agents::cost::{AnalysisOptions, Catalogue, sample};
use apex_agents::{Engine, EngineOptions, agents};
use apex_core::clock::{Clock, Timestamp};
use apex_core::event::{Envelope, Event};
use apex_core::health::Observer;
use apex_core::id::{FileId, RequestId, ThreadId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Delivery, Live, Message, Position, Runner, Subscription};
use apex_core::store::{Stores, memory};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::time::Instant;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    /// The agent that is judged.
    pub(crate) agent: String,
    /// How many cases have to pass.
    pub(crate) threshold: usize,
    /// The files that a question brings, where the case does not say.
    #[serde(default)]
    pub(crate) files: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

/// A question, and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) ask: String,
    pub(crate) files: Option<Vec<String>>,
    /// Files by their content; others stand in the folder of the sets.
    #[serde(default)]
    pub(crate) texts: BTreeMap<String, String>,
    /// What is asked before, in the same conversation and with the same files.
    #[serde(default)]
    pub(crate) before: Vec<String>,
    /// Who must have worked, in this order; not judged where absent.
    pub(crate) agents: Option<Vec<String>>,
    /// How the run must end.
    pub(crate) status: Option<String>,
    /// What the answer must hold.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// What the answer must not hold.
    #[serde(default)]
    pub(crate) never: Vec<String>,
    /// What the agents must have told of their work.
    #[serde(default)]
    pub(crate) thinks: Vec<String>,
    /// What the result of the agent that is judged must hold, by JSON pointers: a part of a text, or nothing.
    #[serde(default)]
    pub(crate) makes: BTreeMap<String, Option<String>>,
}

/// How a set came out.
#[derive(Debug)]
pub(crate) struct Score {
    pub(crate) agent: String,
    pub(crate) passed: usize,
    pub(crate) cases: usize,
    pub(crate) threshold: usize,
    /// Each case that failed: the question, and why.
    pub(crate) failed: Vec<(String, String)>,
}

/// All sets, by the names of their files.
pub(crate) fn sets() -> Vec<Set> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let set: Set = serde_json::from_slice(&std::fs::read(path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(set.cases.len() >= 30, "{}: a set has at least 30 cases", set.agent);
        assert!(set.threshold <= set.cases.len());
        set
    };
    paths.iter().map(read).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("evaluation")
}

/// Runs a set.
pub(crate) fn run(set: &Set) -> Score {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let failed = runtime.block_on(async {
        let node = Node::new();
        let mut failed = Vec::new();
        for case in &set.cases {
            if let Err(why) = judge(&node, set, case).await {
                failed.push((case.ask.clone(), why));
            }
        }
        failed
    });
    let cases = set.cases.len();
    Score {
        agent: set.agent.clone(),
        passed: cases - failed.len(),
        cases,
        threshold: set.threshold,
        failed,
    }
}

/// 23 November 2026, 12:00 UTC, and on from there in virtual time.
#[derive(Debug)]
struct Noon(Instant);

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        let noon: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        noon.plus(self.0.elapsed())
    }
}

/// The team at work, for all cases of a set: each asks as a user of its own.
struct Node {
    clock: Arc<dyn Clock>,
    stores: Stores,
    engine: Arc<Engine>,
}

impl Node {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Noon(Instant::now()));
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        let catalogue = Arc::new(Catalogue::embedded().unwrap());
        let engine = Engine::new(
            stores.clone(),
            Live::default(),
            Arc::clone(&clock),
            agents::team(catalogue, AnalysisOptions::default()),
            Observer::quiet(Arc::clone(&clock)),
            EngineOptions::default(),
        )
        .unwrap();
        engine.launch();
        Self { clock, stores, engine }
    }
}

async fn judge(node: &Node, set: &Set, case: &Case) -> Result<(), String> {
    let Node { clock, stores, engine } = node;
    let user = Principal::vouched(UserId::new(&**clock), Scopes::USER);
    let mut attachments = Vec::new();
    for name in case.files.as_ref().unwrap_or(&set.files) {
        let content = match (case.texts.get(name), name.as_str()) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, sample::NAME) => sample::csv(),
            (None, name) => std::fs::read(folder().join(name)).unwrap(),
        };
        let file = FileId::new(&**clock);
        let body = stream::iter([Ok(content.into())]).boxed();
        stores.files.put(&user, file, name, body).await.unwrap();
        attachments.push(file);
    }
    let mut thread: Option<ThreadId> = None;
    let mut events = Vec::new();
    for text in case.before.iter().chain([&case.ask]) {
        let message = Message {
            request_id: RequestId::new(&**clock),
            thread,
            text: text.clone(),
            attachments: std::mem::take(&mut attachments),
        };
        let accepted = engine.start(&user, message).await.unwrap();
        thread = Some(accepted.thread);
        let (log, live) = (Arc::clone(&stores.runs), Live::default());
        let (_, mut recorded) = Subscription::open(
            log,
            &*stores.wakeup,
            &live,
            user.clone(),
            accepted.run,
            Position::default(),
        )
        .await
        .unwrap();
        events.clear();
        while let Delivery::Events(more) = recorded.next().await.unwrap() {
            events.extend(more.iter().map(|event| event.decode().unwrap()));
        }
    }
    held(&set.agent, case, &events)
}

/// Holds what happened against what must have.
fn held(judged: &str, case: &Case, events: &[Envelope]) -> Result<(), String> {
    let (mut agents, mut thoughts, mut made) = (Vec::new(), String::new(), Value::Null);
    for envelope in events {
        match &envelope.event {
            Event::AgentStarted { agent, .. } => agents.push(agent.clone()),
            Event::AgentThinking { note: text, .. } => {
                thoughts.push_str(text);
                thoughts.push('\n');
            }
            Event::AgentCompleted { agent, output, .. } if agent == judged => {
                made.clone_from(output);
            }
            _ => {}
        }
    }
    let (status, text) = match events.last().map(|envelope| &envelope.event) {
        Some(Event::RunCompleted { result, .. }) => {
            (serde_json::to_value(result.status).unwrap(), result.text.clone())
        }
        Some(Event::RunFailed { error, .. }) => (error.code.clone().into(), error.message.clone()),
        other => return Err(format!("it ended with {other:?}")),
    };
    if case.agents.as_ref().is_some_and(|expected| *expected != agents) {
        return Err(format!("{} worked", agents.join(", ")));
    }
    if case.status.as_ref().is_some_and(|expected| status != *expected.as_str()) {
        return Err(format!("it ended as {status}"));
    }
    for (place, holds, all) in
        [("answer", &case.says, &text), ("thoughts", &case.thinks, &thoughts)]
    {
        if let Some(missing) = holds.iter().find(|part| !all.contains(part.as_str())) {
            return Err(format!("no {missing:?} in its {place}:\n{all}"));
        }
    }
    for (pointer, expected) in &case.makes {
        let found = made.pointer(pointer).unwrap_or(&Value::Null);
        let fits = match expected {
            None => found.is_null(),
            Some(part) => found.as_str().is_some_and(|text| text.contains(part)),
        };
        if !fits {
            return Err(format!("{pointer} is {found} and not {expected:?}"));
        }
    }
    match case.never.iter().find(|part| text.contains(part.as_str())) {
        Some(found) => Err(format!("{found:?} is in its answer:\n{text}")),
        None => Ok(()),
    }
}
