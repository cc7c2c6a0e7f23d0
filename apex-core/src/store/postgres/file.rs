use super::content::{self, Reader, Written};
use super::inbox::lock_user;
use super::row::{Columns, int, key};
use crate::clock::Clock;
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::file::{Body, Content, FileInfo, FileLimits, FileStore, check_name, id_taken};
use crate::id::{BatchId, FileId, NodeId, UserId};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Files in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresFileStore {
    database: Database,
    node: NodeId,
    clock: Arc<dyn Clock>,
    limits: FileLimits,
}

impl PostgresFileStore {
    pub(super) fn new(
        database: Database,
        node: NodeId,
        clock: Arc<dyn Clock>,
        limits: FileLimits,
    ) -> Self {
        Self { database, node, clock, limits }
    }
}

#[async_trait]
impl FileStore for PostgresFileStore {
    async fn put(
        &self,
        principal: &Principal,
        file: FileId,
        name: &str,
        body: Body,
    ) -> Result<FileInfo> {
        principal.require(Scope::Run, "file.put")?;
        check_name(name, "file.put")?;
        let (access, limits) = (Access::of(principal, "file.put"), self.limits);
        let user = principal.user();
        let known = self.database.fetch(access, USED, &[&key(user.as_bytes())]).await?;
        let (used, files) = used_of(known.first())?;
        limits.check(0, used, files)?;
        let written = content::write(
            &self.database,
            self.node,
            access,
            BatchId::new(&*self.clock),
            body,
            |bytes| limits.check(bytes, used, files),
        )
        .await?;
        let info = FileInfo {
            file,
            name: name.to_owned(),
            bytes: written.bytes,
            sha256: written.sha256.clone(),
            at: self.clock.now(),
        };
        let (content, new, limits) = (written.content, &info, &limits);
        self.database
            .write(access, |transaction| Box::pin(add(transaction, user, new, content, limits)))
            .await?;
        written.kept();
        Ok(info)
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<FileInfo>> {
        principal.require(Scope::Read, "file.list")?;
        let access = Access::of(principal, "file.list");
        let rows = self.database.fetch(access, LIST, &[&key(principal.user().as_bytes())]).await?;
        rows.iter().map(info_of).collect()
    }

    async fn info(&self, principal: &Principal, file: FileId) -> Result<FileInfo> {
        principal.require(Scope::Read, "file.info")?;
        let access = Access::of_a_run("file.info");
        let own: [&(dyn ToSql + Sync); 2] =
            [&key(file.as_bytes()), &key(principal.user().as_bytes())];
        let found = self.database.fetch(access, INFO, &own).await?;
        found.first().map_or_else(|| Err(Error::not_found("file.info", "file")), info_of)
    }

    async fn open(&self, principal: &Principal, file: FileId) -> Result<Content> {
        principal.require(Scope::Read, "file.open")?;
        let access = Access::of_a_run("file.open");
        let own: [&(dyn ToSql + Sync); 2] =
            [&key(file.as_bytes()), &key(principal.user().as_bytes())];
        let found = self.database.fetch(access, CONTENT, &own).await?;
        let row = found.first().ok_or_else(|| Error::not_found("file.open", "file"))?;
        let mut columns = Columns::of(row);
        let (content, bytes) = (columns.value()?, columns.count()?);
        let database = self.database.clone();
        Ok(Box::new(Reader::open(database, access, content, bytes).await?))
    }

    async fn delete(&self, principal: &Principal, file: FileId) -> Result<()> {
        principal.require(Scope::Run, "file.delete")?;
        let user = principal.user();
        self.database
            .write(Access::of(principal, "file.delete"), move |transaction| {
                Box::pin(async move {
                    let own: [&(dyn ToSql + Sync); 2] =
                        [&key(file.as_bytes()), &key(user.as_bytes())];
                    let deleted = transaction.query_opt(DELETE, &own).await?;
                    let row = deleted.ok_or_else(|| Error::not_found("file.delete", "file"))?;
                    content::remove(transaction, Columns::of(&row).value()?).await
                })
            })
            .await
    }
}

const INSERT: &str = "INSERT INTO file (file, owner, name, bytes, sha256, at, content) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (file) DO NOTHING";
const USED: &str = "SELECT coalesce(sum(bytes), 0)::bigint, count(*) FROM file WHERE owner = $1";
const LIST: &str =
    "SELECT file, name, bytes, sha256, at FROM file WHERE owner = $1 ORDER BY at DESC, file DESC";
const INFO: &str = "SELECT file, name, bytes, sha256, at FROM file WHERE file = $1 AND owner = $2";
const CONTENT: &str = "SELECT content, bytes FROM file WHERE file = $1 AND owner = $2";
const DELETE: &str = "DELETE FROM file WHERE file = $1 AND owner = $2 RETURNING content";

/// Adds the row of a content that has been written.
async fn add(
    transaction: &Transaction<'_>,
    user: UserId,
    info: &FileInfo,
    content: Uuid,
    limits: &FileLimits,
) -> Result<()> {
    // Others of the user's may have arrived in the meantime, or arrive now.
    lock_user(transaction, user, "file.put").await?;
    let owner = key(user.as_bytes());
    let (used, files) = used_of(transaction.query_opt(USED, &[&owner]).await?.as_ref())?;
    limits.check(info.bytes, used, files)?;
    Written::keep(content, transaction).await?;
    let new: [&(dyn ToSql + Sync); 7] = [
        &key(info.file.as_bytes()),
        &owner,
        &info.name,
        &int(info.bytes),
        &info.sha256,
        &info.at.as_millis(),
        &content,
    ];
    if transaction.execute(INSERT, &new).await? == 0 {
        return Err(id_taken());
    }
    Ok(())
}

/// The bytes and the number of a user's files.
fn used_of(row: Option<&Row>) -> Result<(u64, usize)> {
    let Some(row) = row else {
        return Ok((0, 0));
    };
    let mut columns = Columns::of(row);
    let bytes = columns.count()?;
    Ok((bytes, usize::try_from(columns.count()?).unwrap_or(usize::MAX)))
}

fn info_of(row: &Row) -> Result<FileInfo> {
    let mut columns = Columns::of(row);
    Ok(FileInfo {
        file: columns.id(FileId::from_bytes)?,
        name: columns.value()?,
        bytes: columns.count()?,
        sha256: columns.value()?,
        at: columns.time()?,
    })
}
