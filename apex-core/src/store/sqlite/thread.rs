use super::database::Database;
use super::error::Fault;
use super::row::{Columns, json};
use crate::error::{Error, Result};
use crate::id::{RunId, ThreadId};
use crate::principal::Principal;
use crate::store::PAGE_ITEMS;
use crate::thread::{Cursor, Paged, Role, Thread, ThreadMessage, ThreadStore, page, title_of};
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
        const OPERATION: &str = "thread.add";
        let user = principal.user();
        self.database
            .write(OPERATION, move |connection, _| {
                connection.prepare_cached(INSERT_THREAD)?.execute(params![
                    thread.as_bytes(),
                    user.as_bytes(),
                    title_of(&message.text),
                    message.at.as_millis(),
                ])?;
                own(connection, user.as_bytes(), thread, OPERATION)?;
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
        let user = principal.user();
        self.database
            .read("thread.read", move |connection| {
                own(connection, user.as_bytes(), thread, "thread.read")
            })
            .await
    }

    async fn threads(
        &self,
        principal: &Principal,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Thread>> {
        let (user, max) = (principal.user(), max.min(PAGE_ITEMS));
        let after = match cursor {
            Some(cursor) => Cursor::decode(cursor, "thread.list")?,
            None => Cursor { order: i64::MAX, id: [0xff; 16] },
        };
        self.database
            .read("thread.list", move |connection| {
                let mut statement = connection.prepare_cached(THREADS)?;
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
        const OPERATION: &str = "thread.messages";
        let (user, max) = (principal.user(), max.min(PAGE_ITEMS));
        let after = match cursor {
            Some(cursor) => Cursor::decode(cursor, OPERATION)?.order,
            None => 0,
        };
        self.database
            .read(OPERATION, move |connection| {
                own(connection, user.as_bytes(), thread, OPERATION)?;
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
        let user = principal.user();
        self.database
            .write("thread.delete", move |connection, _| {
                own(connection, user.as_bytes(), thread, "thread.delete")?;
                connection
                    .prepare_cached("DELETE FROM thread WHERE thread = ?1")?
                    .execute([thread.as_bytes()])?;
                Ok(())
            })
            .await
    }
}

const INSERT_THREAD: &str = "INSERT INTO thread (thread, user, title, created_at, updated_at) \
     VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT (thread) DO NOTHING";
const TOUCH_THREAD: &str = "UPDATE thread SET updated_at = max(updated_at, ?2) WHERE thread = ?1";
const THREAD: &str = "SELECT thread, title, created_at, updated_at FROM thread \
     WHERE thread = ?1 AND user = ?2";
const THREADS: &str = "SELECT thread, title, created_at, updated_at FROM thread \
     WHERE user = ?1 AND (updated_at, thread) < (?2, ?3) \
     ORDER BY updated_at DESC, thread DESC LIMIT ?4";
const INSERT_MESSAGE: &str = "INSERT INTO message (thread, run, role, text, attachments, at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (thread, run, role) DO NOTHING";
const MESSAGES: &str = "SELECT id, run, role, text, attachments, at FROM message \
     WHERE thread = ?1 AND id > ?2 ORDER BY id LIMIT ?3";

fn own(
    connection: &Connection,
    user: &[u8; 16],
    thread: ThreadId,
    operation: &'static str,
) -> Result<Thread, Fault> {
    connection
        .prepare_cached(THREAD)?
        .query_row(params![thread.as_bytes(), user], thread_of)
        .optional()?
        .ok_or_else(|| Error::not_found(operation, "thread").into())
}

fn thread_of(row: &Row<'_>) -> rusqlite::Result<Thread> {
    let mut columns = Columns::of(row);
    Ok(Thread {
        thread: columns.id(ThreadId::from_bytes)?,
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

fn role_from_name(name: &str) -> Option<Role> {
    [Role::User, Role::Assistant].into_iter().find(|role| role_name(*role) == name)
}
