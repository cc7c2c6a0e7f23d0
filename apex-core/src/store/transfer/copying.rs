use super::rows::{Row, Rows, Value};
use super::{ARTIFACTS, FILES, Part, Portable, TABLES, Table};
use crate::error::{Error, Kind, Result};
use crate::file::{Body, Content};
use crate::id::Epoch;
use crate::store::Stores;
use bytes::Bytes;
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How much of a content is moved at a time, in bytes.
const PIECE: usize = 256 * 1024;
/// How long a node that was stopped may still seem to live, and how often is looked.
const GONE: Duration = Duration::from_secs(7);
const LOOK: Duration = Duration::from_millis(500);

const OPERATION: &str = "transfer.copy";

/// What was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Rows, those of files and artifacts among them.
    pub rows: u64,
    /// Bytes of contents.
    pub bytes: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The table that is being moved.
    pub table: &'static str,
    /// Its rows that are there by now.
    pub rows: u64,
    /// Its rows in all.
    pub of: u64,
    /// Bytes of contents that are there by now, of all tables.
    pub bytes: u64,
}

/// Copies everything that is in `from` into `to`, which must be empty, and tells after every few rows how far it is.
/// `from` is only read. One that was broken off goes on where it was when it is called again with the same two; until
/// then no node starts on `to`.
///
/// # Errors
/// `bad_request` for stores in memory or of a host's, and where there is nothing to move; `conflict` when `to` is not
/// empty, holds half a copy of something else, or is the same, when a node works with either, or `from` has grown in
/// the meantime; what the stores say.
pub async fn copy(
    from: &Stores,
    to: &Stores,
    told: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Moved> {
    Copying::new(from, to, &[Part::Accounts, Part::Logins, Part::Rest])?.run(told).await
}

/// Copies the logins alone, and what was revoked of them: to or from a Redis that comes or goes, or is another one.
/// Everything else stays where it is.
///
/// # Errors
/// As [`copy`], of the logins.
pub async fn copy_logins(
    from: &Stores,
    to: &Stores,
    told: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Moved> {
    Copying::new(from, to, &[Part::Logins])?.run(told).await
}

struct Copying {
    ways: Vec<Way>,
}

/// Where a part goes.
struct Way {
    part: Part,
    from: Arc<dyn Rows>,
    to: Arc<dyn Rows>,
    /// Half of it may be there already.
    again: bool,
}

impl Copying {
    fn new(from: &Stores, to: &Stores, parts: &[Part]) -> Result<Self> {
        let way = |part: &Part| {
            let (from, to) = (Portable::rows(from, *part)?, Portable::rows(to, *part)?);
            Ok(Way { part: *part, from, to, again: false })
        };
        Ok(Self { ways: parts.iter().map(way).collect::<Result<_>>()? })
    }

    async fn run(mut self, told: &(dyn Fn(Progress) + Send + Sync)) -> Result<Moved> {
        self.refuse_same().await?;
        self.refuse_company().await?;
        self.refuse_nothing().await?;
        self.begin().await?;
        let mut moved = Moved::default();
        for way in &self.ways {
            for table in way.part.tables() {
                way.copy(table, &mut moved, told).await?;
            }
        }
        self.refuse_company().await?;
        for (number, way) in self.ways.iter().enumerate() {
            let same = |other: &Way| Arc::ptr_eq(&other.to, &way.to);
            if self.ways.iter().take(number).any(same) {
                continue;
            }
            let rest = self.ways.iter().find(|other| same(other) && other.part == Part::Rest);
            let epoch = match rest {
                Some(rest) => rest.from.inbox_epoch().await?,
                None => None,
            };
            way.to.finish(epoch).await?;
        }
        Ok(moved)
    }

    async fn refuse_same(&self) -> Result<()> {
        for way in &self.ways {
            let epochs = (way.from.inbox_epoch().await?, way.to.inbox_epoch().await?);
            if epochs.0.is_some() && epochs.0 == epochs.1 {
                return Err(conflict(
                    way.part,
                    "both addresses lead to the same database, or to one and the copy that was made of it",
                ));
            }
        }
        Ok(())
    }

    async fn refuse_company(&self) -> Result<()> {
        let until = Instant::now() + GONE;
        for way in &self.ways {
            for rows in [&way.from, &way.to] {
                while rows.has_company().await? {
                    if Instant::now() >= until {
                        let told = "a node or another program has this database open; stop all of them, and begin again";
                        return Err(conflict(way.part, told));
                    }
                    sleep(LOOK).await;
                }
            }
        }
        Ok(())
    }

    async fn refuse_nothing(&self) -> Result<()> {
        for way in &self.ways {
            for table in way.part.tables() {
                if !way.from.rows(table, None, 1).await?.is_empty() {
                    return Ok(());
                }
            }
        }
        let told = "there is nothing to move; look at the address, the schema, the prefix and the environment";
        Err(Error::new(Kind::BadRequest, OPERATION, told))
    }

    /// Passes for places that are empty or hold half of this copy, and marks them.
    async fn begin(&mut self) -> Result<()> {
        let mut of = Epoch::from_bytes([0; 16]);
        for way in &self.ways {
            // That of the last part, which is where runs are.
            of = way.from.inbox_epoch().await?.unwrap_or(of);
        }
        for way in &mut self.ways {
            match way.to.half().await? {
                Some(half) if half == of => way.again = true,
                Some(_) => {
                    return Err(conflict(
                        way.part,
                        "half a copy of something else is there; empty this place first",
                    ));
                }
                None => {
                    for table in way.part.tables() {
                        if !way.to.rows(table, None, 1).await?.is_empty() {
                            let told = "the place that everything is to be moved to is not empty; name another one";
                            return Err(conflict(way.part, told).with("table", table.postgres));
                        }
                    }
                }
            }
        }
        for way in &self.ways {
            way.to.begin(of).await?;
        }
        Ok(())
    }
}

impl Way {
    async fn copy(
        &self,
        table: &'static Table,
        moved: &mut Moved,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<()> {
        let of = self.from.count(table).await?;
        let (mut rows, mut after) = (0, None);
        loop {
            let page = self.from.rows(table, after.take(), table.page).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.iter().take(table.keys).cloned().collect());
            rows += page.len() as u64;
            if table.has_content() {
                for row in page {
                    moved.bytes += self.copy_content(table, row).await?;
                }
            } else {
                self.to.put(table, page, self.again).await?;
            }
            told(Progress { table: table.postgres, rows, of, bytes: moved.bytes });
        }
        moved.rows += rows;
        if self.from.count(table).await? > rows {
            let told = "more came into it while it was moved: stop whatever writes, and run the same move once more";
            return Err(conflict(self.part, told).with("table", table.postgres));
        }
        // A Redis keeps what was revoked twice once.
        let there = self.to.count(table).await?;
        if there < rows && table.postgres != "revocation" {
            let told = "less is there than was moved; what is there is no copy";
            return Err(Error::new(Kind::Storage, OPERATION, told)
                .with("table", table.postgres)
                .with("rows", rows)
                .with("there", there));
        }
        Ok(())
    }

    /// Copies a row with its content; how many bytes that has.
    async fn copy_content(&self, table: &'static Table, row: Row) -> Result<u64> {
        let bytes = table.bytes_of(&row);
        if self.again && is_there(self.to.content(table, &row).await)? {
            return Ok(bytes);
        }
        let content = self.from.content(table, &row).await?;
        let put = self.to.put_with_content(table, row, body_of(content)).await?;
        if put != bytes {
            return Err(unreadable().with("bytes", bytes).with("read", put));
        }
        Ok(bytes)
    }
}

fn is_there(found: Result<Content>) -> Result<bool> {
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Part {
    fn tables(self) -> impl Iterator<Item = &'static Table> {
        TABLES.iter().chain([&FILES, &ARTIFACTS]).filter(move |table| table.part == self)
    }
}

impl Table {
    pub(crate) fn has_content(&self) -> bool {
        [&FILES, &ARTIFACTS].into_iter().any(|other| std::ptr::eq(other, self))
    }

    /// How long a row says that its content is.
    fn bytes_of(&self, row: &Row) -> u64 {
        let mut values = self.columns.iter().zip(row).filter(|(column, _)| column.name == "bytes");
        match values.next() {
            Some((_, Value::Int(bytes))) => bytes.unsigned_abs(),
            _ => 0,
        }
    }
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
    Error::new(Kind::Storage, OPERATION, "a content cannot be read whole")
}

fn conflict(part: Part, told: &'static str) -> Error {
    Error::new(Kind::Conflict, OPERATION, told).with("part", part)
}
