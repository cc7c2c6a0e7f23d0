use super::database::Database;
use super::row::Columns;
use super::thread::role_from_name;
use crate::error::Result;
use crate::id::{RunId, ThreadId};
use crate::principal::{Principal, Scope};
use crate::thread::{CANDIDATES, Candidate, Found, SearchIndex, SearchQuery, ranked, terms};
use async_trait::async_trait;
use rusqlite::{Row, params};
use std::sync::Arc;

/// Full text over conversations in SQLite.
#[derive(Debug)]
pub(super) struct SqliteSearchIndex {
    database: Arc<Database>,
}

impl SqliteSearchIndex {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl SearchIndex for SqliteSearchIndex {
    async fn search(&self, principal: &Principal, query: &SearchQuery) -> Result<Vec<Found>> {
        principal.require(Scope::Read, "thread.search")?;
        let (user, query, terms) = (principal.user(), query.clone(), terms(query));
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        self.database
            .read("thread.search", move |connection| {
                // A word in quotes is a word; there are only letters and digits in it.
                let quoted: Vec<String> = terms.iter().map(|term| format!("\"{term}\"")).collect();
                let wanted = quoted.join(if query.any { " OR " } else { " AND " });
                let from = query.from.map_or(i64::MIN, |from| from.as_millis());
                let before = query.before.map_or(i64::MAX, |before| before.as_millis());
                let found: Vec<Candidate> = connection
                    .prepare_cached(SEARCH)?
                    .query_map(
                        params![wanted, user.as_bytes(), from, before, CANDIDATES],
                        candidate,
                    )?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(ranked(found, &terms, &query))
            })
            .await
    }
}

const SEARCH: &str = "SELECT thread.thread, title, run, role, message.at, message.text \
     FROM message_search JOIN message ON message.id = message_search.rowid \
     JOIN thread ON thread.thread = message.thread \
     WHERE message_search MATCH ?1 AND thread.user = ?2 AND message.at >= ?3 AND message.at < ?4 \
     ORDER BY message_search.rank, message.id DESC LIMIT ?5";

fn candidate(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    let mut columns = Columns::of(row);
    Ok(Candidate {
        thread: columns.id(ThreadId::from_bytes)?,
        title: columns.value()?,
        run: columns.id(RunId::from_bytes)?,
        role: columns.named(role_from_name)?,
        at: columns.time()?,
        text: columns.value()?,
    })
}
