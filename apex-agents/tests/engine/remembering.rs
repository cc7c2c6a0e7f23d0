//! What agents know of before: the conversation, fitted to a window, and what is remembered of its user.

use crate::worded::first_text;
use apex_agents::model::{Message, ModelRequest, Part};
use apex_agents::testkit::{Does, Node, Scripted, chain, clock, fault, names, once, says};
use apex_agents::{Context, EngineOptions, Registry, Request, agent_fn, tools};
use apex_core::error::Kind;
use apex_core::event::Event;
use apex_core::id::ThreadId;
use apex_core::principal::Principal;
use apex_core::run::{Message as Asked, Runner as _};
use apex_core::store::memory;
use std::sync::Arc;

fn text(messages: &[Message]) -> String {
    let parts = messages.iter().flat_map(|message| &message.parts);
    let text = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    parts.map(text).collect::<Vec<_>>().join(" | ")
}

/// Answers with what came before, in a window of this many tokens.
fn recites(window: u64) -> Registry {
    let agent = agent_fn("a", "Recites.", move |ask: Request, run: Context| async move {
        if ask.text.starts_with("say ") {
            return Ok(ask.text.replace("say ", ""));
        }
        let history = run.history(window).await?;
        assert!(history.tokens <= window + 34, "{history:?}");
        Ok(format!("{} {} [{}]", history.kept, history.left_out, text(&history.messages)))
    });
    Registry::default().agent(agent).tool(tools::read_conversation())
}

fn node(registry: Registry, model: Option<&Arc<Scripted>>) -> Node {
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let models = model.map(|model| chain(&stores, &clock, &[model], once()));
    Node::on(stores, clock, registry, EngineOptions { models, ..EngineOptions::default() })
}

/// Says something in a conversation; the answer.
async fn say(
    node: &Node,
    user: &Principal,
    thread: Option<ThreadId>,
    text: &str,
) -> (ThreadId, String) {
    let asked = Asked { thread, ..node.message(text) };
    let accepted = node.engine.start(user, asked).await.unwrap();
    let events = node.ended(user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    let said = node.said(user, accepted).await;
    (accepted.thread, said.last().unwrap().text.clone())
}

async fn said_before(node: &Node, user: &Principal) -> ThreadId {
    let (thread, _) = say(node, user, None, "say one").await;
    for word in ["two", "three"] {
        say(node, user, Some(thread), &format!("say {word}")).await;
    }
    thread
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_comes_whole_where_it_fits_and_the_latest_of_it_where_not() {
    let whole = node(recites(1_000), None);
    let user = whole.user();
    let thread = said_before(&whole, &user).await;
    let (_, answer) = say(&whole, &user, Some(thread), "recite").await;
    assert_eq!(answer, "3 0 [say one | one | say two | two | say three | three]");
    let (_, elsewhere) = say(&whole, &user, None, "recite").await;
    assert_eq!(elsewhere, "0 0 []", "another conversation is another one");
    // Each exchange takes 4 or 6 tokens, and a quarter of the window is for what stands for the rest.
    let little = node(recites(12), None);
    let user = little.user();
    let thread = said_before(&little, &user).await;
    let (_, answer) = say(&little, &user, Some(thread), "recite").await;
    let told = "[1 earlier exchange of this conversation left out]";
    assert_eq!(answer, format!("2 1 [{told} | say two | two | say three | three]"));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_summarised_by_a_model_where_there_is_one_that_answers() {
    let model = Scripted::always("scripted", says("they counted"));
    let node_with = node(recites(400), Some(&model));
    let user = node_with.user();
    let long = "x".repeat(500);
    let (thread, _) = say(&node_with, &user, None, &format!("say {long}")).await;
    say(&node_with, &user, Some(thread), &format!("say {long}2")).await;
    let (_, answer) = say(&node_with, &user, Some(thread), "recite").await;
    assert!(
        answer.contains("[1 earlier exchange of this conversation, summarised: they counted]"),
        "{answer}"
    );
    let asked: Vec<ModelRequest> = model.asked();
    assert_eq!(asked.len(), 1);
    assert!(first_text(&asked[0]).contains(&long), "what is left out is what is summarised");
    let refuses = Scripted::always("scripted", Does::Refuses);
    let node_without = node(recites(400), Some(&refuses));
    let user = node_without.user();
    let (thread, _) = say(&node_without, &user, None, &format!("say {long}")).await;
    say(&node_without, &user, Some(thread), &format!("say {long}2")).await;
    let accepted = node_without
        .engine
        .start(&user, Asked { thread: Some(thread), ..node_without.message("recite") })
        .await
        .unwrap();
    let events = node_without.ended(&user, accepted.run).await;
    let Event::RunCompleted { degraded, result, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert!(degraded[0].contains("did not answer"), "{degraded:?}");
    assert!(
        result.text.contains("[1 earlier exchange of this conversation left out]"),
        "{result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_user_is_there_in_every_run_of_theirs_until_it_is_forgotten() {
    let agent = agent_fn("a", "Remembers.", |ask: Request, run: Context| async move {
        match ask.text.split_once('=') {
            Some((name, text)) => run.remember(name, text).await?,
            None if ask.text.starts_with("forget ") => {
                for _ in 0..2 {
                    run.forget(&ask.text.replace("forget ", "")).await?;
                }
            }
            None => {}
        }
        let notes = run.recall().await?;
        assert!(notes.iter().all(|note| note.run.is_some()));
        let told: Vec<_> =
            notes.iter().map(|note| format!("{}: {}", note.name, note.text)).collect();
        Ok(told.join(", "))
    });
    let registry = Registry::default()
        .agent(agent)
        .tool(tools::remember())
        .tool(tools::recall())
        .tool(tools::forget());
    let node = node(registry, None);
    let (ada, bob) = (node.user(), node.user());
    for (user, said, known) in [
        (&ada, "city=Graz", "city: Graz"),
        (&ada, "team=data", "city: Graz, team: data"),
        (&bob, "what?", ""),
        (&ada, "city=Linz", "city: Linz, team: data"),
        (&ada, "forget team", "city: Linz"),
        (&bob, "forget city", ""),
        (&ada, "what?", "city: Linz"),
    ] {
        assert_eq!(say(&node, user, None, said).await.1, known, "{said}");
    }
    let bad = node.stores.memory.forget(&bob, "city").await;
    assert_eq!(bad.unwrap_err().kind(), Kind::NotFound);
}
