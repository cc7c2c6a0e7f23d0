use super::bench::Bench;
use super::{Backend, Random, cases};
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::id::{FileId, ThreadId};
use crate::thread::{Role, ThreadMessage, Whose};
use std::sync::Arc;
use std::time::Duration;

cases!("thread":
    a_conversation_begins_with_its_first_message,
    the_same_message_again_changes_nothing,
    threads_are_paged_from_the_last_written,
    messages_are_paged_in_order,
    a_strange_cursor_is_refused,
    a_deleted_conversation_is_gone_with_its_messages,
);

fn message(bench: &Bench, role: Role, text: &str) -> ThreadMessage {
    ThreadMessage {
        run: bench.new_run(bench.thread()).run,
        role,
        text: text.into(),
        attachments: vec![FileId::new(&*bench.clock)],
        at: bench.clock.now(),
    }
}

async fn a_conversation_begins_with_its_first_message(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread, threads) = (bench.user(), bench.thread(), &bench.stores.threads);
    let question = message(&bench, Role::User, "Where does\nthe money go?");
    threads.add(&user, thread, question.clone()).await.unwrap();
    bench.clock.advance(Duration::from_secs(5));
    let mut answer = message(&bench, Role::Assistant, "There: äöü \u{1f4b8}\0");
    answer.run = question.run;
    threads.add(&user, thread, answer.clone()).await.unwrap();
    let found = threads.thread(&user, thread).await.unwrap();
    assert_eq!(found.title, "Where does the money go?");
    assert_eq!((found.created_at, found.updated_at), (question.at, answer.at));
    let messages = threads.messages(&user, thread, None, 10).await.unwrap();
    assert_eq!((messages.items, messages.next), (vec![question, answer], None));
}

async fn the_same_message_again_changes_nothing(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread, threads) = (bench.user(), bench.thread(), &bench.stores.threads);
    let first = message(&bench, Role::User, "one");
    threads.add(&user, thread, first.clone()).await.unwrap();
    bench.clock.advance(Duration::from_secs(5));
    let again = ThreadMessage { text: "two".into(), at: bench.clock.now(), ..first.clone() };
    threads.add(&user, thread, again).await.unwrap();
    let messages = threads.messages(&user, thread, None, 10).await.unwrap();
    assert_eq!(messages.items, std::slice::from_ref(&first));
    assert_eq!(threads.thread(&user, thread).await.unwrap().updated_at, first.at);
}

async fn threads_are_paged_from_the_last_written(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, threads) = (bench.user(), &bench.stores.threads);
    let mut written: Vec<ThreadId> = Vec::new();
    let mut random = Random::seeded(3);
    for _ in 0..40 {
        // Some at the same moment, some written to again.
        if !random.once_in(3) {
            bench.clock.advance(Duration::from_millis(1));
        }
        let thread = match random.choose(&written) {
            Some(known) if random.once_in(4) => *known,
            _ => bench.thread(),
        };
        threads.add(&user, thread, message(&bench, Role::User, "hi")).await.unwrap();
        written.retain(|known| *known != thread);
        written.push(thread);
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = threads.threads(&user, Whose::Own, cursor.as_deref(), 7).await.unwrap();
        assert!(page.items.len() == 7 || page.next.is_none());
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(found.is_sorted_by(|a, b| a.updated_at >= b.updated_at));
    let mut found: Vec<ThreadId> = found.into_iter().map(|thread| thread.thread).collect();
    assert_eq!(found.len(), written.len());
    found.sort_unstable();
    written.sort_unstable();
    assert_eq!(found, written);
}

async fn messages_are_paged_in_order(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread, threads) = (bench.user(), bench.thread(), &bench.stores.threads);
    let mut written = Vec::new();
    for number in 0..10 {
        let message = message(&bench, Role::User, &number.to_string());
        threads.add(&user, thread, message.clone()).await.unwrap();
        threads.add(&user, bench.thread(), message.clone()).await.unwrap();
        written.push(message);
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = threads.messages(&user, thread, cursor.as_deref(), 5).await.unwrap();
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, written);
}

async fn a_strange_cursor_is_refused(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread, threads) = (bench.user(), bench.thread(), &bench.stores.threads);
    threads.add(&user, thread, message(&bench, Role::User, "hi")).await.unwrap();
    for cursor in ["", "x", "1", "'; DROP TABLE thread; --"] {
        let listed = threads.threads(&user, Whose::Own, Some(cursor), 5).await;
        assert_eq!(listed.unwrap_err().kind(), Kind::BadRequest);
        let listed = threads.messages(&user, thread, Some(cursor), 5).await;
        assert_eq!(listed.unwrap_err().kind(), Kind::BadRequest);
    }
}

async fn a_deleted_conversation_is_gone_with_its_messages(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread, threads) = (bench.user(), bench.thread(), &bench.stores.threads);
    threads.add(&user, thread, message(&bench, Role::User, "old")).await.unwrap();
    threads.delete(&user, thread).await.unwrap();
    for answer in [
        threads.delete(&user, thread).await,
        threads.thread(&user, thread).await.map(|_| ()),
        threads.messages(&user, thread, None, 5).await.map(|_| ()),
    ] {
        assert_eq!(answer.unwrap_err().kind(), Kind::NotFound);
    }
    let new = message(&bench, Role::User, "new");
    threads.add(&user, thread, new.clone()).await.unwrap();
    let messages = threads.messages(&user, thread, None, 5).await.unwrap();
    assert_eq!(messages.items, [new]);
}
