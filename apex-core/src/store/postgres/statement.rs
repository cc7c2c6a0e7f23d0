//! One statement as a piece of work of its own.

use crate::database::{Access, Database, Parameters};
use crate::error::Result;
use tokio_postgres::Row;

impl Database {
    /// The rows of a statement that only reads: one way to the server and back.
    pub(super) async fn fetch(
        &self,
        access: Access,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>> {
        self.read(access, |transaction| Box::pin(transaction.query(sql, parameters))).await
    }

    /// The rows of a statement that writes, and is committed.
    pub(super) async fn once(
        &self,
        access: Access,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>> {
        self.write(access, |transaction| Box::pin(transaction.query(sql, parameters))).await
    }
}
