//! What was done under which id: a row that is written in the transaction of the operation itself.

use super::connection::{Connection, Server};
use uuid::Uuid;

/// The table; a store makes it in its first migration.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS apex_operation (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS apex_operation_at ON apex_operation USING brin (at)";

pub(super) const RECORD: &str =
    "INSERT INTO apex_operation (id) VALUES ($1) ON CONFLICT (id) DO NOTHING";

pub(super) const SWEEP: &str = "DELETE FROM apex_operation WHERE id IN (SELECT id FROM apex_operation \
     WHERE at < now() - make_interval(secs => $1) ORDER BY at LIMIT 10000)";

/// An id for a write whose caller has none; none where the system has no randomness.
pub(super) fn new_id() -> Option<Uuid> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

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
    connection.end_others(std::slice::from_ref(server)).await?;
    client.batch_execute("BEGIN READ WRITE").await?;
    let new = client.execute(RECORD, &[&id]).await?;
    client.batch_execute("ROLLBACK").await?;
    Ok(new == 0)
}
