use super::content::{self, Reader, Written};
use super::inbox::lock_user;
use super::row::{Columns, int, key};
use crate::clock::Clock;
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::file::{ArtifactInfo, ArtifactStore, artifact_id, check_artifact};
use crate::id::{ArtifactId, BatchId, NodeId, RunId, UserId};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Artifacts in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresArtifactStore {
    database: Database,
    node: NodeId,
    clock: Arc<dyn Clock>,
}

impl PostgresArtifactStore {
    pub(super) fn new(database: Database, node: NodeId, clock: Arc<dyn Clock>) -> Self {
        Self { database, node, clock }
    }
}

#[async_trait]
impl ArtifactStore for PostgresArtifactStore {
    async fn put(
        &self,
        principal: &Principal,
        run: RunId,
        name: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<ArtifactInfo> {
        principal.require(Scope::Run, "artifact.put")?;
        check_artifact(name, &content)?;
        let (access, user) = (Access::of_a_run("artifact.put"), principal.user());
        let body = Box::pin(futures_util::stream::iter([Ok(content)]));
        let batch = BatchId::new(&*self.clock);
        let written =
            content::write(&self.database, self.node, access, batch, body, |_| Ok(())).await?;
        let info = ArtifactInfo {
            artifact: artifact_id(run, name),
            run,
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            bytes: written.bytes,
            sha256: written.sha256.clone(),
        };
        let (content, new) = (written.content, &info);
        self.database
            .transact(access, |transaction| Box::pin(put(transaction, user, new, content)))
            .await?;
        written.kept();
        Ok(info)
    }

    async fn list(&self, principal: &Principal, run: RunId) -> Result<Vec<ArtifactInfo>> {
        principal.require(Scope::Read, "artifact.list")?;
        let access = Access::of(principal, "artifact.list");
        let own: [&(dyn ToSql + Sync); 2] =
            [&key(run.as_bytes()), &key(principal.user().as_bytes())];
        let rows = self.database.fetch(access, LIST, &own).await?;
        rows.iter().map(|row| info_of(&mut Columns::of(row))).collect()
    }

    async fn read(
        &self,
        principal: &Principal,
        artifact: ArtifactId,
    ) -> Result<(ArtifactInfo, Bytes)> {
        principal.require(Scope::Read, "artifact.read")?;
        // Mostly a run's next step, which takes up what the one before it left.
        let access = Access::of_a_run("artifact.read");
        let own: [&(dyn ToSql + Sync); 2] =
            [&key(artifact.as_bytes()), &key(principal.user().as_bytes())];
        let found = self.database.fetch(access, READ, &own).await?;
        let row = found.first().ok_or_else(|| Error::not_found("artifact.read", "artifact"))?;
        let mut columns = Columns::of(row);
        let info = info_of(&mut columns)?;
        let content = columns.value()?;
        let database = self.database.clone();
        // What is replaced now can still be read.
        let reader = Reader::open(database, access, content, info.bytes).await?;
        Ok((info, reader.whole().await?))
    }

    async fn delete(&self, principal: &Principal, run: RunId) -> Result<()> {
        principal.require(Scope::Run, "artifact.delete")?;
        let user = principal.user();
        self.database
            .write(Access::of(principal, "artifact.delete"), move |transaction| {
                Box::pin(async move {
                    let own: [&(dyn ToSql + Sync); 2] =
                        [&key(run.as_bytes()), &key(user.as_bytes())];
                    for row in &transaction.query(DELETE, &own).await? {
                        content::remove(transaction, Columns::of(row).value()?).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

const ANOTHERS: &str = "SELECT 1 FROM artifact WHERE run = $1 AND owner <> $2 LIMIT 1";
const REPLACED: &str = "SELECT content FROM artifact WHERE artifact = $1 FOR UPDATE";
const PUT: &str = "INSERT INTO artifact (artifact, owner, run, name, media_type, bytes, sha256, content) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (artifact) DO UPDATE SET \
     media_type = excluded.media_type, bytes = excluded.bytes, sha256 = excluded.sha256, content = excluded.content";
const LIST: &str = "SELECT artifact, run, name, media_type, bytes, sha256 FROM artifact \
     WHERE run = $1 AND (owner = $2 OR EXISTS (SELECT 1 FROM run JOIN share ON share.thread = run.thread \
     WHERE run.run = artifact.run AND run.owner = artifact.owner AND share.owner = run.owner \
     AND share.reader = $2)) ORDER BY name";
const READ: &str = "SELECT artifact, run, name, media_type, bytes, sha256, content FROM artifact \
     WHERE artifact = $1 AND (owner = $2 OR EXISTS (SELECT 1 FROM run JOIN share ON share.thread = run.thread \
     WHERE run.run = artifact.run AND run.owner = artifact.owner AND share.owner = run.owner \
     AND share.reader = $2))";
const DELETE: &str = "DELETE FROM artifact WHERE run = $1 AND owner = $2 RETURNING content";

async fn put(
    transaction: &Transaction<'_>,
    user: UserId,
    info: &ArtifactInfo,
    content: Uuid,
) -> Result<()> {
    // One at a time for each user, so that what is replaced is known.
    lock_user(transaction, user, "artifact.put").await?;
    let (artifact, run) = (key(info.artifact.as_bytes()), key(info.run.as_bytes()));
    let owner = key(user.as_bytes());
    if transaction.query_opt(ANOTHERS, &[&run, &owner]).await?.is_some() {
        return Err(Error::not_found("artifact.put", "run"));
    }
    let replaced = transaction.query_opt(REPLACED, &[&artifact]).await?;
    Written::keep(content, transaction).await?;
    let new: [&(dyn ToSql + Sync); 8] = [
        &artifact,
        &owner,
        &run,
        &info.name,
        &info.media_type,
        &int(info.bytes),
        &info.sha256,
        &content,
    ];
    transaction.execute(PUT, &new).await?;
    if let Some(row) = replaced {
        content::remove(transaction, Columns::of(&row).value()?).await?;
    }
    Ok(())
}

fn info_of(columns: &mut Columns<'_>) -> Result<ArtifactInfo> {
    Ok(ArtifactInfo {
        artifact: columns.id(ArtifactId::from_bytes)?,
        run: columns.id(RunId::from_bytes)?,
        name: columns.value()?,
        media_type: columns.value()?,
        bytes: columns.count()?,
        sha256: columns.value()?,
    })
}
