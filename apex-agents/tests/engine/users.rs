//! Many users at once.

use apex_agents::testkit::{Node, fault};
use apex_agents::{Context, Registry, Request, ToolContext, agent_fn, tool_fn};
use apex_core::error::Kind;
use apex_core::event::Event;
use apex_core::thread::Whose;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn two_hundred_users_at_once_each_see_their_own_run() {
    let who =
        tool_fn("who", "Says in whose name it is called.", |_: (), call: ToolContext| async move {
            tokio::time::sleep(Duration::from_millis(
                call.principal().user().as_bytes()[15].into(),
            ))
            .await;
            Ok(call.principal().user().to_string())
        });
    let agent = agent_fn("a", "Asks who.", |ask: Request, run: Context| async move {
        let who: String = run.call("who", ()).await?;
        assert_eq!(who, run.principal().user().to_string());
        Ok(format!("{} for {who}", ask.text))
    });
    let node = Node::new(Registry::default().agent(agent).tool(who));
    let runs = (0..200).map(|n| {
        let node = &node;
        async move {
            let user = node.user();
            let accepted = node.ask(&user, &format!("question {n}")).await;
            let events = node.ended(&user, accepted.run).await;
            assert_eq!(fault(&events), None);
            assert!(
                events
                    .iter()
                    .all(|event| event.run == accepted.run && event.thread == accepted.thread)
            );
            let Event::RunCompleted { result, .. } = &events.last().unwrap().event else {
                panic!("{events:?}");
            };
            assert_eq!(result.text, format!("question {n} for {}", user.user()));
            (user, accepted)
        }
    });
    let ended = futures_util::future::join_all(runs).await;
    for ((_, theirs), (user, _)) in ended.iter().zip(ended.iter().skip(1)) {
        let log = &node.stores.runs;
        assert_eq!(log.view(user, theirs.run).await.unwrap_err().kind(), Kind::NotFound);
        let threads = &node.stores.threads;
        let messages = threads.messages(user, theirs.thread, None, 10).await;
        assert_eq!(messages.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(threads.threads(user, Whose::Own, None, 10).await.unwrap().items.len(), 1);
    }
}
