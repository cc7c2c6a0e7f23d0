use super::erase::erase;
use super::row::{Columns, json, key};
use crate::auth::{Standing, User, UserChange, UserStore, subject_taken};
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::principal::Scopes;
use crate::run::Wakeup;
use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Accounts in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresUserStore {
    database: Database,
    wakeup: Arc<dyn Wakeup>,
}

impl PostgresUserStore {
    pub(super) fn new(database: Database, wakeup: Arc<dyn Wakeup>) -> Self {
        Self { database, wakeup }
    }
}

#[async_trait]
impl UserStore for PostgresUserStore {
    async fn resolve(&self, subject: &str, new: User) -> Result<User> {
        let access = Access::system("user.resolve");
        let known = self.database.fetch(access, BY_SUBJECT, &[&subject]).await?;
        if let Some(known) = known.first() {
            return user_of(known);
        }
        self.database
            .write(access, |transaction| {
                let new = new.clone();
                Box::pin(async move { resolve(transaction, subject, new).await })
            })
            .await
    }

    async fn link(&self, user: UserId, subject: &str) -> Result<()> {
        self.database
            .write(Access::system("user.link"), |transaction| {
                Box::pin(async move {
                    if locked(transaction, user, "user.link").await?.standing == Standing::Erased {
                        return Err(Error::not_found("user.link", "user"));
                    }
                    let new: [&(dyn ToSql + Sync); 2] = [&subject, &key(user.as_bytes())];
                    transaction.execute(LINK, &new).await?;
                    let owner = transaction.query_one(BY_SUBJECT, &[&subject]).await?;
                    if user_of(&owner)?.user != user {
                        return Err(subject_taken());
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn subjects(&self, user: UserId) -> Result<Vec<String>> {
        let access = Access::system("user.subjects");
        let rows = self.database.fetch(access, SUBJECTS, &[&key(user.as_bytes())]).await?;
        rows.iter().map(|row| Columns::of(row).value()).collect()
    }

    async fn user(&self, user: UserId) -> Result<User> {
        let access = Access::system("user.read");
        let found = self.database.fetch(access, BY_ID, &[&key(user.as_bytes())]).await?;
        found.first().map_or_else(|| Err(Error::not_found("user.read", "user")), user_of)
    }

    async fn change(&self, user: UserId, change: UserChange) -> Result<User> {
        self.database
            .write(Access::system("user.change"), |transaction| {
                Box::pin(async move {
                    let known = locked(transaction, user, "user.change").await?;
                    let changed = change.apply(known)?;
                    keep(transaction, &changed).await?;
                    Ok(changed)
                })
            })
            .await
    }

    async fn erase(&self, user: UserId) -> Result<()> {
        let wakes = self
            .database
            .write(Access::system("user.erase"), |transaction| {
                Box::pin(async move {
                    let known = locked(transaction, user, "user.erase").await?;
                    let erased = User { scopes: Scopes::NONE, standing: Standing::Erased, ..known };
                    keep(transaction, &erased).await?;
                    transaction.execute(FORGET_SUBJECTS, &[&key(user.as_bytes())]).await?;
                    erase(transaction, user).await
                })
            })
            .await?;
        for topic in wakes {
            self.wakeup.wake(topic);
        }
        Ok(())
    }
}

/// Of those who come under one subject at the same time the first one's account is kept.
const LOCK_SUBJECT: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':subject:' || $1, 0))";
const INSERT: &str =
    "INSERT INTO account (account, scopes, created_at, standing) VALUES ($1, $2, $3, $4)";
const LINK: &str =
    "INSERT INTO subject (subject, account) VALUES ($1, $2) ON CONFLICT (subject) DO NOTHING";
const SUBJECTS: &str = "SELECT subject FROM subject WHERE account = $1 ORDER BY subject";
const FORGET_SUBJECTS: &str = "DELETE FROM subject WHERE account = $1";
const CHANGE: &str = "UPDATE account SET scopes = $2, standing = $3 WHERE account = $1";
const BY_SUBJECT: &str = "SELECT account.account, scopes, created_at, standing \
     FROM subject JOIN account ON account.account = subject.account WHERE subject = $1";
const BY_ID: &str = "SELECT account, scopes, created_at, standing FROM account WHERE account = $1";
const BY_ID_LOCKED: &str = "SELECT account, scopes, created_at, standing FROM account WHERE account = $1 FOR NO KEY UPDATE";

async fn resolve(transaction: &Transaction<'_>, subject: &str, new: User) -> Result<User> {
    transaction.query_one(LOCK_SUBJECT, &[&subject]).await?;
    if let Some(known) = transaction.query_opt(BY_SUBJECT, &[&subject]).await? {
        return user_of(&known);
    }
    let id = key(new.user.as_bytes());
    let row: [&(dyn ToSql + Sync); 4] =
        [&id, &json(&new.scopes)?, &new.created_at.as_millis(), &new.standing.as_str()];
    transaction.execute(INSERT, &row).await?;
    transaction.execute(LINK, &[&subject, &id]).await?;
    Ok(new)
}

async fn locked(
    transaction: &Transaction<'_>,
    user: UserId,
    operation: &'static str,
) -> Result<User> {
    let found = transaction.query_opt(BY_ID_LOCKED, &[&key(user.as_bytes())]).await?;
    user_of(&found.ok_or_else(|| Error::not_found(operation, "user"))?)
}

async fn keep(transaction: &Transaction<'_>, user: &User) -> Result<()> {
    let changed: [&(dyn ToSql + Sync); 3] =
        [&key(user.user.as_bytes()), &json(&user.scopes)?, &user.standing.as_str()];
    transaction.execute(CHANGE, &changed).await?;
    Ok(())
}

fn user_of(row: &Row) -> Result<User> {
    let mut columns = Columns::of(row);
    Ok(User {
        user: columns.id(UserId::from_bytes)?,
        scopes: columns.json()?,
        created_at: columns.time()?,
        standing: columns.named(Standing::named)?,
    })
}
