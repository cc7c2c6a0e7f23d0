//! What a run may use is reserved before it is spent, and shared by all of its agents.

use apex_agents::model::ModelRequest;
use apex_agents::testkit::{Does, Node, Scripted, chain, clock, fault, names, once, says};
use apex_agents::{Context, EngineOptions, Plan, PlanStep, Registry, Request, agent_fn};
use apex_core::event::{Envelope, Event};
use apex_core::store::memory;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A question that may use some 300 tokens at most: 1,000 and 100 are what the scripted model says it used.
pub(crate) fn question() -> ModelRequest {
    ModelRequest { max_output_tokens: Some(200), ..ModelRequest::user("why?") }
}

/// Asks `times` in turn or at once, and answers with what came of each.
pub(crate) fn asks(times: usize, at_once: bool) -> Registry {
    Registry::default().agent(agent_fn("a", "Asks.", move |_: Request, run: Context| async move {
        let ask = async || match run.model().ask(question()).await {
            Ok(_) => "answered".to_owned(),
            Err(error) => error.code().to_owned(),
        };
        let mut told = Vec::new();
        if at_once {
            told = join_all((0..times).map(|_| ask())).await;
        } else {
            for _ in 0..times {
                told.push(ask().await);
            }
        }
        Ok(told.join(" "))
    }))
}

async fn ran(
    registry: Registry,
    model: &Arc<Scripted>,
    options: EngineOptions,
) -> (String, Vec<Envelope>) {
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let models = Some(chain(&stores, &clock, &[model], once()));
    let node = Node::on(stores, clock, registry, EngineOptions { models, ..options });
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    let events = node.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    (node.answer(&user, accepted).await, events)
}

fn warnings(events: &[Envelope]) -> Vec<(Value, Value)> {
    let warning = |envelope: &Envelope| match &envelope.event {
        Event::BudgetWarning { scope, used, limit } => {
            assert_eq!(scope, "run");
            Some((used.clone(), limit.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(warning).collect()
}

#[tokio::test(start_paused = true)]
async fn a_question_that_does_not_fit_what_is_left_is_not_asked() {
    let model = Scripted::always("scripted", says("because"));
    let options = EngineOptions { run_tokens: Some(2_400), ..EngineOptions::default() };
    let (answer, events) = ran(asks(4, false), &model, options).await;
    // Each uses 1,100: after two of them 200 are left, and a third may use more.
    assert_eq!(answer, "answered answered budget_exhausted budget_exhausted");
    assert_eq!(model.asked().len(), 2);
    let told = (json!({"tokens": 2_200}), json!({"tokens": 2_400}));
    assert_eq!(warnings(&events), [told], "at four fifths, once");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_counts_before_it_has_answered() {
    let model = Scripted::always("scripted", says("because"));
    let options = EngineOptions { run_tokens: Some(1_000), ..EngineOptions::default() };
    let (answer, _) = ran(asks(6, true), &model, options).await;
    assert_eq!(answer.matches("answered").count(), 3, "{answer}");
    assert_eq!(model.asked().len(), 3, "three times 300 are reserved, and a fourth does not fit");
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_that_broke_off_cost_counts_as_much_as_it_can_have() {
    let model = Scripted::always("scripted", Does::Breaks("half of".into()));
    let options = EngineOptions { run_tokens: Some(500), ..EngineOptions::default() };
    let (answer, _) = ran(asks(3, false), &model, options).await;
    assert!(answer.ends_with("budget_exhausted budget_exhausted"), "{answer}");
    assert_eq!(model.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn money_is_a_budget_of_its_own() {
    // A thousand tokens to gpt-4o and a hundred back cost $0.0035.
    let model = Scripted::always("openai", says("because"));
    let usd = "0.0075".parse().unwrap();
    let options = EngineOptions { run_usd: Some(usd), ..EngineOptions::default() };
    let (answer, events) = ran(asks(4, false), &model, options).await;
    assert_eq!(answer, "answered answered budget_exhausted budget_exhausted");
    assert_eq!(warnings(&events), [(json!({"usd": "0.007"}), json!({"usd": "0.0075"}))]);
}

#[tokio::test(start_paused = true)]
async fn a_run_takes_only_so_many_steps() {
    let planner = agent_fn("planner", "Plans.", |_: Request, _: Context| async {
        let steps = ["b", "c", "d", "e"].map(PlanStep::new).to_vec();
        Ok(Plan::from(steps))
    });
    let hand_on = |name: &str| {
        agent_fn(name, "Works.", |_: Value, _: Context| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(json!({}))
        })
    };
    let registry = ["b", "c", "d", "e"]
        .into_iter()
        .fold(Registry::default().agent(planner), |registry, name| registry.agent(hand_on(name)));
    let model = Scripted::always("scripted", says("because"));
    let options = EngineOptions { run_steps: 4, ..EngineOptions::default() };
    let (_, events) = ran(registry, &model, options).await;
    let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(error.code, "budget_exhausted");
    assert_eq!(names(&events).iter().filter(|name| **name == "agent_started").count(), 4);
}

#[tokio::test(start_paused = true)]
async fn time_at_work_is_told_when_most_of_it_is_gone() {
    let slow = agent_fn("a", "Is slow.", |_: Request, run: Context| async move {
        for minute in 0..9 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            run.think(format!("{minute} minutes")).await?;
        }
        Ok(String::new())
    })
    .deadline(Duration::from_secs(600));
    let model = Scripted::always("scripted", says("because"));
    let options =
        EngineOptions { run_deadline: Duration::from_secs(600), ..EngineOptions::default() };
    let (_, events) = ran(Registry::default().agent(slow), &model, options).await;
    assert_eq!(warnings(&events), [(json!({"seconds": 480}), json!({"seconds": 600}))]);
}
