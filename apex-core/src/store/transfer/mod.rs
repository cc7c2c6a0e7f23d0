//! Moving everything from one database to another, of the same kind or not, without loss: accounts, logins,
//! conversations, usage, files, results, and runs with their logs, epochs and checkpoints. Limits are not moved; who
//! holds a place brings it back.
//!
//! Nothing else may write to either side in the meantime: stop the nodes first.

#![cfg_attr(
    not(all(feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports, reason = "each database needs another part")
)]

mod table;

pub(crate) use table::{ARTIFACTS, Column, FILES, Of, TABLES, Table};

use super::Stores;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::file::{Body, Content};
use bytes::Bytes;
use futures_util::stream;
use std::fmt;
use std::sync::Arc;

/// How much of a content is moved at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// Stores whose rows can be moved. Only this crate's databases are.
pub trait Portable: fmt::Debug + Send + Sync + private::Rows {}

/// What was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Rows, those of files and artifacts among them.
    pub rows: u64,
    /// Bytes of contents.
    pub bytes: u64,
}

/// Copies everything that is in `from` into `to`, which must be empty. When it fails in the middle, empty `to` and
/// begin again; `from` is only read.
///
/// # Errors
/// `bad_request` for stores that are in no database of ours; `conflict` when `to` is not empty; what the stores say.
pub async fn copy(from: &Stores, to: &Stores) -> Result<Moved> {
    let (from, to) = (portable(from)?, portable(to)?);
    let mut moved = Moved::default();
    for table in TABLES.iter().chain([&FILES, &ARTIFACTS]) {
        if !to.rows(table, None, 1).await?.is_empty() {
            let told =
                "the database that everything is to be moved to is not empty; name another one";
            return Err(
                Error::new(Kind::Conflict, "transfer.copy", told).with("table", table.postgres)
            );
        }
    }
    for table in &TABLES {
        let mut after = None;
        loop {
            let rows = from.rows(table, after.take(), table.page).await?;
            let (count, last) = (rows.len(), rows.last().map(|row| key_of(table, row)));
            to.put(table, rows).await?;
            moved.rows += count as u64;
            if count < table.page {
                break;
            }
            after = last;
        }
    }
    for table in [&FILES, &ARTIFACTS] {
        let mut after = None;
        loop {
            let rows = from.rows(table, after.take(), table.page).await?;
            let (count, last) = (rows.len(), rows.last().map(|row| key_of(table, row)));
            for row in rows {
                let content = from.content(table, &row).await?;
                moved.bytes += to.put_with_content(table, row, body_of(content)).await?;
                moved.rows += 1;
            }
            if count < table.page {
                break;
            }
            after = last;
        }
    }
    to.finish(from.inbox_epoch().await?).await?;
    Ok(moved)
}

/// Begins a new life of every log that is still open, and of the inboxes: after a database was put back to an earlier
/// state. Clients may know more of a run than the database does; by its new epoch they see that, and are told where the
/// run stands. Its events up to now go, their outcome stays. How many logs that were. Stop the nodes first.
///
/// # Errors
/// `bad_request` for stores that are in no database of ours; what the store says.
pub async fn renew_epochs(stores: &Stores, clock: &dyn Clock) -> Result<u64> {
    portable(stores)?.renew_epochs(clock).await
}

fn portable(stores: &Stores) -> Result<Arc<dyn Portable>> {
    stores.portable.clone().ok_or_else(|| {
        let told = "these stores are in no database; keep everything in SQLite or PostgreSQL";
        Error::new(Kind::BadRequest, "transfer.open", told)
    })
}

fn key_of(table: &Table, row: &Row) -> Row {
    row.iter().take(table.keys).cloned().collect()
}

/// A content as it is read.
fn body_of(content: Content) -> Body {
    Box::pin(stream::unfold(Some(content), |content| async {
        let mut content = content?;
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = content.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, std::io::Error>((Bytes::from(piece), content))
        });
        match read.await {
            Ok(Ok((piece, _))) if piece.is_empty() => None,
            Ok(Ok((piece, content))) => Some((Ok(piece), Some(content))),
            Ok(Err(error)) => Some((Err(unreadable().with_source(error)), None)),
            Err(error) => Some((Err(unreadable().with_source(error)), None)),
        }
    }))
}

fn unreadable() -> Error {
    Error::new(Kind::Storage, "transfer.copy", "a content cannot be read")
}

pub(crate) use private::{Row, Rows, Value};

mod private {
    use super::Table;
    use crate::clock::Clock;
    use crate::error::Result;
    use crate::file::{Body, Content};
    use crate::id::Epoch;
    use async_trait::async_trait;

    /// A value, of the kind that its column has.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Value {
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

    /// The rows of a database.
    #[async_trait]
    #[allow(private_interfaces, reason = "only this crate implements and calls it")]
    pub trait Rows {
        /// Up to `max` rows after the one with the key `after`.
        async fn rows(
            &self,
            table: &'static Table,
            after: Option<Row>,
            max: usize,
        ) -> Result<Vec<Row>>;
        /// Adds rows, all or none.
        async fn put(&self, table: &'static Table, rows: Vec<Row>) -> Result<()>;
        /// The content that belongs to a row.
        async fn content(&self, table: &'static Table, row: &Row) -> Result<Content>;
        /// Adds a row with its content; how many bytes that has.
        async fn put_with_content(
            &self,
            table: &'static Table,
            row: Row,
            body: Body,
        ) -> Result<u64>;
        /// The life of the inboxes.
        async fn inbox_epoch(&self) -> Result<Epoch>;
        /// As [`super::renew_epochs`].
        async fn renew_epochs(&self, clock: &dyn Clock) -> Result<u64>;
        /// Makes what is there fit for use, after everything has been added.
        async fn finish(&self, inbox_epoch: Epoch) -> Result<()>;
    }
}
