use super::row::{Columns, key};
use super::thread::role_from_name;
use crate::database::{Access, Database};
use crate::error::Result;
use crate::id::{RunId, ThreadId};
use crate::principal::{Principal, Scope};
use crate::thread::{CANDIDATES, Candidate, Found, SearchIndex, SearchQuery, ranked, terms};
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Full text over conversations in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresSearchIndex {
    database: Database,
}

impl PostgresSearchIndex {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl SearchIndex for PostgresSearchIndex {
    async fn search(&self, principal: &Principal, query: &SearchQuery) -> Result<Vec<Found>> {
        principal.require(Scope::Read, "thread.search")?;
        let terms = terms(query);
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        // A word in quotes is a word; there are only letters and digits in it.
        let quoted: Vec<String> = terms.iter().map(|term| format!("'{term}'")).collect();
        let wanted = quoted.join(if query.any { " | " } else { " & " });
        let user = key(principal.user().as_bytes());
        let from = query.from.map_or(i64::MIN, |from| from.as_millis());
        let before = query.before.map_or(i64::MAX, |before| before.as_millis());
        let wanted: [&(dyn ToSql + Sync); 5] = [&wanted, &user, &from, &before, &CANDIDATES];
        let access = Access::of(principal, "thread.search");
        let rows = self.database.fetch(access, SEARCH, &wanted).await?;
        let found: Vec<Candidate> = rows.iter().map(candidate).collect::<Result<_>>()?;
        Ok(ranked(found, &terms, query))
    }
}

const SEARCH: &str = "SELECT thread.thread, title, run, role, message.at, message.text \
     FROM message JOIN thread ON thread.thread = message.thread, \
     to_tsquery('pg_catalog.simple', $1) wanted \
     WHERE message.search @@ wanted AND thread.owner = $2 AND message.at >= $3 AND message.at < $4 \
     ORDER BY ts_rank(message.search, wanted) DESC, message.id DESC LIMIT $5";

fn candidate(row: &Row) -> Result<Candidate> {
    let mut columns = Columns::of(row);
    Ok(Candidate {
        thread: columns.id(ThreadId::from_bytes)?,
        title: columns.words()?,
        run: columns.id(RunId::from_bytes)?,
        role: columns.named(role_from_name)?,
        at: columns.time()?,
        text: columns.words()?,
    })
}
