use crate::clock::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, Type};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// Reads the columns of a row in the order of its statement.
pub(super) struct Columns<'a, 'statement> {
    row: &'a Row<'statement>,
    next: usize,
}

impl<'a, 'statement> Columns<'a, 'statement> {
    pub(super) fn of(row: &'a Row<'statement>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn value<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let value = self.row.get(self.next);
        self.next += 1;
        value
    }

    /// An id or a digest, kept as its bytes.
    pub(super) fn id<T, const N: usize>(&mut self, id: fn([u8; N]) -> T) -> rusqlite::Result<T> {
        self.value().map(id)
    }

    pub(super) fn optional_id<T, const N: usize>(
        &mut self,
        id: fn([u8; N]) -> T,
    ) -> rusqlite::Result<Option<T>> {
        Ok(self.value::<Option<[u8; N]>>()?.map(id))
    }

    pub(super) fn count(&mut self) -> rusqlite::Result<u64> {
        Ok(self.value::<i64>()?.unsigned_abs())
    }

    pub(super) fn time(&mut self) -> rusqlite::Result<Timestamp> {
        self.value().map(Timestamp::from_millis)
    }

    pub(super) fn optional_time(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.value::<Option<i64>>()?.map(Timestamp::from_millis))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> rusqlite::Result<T> {
        let column = self.next;
        self.optional_json()?.ok_or_else(|| damaged(column, "a value is missing"))
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&mut self) -> rusqlite::Result<Option<T>> {
        let column = self.next;
        self.value::<Option<String>>()?
            .map(|text| serde_json::from_str(&text).map_err(|error| damaged(column, error)))
            .transpose()
    }

    /// A value kept as its text.
    pub(super) fn optional_parsed<T: FromStr>(&mut self) -> rusqlite::Result<Option<T>>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let column = self.next;
        self.value::<Option<String>>()?
            .map(|text| text.parse().map_err(|error: T::Err| damaged(column, error)))
            .transpose()
    }

    /// A value kept under its name.
    pub(super) fn named<T>(&mut self, find: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
        let column = self.next;
        let name: String = self.value()?;
        find(&name).ok_or_else(|| damaged(column, format!("unknown name {name:?}")))
    }
}

/// A count as SQLite keeps it.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A value as text; for types that always have a JSON form.
pub(super) fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn damaged(
    column: usize,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}
