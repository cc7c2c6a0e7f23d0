//! The content of files and artifacts, in chunks: written as it arrives and read as it is wanted, so that no more
//! than a few chunks of it are in memory. Content is complete before a row names it. What no row names any more stays
//! for an hour, so that readers finish.

use super::row::{Columns, key};
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Kind, Result};
use crate::file::{Body, hex};
use crate::id::{BatchId, NodeId};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use std::io::Read;
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// The size of a chunk, in bytes.
pub(super) const CHUNK: usize = 256 * 1024;

const BEGIN: &str = "INSERT INTO content (content, writer) VALUES ($1, $2)";
const ADD: &str = "INSERT INTO chunk (content, number, bytes) VALUES ($1, $2, $3)";
const KEEP: &str =
    "UPDATE content SET writer = NULL WHERE content = $1 AND writer IS NOT NULL RETURNING content";
const REMOVE: &str = "UPDATE content SET removed_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
     WHERE content = $1";
const GIVE_UP: &str = "DELETE FROM content WHERE content = $1 AND writer IS NOT NULL";
const READ: &str = "SELECT bytes FROM chunk WHERE content = $1 AND number = $2";

/// Content that no row names yet: removed again unless it is kept.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) content: Uuid,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// In a drop, what is to be removed is removed by the database that it is in.
    database: Option<Database>,
}

impl Written {
    /// Keeps it, in the transaction that writes the row which names it.
    pub(super) async fn keep(content: Uuid, transaction: &Transaction<'_>) -> Result<()> {
        if transaction.query_opt(KEEP, &[&content]).await?.is_none() {
            return Err(Error::new(
                Kind::Unavailable,
                "content.keep",
                "this process was taken for dead while the content arrived; bring it again",
            ));
        }
        Ok(())
    }

    /// Says that a row names it.
    pub(super) fn kept(mut self) {
        self.database = None;
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Without a runtime it stays until this process has ended, and goes then.
        if let (Some(database), Ok(runtime)) = (self.database.take(), Handle::try_current()) {
            let content = self.content;
            runtime.spawn(async move {
                let access = Access::system("content.give_up");
                if let Err(error) = database.once(access, GIVE_UP, &[&content]).await {
                    tracing::warn!(%error, "content that was given up stays until this process has ended");
                }
            });
        }
    }
}

/// Writes a body as it arrives; `check` is asked with the size so far before each piece.
pub(super) async fn write(
    database: &Database,
    node: NodeId,
    access: Access,
    name: BatchId,
    mut body: Body,
    check: impl Fn(u64) -> Result<()> + Send,
) -> Result<Written> {
    let content = key(name.as_bytes());
    let mut written =
        Written { content, bytes: 0, sha256: String::new(), database: Some(database.clone()) };
    database.once(access, BEGIN, &[&content, &key(node.as_bytes())]).await?;
    let (mut digest, mut number) = (Sha256::new(), 0_i32);
    let mut waiting = BytesMut::with_capacity(CHUNK);
    while let Some(piece) = body.next().await {
        let mut piece = piece?;
        written.bytes += piece.len() as u64;
        check(written.bytes)?;
        digest.update(&piece);
        while !piece.is_empty() {
            let fits = piece.len().min(CHUNK - waiting.len());
            waiting.extend_from_slice(&piece.split_to(fits));
            if waiting.len() == CHUNK {
                add(database, access, content, number, &waiting).await?;
                waiting.clear();
                number += 1;
            }
        }
    }
    if !waiting.is_empty() {
        add(database, access, content, number, &waiting).await?;
    }
    written.sha256 = hex(&digest.finalize());
    Ok(written)
}

async fn add(
    database: &Database,
    access: Access,
    content: Uuid,
    number: i32,
    bytes: &[u8],
) -> Result<()> {
    let chunk: [&(dyn ToSql + Sync); 3] = [&content, &number, &bytes];
    database.once(access, ADD, &chunk).await?;
    Ok(())
}

/// Removes content that no row names any more; readers have an hour to finish.
pub(super) async fn remove(transaction: &Transaction<'_>, content: Uuid) -> Result<()> {
    transaction.execute(REMOVE, &[&content]).await?;
    Ok(())
}

/// Reads content from its start, chunk by chunk, by a thread that may block.
pub(super) struct Reader {
    database: Database,
    runtime: Handle,
    access: Access,
    content: Uuid,
    /// What is left to be read, and what of it is here.
    left: u64,
    here: Bytes,
    next: i32,
}

impl Reader {
    /// Fetches the first chunk, so that a small file is read without waiting.
    pub(super) async fn open(
        database: Database,
        access: Access,
        content: Uuid,
        bytes: u64,
    ) -> Result<Self> {
        let runtime = Handle::current();
        let here = Bytes::new();
        let mut reader = Self { database, runtime, access, content, left: bytes, here, next: 0 };
        reader.fetch().await?;
        Ok(reader)
    }

    /// The whole content.
    pub(super) async fn whole(mut self) -> Result<Bytes> {
        let mut whole = BytesMut::with_capacity(usize::try_from(self.left).unwrap_or(CHUNK));
        loop {
            whole.extend_from_slice(&self.here);
            self.left = self.left.saturating_sub(self.here.len() as u64);
            if self.left == 0 {
                return Ok(whole.freeze());
            }
            self.fetch().await?;
        }
    }

    async fn fetch(&mut self) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        let found = self.database.fetch(self.access, READ, &[&self.content, &self.next]).await?;
        let row = found.first().ok_or_else(|| {
            Error::new(Kind::Storage, "content.read", "a part of the content is no longer there")
        })?;
        self.here = Bytes::copy_from_slice(Columns::of(row).value()?);
        self.next += 1;
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.here.is_empty() && self.left > 0 && !buffer.is_empty() {
            let runtime = self.runtime.clone();
            tokio::task::block_in_place(|| runtime.block_on(self.fetch()))
                .map_err(std::io::Error::other)?;
        }
        let part = self.here.split_to(self.here.len().min(buffer.len()));
        if let Some(space) = buffer.get_mut(..part.len()) {
            space.copy_from_slice(&part);
        }
        self.left = self.left.saturating_sub(part.len() as u64);
        Ok(part.len())
    }
}
