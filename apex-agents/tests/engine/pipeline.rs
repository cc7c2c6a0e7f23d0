//! The team of Apex on real questions and files.

use apex_agents::cost::report::{Advice, Severity};
use apex_agents::cost::{AnalysisOptions, Catalogue, Report, sample};
use apex_agents::testkit::{Altering, Node, clock, fault, names};
use apex_agents::{EngineOptions, Registry, agents};
use apex_core::event::{Envelope, Event, RunResult, RunStatus};
use apex_core::id::FileId;
use apex_core::principal::Principal;
use apex_core::run::{Accepted, RunGraph, RunState, Runner, StepState};
use apex_core::store::memory;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn team() -> Registry {
    agents::team(Arc::new(Catalogue::embedded().unwrap()), AnalysisOptions::default())
}

pub(crate) async fn bring(
    node: &Node,
    user: &Principal,
    name: &str,
    content: impl Into<Bytes>,
) -> FileId {
    let file = FileId::new(&*node.clock);
    let body = stream::iter([Ok(content.into())]).boxed();
    node.stores.files.put(user, file, name, body).await.unwrap();
    file
}

pub(crate) async fn ask(
    node: &Node,
    user: &Principal,
    text: &str,
    files: Vec<FileId>,
) -> (Accepted, Vec<Envelope>) {
    let mut message = node.message(text);
    message.attachments = files;
    let accepted = node.engine.start(user, message).await.unwrap();
    let events = node.ended(user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    (accepted, events)
}

pub(crate) fn result(events: &[Envelope]) -> &RunResult {
    match &events.last().unwrap().event {
        Event::RunCompleted { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn agents_of(events: &[Envelope]) -> Vec<&str> {
    let started = events.iter().filter_map(|envelope| match &envelope.event {
        Event::AgentStarted { agent, .. } => Some(agent.as_str()),
        _ => None,
    });
    started.collect()
}

fn tools_of(events: &[Envelope]) -> Vec<&str> {
    let called = events.iter().filter_map(|envelope| match &envelope.event {
        Event::ToolExecuting { tool, .. } => Some(tool.as_str()),
        _ => None,
    });
    called.collect()
}

async fn report(node: &Node, user: &Principal, result: &RunResult) -> Report {
    let names: Vec<&str> = result.artifacts.iter().map(|payload| payload.name.as_str()).collect();
    assert_eq!(names, ["report.json", "report.md", "report.html"]);
    let (_, json) = node.stores.artifacts.read(user, result.artifacts[0].artifact).await.unwrap();
    serde_json::from_slice(&json).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_sample_is_taken_from_a_question_to_a_report() {
    let node = Node::new(team());
    let user = node.user();
    let file = bring(&node, &user, sample::NAME, sample::csv()).await;
    let (accepted, events) = ask(&node, &user, "Where can we save?", vec![file]).await;
    let team =
        ["supervisor", "triage", "data_helper", "optimizer", "validation", "actions", "reporter"];
    assert_eq!(agents_of(&events), team);
    let tools =
        ["inspect_usage", "analyse_usage", "recompute_figures", "plan_actions", "write_report"];
    assert_eq!(tools_of(&events), tools);

    let result = result(&events);
    assert_eq!(result.status, RunStatus::Answered);
    let report = report(&node, &user, result).await;
    assert_eq!(report.totals.unpriced_requests, sample::UNPRICED);
    assert_eq!(report.findings[0].severity, Severity::Critical);
    let failed = report.recommendations.iter().find(|r| r.requests == sample::FAILED);
    assert_eq!(failed.unwrap().advice, Advice::Do);
    assert!(result.text.starts_with("**First of all:"), "{}", result.text);
    assert!(result.text.contains("Could be saved"), "{}", result.text);
    assert_eq!(node.answer(&user, accepted).await, result.text);
    let Event::RunCompleted { degraded, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert!(degraded[0].contains("No model took part"), "{degraded:?}");

    let graph = RunGraph::read(&*node.stores.runs, &user, accepted.run).await.unwrap();
    let drawn: Vec<&str> = graph.steps.iter().map(|step| step.agent.as_str()).collect();
    assert_eq!(drawn, team);
    assert!(graph.steps.iter().all(|step| step.state == StepState::Ok && step.tries.len() == 1));
    assert_eq!(graph.steps[4].needs, ["data_helper", "optimizer"]);
    assert_eq!(graph.steps[4].planned_by.as_deref(), Some("supervisor"));
    assert_eq!(graph.steps[4].calls[0].tool, "recompute_figures");
    assert_eq!((graph.state, graph.budget.unwrap().steps), (RunState::Completed, 256));
    let chart = graph.mermaid();
    assert!(chart.contains("  s0 -.-> s1\n") && chart.contains("  s5 --> s6\n"), "{chart}");
    assert!(!chart.contains("  s1 --> s6\n"), "what follows from other needs is left out: {chart}");
}

#[tokio::test(start_paused = true)]
async fn each_topic_is_answered_from_the_report_and_later_questions_need_no_new_file() {
    let node = Node::new(team());
    let user = node.user();
    let file = bring(&node, &user, sample::NAME, sample::csv()).await;
    let (first, events) = ask(&node, &user, "What did we spend, and on what?", vec![file]).await;
    assert!(result(&events).text.contains("**By model**"), "{}", result(&events).text);
    for (text, holds) in [
        ("Is anything odd in the records?", "**Findings**"),
        ("Compare the models", "| Model | Requests |"),
        ("Forecast next month", "**The last days**"),
    ] {
        let mut message = node.message(text);
        message.thread = Some(first.thread);
        let accepted = node.engine.start(&user, message).await.unwrap();
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(tools_of(&events)[..2], ["earlier_questions", "earlier_files"]);
        assert!(result(&events).text.contains(holds), "{text}: {}", result(&events).text);
    }
}

#[tokio::test(start_paused = true)]
async fn without_enough_data_the_run_ends_helpfully() {
    let node = Node::new(team());
    let user = node.user();
    let lacking = bring(&node, &user, "spend.csv", "model,when\ngpt-4o,2026-01-01\n").await;
    let picture = bring(&node, &user, "cat.png", vec![0x89, b'P', b'N', b'G', 0, 0, 0, 1]).await;
    let empty = bring(&node, &user, "empty.csv", "").await;
    let words =
        "timestamp,model,input_tokens,output_tokens,mood\n2026-01-01,gpt-4o,many,few,good\n";
    let words = bring(&node, &user, "words.csv", words).await;
    for (files, holds) in [
        (vec![], "No usage data is attached"),
        (vec![lacking], "no column holds token counts (input\\_tokens"),
        (vec![picture], "cat.png"),
        (vec![empty], "empty.csv"),
        (vec![words], "Missing and helpful: `request_id`"),
    ] {
        let (accepted, events) = ask(&node, &user, "What do we spend?", files).await;
        assert_eq!(agents_of(&events), ["supervisor", "triage", "data_helper"]);
        let result = result(&events);
        assert_eq!(result.status, RunStatus::InsufficientData);
        assert!(result.text.contains(holds), "{holds}: {}", result.text);
        for source in ["OpenAI", "Anthropic", "Gemini", "LiteLLM", "Langfuse"] {
            assert!(result.text.contains(source), "{source}: {}", result.text);
        }
        assert_eq!(node.answer(&user, accepted).await, result.text);
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_suffices_in_part_says_for_what_it_does_not() {
    let node = Node::new(team());
    let user = node.user();
    let csv = "model,input_tokens,output_tokens\ngpt-4o,1000,100\ngpt-4o,2000,100\n";
    let part = bring(&node, &user, "part.csv", csv).await;
    let broken = bring(&node, &user, "broken_*.csv", "a,b\n1,2\n").await;
    let (_, events) = ask(&node, &user, "What do we spend?", vec![part, broken]).await;
    let Event::RunCompleted { degraded, result, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert!(degraded.iter().any(|note| note.contains("no `timestamp`")), "{degraded:?}");
    assert!(
        degraded.iter().any(|note| note.contains("broken\\_\\*.csv is left out")),
        "{degraded:?}"
    );
    assert!(result.text.contains("**Limits**"), "{}", result.text);
}

#[tokio::test(start_paused = true)]
async fn a_question_about_something_else_is_answered_with_what_can_be_done() {
    let node = Node::new(team());
    let user = node.user();
    let (_, events) = ask(&node, &user, "Tell me a joke about otters.", vec![]).await;
    assert_eq!(agents_of(&events), ["supervisor", "triage"]);
    assert_eq!(result(&events).status, RunStatus::Answered);
    assert!(result(&events).text.contains("Where can we save?"));
}

/// A figure of an analysis, changed.
pub(crate) fn tampered(name: &str, content: Bytes) -> Bytes {
    if name != "analysis.json" {
        return content;
    }
    let mut report: Report = serde_json::from_slice(&content).unwrap();
    report.totals.output_tokens += 1;
    report.to_json().into()
}

#[tokio::test(start_paused = true)]
async fn a_report_that_does_not_add_up_is_refused() {
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let stores = Altering::stores(stores, tampered);
    let node = Node::on(stores, clock, team(), EngineOptions::default());
    let user = node.user();
    let file = bring(&node, &user, sample::NAME, sample::csv()).await;
    let (_, events) = ask(&node, &user, "Where can we save?", vec![file]).await;
    let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
        panic!("{:?}", events.last());
    };
    assert_eq!(error.code, "bad_figures");
    assert!(!agents_of(&events).contains(&"reporter"));
}

/// A real file of known answers, if it is on this machine.
pub(crate) fn known(name: &str) -> Option<Vec<u8>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let folder =
        std::env::var_os("APEX_TEST_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let file = std::fs::read(folder.join(name)).ok();
    if file.is_none() {
        println!("skipped: {name} is not on this machine; set APEX_TEST_DATA");
    }
    file
}

#[tokio::test(start_paused = true)]
async fn the_known_answers_come_through_the_pipeline() {
    for (name, tokens, recorded) in [
        ("requests/aider.csv", (72_967_539, 2_955_782), "$10,182.70"),
        ("requests/tau2_airline_gpt4o.jsonl", (319_716, 8_144), "$0.7318"),
    ] {
        let Some(content) = known(name) else { continue };
        let node = Node::new(team());
        let user = node.user();
        let file = bring(&node, &user, name, content).await;
        let (_, events) = ask(&node, &user, "What did we spend?", vec![file]).await;
        let result = result(&events);
        let report = report(&node, &user, result).await;
        assert_eq!((report.totals.input_tokens, report.totals.output_tokens), tokens);
        assert!(result.text.contains(recorded), "{}", result.text);
    }
}
