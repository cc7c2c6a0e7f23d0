use crate::clock::Timestamp;
use crate::error::{Error, Failure, Phase, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::str::FromStr;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

/// Reads the columns of a row in the order of its statement.
pub(super) struct Columns<'row> {
    row: &'row Row,
    next: usize,
}

impl<'row> Columns<'row> {
    pub(super) fn of(row: &'row Row) -> Self {
        Self::after(row, 0)
    }

    /// Those after the first `columns`.
    pub(super) fn after(row: &'row Row, columns: usize) -> Self {
        Self { row, next: columns }
    }

    pub(super) fn value<T: FromSql<'row>>(&mut self) -> Result<T> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column).map_err(|error| damaged(column, error))
    }

    pub(super) fn id<T>(&mut self, id: fn([u8; 16]) -> T) -> Result<T> {
        Ok(id(self.value::<Uuid>()?.into_bytes()))
    }

    pub(super) fn optional_id<T>(&mut self, id: fn([u8; 16]) -> T) -> Result<Option<T>> {
        Ok(self.value::<Option<Uuid>>()?.map(|uuid| id(uuid.into_bytes())))
    }

    /// A digest.
    pub(super) fn digest(&mut self) -> Result<[u8; 32]> {
        let column = self.next;
        self.value::<&[u8]>()?.try_into().map_err(|error| damaged(column, error))
    }

    pub(super) fn optional_digest(&mut self) -> Result<Option<[u8; 32]>> {
        let column = self.next;
        self.value::<Option<&[u8]>>()?
            .map(|bytes| bytes.try_into().map_err(|error| damaged(column, error)))
            .transpose()
    }

    pub(super) fn count(&mut self) -> Result<u64> {
        Ok(self.value::<i64>()?.unsigned_abs())
    }

    pub(super) fn small(&mut self) -> Result<u32> {
        let column = self.next;
        u32::try_from(self.value::<i64>()?).map_err(|error| damaged(column, error))
    }

    pub(super) fn optional_small(&mut self) -> Result<Option<u32>> {
        let column = self.next;
        self.value::<Option<i64>>()?
            .map(|value| u32::try_from(value).map_err(|error| damaged(column, error)))
            .transpose()
    }

    /// A value kept as its text.
    pub(super) fn optional_parsed<T>(&mut self) -> Result<Option<T>>
    where
        T: FromStr<Err: StdError + Send + Sync + 'static>,
    {
        let column = self.next;
        self.value::<Option<&str>>()?
            .map(|text| text.parse().map_err(|error: T::Err| damaged(column, error)))
            .transpose()
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        self.value().map(Timestamp::from_millis)
    }

    pub(super) fn optional_time(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.value::<Option<i64>>()?.map(Timestamp::from_millis))
    }

    /// What people wrote.
    pub(super) fn words(&mut self) -> Result<String> {
        let column = self.next;
        let bytes = self.value::<&[u8]>()?;
        String::from_utf8(bytes.to_vec()).map_err(|error| damaged(column, error))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let column = self.next;
        self.optional_json()?.ok_or_else(|| damaged(column, "a value is missing"))
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let column = self.next;
        self.value::<Option<&str>>()?
            .map(|text| serde_json::from_str(text).map_err(|error| damaged(column, error)))
            .transpose()
    }

    /// A value kept under its name.
    pub(super) fn named<T>(&mut self, find: fn(&str) -> Option<T>) -> Result<T> {
        let column = self.next;
        let name: &str = self.value()?;
        find(name).ok_or_else(|| damaged(column, format!("unknown name {name:?}")))
    }
}

/// A count as PostgreSQL keeps it.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An id as PostgreSQL keeps it.
pub(super) fn key(id: &[u8; 16]) -> Uuid {
    Uuid::from_bytes(*id)
}

/// A value as text; for types that always have a JSON form.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Error::internal("postgres.write", "a value has no JSON form").with_source(error)
    })
}

/// The error for a value that this library did not write.
pub(super) fn damaged(column: usize, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::driver(Failure::Corruption, Phase::BeforeCommit, "postgres.read", error)
        .with("column", column)
}
