use super::content::{self, Reader, Written};
use super::node;
use super::row::{Columns, damaged, key};
use super::run_row::{OPEN_LOCKED, RunRow};
use crate::clock::Clock;
use crate::database::{Access, Database, Priority, Transaction};
use crate::error::{Error, Result};
use crate::file::{Body, Content};
use crate::id::{BatchId, Epoch, NodeId};
use crate::store::transfer::{ARTIFACTS, Column, FILES, Of, Row, Rows, TABLES, Table, Value};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Everything in a PostgreSQL schema, row by row.
#[derive(Debug)]
pub(super) struct PostgresPortable {
    database: Database,
    node: NodeId,
    clock: Arc<dyn Clock>,
}

impl PostgresPortable {
    pub(super) fn new(database: Database, node: NodeId, clock: Arc<dyn Clock>) -> Self {
        Self { database, node, clock }
    }
}

/// The statements of a table.
struct Statements {
    first: String,
    next: String,
    insert: String,
    insert_again: String,
    content: String,
    count: String,
}

/// By the tables' names.
static STATEMENTS: LazyLock<HashMap<&'static str, Statements>> = LazyLock::new(|| {
    let all = TABLES.iter().chain([&FILES, &ARTIFACTS]);
    all.map(|table| (table.postgres, Statements::of(table))).collect()
});

impl Statements {
    fn of(table: &Table) -> Self {
        let name = table.postgres;
        let read: Vec<String> =
            table.columns.iter().map(|column| reading(column.name, column.of)).collect();
        let keys: Vec<&str> =
            table.columns.iter().take(table.keys).map(|column| column.name).collect();
        let (read, keys) = (read.join(", "), keys.join(", "));
        let since = placeholders(2, table.columns.iter().take(table.keys).map(|column| column.of));
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let (more, last) = if table.has_content() {
            (", content", format!(", ${}", table.columns.len() + 1))
        } else {
            ("", String::new())
        };
        let insert = format!(
            "INSERT INTO {name} ({}{more}) OVERRIDING SYSTEM VALUE VALUES ({}{last})",
            names.join(", "),
            placeholders(1, table.columns.iter().map(|column| column.of)),
        );
        Self {
            insert_again: format!("{insert} ON CONFLICT DO NOTHING"),
            insert,
            count: format!("SELECT count(*) FROM {name}"),
            first: format!("SELECT {read} FROM {name} ORDER BY {keys} LIMIT $1"),
            next: format!(
                "SELECT {read} FROM {name} WHERE ({keys}) > ({since}) ORDER BY {keys} LIMIT $1"
            ),
            content: format!(
                "SELECT content, bytes FROM {name} WHERE {} = $1",
                names.first().copied().unwrap_or_default()
            ),
        }
    }
}

fn of(table: &'static Table) -> Result<&'static Statements> {
    let known = STATEMENTS.get(table.postgres);
    known.ok_or_else(|| Error::internal("transfer", "a table is not known"))
}

/// Everything comes and goes as a type that all versions of the driver know.
fn reading(name: &str, of: Of) -> String {
    match of {
        Of::Decimal => format!("{name}::text"),
        Of::Int => format!("{name}::bigint"),
        Of::Id | Of::Text | Of::Words | Of::Bytes | Of::Bool => name.to_owned(),
    }
}

fn placeholders(from: usize, columns: impl Iterator<Item = Of>) -> String {
    let each = (from..).zip(columns).map(|(place, of)| match of {
        Of::Decimal => format!("${place}::text::numeric"),
        Of::Int => format!("${place}::bigint"),
        Of::Id | Of::Text | Of::Words | Of::Bytes | Of::Bool => format!("${place}"),
    });
    each.collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Rows for PostgresPortable {
    async fn rows(
        &self,
        table: &'static Table,
        after: Option<Row>,
        max: usize,
    ) -> Result<Vec<Row>> {
        let statements = of(table)?;
        let max = max as i64;
        let keys = bound(table, after.as_ref().unwrap_or(&Vec::new()))?;
        let mut wanted: Vec<&(dyn ToSql + Sync)> = vec![&max];
        wanted.extend(keys.iter().map(|key| &**key as &(dyn ToSql + Sync)));
        let sql = if after.is_some() { &statements.next } else { &statements.first };
        let rows = self.database.fetch(access("transfer.rows"), sql, &wanted).await?;
        rows.iter().map(|row| row_of(table, row)).collect()
    }

    async fn count(&self, table: &'static Table) -> Result<u64> {
        let rows = self.database.fetch(access("transfer.count"), &of(table)?.count, &[]).await?;
        rows.first().map_or(Ok(0), |row| Columns::of(row).count())
    }

    async fn put(&self, table: &'static Table, rows: Vec<Row>, again: bool) -> Result<()> {
        let (statements, rows) = (of(table)?, &rows);
        let sql = if again { &statements.insert_again } else { &statements.insert };
        self.database
            .write(access("transfer.put"), |transaction| {
                Box::pin(async move {
                    for row in rows {
                        let values = bound(table, row)?;
                        let values: Vec<&(dyn ToSql + Sync)> =
                            values.iter().map(|value| &**value as _).collect();
                        transaction.execute(sql, &values).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn content(&self, table: &'static Table, row: &Row) -> Result<Content> {
        let keys = bound(table, &row.iter().take(1).cloned().collect())?;
        let keys: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|key| &**key as _).collect();
        let access = access("transfer.content");
        let rows = self.database.fetch(access, &of(table)?.content, &keys).await?;
        let row = rows.first().ok_or_else(|| Error::not_found("transfer.content", "content"))?;
        let mut columns = Columns::of(row);
        let (content, bytes) = (columns.value()?, columns.count()?);
        Ok(Box::new(Reader::open(self.database.clone(), access, content, bytes).await?))
    }

    async fn put_with_content(&self, table: &'static Table, row: Row, body: Body) -> Result<u64> {
        let access = access("transfer.put");
        let batch = BatchId::new(&*self.clock);
        let written =
            content::write(&self.database, self.node, access, batch, body, |_| Ok(())).await?;
        let (statements, row, content) = (of(table)?, &row, written.content);
        self.database
            .write(access, |transaction| {
                Box::pin(put_one(transaction, table, statements, row, content))
            })
            .await?;
        let bytes = written.bytes;
        written.kept();
        Ok(bytes)
    }

    async fn inbox_epoch(&self) -> Result<Option<Epoch>> {
        self.epoch("SELECT inbox_epoch FROM store").await
    }

    async fn renew_epochs(&self, clock: &dyn Clock) -> Result<u64> {
        self.database
            .write(access("transfer.renew_epochs"), |transaction| {
                Box::pin(async move {
                    let open = RunRow::all(transaction, OPEN_LOCKED, &[]).await?;
                    let count = open.len() as u64;
                    for mut row in open {
                        row.renew_epoch(transaction, Epoch::new(clock)).await?;
                    }
                    let inboxes = "UPDATE store SET inbox_epoch = $1";
                    let epoch = key(Epoch::new(clock).as_bytes());
                    transaction.execute(inboxes, &[&epoch]).await?;
                    Ok(count)
                })
            })
            .await
    }

    async fn has_company(&self) -> Result<bool> {
        node::others(&self.database, self.node).await
    }

    async fn half(&self) -> Result<Option<Epoch>> {
        self.epoch("SELECT copying FROM store").await
    }

    async fn begin(&self, of: Epoch) -> Result<()> {
        let of = key(of.as_bytes());
        self.database
            .write(access("transfer.begin"), |transaction| {
                Box::pin(async move {
                    transaction.execute("UPDATE store SET copying = $1", &[&of]).await.map(drop)
                })
            })
            .await
    }

    /// New rows get numbers after those that came, and inboxes go on where they were.
    async fn finish(&self, inbox_epoch: Option<Epoch>) -> Result<()> {
        let epoch = inbox_epoch.map(|epoch| key(epoch.as_bytes()));
        self.database
            .write(access("transfer.finish"), |transaction| {
                Box::pin(async move {
                    transaction.execute(FINISH, &[&epoch]).await?;
                    let rest: &[&str] = if epoch.is_some() { &FINISH_REST } else { &[] };
                    for sql in rest.iter().chain(&[FINISH_LOGINS]) {
                        transaction.query(sql, &[]).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

impl PostgresPortable {
    async fn epoch(&self, sql: &'static str) -> Result<Option<Epoch>> {
        let rows = self.database.fetch(access("transfer.epoch"), sql, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::not_found("transfer.epoch", "store"))?;
        Columns::of(row).optional_id(Epoch::from_bytes)
    }
}

const FINISH: &str =
    "UPDATE store SET copying = NULL, inbox_epoch = coalesce($1::uuid, inbox_epoch)";
const FINISH_REST: [&str; 3] = [
    "INSERT INTO inbox_head (owner, head) SELECT owner, max(seq) FROM inbox GROUP BY owner",
    "SELECT setval(pg_get_serial_sequence('run', 'id'), coalesce(max(id), 0) + 1, false) FROM run",
    "SELECT setval(pg_get_serial_sequence('message', 'id'), coalesce(max(id), 0) + 1, false) FROM message",
];
const FINISH_LOGINS: &str = "SELECT setval(pg_get_serial_sequence('revocation', 'id'), coalesce(max(id), 0) + 1, false) FROM revocation";

async fn put_one(
    transaction: &Transaction<'_>,
    table: &'static Table,
    statements: &'static Statements,
    row: &Row,
    content: Uuid,
) -> Result<()> {
    Written::keep(content, transaction).await?;
    let values = bound(table, row)?;
    let mut values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
    values.push(&content);
    transaction.execute(&statements.insert, &values).await?;
    Ok(())
}

fn access(operation: &'static str) -> Access {
    Access::system(operation).priority(Priority::Low)
}

/// The values as their columns have them.
fn bound(table: &Table, row: &Row) -> Result<Vec<Box<dyn ToSql + Sync + Send>>> {
    let bind = |(value, column): (&Value, &Column)| {
        let bound: Box<dyn ToSql + Sync + Send> = match (column.of, value.clone()) {
            (Of::Id, Value::Null) => Box::new(None::<Uuid>),
            (Of::Id, Value::Bytes(id)) => {
                Box::new(Uuid::from_slice(&id).map_err(|error| damaged(0, error))?)
            }
            (Of::Int, Value::Null) => Box::new(None::<i64>),
            (Of::Int, Value::Int(number)) => Box::new(number),
            (Of::Text | Of::Decimal, Value::Null) => Box::new(None::<String>),
            (Of::Text | Of::Decimal, Value::Text(text)) => Box::new(text),
            (Of::Words | Of::Bytes, Value::Null) => Box::new(None::<Vec<u8>>),
            (Of::Words | Of::Bytes, Value::Bytes(bytes)) => Box::new(bytes),
            (Of::Words, Value::Text(text)) => Box::new(text.into_bytes()),
            (Of::Bool, Value::Bool(yes)) => Box::new(yes),
            (of, _) => return Err(damaged(0, format!("a value of {} is no {of:?}", column.name))),
        };
        Ok(bound)
    };
    row.iter().zip(table.columns).map(bind).collect()
}

fn row_of(table: &Table, row: &tokio_postgres::Row) -> Result<Row> {
    let mut columns = Columns::of(row);
    let mut value = |of| {
        Ok(match of {
            Of::Id => {
                columns.value::<Option<Uuid>>()?.map(|id| Value::Bytes(id.as_bytes().to_vec()))
            }
            Of::Int => columns.value::<Option<i64>>()?.map(Value::Int),
            Of::Text | Of::Decimal => columns.value::<Option<String>>()?.map(Value::Text),
            Of::Bytes => columns.value::<Option<Vec<u8>>>()?.map(Value::Bytes),
            Of::Words => {
                let bytes = columns.value::<Option<Vec<u8>>>()?.map(String::from_utf8).transpose();
                bytes.map_err(|error| damaged(0, error))?.map(Value::Text)
            }
            Of::Bool => columns.value::<Option<bool>>()?.map(Value::Bool),
        }
        .unwrap_or(Value::Null))
    };
    table.columns.iter().map(|column| value(column.of)).collect()
}
