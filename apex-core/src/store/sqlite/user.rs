use super::database::Database;
use super::row::Columns;
use crate::auth::{User, UserStore};
use crate::error::{Error, Result};
use crate::id::UserId;
use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, params};
use std::sync::Arc;

/// Accounts in SQLite.
#[derive(Debug)]
pub(super) struct SqliteUserStore {
    database: Arc<Database>,
}

impl SqliteUserStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl UserStore for SqliteUserStore {
    async fn resolve(&self, new: User) -> Result<User> {
        self.database
            .write("user.resolve", move |connection, _| {
                connection.prepare_cached(INSERT)?.execute(params![
                    new.user.as_bytes(),
                    new.subject,
                    new.created_at.as_millis(),
                    new.disabled,
                ])?;
                Ok(connection.prepare_cached(BY_SUBJECT)?.query_row([&new.subject], user_of)?)
            })
            .await
    }

    async fn user(&self, user: UserId) -> Result<User> {
        self.database
            .read("user.read", move |connection| {
                connection
                    .prepare_cached(BY_ID)?
                    .query_row([user.as_bytes()], user_of)
                    .optional()?
                    .ok_or_else(|| Error::not_found("user.read", "user").into())
            })
            .await
    }
}

const INSERT: &str = "INSERT INTO user (user, subject, created_at, disabled) \
     VALUES (?1, ?2, ?3, ?4) ON CONFLICT (subject) DO NOTHING";
const BY_SUBJECT: &str = "SELECT user, subject, created_at, disabled FROM user WHERE subject = ?1";
const BY_ID: &str = "SELECT user, subject, created_at, disabled FROM user WHERE user = ?1";

fn user_of(row: &Row<'_>) -> rusqlite::Result<User> {
    let mut columns = Columns::of(row);
    Ok(User {
        user: columns.id(UserId::from_bytes)?,
        subject: columns.value()?,
        created_at: columns.time()?,
        disabled: columns.value()?,
    })
}
