use super::database::Database;
use super::erase;
use super::row::Columns;
use crate::error::Result;
use crate::id::RunId;
use crate::memory::{MOST_NOTES, MemoryStore, Note, check, full, missing};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use rusqlite::params;
use std::sync::Arc;

/// Notes in SQLite.
#[derive(Debug)]
pub(super) struct SqliteNoteStore {
    database: Arc<Database>,
}

impl SqliteNoteStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl MemoryStore for SqliteNoteStore {
    async fn keep(&self, principal: &Principal, note: Note) -> Result<()> {
        principal.require(Scope::Run, "memory.keep")?;
        check(&note)?;
        let user = principal.user();
        self.database
            .write("memory.keep", move |connection, _| {
                erase::refuse(connection, user, "memory.keep")?;
                let others: i64 = connection
                    .prepare_cached(OTHERS)?
                    .query_row(params![user.as_bytes(), note.name], |row| row.get(0))?;
                if others.unsigned_abs() >= MOST_NOTES as u64 {
                    return Err(full().into());
                }
                connection.prepare_cached(KEEP)?.execute(params![
                    user.as_bytes(),
                    note.name,
                    note.text,
                    note.run.as_ref().map(RunId::as_bytes),
                    note.at.as_millis(),
                ])?;
                Ok(())
            })
            .await
    }

    async fn notes(&self, principal: &Principal) -> Result<Vec<Note>> {
        principal.require(Scope::Read, "memory.notes")?;
        let user = principal.user();
        self.database
            .read("memory.notes", move |connection| {
                let mut all = connection.prepare_cached(ALL)?;
                let notes = all.query_map([user.as_bytes()], |row| {
                    let mut columns = Columns::of(row);
                    Ok(Note {
                        name: columns.value()?,
                        text: columns.value()?,
                        run: columns.optional_id(RunId::from_bytes)?,
                        at: columns.time()?,
                    })
                })?;
                Ok(notes.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn forget(&self, principal: &Principal, name: &str) -> Result<()> {
        principal.require(Scope::Run, "memory.forget")?;
        let (user, name) = (principal.user(), name.to_owned());
        self.database
            .write("memory.forget", move |connection, _| {
                let one = params![user.as_bytes(), name];
                if connection.prepare_cached(FORGET)?.execute(one)? == 0 {
                    return Err(missing().into());
                }
                Ok(())
            })
            .await
    }

    async fn forget_all(&self, principal: &Principal) -> Result<u64> {
        principal.require(Scope::Run, "memory.forget")?;
        let user = principal.user();
        self.database
            .write("memory.forget", move |connection, _| {
                let gone = connection.prepare_cached(FORGET_ALL)?.execute([user.as_bytes()])?;
                Ok(gone as u64)
            })
            .await
    }
}

const OTHERS: &str = "SELECT count(*) FROM note WHERE user = ?1 AND name <> ?2";
const KEEP: &str = "INSERT INTO note (user, name, text, run, at) VALUES (?1, ?2, ?3, ?4, ?5) \
     ON CONFLICT (user, name) DO UPDATE SET text = excluded.text, run = excluded.run, at = excluded.at";
const ALL: &str = "SELECT name, text, run, at FROM note WHERE user = ?1 ORDER BY name";
const FORGET: &str = "DELETE FROM note WHERE user = ?1 AND name = ?2";
const FORGET_ALL: &str = "DELETE FROM note WHERE user = ?1";
