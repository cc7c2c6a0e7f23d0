use super::inbox::lock_user;
use super::row::{Columns, key};
use crate::database::{Access, Database};
use crate::error::Result;
use crate::id::RunId;
use crate::memory::{MOST_NOTES, MemoryStore, Note, check, full, missing};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use tokio_postgres::types::ToSql;

/// Notes in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresNoteStore {
    database: Database,
}

impl PostgresNoteStore {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl MemoryStore for PostgresNoteStore {
    async fn keep(&self, principal: &Principal, note: Note) -> Result<()> {
        principal.require(Scope::Run, "memory.keep")?;
        check(&note)?;
        let (user, note) = (principal.user(), &note);
        self.database
            .transact(Access::of(principal, "memory.keep"), |transaction| {
                Box::pin(async move {
                    lock_user(transaction, user, "memory.keep").await?;
                    let owner = key(user.as_bytes());
                    let others = transaction.query_one(OTHERS, &[&owner, &note.name]).await?;
                    if Columns::of(&others).count()? >= MOST_NOTES as u64 {
                        return Err(full());
                    }
                    let new: [&(dyn ToSql + Sync); 5] = [
                        &owner,
                        &note.name,
                        &note.text.as_bytes(),
                        &note.run.map(|run| key(run.as_bytes())),
                        &note.at.as_millis(),
                    ];
                    transaction.execute(KEEP, &new).await.map(drop)
                })
            })
            .await
    }

    async fn notes(&self, principal: &Principal) -> Result<Vec<Note>> {
        principal.require(Scope::Read, "memory.notes")?;
        let access = Access::of(principal, "memory.notes");
        let owner = key(principal.user().as_bytes());
        let rows = self.database.fetch(access, ALL, &[&owner]).await?;
        let note_of = |row| {
            let mut columns = Columns::of(row);
            Ok(Note {
                name: columns.value()?,
                text: columns.words()?,
                run: columns.optional_id(RunId::from_bytes)?,
                at: columns.time()?,
            })
        };
        rows.iter().map(note_of).collect()
    }

    async fn forget(&self, principal: &Principal, name: &str) -> Result<()> {
        principal.require(Scope::Run, "memory.forget")?;
        let access = Access::of(principal, "memory.forget");
        let owner = key(principal.user().as_bytes());
        let gone = self.database.once(access, FORGET, &[&owner, &name]).await?;
        if gone.is_empty() { Err(missing()) } else { Ok(()) }
    }

    async fn forget_all(&self, principal: &Principal) -> Result<u64> {
        principal.require(Scope::Run, "memory.forget")?;
        let access = Access::of(principal, "memory.forget");
        let owner = key(principal.user().as_bytes());
        let gone = self.database.once(access, FORGET_ALL, &[&owner]).await?;
        Ok(gone.len() as u64)
    }
}

const OTHERS: &str = "SELECT count(*) FROM note WHERE owner = $1 AND name <> $2";
const KEEP: &str = "INSERT INTO note (owner, name, text, run, at) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (owner, name) DO UPDATE SET text = excluded.text, run = excluded.run, at = excluded.at";
const ALL: &str = "SELECT name, text, run, at FROM note WHERE owner = $1 ORDER BY name";
const FORGET: &str = "DELETE FROM note WHERE owner = $1 AND name = $2 RETURNING name";
const FORGET_ALL: &str = "DELETE FROM note WHERE owner = $1 RETURNING name";
