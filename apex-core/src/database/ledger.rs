//! What was done under which id: a row that is written in the transaction of the operation itself.

use uuid::Uuid;

/// The table; a store makes it in its first migration.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS apex_operation (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
)";

pub(super) const RECORD: &str =
    "INSERT INTO apex_operation (id) VALUES ($1) ON CONFLICT (id) DO NOTHING";

/// Ends the server's process that was sent the commit, should it still be there.
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid = $1 AND extract(epoch FROM backend_start)::text = $2";

use super::connection::{Connection, Server};

/// Whether the operation `id`, whose commit was sent to `server` and not answered, took effect.
///
/// The record is written once more, in a transaction that is then undone: while the first one is still under way the
/// server lets the second wait for its end, so the answer is final.
pub(super) async fn look_up(
    connection: &Connection,
    server: &Server,
    id: Uuid,
) -> Result<bool, tokio_postgres::Error> {
    let client = &connection.client;
    client.query(END, &[&server.pid, &server.started]).await?;
    client.batch_execute("BEGIN READ WRITE").await?;
    let new = client.execute(RECORD, &[&id]).await?;
    client.batch_execute("ROLLBACK").await?;
    Ok(new == 0)
}
