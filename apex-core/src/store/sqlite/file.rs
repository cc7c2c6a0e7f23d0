use super::blob::{BlobName, Blobs, Written, missing};
use super::database::Database;
use super::erase::refuse;
use super::error::Fault;
use super::row::{Columns, int};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::file::{Body, Content, FileInfo, FileLimits, FileStore, check_name, id_taken};
use crate::id::{FileId, UserId};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::sync::Arc;

/// Files in SQLite, their content beside it.
#[derive(Debug)]
pub(super) struct SqliteFileStore {
    database: Arc<Database>,
    blobs: Arc<Blobs>,
    clock: Arc<dyn Clock>,
    limits: FileLimits,
}

impl SqliteFileStore {
    pub(super) fn new(
        database: Arc<Database>,
        blobs: Arc<Blobs>,
        clock: Arc<dyn Clock>,
        limits: FileLimits,
    ) -> Self {
        Self { database, blobs, clock, limits }
    }

    /// Adds the row of a content that has been written. The content goes with a row that is refused.
    async fn add(
        &self,
        user: UserId,
        file: FileId,
        name: String,
        content: Written,
    ) -> Result<FileInfo> {
        let (limits, at) = (self.limits, self.clock.now());
        self.database
            .write("file.put", move |connection, _| {
                refuse(connection, user, "file.put")?;
                // Others of the user's may have arrived in the meantime.
                let (used, files) = used_by(connection, user)?;
                limits.check(content.bytes, used, files)?;
                let info = FileInfo {
                    file,
                    name,
                    bytes: content.bytes,
                    sha256: content.sha256.clone(),
                    at,
                };
                let added = connection.prepare_cached(INSERT)?.execute(params![
                    file.as_bytes(),
                    user.as_bytes(),
                    info.name,
                    int(info.bytes),
                    info.sha256,
                    at.as_millis(),
                    content.name.as_bytes(),
                ])?;
                if added == 0 {
                    return Err(id_taken().into());
                }
                content.keep();
                Ok(info)
            })
            .await
    }
}

#[async_trait]
impl FileStore for SqliteFileStore {
    async fn put(
        &self,
        principal: &Principal,
        file: FileId,
        name: &str,
        body: Body,
    ) -> Result<FileInfo> {
        principal.require(Scope::Run, "file.put")?;
        check_name(name, "file.put")?;
        let (user, limits) = (principal.user(), self.limits);
        let (used, files) = self
            .database
            .read("file.put", move |connection| Ok(used_by(connection, user)?))
            .await?;
        limits.check(0, used, files)?;
        let content =
            self.blobs.write("file.put", body, |bytes| limits.check(bytes, used, files)).await?;
        self.add(user, file, name.to_owned(), content).await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<FileInfo>> {
        principal.require(Scope::Read, "file.list")?;
        let user = principal.user();
        self.database
            .read("file.list", move |connection| {
                let mut statement = connection.prepare_cached(LIST)?;
                let found = statement.query_map([user.as_bytes()], info_of)?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn info(&self, principal: &Principal, file: FileId) -> Result<FileInfo> {
        principal.require(Scope::Read, "file.info")?;
        let user = principal.user();
        self.database
            .read("file.info", move |connection| {
                connection
                    .prepare_cached(INFO)?
                    .query_row(params![file.as_bytes(), user.as_bytes()], info_of)
                    .optional()?
                    .ok_or_else(|| Error::not_found("file.info", "file").into())
            })
            .await
    }

    async fn open(&self, principal: &Principal, file: FileId) -> Result<Content> {
        principal.require(Scope::Read, "file.open")?;
        const OPERATION: &str = "file.open";
        let (user, blobs) = (principal.user(), Arc::clone(&self.blobs));
        self.database
            .read(OPERATION, move |connection| {
                let name = blob_of(connection, user, file, OPERATION)?;
                let content = blobs.open(OPERATION, name)?;
                Ok(Box::new(content.ok_or_else(|| missing(OPERATION))?) as Content)
            })
            .await
    }

    async fn delete(&self, principal: &Principal, file: FileId) -> Result<()> {
        principal.require(Scope::Run, "file.delete")?;
        let user = principal.user();
        let name = self
            .database
            .write("file.delete", move |connection, _| {
                let name = blob_of(connection, user, file, "file.delete")?;
                connection
                    .prepare_cached("DELETE FROM file WHERE file = ?1")?
                    .execute([file.as_bytes()])?;
                Ok(name)
            })
            .await?;
        self.blobs.remove(name);
        Ok(())
    }
}

const INSERT: &str = "INSERT INTO file (file, user, name, bytes, sha256, at, blob) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (file) DO NOTHING";
const USED: &str = "SELECT coalesce(sum(bytes), 0), count(*) FROM file WHERE user = ?1";
const LIST: &str = "SELECT file, name, bytes, sha256, at FROM file WHERE user = ?1 \
     ORDER BY at DESC, file DESC";
const INFO: &str = "SELECT file, name, bytes, sha256, at FROM file WHERE file = ?1 AND user = ?2";
const BLOB: &str = "SELECT blob FROM file WHERE file = ?1 AND user = ?2";

fn used_by(connection: &Connection, user: UserId) -> rusqlite::Result<(u64, usize)> {
    connection.prepare_cached(USED)?.query_row([user.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        let bytes = columns.count()?;
        Ok((bytes, usize::try_from(columns.count()?).unwrap_or(usize::MAX)))
    })
}

fn blob_of(
    connection: &Connection,
    user: UserId,
    file: FileId,
    operation: &'static str,
) -> Result<BlobName, Fault> {
    connection
        .prepare_cached(BLOB)?
        .query_row(params![file.as_bytes(), user.as_bytes()], |row| {
            row.get(0).map(BlobName::from_bytes)
        })
        .optional()?
        .ok_or_else(|| Error::not_found(operation, "file").into())
}

fn info_of(row: &Row<'_>) -> rusqlite::Result<FileInfo> {
    let mut columns = Columns::of(row);
    Ok(FileInfo {
        file: columns.id(FileId::from_bytes)?,
        name: columns.value()?,
        bytes: columns.count()?,
        sha256: columns.value()?,
        at: columns.time()?,
    })
}
