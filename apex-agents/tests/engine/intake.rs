//! What is accepted as a message.

use apex_agents::testkit::Node;
use apex_agents::{Context, Registry, Request, agent_fn};
use apex_core::error::Kind;
use apex_core::event::Decision;
use apex_core::id::{ApprovalId, FileId, ThreadId, UserId};
use apex_core::principal::{Principal, Scope, Scopes};
use apex_core::run::Runner;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

fn echo() -> Registry {
    Registry::default()
        .agent(agent_fn("echo", "Echoes.", |ask: Request, _: Context| async move { Ok(ask.text) }))
}

#[tokio::test(start_paused = true)]
async fn the_same_message_is_the_same_run_and_other_content_a_conflict() {
    let node = Node::new(echo());
    let user = node.user();
    let message = node.message("once");
    let first = node.engine.start(&user, message.clone()).await.unwrap();
    node.ended(&user, first.run).await;
    assert_eq!(node.engine.start(&user, message.clone()).await.unwrap(), first);
    assert_eq!(node.answer(&user, first).await, "once");
    let mut other = message.clone();
    other.text = "twice".into();
    let refused = node.engine.start(&user, other).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Conflict);
    // Another user's message under the same id is another message.
    let theirs = node.engine.start(&node.user(), message).await.unwrap();
    assert_ne!(theirs.thread, first.thread);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_taken_stays_taken_when_its_file_is_gone() {
    let node = Node::new(echo());
    let user = node.user();
    let file = FileId::new(&*node.clock);
    let body = stream::iter([Ok(Bytes::from_static(b"a,b"))]).boxed();
    node.stores.files.put(&user, file, "mine.csv", body).await.unwrap();
    let mut message = node.message("what is in it?");
    message.attachments = vec![file];
    let first = node.engine.start(&user, message.clone()).await.unwrap();
    node.stores.files.delete(&user, file).await.unwrap();
    let again = node.engine.start(&user, message.clone()).await.unwrap();
    assert_eq!((again.run, again.thread), (first.run, first.thread));
    // Another message with that file is a mistake, under the old id or a new one.
    let other = apex_core::run::Message { text: "other".into(), ..message.clone() };
    assert_eq!(node.engine.start(&user, other).await.unwrap_err().kind(), Kind::Conflict);
    message.request_id = node.message("x").request_id;
    assert_eq!(node.engine.start(&user, message).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_users_or_too_much_is_refused() {
    let node = Node::new(echo());
    let (user, other) = (node.user(), node.user());
    let start = |change: &dyn Fn(&mut apex_core::run::Message)| {
        let mut message = node.message("x");
        change(&mut message);
        node.engine.start(&user, message)
    };
    let body = stream::iter([Ok(Bytes::from_static(b"a,b"))]).boxed();
    let file = FileId::new(&*node.clock);
    node.stores.files.put(&other, file, "theirs.csv", body).await.unwrap();
    let theirs = node.ask(&other, "theirs").await;
    let foreign = ThreadId::new(&*node.clock);

    assert_eq!(start(&|m| m.attachments = vec![file]).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(
        start(&|m| m.thread = Some(theirs.thread)).await.unwrap_err().kind(),
        Kind::NotFound
    );
    assert_eq!(start(&|m| m.thread = Some(foreign)).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(start(&|m| m.text = " \n".into()).await.unwrap_err().kind(), Kind::BadRequest);
    assert_eq!(start(&|m| m.text = "x".repeat(16_385)).await.unwrap_err().kind(), Kind::TooLarge);
    assert_eq!(
        start(&|m| m.attachments = vec![file; 33]).await.unwrap_err().kind(),
        Kind::TooLarge
    );
    start(&|m| m.text = "x".repeat(16_384)).await.unwrap();

    let reader = Principal::vouched(UserId::new(&*node.clock), Scopes::NONE.with(Scope::Read));
    let refused = node.engine.start(&reader, node.message("x")).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_nobody_waits_for_is_not_found() {
    let node = Node::new(echo());
    let user = node.user();
    let run = node.ask(&user, "x").await.run;
    let approval = ApprovalId::new(&*node.clock);
    let decided = node.engine.decide(&user, run, approval, "", Decision::Approve).await;
    assert_eq!(decided.unwrap_err().kind(), Kind::NotFound);
}
