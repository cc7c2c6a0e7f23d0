use super::erase::{Erase, Erased};
use super::run_log::MemoryRunLog;
use super::share::Shares;
use crate::error::{Error, Result};
use crate::id::{ThreadId, UserId};
use crate::principal::{Principal, Scope};
use crate::store::PAGE_ITEMS;
use crate::thread::{
    Candidate, Cursor, Found, Paged, SearchIndex, SearchQuery, Share, Thread, ThreadMessage,
    ThreadStore, Whose, page, ranked, terms, title_of, words,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// Conversations in memory.
#[derive(Debug)]
pub(super) struct MemoryThreadStore {
    pub(super) threads: Mutex<HashMap<ThreadId, Entry>>,
    shares: Shares,
    erased: Arc<Erased>,
    runs: Arc<MemoryRunLog>,
}

impl MemoryThreadStore {
    pub(super) fn new(shares: Shares, erased: Arc<Erased>, runs: Arc<MemoryRunLog>) -> Self {
        Self { threads: Mutex::default(), shares, erased, runs }
    }

    /// Reads a conversation that the principal may read.
    fn read<T>(
        &self,
        principal: &Principal,
        thread: ThreadId,
        operation: &'static str,
        read: impl FnOnce(&Entry) -> T,
    ) -> Result<T> {
        let threads = self.threads.lock();
        threads
            .get(&thread)
            .filter(|entry| self.shares.open(thread, entry.user, principal.user()))
            .map(read)
            .ok_or_else(|| Error::not_found(operation, "thread"))
    }
}

impl Erase for MemoryThreadStore {
    fn erase(&self, user: UserId) {
        self.threads.lock().retain(|_, entry| entry.user != user);
        self.shares.erase(user);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
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
        principal.require(Scope::Run, "thread.add")?;
        let mut threads = self.threads.lock();
        self.erased.refuse(principal.user(), "thread.add")?;
        let entry = threads.entry(thread).or_insert_with(|| Entry {
            user: principal.user(),
            thread: Thread {
                thread,
                owner: principal.user(),
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
        principal.require(Scope::Read, "thread.read")?;
        self.read(principal, thread, "thread.read", |entry| entry.thread.clone())
    }

    async fn threads(
        &self,
        principal: &Principal,
        whose: Whose,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Thread>> {
        principal.require(Scope::Read, "thread.list")?;
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
            .filter(|entry| (entry.user == principal.user()) == (whose == Whose::Own))
            .filter(|entry| self.shares.open(entry.thread.thread, entry.user, principal.user()))
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
        principal.require(Scope::Read, "thread.messages")?;
        let max = max.min(PAGE_ITEMS);
        let after = match cursor {
            None => 0,
            Some(cursor) => Cursor::decode(cursor, "thread.messages")?.order,
        };
        let found = self.read(principal, thread, "thread.messages", |entry| {
            (1_i64..)
                .zip(&entry.messages)
                .filter(|(place, _)| *place > after)
                .take(max + 1)
                .map(|(place, message)| (place, message.clone()))
                .collect()
        })?;
        let Paged { items, next } =
            page(found, max, |(place, _)| Cursor { order: *place, id: [0; 16] });
        let items = items.into_iter().map(|(_, message)| message).collect();
        Ok(Paged { items, next })
    }

    async fn delete(&self, principal: &Principal, thread: ThreadId) -> Result<()> {
        principal.require(Scope::Run, "thread.delete")?;
        let mut threads = self.threads.lock();
        own(&threads, principal, thread, "thread.delete")?;
        threads.remove(&thread);
        self.shares.forget(thread);
        Ok(())
    }

    async fn share(&self, principal: &Principal, thread: ThreadId, with: Share) -> Result<()> {
        principal.require(Scope::Run, "thread.share")?;
        let threads = self.threads.lock();
        own(&threads, principal, thread, "thread.share")?;
        self.shares.add(principal, thread, with)
    }

    async fn unshare(&self, principal: &Principal, thread: ThreadId, user: UserId) -> Result<()> {
        principal.require(Scope::Run, "thread.unshare")?;
        let owner = self.shares.end(principal, thread, user)?;
        self.runs.wake_readers(owner, thread);
        Ok(())
    }

    async fn shares(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<Share>> {
        principal.require(Scope::Read, "thread.shares")?;
        own(&self.threads.lock(), principal, thread, "thread.shares")?;
        Ok(self.shares.of(thread))
    }
}

#[async_trait]
impl SearchIndex for MemoryThreadStore {
    async fn search(&self, principal: &Principal, query: &SearchQuery) -> Result<Vec<Found>> {
        principal.require(Scope::Read, "thread.search")?;
        let terms = terms(query);
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        let inside = |message: &ThreadMessage| {
            query.from.is_none_or(|from| message.at >= from)
                && query.before.is_none_or(|before| message.at < before)
        };
        let holds = |message: &ThreadMessage| {
            let mut found = vec![false; terms.len()];
            for (_, word) in words(&message.text) {
                let lower = word.to_lowercase();
                if let Some(place) = terms.iter().position(|term| *term == lower)
                    && let Some(flag) = found.get_mut(place)
                {
                    *flag = true;
                }
            }
            if query.any { found.contains(&true) } else { !found.contains(&false) }
        };
        let threads = self.threads.lock();
        let own = threads.values().filter(|entry| entry.user == principal.user());
        let candidates = own.flat_map(|entry| {
            let fits = entry.messages.iter().filter(|message| inside(message) && holds(message));
            fits.map(|message| Candidate {
                thread: entry.thread.thread,
                title: entry.thread.title.clone(),
                run: message.run,
                role: message.role,
                at: message.at,
                text: message.text.clone(),
            })
        });
        Ok(ranked(candidates, &terms, query))
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
