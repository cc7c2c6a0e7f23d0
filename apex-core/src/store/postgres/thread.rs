use super::row::{Columns, json, key};
use super::share;
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::id::{RunId, ThreadId, UserId};
use crate::principal::{Principal, Scope};
use crate::run::Wakeup;
use crate::store::PAGE_ITEMS;
use crate::thread::{
    Cursor, Paged, Role, Share, Thread, ThreadMessage, ThreadStore, Whose, page, title_of,
};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Conversations in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresThreadStore {
    database: Database,
    wakeup: Arc<dyn Wakeup>,
}

impl PostgresThreadStore {
    pub(super) fn new(database: Database, wakeup: Arc<dyn Wakeup>) -> Self {
        Self { database, wakeup }
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
        principal.require(Scope::Run, "thread.add")?;
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
        principal.require(Scope::Read, "thread.read")?;
        const OPERATION: &str = "thread.read";
        let user = principal.user();
        self.database
            .read(Access::of(principal, OPERATION), |transaction| {
                Box::pin(find(transaction, READABLE, user, thread, OPERATION))
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
        let list = match whose {
            Whose::Own => THREADS,
            Whose::Shared => SHARED,
        };
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
                    let rows = transaction.query(list, &wanted).await?;
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
        principal.require(Scope::Read, "thread.messages")?;
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
                    find(transaction, READABLE, user, thread, OPERATION).await?;
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
        principal.require(Scope::Run, "thread.delete")?;
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

    async fn share(&self, principal: &Principal, thread: ThreadId, with: Share) -> Result<()> {
        const OPERATION: &str = "thread.share";
        principal.require(Scope::Run, OPERATION)?;
        let with = &with;
        self.database
            .write(Access::of(principal, OPERATION), |transaction| {
                Box::pin(async move {
                    find(transaction, OWN, principal.user(), thread, OPERATION).await?;
                    share::add(transaction, principal, thread, with).await
                })
            })
            .await
    }

    async fn unshare(&self, principal: &Principal, thread: ThreadId, user: UserId) -> Result<()> {
        principal.require(Scope::Run, "thread.unshare")?;
        let wakes = self
            .database
            .write(Access::of(principal, "thread.unshare"), |transaction| {
                Box::pin(share::end(transaction, principal, thread, user))
            })
            .await?;
        for topic in wakes {
            self.wakeup.wake(topic);
        }
        Ok(())
    }

    async fn shares(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<Share>> {
        const OPERATION: &str = "thread.shares";
        principal.require(Scope::Read, OPERATION)?;
        let user = principal.user();
        self.database
            .read(Access::of(principal, OPERATION), |transaction| {
                Box::pin(async move {
                    find(transaction, OWN, user, thread, OPERATION).await?;
                    share::list(transaction, thread).await
                })
            })
            .await
    }
}

const INSERT_THREAD: &str = "INSERT INTO thread (thread, owner, title, created_at, updated_at) \
     SELECT $1, $2, $3, $4, $4 WHERE NOT EXISTS \
     (SELECT 1 FROM account WHERE account = $2 AND standing = 'erased') ON CONFLICT (thread) DO NOTHING";
const TOUCH_THREAD: &str =
    "UPDATE thread SET updated_at = greatest(updated_at, $2) WHERE thread = $1";
const OWN: &str = "SELECT thread, owner, title, created_at, updated_at FROM thread \
     WHERE thread = $1 AND owner = $2";
const READABLE: &str = "SELECT thread, owner, title, created_at, updated_at FROM thread \
     WHERE thread = $1 AND (owner = $2 OR EXISTS \
     (SELECT 1 FROM share WHERE share.thread = thread.thread AND share.reader = $2))";
const SHARED: &str = "SELECT thread.thread, thread.owner, title, created_at, updated_at \
     FROM share JOIN thread ON thread.thread = share.thread \
     WHERE share.reader = $1 AND (updated_at, thread.thread) < ($2, $3) \
     ORDER BY updated_at DESC, thread.thread DESC LIMIT $4";
const THREADS: &str = "SELECT thread, owner, title, created_at, updated_at FROM thread \
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
    find(transaction, OWN, user, thread, operation).await?;
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

async fn find(
    transaction: &Transaction<'_>,
    which: &'static str,
    user: UserId,
    thread: ThreadId,
    operation: &'static str,
) -> Result<Thread> {
    let own: [&(dyn ToSql + Sync); 2] = [&key(thread.as_bytes()), &key(user.as_bytes())];
    let found = transaction.query_opt(which, &own).await?;
    thread_of(&found.ok_or_else(|| Error::not_found(operation, "thread"))?)
}

fn thread_of(row: &Row) -> Result<Thread> {
    let mut columns = Columns::of(row);
    Ok(Thread {
        thread: columns.id(ThreadId::from_bytes)?,
        owner: columns.id(UserId::from_bytes)?,
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

pub(super) fn role_from_name(name: &str) -> Option<Role> {
    [Role::User, Role::Assistant].into_iter().find(|role| role_name(*role) == name)
}
