//! What making a call twice does decides whether it is made twice.

use apex_agents::testkit::{Dies, Dying, Node, behind, clock, fault, names};
use apex_agents::{
    Context, Effect, EngineOptions, LookUp, Registry, Request, ToolContext, agent_fn, tool_fn,
};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::{Envelope, Event, ToolOutcome};
use apex_core::store::memory;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What happened to a tool, in order.
type Seen = Arc<Mutex<Vec<String>>>;

async fn ended(registry: Registry) -> (Node, String, Vec<Envelope>) {
    let node = Node::new(registry);
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    let events = node.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    let answer = node.answer(&user, accepted).await;
    (node, answer, events)
}

/// A tool that fails so that it may work later, and notes its keys.
fn failing(effect: Effect, times: usize, seen: &Seen) -> impl apex_agents::Tool {
    let seen = Arc::clone(seen);
    tool_fn("fetch", "Fails at first.", move |_: (), call: ToolContext| {
        let made = {
            let mut seen = seen.lock();
            seen.push(call.idempotency_key().to_owned());
            seen.len()
        };
        async move {
            match made <= times {
                true => Err(Error::new(Kind::Unavailable, "test", "it is down")),
                false => Ok(made),
            }
        }
    })
    .effect(effect)
}

fn tells_what_came() -> impl apex_agents::Agent {
    agent_fn("a", "Calls.", |_: Request, run: Context| async move {
        Ok(match run.call::<Value>("fetch", ()).await {
            Ok(value) => value.to_string(),
            Err(error) => error.code().to_owned(),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_be_repeated_is_tried_again_with_the_same_key() {
    for effect in [Effect::Read, Effect::Idempotent] {
        let seen = Seen::default();
        let registry = Registry::default().agent(tells_what_came());
        let (_, answer, events) = ended(registry.tool(failing(effect, 2, &seen))).await;
        assert_eq!(answer, "3");
        let keys = seen.lock().clone();
        assert_eq!(keys.len(), 3);
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let calls = names(&events).iter().filter(|name| **name == "tool_executing").count();
        assert_eq!(calls, 1, "to users it is one call");
    }
    let seen = Seen::default();
    let registry = Registry::default().agent(tells_what_came());
    let (_, answer, _) = ended(registry.tool(failing(Effect::Read, 9, &seen))).await;
    assert_eq!((answer.as_str(), seen.lock().len()), ("unavailable", 3), "not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_must_not_be_made_twice_is_not_tried_again() {
    let seen = Seen::default();
    let registry = Registry::default().agent(tells_what_came());
    let (_, answer, _) = ended(registry.tool(failing(Effect::Once, 1, &seen))).await;
    assert_eq!((answer.as_str(), seen.lock().len()), ("unavailable", 1));
}

/// An agent that makes four calls at once.
async fn at_once(effect: Effect) -> Vec<String> {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let work = tool_fn("work", "Takes its time.", move |n: u64, _: ToolContext| {
        let seen = Arc::clone(&noted);
        async move {
            seen.lock().push(format!("+{n}"));
            tokio::time::sleep(Duration::from_secs(9 - n)).await;
            seen.lock().push(format!("-{n}"));
            Ok(n)
        }
    })
    .effect(effect);
    let agent = agent_fn("a", "Calls at once.", |_: Request, run: Context| async move {
        let got = join_all((0..4_u64).map(|n| run.call::<u64>("work", n))).await;
        let got: Vec<u64> = got.into_iter().collect::<Result<_>>()?;
        Ok(format!("{got:?}"))
    });
    let (_, answer, _) = ended(Registry::default().agent(agent).tool(work)).await;
    assert_eq!(answer, "[0, 1, 2, 3]");
    seen.lock().clone()
}

#[tokio::test(start_paused = true)]
async fn calls_that_must_not_be_made_twice_go_one_after_the_other_in_order() {
    let in_turn = ["+0", "-0", "+1", "-1", "+2", "-2", "+3", "-3"];
    assert_eq!(at_once(Effect::Once).await, in_turn);
    let side_by_side = ["+0", "+1", "+2", "+3", "-3", "-2", "-1", "-0"];
    assert_eq!(at_once(Effect::Read).await, side_by_side);
}

/// A payment whose node is lost after it was made; what the tool says when it is asked.
async fn lost(look_up: LookUp<Value>) -> (String, usize, Vec<Envelope>) {
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let paid = Seen::default();
    let registry = || {
        let (noted, look_up) = (Arc::clone(&paid), look_up.clone());
        let pay = tool_fn("fetch", "Pays.", move |_: (), call: ToolContext| {
            let mut paid = noted.lock();
            paid.push(call.idempotency_key().to_owned());
            let first = paid.len() == 1;
            async move {
                if first {
                    std::future::pending::<()>().await;
                }
                Ok(json!("paid now"))
            }
        })
        .look_up(move |_, _| {
            let look_up = look_up.clone();
            async move { Ok(look_up) }
        });
        Registry::default().agent(tells_what_came()).tool(pay)
    };
    let dying = Dying::at(usize::MAX, Dies::After);
    let node = |stores| Node::on(stores, Arc::clone(&clock), registry(), EngineOptions::default());
    let first = node(behind(&stores, Arc::<Dying>::clone(&dying) as _));
    let user = first.user();
    let accepted = first.ask(&user, "pay").await;
    let is_call = |event: &Event| matches!(event, Event::ToolExecuting { .. });
    first.until(&user, accepted.run, is_call).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(paid.lock().len(), 1, "the call is under way");
    dying.dead.cancel();
    let second = node(stores.clone());
    let events = second.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    let answer = second.answer(&user, accepted).await;
    drop(first);
    let paid = paid.lock();
    assert!(paid.iter().all(|key| *key == paid[0]), "{paid:?}");
    (answer, paid.len(), events)
}

#[tokio::test(start_paused = true)]
async fn a_payment_in_doubt_is_not_made_again_and_the_agent_is_told() {
    let (answer, paid, events) = lost(LookUp::Unknown).await;
    assert_eq!((answer.as_str(), paid), ("outcome_unknown", 1));
    let told = events.iter().rev().find_map(|envelope| match &envelope.event {
        Event::ToolCompleted { outcome, summary, .. } => Some((*outcome, summary.clone())),
        _ => None,
    });
    let (outcome, summary) = told.unwrap();
    assert_eq!(outcome, ToolOutcome::Interrupted);
    assert!(summary.contains("whether it took effect is not known"), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_payment_in_doubt_is_looked_up_where_the_tool_can() {
    let (answer, paid, _) = lost(LookUp::Done(json!("paid before"))).await;
    assert_eq!((answer.as_str(), paid), ("\"paid before\"", 1));
    let (answer, paid, _) = lost(LookUp::NotDone).await;
    assert_eq!((answer.as_str(), paid), ("\"paid now\"", 2));
}
