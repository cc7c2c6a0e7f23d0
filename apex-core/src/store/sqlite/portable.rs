use super::blob::{BlobName, Blobs, missing};
use super::database::Database;
use super::run_row::{OPEN_RUNS, RunRow};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::file::{Body, Content};
use crate::id::Epoch;
use crate::store::transfer::{Column, Of, Row, Rows, Table, Value};
use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension as _, ToSql, params_from_iter};
use std::sync::Arc;

/// Everything in a SQLite database, row by row.
#[derive(Debug)]
pub(super) struct SqlitePortable {
    database: Arc<Database>,
    blobs: Arc<Blobs>,
}

impl SqlitePortable {
    pub(super) fn new(database: Arc<Database>, blobs: Arc<Blobs>) -> Self {
        Self { database, blobs }
    }
}

#[async_trait]
impl Rows for SqlitePortable {
    async fn rows(
        &self,
        table: &'static Table,
        after: Option<Row>,
        max: usize,
    ) -> Result<Vec<Row>> {
        let columns = names(table);
        let keys: Vec<&str> = columns.iter().take(table.keys).copied().collect();
        let (keys, columns) = (keys.join(", "), columns.join(", "));
        let name = table.sqlite;
        let since = after.as_ref().map_or_else(String::new, |_| {
            format!("WHERE ({keys}) > ({})", placeholders(1, table.keys))
        });
        let sql = format!("SELECT {columns} FROM {name} {since} ORDER BY {keys} LIMIT {max}");
        self.database
            .read("transfer.rows", move |connection| {
                let mut statement = connection.prepare(&sql)?;
                let mut rows = statement.query(params_from_iter(after.unwrap_or_default()))?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    let value = |(place, column): (usize, &Column)| {
                        Ok(value_of(row.get_ref(place)?, column.of))
                    };
                    found.push(
                        table
                            .columns
                            .iter()
                            .enumerate()
                            .map(value)
                            .collect::<rusqlite::Result<_>>()?,
                    );
                }
                Ok(found)
            })
            .await
    }

    async fn count(&self, table: &'static Table) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", table.sqlite);
        self.database
            .read("transfer.count", move |connection| {
                Ok(connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
            })
            .await
    }

    async fn put(&self, table: &'static Table, rows: Vec<Row>, again: bool) -> Result<()> {
        let sql = insert(table, "") + if again { " ON CONFLICT DO NOTHING" } else { "" };
        self.database
            .write("transfer.put", move |connection, _| {
                let mut statement = connection.prepare(&sql)?;
                for row in rows {
                    statement.execute(params_from_iter(row))?;
                }
                Ok(())
            })
            .await
    }

    async fn content(&self, table: &'static Table, row: &Row) -> Result<Content> {
        const OPERATION: &str = "transfer.content";
        let sql = format!("SELECT blob FROM {} WHERE {} = ?1", table.sqlite, key(table));
        let (id, blobs) = (row.first().cloned().unwrap_or(Value::Null), Arc::clone(&self.blobs));
        self.database
            .read(OPERATION, move |connection| {
                let name = connection
                    .query_row(&sql, [id], |row| row.get(0).map(BlobName::from_bytes))
                    .optional()?
                    .ok_or_else(|| Error::not_found(OPERATION, "content"))?;
                let content = blobs.open(OPERATION, name)?.ok_or_else(|| missing(OPERATION))?;
                Ok(Box::new(content) as Content)
            })
            .await
    }

    async fn put_with_content(
        &self,
        table: &'static Table,
        mut row: Row,
        body: Body,
    ) -> Result<u64> {
        let written = self.blobs.write("transfer.put", body, |_| Ok(())).await?;
        let bytes = written.bytes;
        row.push(Value::Bytes(written.name.as_bytes().to_vec()));
        let sql = insert(table, ", blob");
        self.database
            .write("transfer.put", move |connection, _| {
                connection.prepare(&sql)?.execute(params_from_iter(row))?;
                written.keep();
                Ok(())
            })
            .await?;
        Ok(bytes)
    }

    async fn inbox_epoch(&self) -> Result<Option<Epoch>> {
        self.epoch("SELECT inbox_epoch FROM store").await
    }

    async fn renew_epochs(&self, clock: &dyn Clock) -> Result<u64> {
        // Ids come from a clock that does not go to the writer's thread.
        let seed = Epoch::new(clock);
        self.database
            .write("transfer.renew_epochs", move |connection, _| {
                let open = RunRow::all(connection, OPEN_RUNS, [])?;
                let count = open.len() as u64;
                for mut row in open {
                    let run = row.record.run;
                    let epoch = Epoch::derived(&[seed.as_bytes(), run.as_bytes()]);
                    row.renew_epoch(connection, epoch)?;
                }
                let inboxes = "UPDATE store SET inbox_epoch = ?1";
                connection.execute(inboxes, [seed.as_bytes()])?;
                Ok(count)
            })
            .await
    }

    async fn has_company(&self) -> Result<bool> {
        let nodes = Arc::clone(&self.database.nodes);
        let looked = tokio::task::spawn_blocking(move || nodes.others().1).await;
        looked.map_err(|error| {
            Error::internal("transfer.company", "the look at others failed").with_source(error)
        })
    }

    async fn half(&self) -> Result<Option<Epoch>> {
        self.epoch("SELECT copying FROM store").await
    }

    async fn begin(&self, of: Epoch) -> Result<()> {
        self.database
            .write("transfer.begin", move |connection, _| {
                connection.execute("UPDATE store SET copying = ?1", [of.as_bytes()])?;
                Ok(())
            })
            .await
    }

    async fn finish(&self, inbox_epoch: Option<Epoch>) -> Result<()> {
        let sql = "UPDATE store SET copying = NULL, inbox_epoch = coalesce(?1, inbox_epoch)";
        self.database
            .write("transfer.finish", move |connection, _| {
                connection.execute(sql, [inbox_epoch.map(|epoch| *epoch.as_bytes())])?;
                Ok(())
            })
            .await
    }
}

impl SqlitePortable {
    async fn epoch(&self, sql: &'static str) -> Result<Option<Epoch>> {
        self.database
            .read("transfer.epoch", move |connection| {
                let epoch: Option<[u8; 16]> = connection.query_row(sql, [], |row| row.get(0))?;
                Ok(epoch.map(Epoch::from_bytes))
            })
            .await
    }
}

fn names(table: &Table) -> Vec<&'static str> {
    table.columns.iter().map(Column::sqlite).collect()
}

fn key(table: &Table) -> &'static str {
    names(table).first().copied().unwrap_or_default()
}

fn insert(table: &Table, more: &str) -> String {
    let (columns, name) = (names(table), table.sqlite);
    let count = columns.len() + usize::from(!more.is_empty());
    format!("INSERT INTO {name} ({}{more}) VALUES ({})", columns.join(", "), placeholders(1, count))
}

fn placeholders(from: usize, count: usize) -> String {
    let each: Vec<String> = (from..from + count).map(|place| format!("?{place}")).collect();
    each.join(", ")
}

fn value_of(value: ValueRef<'_>, of: Of) -> Value {
    match (value, of) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(number), Of::Bool) => Value::Bool(number != 0),
        (ValueRef::Integer(number), _) => Value::Int(number),
        (ValueRef::Real(number), _) => Value::Text(number.to_string()),
        (ValueRef::Text(text), _) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        (ValueRef::Blob(bytes), _) => Value::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Int(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Bool(yes) => ToSqlOutput::Borrowed(ValueRef::Integer(i64::from(*yes))),
        })
    }
}
