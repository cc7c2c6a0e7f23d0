use super::Table;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::file::{Body, Content};
use crate::id::Epoch;
use async_trait::async_trait;
use std::fmt;

/// A value, of the kind that its column has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing.
    Null,
    /// A number.
    Int(i64),
    /// A text, or a decimal number.
    Text(String),
    /// Bytes, or an id.
    Bytes(Vec<u8>),
    /// Yes or no.
    Bool(bool),
}

/// The values of a row, in the order of its table's columns.
pub(crate) type Row = Vec<Value>;

/// The rows of one database, or of a Redis.
#[async_trait]
pub(crate) trait Rows: fmt::Debug + Send + Sync {
    /// Up to `max` rows after the one with the key `after`; none when there are no more.
    async fn rows(&self, table: &'static Table, after: Option<Row>, max: usize)
    -> Result<Vec<Row>>;

    /// How many there are.
    async fn count(&self, table: &'static Table) -> Result<u64>;

    /// Adds rows, all or none; `again` where some of them may be there already.
    async fn put(&self, table: &'static Table, rows: Vec<Row>, again: bool) -> Result<()>;

    /// The content that belongs to a row.
    async fn content(&self, table: &'static Table, _row: &Row) -> Result<Content> {
        Err(no_part(table))
    }

    /// Adds a row with its content; how many bytes that has.
    async fn put_with_content(&self, table: &'static Table, _row: Row, _body: Body) -> Result<u64> {
        Err(no_part(table))
    }

    /// The life of the inboxes, by which one database is told from another; a Redis has none.
    async fn inbox_epoch(&self) -> Result<Option<Epoch>> {
        Ok(None)
    }

    /// As [`super::renew_epochs`].
    async fn renew_epochs(&self, _clock: &dyn Clock) -> Result<u64> {
        Ok(0)
    }

    /// Whether another process is seen that works with it.
    async fn has_company(&self) -> Result<bool>;

    /// What this is half a copy of.
    async fn half(&self) -> Result<Option<Epoch>>;

    /// Says that it is half a copy from now on.
    async fn begin(&self, of: Epoch) -> Result<()>;

    /// Makes what is there fit for use, after everything has been added; with the life of the inboxes, where these are
    /// among it.
    async fn finish(&self, inbox_epoch: Option<Epoch>) -> Result<()>;
}

/// A table that stands in another place.
pub(crate) fn no_part(table: &Table) -> Error {
    Error::internal("transfer", "a table is asked for where it is not")
        .with("table", table.postgres)
}
