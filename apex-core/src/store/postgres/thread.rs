use super::row::{Columns, json, key};
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::id::{RunId, ThreadId, UserId};
use crate::principal::Principal;
use crate::store::PAGE_ITEMS;
use crate::thread::{Cursor, Paged, Role, Thread, ThreadMessage, ThreadStore, page, title_of};
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Conversations in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresThreadStore {
    database: Database,
}

impl PostgresThreadStore {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl ThreadStore for PostgresThreadStore {
    async fn add(
        &self,
        principal: &Principal,
        thread: ThreadId,
        message: ThreadMessage,
    ) -> Result<()> {
        const OPERATION: &str = "thread.add";
        let (user, message) = (principal.user(), &message);
        self.database
            // What a run says at its end, or a user whose run is on record already.
            .transact(Access::of_a_run(OPERATION), |transaction| {
                Box::pin(add(transaction, user, thread, message, OPERATION))
            })
            .await
    }

    async fn thread(&self, principal: &Principal, thread: ThreadId) -> Result<Thread> {
        const OPERATION: &str = "thread.read";
        let user = principal.user();
        self.database
            .read(Access::of(principal, OPERATION), |transaction| {
                Box::pin(own(transaction, user, thread, OPERATION))
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
            .read(Access::of(principal, "thread.list"), move |transaction| {
                Box::pin(async move {
                    let wanted: [&(dyn ToSql + Sync); 4] = [
                        &key(user.as_bytes()),
                        &after.order,
                        &Uuid::from_bytes(after.id),
                        &(max as i64 + 1),
                    ];
                    let rows = transaction.query(THREADS, &wanted).await?;
                    let found = rows.iter().map(thread_of).collect::<Result<_>>()?;
                    Ok(page(found, max, |thread: &Thread| Cursor {
                        order: thread.updated_at.as_millis(),
                        id: *thread.thread.as_bytes(),
                    }))
                })
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
            // Runs read what was said before.
            .read(Access::of_a_run(OPERATION), move |transaction| {
                Box::pin(async move {
                    own(transaction, user, thread, OPERATION).await?;
                    let wanted: [&(dyn ToSql + Sync); 3] =
                        [&key(thread.as_bytes()), &after, &(max as i64 + 1)];
                    let rows = transaction.query(MESSAGES, &wanted).await?;
                    let found = rows.iter().map(message_of).collect::<Result<_>>()?;
                    let Paged { items, next } =
                        page(found, max, |(place, _)| Cursor { order: *place, id: [0; 16] });
                    let items = items.into_iter().map(|(_, message)| message).collect();
                    Ok(Paged { items, next })
                })
            })
            .await
    }

    async fn delete(&self, principal: &Principal, thread: ThreadId) -> Result<()> {
        let user = principal.user();
        self.database
            .write(Access::of(principal, "thread.delete"), move |transaction| {
                Box::pin(async move {
                    let own: [&(dyn ToSql + Sync); 2] =
                        [&key(thread.as_bytes()), &key(user.as_bytes())];
                    if transaction.execute(DELETE, &own).await? == 0 {
                        return Err(Error::not_found("thread.delete", "thread"));
                    }
                    Ok(())
                })
            })
            .await
    }
}

const INSERT_THREAD: &str = "INSERT INTO thread (thread, owner, title, created_at, updated_at) \
     VALUES ($1, $2, $3, $4, $4) ON CONFLICT (thread) DO NOTHING";
const TOUCH_THREAD: &str =
    "UPDATE thread SET updated_at = greatest(updated_at, $2) WHERE thread = $1";
const THREAD: &str =
    "SELECT thread, title, created_at, updated_at FROM thread WHERE thread = $1 AND owner = $2";
const THREADS: &str = "SELECT thread, title, created_at, updated_at FROM thread \
     WHERE owner = $1 AND (updated_at, thread) < ($2, $3) \
     ORDER BY updated_at DESC, thread DESC LIMIT $4";
const INSERT_MESSAGE: &str = "INSERT INTO message (thread, run, role, text, attachments, at) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (thread, run, role) DO NOTHING";
const MESSAGES: &str = "SELECT id, run, role, text, attachments, at FROM message \
     WHERE thread = $1 AND id > $2 ORDER BY id LIMIT $3";
const DELETE: &str = "DELETE FROM thread WHERE thread = $1 AND owner = $2";

async fn add(
    transaction: &Transaction<'_>,
    user: UserId,
    thread: ThreadId,
    message: &ThreadMessage,
    operation: &'static str,
) -> Result<()> {
    let (id, at) = (key(thread.as_bytes()), message.at.as_millis());
    let title = title_of(&message.text);
    let new: [&(dyn ToSql + Sync); 4] = [&id, &key(user.as_bytes()), &title.as_bytes(), &at];
    transaction.execute(INSERT_THREAD, &new).await?;
    own(transaction, user, thread, operation).await?;
    let message: [&(dyn ToSql + Sync); 6] = [
        &id,
        &key(message.run.as_bytes()),
        &role_name(message.role),
        &message.text.as_bytes(),
        &json(&message.attachments)?,
        &at,
    ];
    if transaction.execute(INSERT_MESSAGE, &message).await? > 0 {
        transaction.execute(TOUCH_THREAD, &[&id, &at]).await?;
    }
    Ok(())
}

async fn own(
    transaction: &Transaction<'_>,
    user: UserId,
    thread: ThreadId,
    operation: &'static str,
) -> Result<Thread> {
    let own: [&(dyn ToSql + Sync); 2] = [&key(thread.as_bytes()), &key(user.as_bytes())];
    let found = transaction.query_opt(THREAD, &own).await?;
    thread_of(&found.ok_or_else(|| Error::not_found(operation, "thread"))?)
}

fn thread_of(row: &Row) -> Result<Thread> {
    let mut columns = Columns::of(row);
    Ok(Thread {
        thread: columns.id(ThreadId::from_bytes)?,
        title: columns.words()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

fn message_of(row: &Row) -> Result<(i64, ThreadMessage)> {
    let mut columns = Columns::of(row);
    let place = columns.value()?;
    let message = ThreadMessage {
        run: columns.id(RunId::from_bytes)?,
        role: columns.named(role_from_name)?,
        text: columns.words()?,
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
