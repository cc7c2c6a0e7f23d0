//! Models as an effect of a run: on record before they are asked, answered from the journal after a crash, taken
//! back when they break off, and metered whatever happens.

use apex_agents::model::{ChainOptions, ModelRequest};
use apex_agents::testkit::{
    Asks, Does, Gate, Node, Scripted, behind, chain, clock, fault, names, once, runtime, says,
};
use apex_agents::{Context, EngineOptions, Registry, Request, agent_fn};
use apex_core::error::Result;
use apex_core::event::{AgentOutcome, Envelope, Event, ModelUse};
use apex_core::id::{RunId, StepId};
use apex_core::money::Usage;
use apex_core::principal::Principal;
use apex_core::run::{Delivery, Live, Position, Runner, Subscription};
use apex_core::store::memory;
use apex_core::usage::{Attempt, AttemptOutcome, UsageQuery};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Asks twice and joins what was answered.
fn asker() -> Registry {
    let agent = agent_fn("asker", "Asks a model.", |ask: Request, run: Context| async move {
        let first = run.model().stream(ModelRequest::user(ask.text)).await?.text();
        let second = run.model().ask(ModelRequest::user(format!("more of {first}"))).await?;
        Ok(format!("{first}; {}", second.text()))
    });
    Registry::default().agent(agent)
}

fn completed(events: &[Envelope]) -> (AgentOutcome, Usage, Vec<ModelUse>) {
    let found = events.iter().rev().find_map(|envelope| match &envelope.event {
        Event::AgentCompleted { outcome, usage, models, .. } => {
            Some((*outcome, *usage, models.clone()))
        }
        _ => None,
    });
    found.unwrap()
}

fn used(events: &[Envelope]) -> Usage {
    match &events.last().unwrap().event {
        Event::RunCompleted { usage, .. }
        | Event::RunFailed { usage, .. }
        | Event::RunCancelled { usage, .. } => *usage,
        other => panic!("{other:?}"),
    }
}

fn notes(events: &[Envelope]) -> Vec<String> {
    let notes = events.iter().filter_map(|envelope| match &envelope.event {
        Event::AgentThinking { note, .. } => Some(note.clone()),
        _ => None,
    });
    notes.collect()
}

async fn attempts(node: &Node, user: &Principal) -> Vec<Attempt> {
    node.stores.usage.attempts(user, None, None, 100).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_runs_events_and_usage_say_who_answered_at_which_price() {
    let model = Scripted::always("openai", says("a b"));
    let node = Node::with_models(asker(), &[&model]);
    let user = node.user();
    let accepted = node.ask(&user, "hi").await;
    let events = node.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    let Event::RunCompleted { result, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(result.text, "a b; a b");
    assert!(notes(&events).contains(&"I ask gpt-4o (openai).".to_owned()), "{events:?}");
    // $2.50 and $10 a million, twice.
    let cost = "0.007".parse().unwrap();
    let usage =
        Usage { input_tokens: 2_000, output_tokens: 200, cost_usd: Some(cost), ..Usage::NONE };
    let (outcome, of_step, models) = completed(&events);
    assert_eq!((outcome, of_step, used(&events)), (AgentOutcome::Ok, usage, usage));
    let expected = ModelUse {
        provider: "openai".into(),
        model: "gpt-4o".into(),
        attempts: 2,
        answers: 2,
        usage,
    };
    assert_eq!(models, [expected]);
    let recorded = attempts(&node, &user).await;
    assert_eq!(recorded.len(), 2);
    for attempt in recorded {
        assert_eq!((attempt.run, attempt.step), (Some(accepted.run), Some(StepId(1))));
        assert_eq!(attempt.outcome, AttemptOutcome::Answered);
    }
    let query = UsageQuery { run: Some(accepted.run), ..UsageQuery::default() };
    let total = node.stores.usage.totals(&user, &query).await.unwrap().remove(0);
    assert_eq!(total.usage.cost_usd, Some(cost));
    assert!(attempts(&node, &node.user()).await.is_empty(), "nobody else's");
}

const TEXTS: [&str; 2] = ["half an answer that never comes to its", "something else that is whole"];

/// A run, and all that a reader sees of it as it comes.
async fn watched(
    agents: Registry,
    models: &[&Arc<Scripted>],
) -> (Node, Principal, RunId, Vec<Event>) {
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let models = Some(chain(&stores, &clock, models, once()));
    let options = EngineOptions { models, ..EngineOptions::default() };
    let live = Live::default();
    let engine = apex_agents::Engine::new(
        stores.clone(),
        live.clone(),
        Arc::clone(&clock),
        agents,
        apex_core::health::Observer::quiet(Arc::clone(&clock)),
        options,
    )
    .unwrap();
    let node = Node { stores, clock, engine, live: Live::default() };
    let user = node.user();
    let run = node.ask(&user, "hi").await.run;
    let (log, watcher) = (Arc::clone(&node.stores.runs), user.clone());
    let position = Position::default();
    let opened = Subscription::open(log, &*node.stores.wakeup, &live, watcher, run, position).await;
    let (_, mut seen) = opened.unwrap();
    node.engine.launch();
    let mut events = Vec::new();
    loop {
        match seen.next().await.unwrap() {
            Delivery::Events(recorded) => {
                events.extend(recorded.iter().map(|event| event.decode().unwrap().event));
            }
            Delivery::Live(event) => events.push(event.decode().unwrap().event),
            Delivery::End(_) => return (node, user, run, events),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_taken_back_and_billed() {
    let broken = Scripted::always("openai", Does::Breaks(TEXTS[0].into()));
    let whole = Scripted::always("anthropic", says(TEXTS[1]));
    let (node, user, run, seen) = watched(asker(), &[&broken, &whole]).await;
    // What a reader sees of the first answer, and of the second; deltas may be dropped, never mixed up.
    let mut shown = [0, 0];
    let mut answer = 0;
    for event in seen {
        match event {
            Event::Delta { offset, text, .. } => {
                let whole = TEXTS[answer];
                let at = offset as usize;
                assert!(whole[at..].starts_with(&text), "{offset} {text:?} of {whole:?}");
                shown[answer] += text.len();
            }
            Event::AnswerRetracted { step, reason } => {
                assert_eq!(step, StepId(1));
                assert!(reason.contains("the provider is down"), "{reason}");
                answer += 1;
            }
            _ => {}
        }
    }
    assert!(shown[0] > 0 && shown[1] > 0, "{shown:?}");
    let events = node.ended(&user, run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    let retracted = names(&events).iter().filter(|name| **name == "answer_retracted").count();
    assert_eq!(retracted, 1, "the second question was shown to nobody");
    let (_, usage, models) = completed(&events);
    assert_eq!((usage.cost_usd, used(&events).cost_usd), (None, None), "billed, unknown");
    let uses: Vec<_> =
        models.iter().map(|m| (m.provider.as_str(), m.attempts, m.answers)).collect();
    // Who stood in was asked first the second time.
    assert_eq!(uses, [("openai", 1, 0), ("anthropic", 2, 2)]);
    let outcomes: Vec<_> = attempts(&node, &user).await.iter().map(|a| a.outcome).collect();
    assert_eq!(outcomes.iter().filter(|o| **o == AttemptOutcome::Retracted).count(), 1);
    assert_eq!(outcomes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_step_streams_is_one_text_whose_answers_follow_each_other() {
    let agent = agent_fn("asker", "Asks twice.", |ask: Request, run: Context| async move {
        let first = run.model().stream(ModelRequest::user(ask.text)).await?.text();
        // Asked for itself: it is no part of what users see.
        run.model().ask(ModelRequest::user("hidden")).await?;
        let second = run.model().stream(ModelRequest::user("more")).await?.text();
        Ok(format!("{first}\n\n{second}"))
    });
    let model = Scripted::new("openai", |_, nth| says(["I look. ", "hidden", "It is whole."][nth]));
    let (_, _, _, seen) = watched(Registry::default().agent(agent), &[&model]).await;
    let mut text = String::new();
    for event in seen {
        if let Event::Delta { offset, text: piece, .. } = event {
            assert_eq!(offset, text.len() as u64);
            text += &piece;
        }
    }
    assert_eq!(text, "I look. \n\nIt is whole.");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_or_a_step_that_is_stopped_ends_its_question() {
    for cancel in [true, false] {
        let model = Scripted::always("openai", Does::Hangs("one moment ".into()));
        let node = Node::with_models(asker(), &[&model]);
        let user = node.user();
        let accepted = node.ask(&user, "hi").await;
        let asks = |event: &Event| matches!(event, Event::AgentThinking { note, .. } if note.starts_with("I ask"));
        node.until(&user, accepted.run, asks).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(model.dropped.load(Ordering::SeqCst), 0);
        if cancel {
            node.engine.cancel(&user, accepted.run).await.unwrap();
        } else {
            node.engine.stop(&user, accepted.run, StepId(1)).await.unwrap();
        }
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        assert_eq!(used(&events).cost_usd, None, "it is billed, nobody knows how much");
        assert_eq!(completed(&events).2[0].attempts, 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(model.dropped.load(Ordering::SeqCst), 1, "the connection is closed");
        let recorded = attempts(&node, &user).await;
        assert_eq!(recorded.len(), 1);
        assert_eq!(recorded[0].outcome, AttemptOutcome::Abandoned);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_model_or_an_answer_an_agent_is_told_why() {
    let agent = || {
        let agent = agent_fn("asker", "Asks.", |ask: Request, run: Context| async move {
            Ok(match run.model().ask(ModelRequest::user(ask.text)).await {
                Ok(answer) => answer.text(),
                Err(error) => error.to_string(),
            })
        });
        Registry::default().agent(agent)
    };
    let refuses = Scripted::always("openai", Does::Refuses);
    for (node, told) in [
        (Node::new(agent()), "there is no model: configure a provider"),
        (Node::with_models(agent(), &[&refuses]), "the provider is down"),
    ] {
        let user = node.user();
        let accepted = node.ask(&user, "hi").await;
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        let answer = node.answer(&user, accepted).await;
        assert!(answer.contains(told), "{answer}");
        assert_eq!(used(&events), Usage::NONE, "a refusal costs nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_holds_for_each_answer() {
    let breaks = Scripted::always("openai", Does::Breaks("half".into()));
    let second = Scripted::always("anthropic", says("whole"));
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let options = ChainOptions { ceiling: Some("1".parse().unwrap()), ..once() };
    let models = Some(chain(&stores, &clock, &[&breaks, &second], options));
    let options = EngineOptions { models, ..EngineOptions::default() };
    let node = Node::on(stores, clock, asker(), options);
    let user = node.user();
    let accepted = node.ask(&user, "hi").await;
    let events = node.ended(&user, accepted.run).await;
    let Event::RunFailed { error, usage, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!((error.code.as_str(), usage.cost_usd), ("budget_exhausted", None));
    assert!(second.asked().is_empty());
}

/// A node that dies at one of its appends.
#[derive(Debug)]
struct Dying {
    left: Mutex<usize>,
    before: bool,
    dead: CancellationToken,
}

#[async_trait]
impl Gate for Dying {
    async fn enter(&self, asks: Asks) -> Result<()> {
        if matches!(asks, Asks::Append | Asks::Say) && !self.dead.is_cancelled() {
            let mut left = self.left.lock();
            *left = left.saturating_sub(1);
            if *left == 0 && self.before {
                self.dead.cancel();
            }
        }
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn leave(&self, _asks: Asks) {
        if *self.left.lock() == 0 {
            self.dead.cancel();
            std::future::pending::<()>().await;
        }
    }
}

#[test]
fn a_node_may_die_at_any_write_and_no_answer_on_record_is_asked_for_again() {
    let (mut deaths, mut repeated, mut lost) = (0, 0, 0);
    for before in [true, false] {
        for at in 1.. {
            let died = runtime().block_on(async {
                let model = Scripted::new("openai", |_, nth| says(format!("a {nth}")));
                let clock = clock();
                let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
                let options = || {
                    let models = Some(chain(&stores, &clock, &[&model], once()));
                    EngineOptions { models, ..EngineOptions::default() }
                };
                let dying = Arc::new(Dying {
                    left: Mutex::new(at),
                    before,
                    dead: CancellationToken::new(),
                });
                let gated = behind(&stores, Arc::<Dying>::clone(&dying) as _);
                let (idle, live) = (EngineOptions::default(), Live::default());
                let engine = apex_agents::Engine::new(
                    stores.clone(),
                    live,
                    Arc::clone(&clock),
                    asker(),
                    apex_core::health::Observer::quiet(Arc::clone(&clock)),
                    idle,
                );
                let engine = engine.unwrap();
                let queue = Node {
                    stores: stores.clone(),
                    clock: Arc::clone(&clock),
                    engine,
                    live: Live::default(),
                };
                let user = queue.user();
                let accepted = queue.ask(&user, "go").await;
                let first = Node::on(gated, Arc::clone(&clock), asker(), options());
                tokio::select! {
                    () = dying.dead.cancelled() => {}
                    _ = first.ended(&user, accepted.run) => return false,
                }
                let asked_before = model.asked().len();
                drop(first);
                let node = Node::on(stores.clone(), Arc::clone(&clock), asker(), options());
                let events = node.ended(&user, accepted.run).await;
                let told = format!("before {before}, write {at}: {:?}", names(&events));
                assert_eq!(fault(&events), None, "{told}");
                assert!(
                    matches!(events.last().unwrap().event, Event::RunCompleted { .. }),
                    "{told}"
                );
                let asked = model.asked();
                // Two questions; one may have been under way when the node died.
                assert!(asked.len() <= 3, "{told}: {asked:?}");
                repeated += asked.len() - 2;
                // Each answer that is on record was asked for once: the second question quotes the first answer.
                let quoted = |request: &&ModelRequest| format!("{request:?}").contains("more of");
                let mut quotes: Vec<_> = asked.iter().filter(quoted).collect();
                quotes.dedup();
                assert_eq!(quotes.len(), 1, "{told}: the first answer changed");
                // Everything that was asked is accounted for, in the store and in the events.
                let recorded = attempts(&node, &user).await;
                assert!(recorded.len() >= asked.len(), "{told}: {recorded:?}");
                let unknown = recorded.iter().filter(|a| a.usage.cost_usd.is_none()).count();
                lost += recorded.iter().filter(|a| a.outcome == AttemptOutcome::Lost).count();
                assert_eq!(used(&events).cost_usd.is_none(), unknown > 0, "{told}: {recorded:?}");
                assert!(asked_before <= asked.len());
                true
            });
            if !died {
                assert!(at > 10, "only {at} writes");
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 20 && repeated > 0 && lost > 0, "{deaths} {repeated} {lost}");
}
