//! Whether the server has connections enough for every node, before anyone needs the last of them.

use super::config::DatabaseConfig;
use super::connection::Connection;
use crate::error::{Error, Kind, Result};

/// Beside the pool a node has one connection that listens and one that watches.
const BESIDE: usize = 2;

/// The connections that this login may have: the server's, less those kept for others, and the limits of the login and
/// of the database, where -1 is none.
const LIMITS: &str = "SELECT current_setting('max_connections')::int8, \
     current_setting('superuser_reserved_connections')::int8 \
     + coalesce(current_setting('reserved_connections', true)::int8, 0), \
     (SELECT rolconnlimit::int8 FROM pg_roles WHERE rolname = current_user), \
     (SELECT datconnlimit::int8 FROM pg_database WHERE datname = current_database())";

/// Sees that all nodes together stay within what the server gives.
///
/// # Errors
/// [`Kind::Config`] with the arithmetic, where they do not.
pub(super) async fn check(connection: &Connection, config: &DatabaseConfig) -> Result<()> {
    let read = |error: tokio_postgres::Error| {
        super::fault::statement(&error, crate::error::Phase::BeforeCommit, "database.open")
    };
    let row = connection.client.query_one(LIMITS, &[]).await.map_err(read)?;
    let number = |index: usize| row.try_get::<_, Option<i64>>(index).map_err(read);
    let (most, reserved) = (number(0)?.unwrap_or(0), number(1)?.unwrap_or(0));
    let (of_login, of_database) = (number(2)?.unwrap_or(-1), number(3)?.unwrap_or(-1));
    let limits = [most - reserved, of_login, of_database];
    let limit = limits.into_iter().filter(|limit| *limit >= 0).min().unwrap_or(0);
    let needed = config.connections.saturating_add(BESIDE).saturating_mul(config.nodes);
    if i64::try_from(needed).is_ok_and(|needed| needed <= limit) {
        return Ok(());
    }
    let limited = |limit: i64| if limit < 0 { "none".to_owned() } else { limit.to_string() };
    Err(Error::new(
        Kind::Config,
        "database.open",
        "the server has too few connections for this configuration: raise max_connections (or the login's or \
         database's limit), or lower connections",
    )
    .with(
        "needed",
        format!("{needed} = ({} connections + {BESIDE}) x {} nodes", config.connections, config.nodes),
    )
    .with("available", format!("{} = max_connections {most} - reserved {reserved}", most - reserved))
    .with("login_limit", limited(of_login))
    .with("database_limit", limited(of_database)))
}
