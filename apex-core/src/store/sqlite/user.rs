use super::blob::Blobs;
use super::database::Database;
use super::erase::erase;
use super::error::Fault;
use super::row::{Columns, json};
use crate::auth::{Standing, User, UserChange, UserStore, subject_taken};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::principal::Scopes;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::sync::Arc;

/// Accounts in SQLite.
#[derive(Debug)]
pub(super) struct SqliteUserStore {
    database: Arc<Database>,
    blobs: Arc<Blobs>,
}

impl SqliteUserStore {
    pub(super) fn new(database: Arc<Database>, blobs: Arc<Blobs>) -> Self {
        Self { database, blobs }
    }
}

#[async_trait]
impl UserStore for SqliteUserStore {
    async fn resolve(&self, subject: &str, new: User) -> Result<User> {
        let subject = subject.to_owned();
        self.database
            .write("user.resolve", move |connection, _| {
                let known = connection
                    .prepare_cached(BY_SUBJECT)?
                    .query_row([&subject], user_of)
                    .optional()?;
                if let Some(known) = known {
                    return Ok(known);
                }
                connection
                    .prepare_cached(
                        "INSERT INTO user (user, scopes, created_at, standing) \
                         VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![
                        new.user.as_bytes(),
                        json(&new.scopes)?,
                        new.created_at.as_millis(),
                        new.standing.as_str(),
                    ])?;
                connection.prepare_cached(LINK)?.execute(params![subject, new.user.as_bytes()])?;
                Ok(new)
            })
            .await
    }

    async fn link(&self, user: UserId, subject: &str) -> Result<()> {
        let subject = subject.to_owned();
        self.database
            .write("user.link", move |connection, _| {
                if find(connection, user, "user.link")?.standing == Standing::Erased {
                    return Err(Error::not_found("user.link", "user").into());
                }
                connection.prepare_cached(LINK)?.execute(params![subject, user.as_bytes()])?;
                let owner =
                    connection.prepare_cached(BY_SUBJECT)?.query_row([&subject], user_of)?;
                if owner.user != user {
                    return Err(subject_taken().into());
                }
                Ok(())
            })
            .await
    }

    async fn subjects(&self, user: UserId) -> Result<Vec<String>> {
        self.database
            .read("user.subjects", move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT subject FROM subject WHERE user = ?1 ORDER BY subject",
                )?;
                let found = statement.query_map([user.as_bytes()], |row| row.get(0))?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn user(&self, user: UserId) -> Result<User> {
        self.database.read("user.read", move |connection| find(connection, user, "user.read")).await
    }

    async fn change(&self, user: UserId, change: UserChange) -> Result<User> {
        self.database
            .write("user.change", move |connection, _| {
                let changed = change.apply(find(connection, user, "user.change")?)?;
                keep(connection, &changed)?;
                Ok(changed)
            })
            .await
    }

    async fn erase(&self, user: UserId) -> Result<()> {
        let content = self
            .database
            .write("user.erase", move |connection, wakes| {
                let known = find(connection, user, "user.erase")?;
                let erased = User { scopes: Scopes::NONE, standing: Standing::Erased, ..known };
                keep(connection, &erased)?;
                connection
                    .prepare_cached("DELETE FROM subject WHERE user = ?1")?
                    .execute([user.as_bytes()])?;
                Ok(erase(connection, user, wakes)?)
            })
            .await?;
        for name in content {
            self.blobs.remove(name);
        }
        Ok(())
    }
}

fn find(connection: &Connection, user: UserId, operation: &'static str) -> Result<User, Fault> {
    connection
        .prepare_cached(BY_ID)?
        .query_row([user.as_bytes()], user_of)
        .optional()?
        .ok_or_else(|| Error::not_found(operation, "user").into())
}

fn keep(connection: &Connection, user: &User) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE user SET scopes = ?2, standing = ?3 WHERE user = ?1")?
        .execute(params![user.user.as_bytes(), json(&user.scopes)?, user.standing.as_str()])?;
    Ok(())
}

const LINK: &str =
    "INSERT INTO subject (subject, user) VALUES (?1, ?2) ON CONFLICT (subject) DO NOTHING";
const BY_SUBJECT: &str = "SELECT user.user, scopes, created_at, standing \
     FROM subject JOIN user ON user.user = subject.user WHERE subject = ?1";
const BY_ID: &str = "SELECT user, scopes, created_at, standing FROM user WHERE user = ?1";

fn user_of(row: &Row<'_>) -> rusqlite::Result<User> {
    let mut columns = Columns::of(row);
    Ok(User {
        user: columns.id(UserId::from_bytes)?,
        scopes: columns.json()?,
        created_at: columns.time()?,
        standing: columns.named(Standing::named)?,
    })
}
