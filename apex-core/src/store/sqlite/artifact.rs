use super::blob::{BlobName, Blobs, missing};
use super::database::Database;
use super::erase::refuse;
use super::row::{Columns, int};
use crate::error::{Error, Kind, Result};
use crate::file::{ArtifactInfo, ArtifactStore, artifact_id, check_artifact};
use crate::id::{ArtifactId, RunId};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};
use std::io::Read as _;
use std::sync::Arc;

/// Artifacts in SQLite, their content beside it.
#[derive(Debug)]
pub(super) struct SqliteArtifactStore {
    database: Arc<Database>,
    blobs: Arc<Blobs>,
}

impl SqliteArtifactStore {
    pub(super) fn new(database: Arc<Database>, blobs: Arc<Blobs>) -> Self {
        Self { database, blobs }
    }

    /// One look; `None` when the artifact was replaced between the look at its row and that at its content.
    async fn look(
        &self,
        principal: &Principal,
        artifact: ArtifactId,
    ) -> Result<Option<(ArtifactInfo, Bytes)>> {
        const OPERATION: &str = "artifact.read";
        let (user, blobs) = (principal.user(), Arc::clone(&self.blobs));
        self.database
            .read(OPERATION, move |connection| {
                let (info, name) = connection
                    .prepare_cached(READ)?
                    .query_row(params![artifact.as_bytes(), user.as_bytes()], |row| {
                        let mut columns = Columns::of(row);
                        Ok((info_of(&mut columns)?, columns.id(BlobName::from_bytes)?))
                    })
                    .optional()?
                    .ok_or_else(|| Error::not_found(OPERATION, "artifact"))?;
                let Some(mut file) = blobs.open(OPERATION, name)? else {
                    return Ok(None);
                };
                let mut content = Vec::new();
                file.read_to_end(&mut content).map_err(|error| {
                    Error::new(Kind::Storage, OPERATION, "the content cannot be read")
                        .with_source(error)
                })?;
                Ok(Some((info, content.into())))
            })
            .await
    }
}

#[async_trait]
impl ArtifactStore for SqliteArtifactStore {
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
        let written = self.blobs.write_whole("artifact.put", content).await?;
        let (user, info) = (
            principal.user(),
            ArtifactInfo {
                artifact: artifact_id(run, name),
                run,
                name: name.to_owned(),
                media_type: media_type.to_owned(),
                bytes: written.bytes,
                sha256: written.sha256.clone(),
            },
        );
        let (info, replaced) = self
            .database
            .write("artifact.put", move |connection, _| {
                refuse(connection, user, "artifact.put")?;
                let anothers = connection
                    .prepare_cached(ANOTHERS)?
                    .exists(params![run.as_bytes(), user.as_bytes()])?;
                if anothers {
                    return Err(Error::not_found("artifact.put", "run").into());
                }
                let replaced = connection
                    .prepare_cached("SELECT blob FROM artifact WHERE artifact = ?1")?
                    .query_row([info.artifact.as_bytes()], |row| {
                        row.get(0).map(BlobName::from_bytes)
                    })
                    .optional()?;
                connection.prepare_cached(PUT)?.execute(params![
                    info.artifact.as_bytes(),
                    user.as_bytes(),
                    run.as_bytes(),
                    info.name,
                    info.media_type,
                    int(info.bytes),
                    info.sha256,
                    written.name.as_bytes(),
                ])?;
                written.keep();
                Ok((info, replaced))
            })
            .await?;
        if let Some(replaced) = replaced {
            self.blobs.remove(replaced);
        }
        Ok(info)
    }

    async fn list(&self, principal: &Principal, run: RunId) -> Result<Vec<ArtifactInfo>> {
        principal.require(Scope::Read, "artifact.list")?;
        let user = principal.user();
        self.database
            .read("artifact.list", move |connection| {
                let mut statement = connection.prepare_cached(LIST)?;
                let found = statement
                    .query_map(params![run.as_bytes(), user.as_bytes()], |row| {
                        info_of(&mut Columns::of(row))
                    })?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn read(
        &self,
        principal: &Principal,
        artifact: ArtifactId,
    ) -> Result<(ArtifactInfo, Bytes)> {
        principal.require(Scope::Read, "artifact.read")?;
        if let Some(found) = self.look(principal, artifact).await? {
            return Ok(found);
        }
        self.look(principal, artifact).await?.ok_or_else(|| missing("artifact.read"))
    }

    async fn delete(&self, principal: &Principal, run: RunId) -> Result<()> {
        principal.require(Scope::Run, "artifact.delete")?;
        let user = principal.user();
        let removed = self
            .database
            .write("artifact.delete", move |connection, _| {
                let mut statement = connection.prepare_cached(DELETE)?;
                let removed = statement
                    .query_map(params![run.as_bytes(), user.as_bytes()], |row| {
                        row.get(0).map(BlobName::from_bytes)
                    })?;
                Ok(removed.collect::<rusqlite::Result<Vec<_>>>()?)
            })
            .await?;
        for name in removed {
            self.blobs.remove(name);
        }
        Ok(())
    }
}

const ANOTHERS: &str = "SELECT 1 FROM artifact WHERE run = ?1 AND user <> ?2 LIMIT 1";
const PUT: &str = "INSERT OR REPLACE INTO artifact \
     (artifact, user, run, name, media_type, bytes, sha256, blob) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const LIST: &str = "SELECT artifact, run, name, media_type, bytes, sha256 FROM artifact \
     WHERE run = ?1 AND (user = ?2 OR EXISTS (SELECT 1 FROM run JOIN share ON share.thread = run.thread \
     WHERE run.run = artifact.run AND run.user = artifact.user AND share.user = run.user \
     AND share.reader = ?2)) ORDER BY name";
const READ: &str = "SELECT artifact, run, name, media_type, bytes, sha256, blob FROM artifact \
     WHERE artifact = ?1 AND (user = ?2 OR EXISTS (SELECT 1 FROM run JOIN share ON share.thread = run.thread \
     WHERE run.run = artifact.run AND run.user = artifact.user AND share.user = run.user \
     AND share.reader = ?2))";
const DELETE: &str = "DELETE FROM artifact WHERE run = ?1 AND user = ?2 RETURNING blob";

fn info_of(columns: &mut Columns<'_, '_>) -> rusqlite::Result<ArtifactInfo> {
    Ok(ArtifactInfo {
        artifact: columns.id(ArtifactId::from_bytes)?,
        run: columns.id(RunId::from_bytes)?,
        name: columns.value()?,
        media_type: columns.value()?,
        bytes: columns.count()?,
        sha256: columns.value()?,
    })
}
