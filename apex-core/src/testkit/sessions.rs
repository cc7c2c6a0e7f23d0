//! Sessions with a server database, for benchmarks: the stores are who uses them otherwise.

use crate::database::{Access, Database, Priority};
use crate::error::{Error, Result};
use crate::id::UserId;

/// The one number that a query gives, read in a session of its own; in nobody's name without a user.
///
/// # Errors
/// Those of the session and of the query.
pub async fn number(
    database: &Database,
    user: Option<UserId>,
    priority: Priority,
    sql: &'static str,
) -> Result<i64> {
    let access = match user {
        Some(user) => Access::user(user, "testkit.number"),
        None => Access::system("testkit.number"),
    };
    let asked = database.read(access.priority(priority), |transaction| {
        Box::pin(async move {
            let row = transaction.query_one(sql, &[]).await?;
            row.try_get(0).map_err(|error| Error::internal("testkit.number", error.to_string()))
        })
    });
    asked.await
}
