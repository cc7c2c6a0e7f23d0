use super::client::Client;
use super::session::RedisSessionStore;
use crate::auth::{RefreshHash, Revocation, SessionRecord, TokenHash};
use crate::clock::Timestamp;
use crate::error::{Error, Failure, Phase, Result};
use crate::id::{Epoch, SessionId, UserId};
use crate::resilience::Effect;
use crate::store::transfer::{Row, Rows, Table, Value, no_part};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Logins under way at a time.
const AT_A_TIME: usize = 64;

const READ: &str = "transfer.rows";
const PUT: &str = "transfer.put";

/// The logins in a Redis, row by row.
#[derive(Debug)]
pub(super) struct RedisPortable {
    client: Arc<Client>,
    sessions: Arc<RedisSessionStore>,
    /// Those that are there, in order, since the first of them were asked for: a Redis tells its keys in no order.
    known: Mutex<Vec<SessionId>>,
}

impl RedisPortable {
    pub(super) fn new(client: Arc<Client>, sessions: Arc<RedisSessionStore>) -> Self {
        Self { client, sessions, known: Mutex::default() }
    }

    fn half_key(&self) -> String {
        self.client.key("m", "half")
    }

    async fn look(&self) -> Result<usize> {
        let mut found = BTreeSet::new();
        self.client.scan(READ, "s", |name| found.extend(name.parse::<SessionId>().ok())).await?;
        let count = found.len();
        *self.known.lock() = found.into_iter().collect();
        Ok(count)
    }

    async fn logins(&self, after: Option<Row>, max: usize) -> Result<Vec<Row>> {
        let after = match after.map(|key| key.into_iter().next()) {
            Some(Some(Value::Bytes(id))) => id.try_into().ok().map(SessionId::from_bytes),
            _ => {
                self.look().await?;
                None
            }
        };
        let mut next = {
            let known = self.known.lock();
            after.map_or(0, |after| known.partition_point(|known| *known <= after))
        };
        loop {
            let some: Vec<SessionId> =
                self.known.lock().iter().skip(next).take(max.min(AT_A_TIME)).copied().collect();
            if some.is_empty() {
                return Ok(Vec::new());
            }
            next += some.len();
            let read = some.iter().map(|session| self.sessions.read(READ, *session));
            let records = try_join_all(read).await?;
            let rows: Vec<Row> = records
                .into_iter()
                .flatten()
                .map(|(_, record)| row_of(&record))
                .collect::<Result<_>>()?;
            // Some may have run out in the meantime.
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
    }

    /// What was revoked, oldest first, each under its place.
    async fn revocations(&self, after: Option<Row>, max: usize) -> Result<Vec<Row>> {
        let first = match after.map(|key| key.into_iter().next()) {
            Some(Some(Value::Int(place))) => place,
            _ => 0,
        };
        let last = first.saturating_add(i64::try_from(max).unwrap_or(i64::MAX)) - 1;
        let found = self.sessions.revoked_between(READ, first, last).await?;
        let places = first + 1..;
        Ok(places
            .zip(&found)
            .map(|(place, revocation)| row_of_revocation(place, revocation))
            .collect())
    }
}

#[async_trait]
impl Rows for RedisPortable {
    async fn rows(
        &self,
        table: &'static Table,
        after: Option<Row>,
        max: usize,
    ) -> Result<Vec<Row>> {
        match table.postgres {
            "session" => self.logins(after, max).await,
            "revocation" => self.revocations(after, max).await,
            _ => Err(no_part(table)),
        }
    }

    async fn count(&self, table: &'static Table) -> Result<u64> {
        match table.postgres {
            "session" => Ok(self.look().await? as u64),
            "revocation" => {
                let key = self.client.key("rv", "");
                let mut count = redis::cmd("ZCARD");
                self.client.call("transfer.count", Effect::Read, &key, count.arg(&key)).await
            }
            _ => Err(no_part(table)),
        }
    }

    /// What is there already is written once more, and is the same.
    async fn put(&self, table: &'static Table, rows: Vec<Row>, _again: bool) -> Result<()> {
        match table.postgres {
            "session" => {
                // The time at which a record may go is the server's business, by the server's clock.
                let now = self.client.time(PUT).await?;
                let records: Vec<SessionRecord> = parsed(rows, record_of)?;
                for some in records.chunks(AT_A_TIME) {
                    try_join_all(some.iter().map(|record| self.sessions.keep(PUT, record, now)))
                        .await?;
                }
            }
            "revocation" => {
                let revocations: Vec<Revocation> = parsed(rows, revocation_of)?;
                for some in revocations.chunks(AT_A_TIME) {
                    try_join_all(some.iter().map(|one| self.sessions.revoke(PUT, *one))).await?;
                }
            }
            _ => return Err(no_part(table)),
        }
        Ok(())
    }

    /// A Redis does not tell.
    async fn has_company(&self) -> Result<bool> {
        Ok(false)
    }

    async fn half(&self) -> Result<Option<Epoch>> {
        let key = self.half_key();
        let mut get = redis::cmd("GET");
        let of: Option<Vec<u8>> =
            self.client.call("transfer.half", Effect::Read, &key, get.arg(&key)).await?;
        of.map(|of| of.try_into().map(Epoch::from_bytes).map_err(|_| damaged("a mark"))).transpose()
    }

    async fn begin(&self, of: Epoch) -> Result<()> {
        let key = self.half_key();
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&of.as_bytes()[..]);
        self.client.call("transfer.begin", Effect::Idempotent, &key, &set).await
    }

    async fn finish(&self, _inbox_epoch: Option<Epoch>) -> Result<()> {
        let key = self.half_key();
        let mut delete = redis::cmd("DEL");
        delete.arg(&key);
        let done = self.client.call::<i64>("transfer.finish", Effect::Idempotent, &key, &delete);
        done.await.map(drop)
    }
}

fn row_of(record: &SessionRecord) -> Result<Row> {
    let scopes = serde_json::to_string(&record.scopes)
        .map_err(|error| Error::internal(READ, "scopes have no JSON form").with_source(error))?;
    let digest = |hash: Option<TokenHash>| match hash {
        Some(hash) => Value::Bytes(hash.as_bytes().to_vec()),
        None => Value::Null,
    };
    let time = |time: Timestamp| Value::Int(time.as_millis());
    Ok(vec![
        Value::Bytes(record.session.as_bytes().to_vec()),
        Value::Bytes(record.user.as_bytes().to_vec()),
        Value::Text(scopes),
        Value::Text(record.method.clone()),
        digest(Some(record.hash)),
        time(record.expires_at),
        digest(record.refresh.map(|refresh| refresh.family)),
        digest(record.refresh.map(|refresh| refresh.current)),
        time(record.created_at),
        time(record.renewed_at),
        time(record.lapses_at),
        time(record.ends_at),
    ])
}

fn row_of_revocation(place: i64, revocation: &Revocation) -> Row {
    let session = revocation.session.map(|session| Value::Bytes(session.as_bytes().to_vec()));
    vec![
        Value::Int(place),
        Value::Int(revocation.at.as_millis()),
        Value::Bytes(revocation.user.as_bytes().to_vec()),
        session.unwrap_or(Value::Null),
    ]
}

/// The values of a row, one after the other.
struct Values(std::vec::IntoIter<Value>);

impl Values {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        match self.0.next()? {
            Value::Bytes(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }

    /// `None` for what cannot be there, and `Some(None)` for what is not.
    fn optional_bytes<const N: usize>(&mut self) -> Option<Option<[u8; N]>> {
        match self.0.next()? {
            Value::Null => Some(None),
            Value::Bytes(bytes) => Some(Some(bytes.try_into().ok()?)),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        match self.0.next()? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn int(&mut self) -> Option<i64> {
        match self.0.next()? {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.int().map(Timestamp::from_millis)
    }
}

fn parsed<T>(rows: Vec<Row>, of: fn(&mut Values) -> Option<T>) -> Result<Vec<T>> {
    let one = |row: Row| of(&mut Values(row.into_iter())).ok_or_else(|| damaged("a row"));
    rows.into_iter().map(one).collect()
}

/// The fields are read in the order of the columns.
fn record_of(values: &mut Values) -> Option<SessionRecord> {
    let session = SessionId::from_bytes(values.bytes()?);
    let user = UserId::from_bytes(values.bytes()?);
    let scopes = serde_json::from_str(&values.text()?).ok()?;
    let (method, hash) = (values.text()?, TokenHash::from_bytes(values.bytes()?));
    let expires_at = values.time()?;
    let (family, current) = (values.optional_bytes()?, values.optional_bytes()?);
    let refresh = family.zip(current).map(|(family, current)| RefreshHash {
        family: TokenHash::from_bytes(family),
        current: TokenHash::from_bytes(current),
    });
    Some(SessionRecord {
        session,
        user,
        scopes,
        method,
        hash,
        expires_at,
        refresh,
        created_at: values.time()?,
        renewed_at: values.time()?,
        lapses_at: values.time()?,
        ends_at: values.time()?,
    })
}

fn revocation_of(values: &mut Values) -> Option<Revocation> {
    values.int()?;
    Some(Revocation {
        at: values.time()?,
        user: UserId::from_bytes(values.bytes()?),
        session: values.optional_bytes()?.map(SessionId::from_bytes),
    })
}

fn damaged(what: &'static str) -> Error {
    Error::driver(Failure::Corruption, Phase::BeforeCommit, READ, format!("{what} is damaged"))
}
