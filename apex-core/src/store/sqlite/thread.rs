use super::database::Database;
use super::erase::refuse;
use super::error::Fault;
use super::row::{Columns, json};
use super::share;
use crate::error::{Error, Result};
use crate::id::{RunId, ThreadId, UserId};
use crate::principal::{Principal, Scope};
use crate::store::PAGE_ITEMS;
use crate::thread::{
    Cursor, Paged, Role, Share, Thread, ThreadMessage, ThreadStore, Whose, page, title_of,
};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::sync::Arc;

/// Conversations in SQLite.
#[derive(Debug)]
pub(super) struct SqliteThreadStore {
    database: Arc<Database>,
}

impl SqliteThreadStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl ThreadStore for SqliteThreadStore {
    async fn add(
        &self,
        principal: &Principal,
        thread: ThreadId,
        message: ThreadMessage,
    ) -> Result<()> {
        principal.require(Scope::Run, "thread.add")?;
        const OPERATION: &str = "thread.add";
        let user = principal.user();
        self.database
            .write(OPERATION, move |connection, _| {
                refuse(connection, user, OPERATION)?;
                connection.prepare_cached(INSERT_THREAD)?.execute(params![
                    thread.as_bytes(),
                    user.as_bytes(),
                    title_of(&message.text),
                    message.at.as_millis(),
                ])?;
                find(connection, OWN, user, thread, OPERATION)?;
                let added = connection.prepare_cached(INSERT_MESSAGE)?.execute(params![
                    thread.as_bytes(),
                    message.run.as_bytes(),
                    role_name(message.role),
                    message.text,
                    json(&message.attachments)?,
                    message.at.as_millis(),
                ])?;
                if added > 0 {
                    connection
                        .prepare_cached(TOUCH_THREAD)?
                        .execute(params![thread.as_bytes(), message.at.as_millis()])?;
                }
                Ok(())
            })
            .await
    }

    async fn thread(&self, principal: &Principal, thread: ThreadId) -> Result<Thread> {
        principal.require(Scope::Read, "thread.read")?;
        let user = principal.user();
        self.database
            .read("thread.read", move |connection| {
                find(connection, READABLE, user, thread, "thread.read")
            })
            .await
    }

    async fn threads(
        &self,
        principal: &Principal,
        whose: Whose,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Thread>> {
        principal.require(Scope::Read, "thread.list")?;
        let (user, max) = (principal.user(), max.min(PAGE_ITEMS));
        let after = match cursor {
            Some(cursor) => Cursor::decode(cursor, "thread.list")?,
            None => Cursor { order: i64::MAX, id: [0xff; 16] },
        };
        self.database
            .read("thread.list", move |connection| {
                let mut statement = connection.prepare_cached(match whose {
                    Whose::Own => THREADS,
                    Whose::Shared => SHARED,
                })?;
                let found = statement
                    .query_map(
                        params![user.as_bytes(), after.order, after.id, max as i64 + 1],
                        thread_of,
                    )?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(page(found, max, |thread: &Thread| Cursor {
                    order: thread.updated_at.as_millis(),
                    id: *thread.thread.as_bytes(),
                }))
            })
            .await
    }

    async fn messages(
        &self,
        principal: &Principal,
        thread: ThreadId,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<ThreadMessage>> {
        principal.require(Scope::Read, "thread.messages")?;
        const OPERATION: &str = "thread.messages";
        let (user, max) = (principal.user(), max.min(PAGE_ITEMS));
        let after = match cursor {
            Some(cursor) => Cursor::decode(cursor, OPERATION)?.order,
            None => 0,
        };
        self.database
            .read(OPERATION, move |connection| {
                find(connection, READABLE, user, thread, OPERATION)?;
                let mut statement = connection.prepare_cached(MESSAGES)?;
                let found = statement
                    .query_map(params![thread.as_bytes(), after, max as i64 + 1], message_of)?
                    .collect::<rusqlite::Result<_>>()?;
                let Paged { items, next } =
                    page(found, max, |(place, _)| Cursor { order: *place, id: [0; 16] });
                let items = items.into_iter().map(|(_, message)| message).collect();
                Ok(Paged { items, next })
            })
            .await
    }

    async fn delete(&self, principal: &Principal, thread: ThreadId) -> Result<()> {
        principal.require(Scope::Run, "thread.delete")?;
        let user = principal.user();
        self.database
            .write("thread.delete", move |connection, _| {
                find(connection, OWN, user, thread, "thread.delete")?;
                connection
                    .prepare_cached("DELETE FROM thread WHERE thread = ?1")?
                    .execute([thread.as_bytes()])?;
                Ok(())
            })
            .await
    }

    async fn share(&self, principal: &Principal, thread: ThreadId, with: Share) -> Result<()> {
        const OPERATION: &str = "thread.share";
        principal.require(Scope::Run, OPERATION)?;
        let principal = principal.clone();
        self.database
            .write(OPERATION, move |connection, _| {
                find(connection, OWN, principal.user(), thread, OPERATION)?;
                share::add(connection, &principal, thread, &with)
            })
            .await
    }

    async fn unshare(&self, principal: &Principal, thread: ThreadId, user: UserId) -> Result<()> {
        principal.require(Scope::Run, "thread.unshare")?;
        let principal = principal.clone();
        self.database
            .write("thread.unshare", move |connection, wakes| {
                share::end(connection, &principal, thread, user, wakes)
            })
            .await
    }

    async fn shares(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<Share>> {
        const OPERATION: &str = "thread.shares";
        principal.require(Scope::Read, OPERATION)?;
        let user = principal.user();
        self.database
            .read(OPERATION, move |connection| {
                find(connection, OWN, user, thread, OPERATION)?;
                Ok(share::list(connection, thread)?)
            })
            .await
    }
}

const INSERT_THREAD: &str = "INSERT INTO thread (thread, user, title, created_at, updated_at) \
     VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT (thread) DO NOTHING";
const TOUCH_THREAD: &str = "UPDATE thread SET updated_at = max(updated_at, ?2) WHERE thread = ?1";
const OWN: &str = "SELECT thread, user, title, created_at, updated_at FROM thread \
     WHERE thread = ?1 AND user = ?2";
const READABLE: &str = "SELECT thread, user, title, created_at, updated_at FROM thread \
     WHERE thread = ?1 AND (user = ?2 OR EXISTS \
     (SELECT 1 FROM share WHERE share.thread = thread.thread AND share.reader = ?2))";
const SHARED: &str = "SELECT thread.thread, thread.user, title, created_at, updated_at \
     FROM share JOIN thread ON thread.thread = share.thread \
     WHERE share.reader = ?1 AND (updated_at, thread.thread) < (?2, ?3) \
     ORDER BY updated_at DESC, thread.thread DESC LIMIT ?4";
const THREADS: &str = "SELECT thread, user, title, created_at, updated_at FROM thread \
     WHERE user = ?1 AND (updated_at, thread) < (?2, ?3) \
     ORDER BY updated_at DESC, thread DESC LIMIT ?4";
const INSERT_MESSAGE: &str = "INSERT INTO message (thread, run, role, text, attachments, at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (thread, run, role) DO NOTHING";
const MESSAGES: &str = "SELECT id, run, role, text, attachments, at FROM message \
     WHERE thread = ?1 AND id > ?2 ORDER BY id LIMIT ?3";

fn find(
    connection: &Connection,
    which: &str,
    user: UserId,
    thread: ThreadId,
    operation: &'static str,
) -> Result<Thread, Fault> {
    connection
        .prepare_cached(which)?
        .query_row(params![thread.as_bytes(), user.as_bytes()], thread_of)
        .optional()?
        .ok_or_else(|| Error::not_found(operation, "thread").into())
}

fn thread_of(row: &Row<'_>) -> rusqlite::Result<Thread> {
    let mut columns = Columns::of(row);
    Ok(Thread {
        thread: columns.id(ThreadId::from_bytes)?,
        owner: columns.id(UserId::from_bytes)?,
        title: columns.value()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

fn message_of(row: &Row<'_>) -> rusqlite::Result<(i64, ThreadMessage)> {
    let mut columns = Columns::of(row);
    let place = columns.value()?;
    let message = ThreadMessage {
        run: columns.id(RunId::from_bytes)?,
        role: columns.named(role_from_name)?,
        text: columns.value()?,
        attachments: columns.json()?,
        at: columns.time()?,
    };
    Ok((place, message))
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

pub(super) fn role_from_name(name: &str) -> Option<Role> {
    [Role::User, Role::Assistant].into_iter().find(|role| role_name(*role) == name)
}
