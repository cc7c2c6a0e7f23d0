use crate::error::{Error, Result};
use crate::id::{ThreadId, UserId};
use crate::principal::Principal;
use crate::store::PAGE_ITEMS;
use crate::thread::{Cursor, Paged, Thread, ThreadMessage, ThreadStore, page, title_of};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Conversations in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryThreadStore {
    threads: Mutex<HashMap<ThreadId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    user: UserId,
    thread: Thread,
    messages: Vec<ThreadMessage>,
}

#[async_trait]
impl ThreadStore for MemoryThreadStore {
    async fn add(
        &self,
        principal: &Principal,
        thread: ThreadId,
        message: ThreadMessage,
    ) -> Result<()> {
        let mut threads = self.threads.lock();
        let entry = threads.entry(thread).or_insert_with(|| Entry {
            user: principal.user(),
            thread: Thread {
                thread,
                title: title_of(&message.text),
                created_at: message.at,
                updated_at: message.at,
            },
            messages: Vec::new(),
        });
        if entry.user != principal.user() {
            return Err(Error::not_found("thread.add", "thread"));
        }
        let same = |known: &ThreadMessage| known.run == message.run && known.role == message.role;
        if !entry.messages.iter().any(same) {
            entry.thread.updated_at = entry.thread.updated_at.max(message.at);
            entry.messages.push(message);
        }
        Ok(())
    }

    async fn thread(&self, principal: &Principal, thread: ThreadId) -> Result<Thread> {
        let threads = self.threads.lock();
        Ok(own(&threads, principal, thread, "thread.read")?.thread.clone())
    }

    async fn threads(
        &self,
        principal: &Principal,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Thread>> {
        let max = max.min(PAGE_ITEMS);
        let place = |thread: &Thread| Cursor {
            order: thread.updated_at.as_millis(),
            id: *thread.thread.as_bytes(),
        };
        let after = cursor.map(|cursor| Cursor::decode(cursor, "thread.list")).transpose()?;
        let mut found: Vec<Thread> = self
            .threads
            .lock()
            .values()
            .filter(|entry| entry.user == principal.user())
            .map(|entry| entry.thread.clone())
            .filter(|thread| after.is_none_or(|after| place(thread) < after))
            .collect();
        found.sort_unstable_by_key(|thread| Reverse(place(thread)));
        found.truncate(max + 1);
        Ok(page(found, max, place))
    }

    async fn messages(
        &self,
        principal: &Principal,
        thread: ThreadId,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<ThreadMessage>> {
        let max = max.min(PAGE_ITEMS);
        let threads = self.threads.lock();
        let messages = &own(&threads, principal, thread, "thread.messages")?.messages;
        let after = match cursor {
            None => 0,
            Some(cursor) => Cursor::decode(cursor, "thread.messages")?.order,
        };
        let found = (1_i64..)
            .zip(messages)
            .filter(|(place, _)| *place > after)
            .take(max + 1)
            .map(|(place, message)| (place, message.clone()))
            .collect();
        let Paged { items, next } =
            page(found, max, |(place, _)| Cursor { order: *place, id: [0; 16] });
        let items = items.into_iter().map(|(_, message)| message).collect();
        Ok(Paged { items, next })
    }

    async fn delete(&self, principal: &Principal, thread: ThreadId) -> Result<()> {
        let mut threads = self.threads.lock();
        own(&threads, principal, thread, "thread.delete")?;
        threads.remove(&thread);
        Ok(())
    }
}

fn own<'a>(
    threads: &'a HashMap<ThreadId, Entry>,
    principal: &Principal,
    thread: ThreadId,
    operation: &'static str,
) -> Result<&'a Entry> {
    threads
        .get(&thread)
        .filter(|entry| entry.user == principal.user())
        .ok_or_else(|| Error::not_found(operation, "thread"))
}
