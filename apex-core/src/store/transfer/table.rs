//! What there is to move, said once for every place: SQLite's names and PostgreSQL's.

use super::Part;

/// A table that is moved row by row.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) part: Part,
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
    /// The columns by which its rows are in order, which are its first ones.
    pub(crate) keys: usize,
    pub(crate) columns: &'static [Column],
    /// The rows that are moved together.
    pub(crate) page: usize,
}

/// A column. `owner` is `user` in SQLite.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) of: Of,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// 16 bytes.
    Id,
    /// A number; a decimal one has a text's form.
    Int,
    Decimal,
    Text,
    /// What people wrote, any character.
    Words,
    Bytes,
    Bool,
}

macro_rules! table {
    ($part:ident, $sqlite:literal, $postgres:literal, $keys:literal, $page:literal: $($of:ident $name:literal),* $(,)?) => {
        Table {
            part: Part::$part,
            sqlite: $sqlite,
            postgres: $postgres,
            keys: $keys,
            page: $page,
            columns: &[$(Column { name: $name, of: Of::$of }),*],
        }
    };
}

/// Every table without contents, those that others refer to first.
pub(crate) static TABLES: [Table; 19] = [
    table!(Accounts, "user", "account", 1, 500: Id "account", Text "scopes", Int "created_at", Text "standing"),
    table!(Accounts, "subject", "subject", 1, 500: Text "subject", Id "account"),
    table!(Logins, "session", "session", 1, 500:
        Id "session", Id "owner", Text "scopes", Text "method", Bytes "hash", Int "expires_at", Bytes "family",
        Bytes "refresh", Int "created_at", Int "renewed_at", Int "lapses_at", Int "ends_at"),
    table!(Logins, "revocation", "revocation", 1, 500: Int "id", Int "at", Id "owner", Id "session"),
    table!(Accounts, "audit", "audit", 1, 500:
        Id "id", Int "at", Text "action", Text "reason", Text "way", Id "owner", Id "session", Text "address",
        Id "correlation"),
    table!(Rest, "usage_attempt", "usage_attempt", 1, 500:
        Id "attempt", Id "owner", Id "run", Int "step", Int "number", Int "at", Int "took_ms", Text "provider",
        Text "model", Text "outcome", Text "reason", Text "request", Text "service_tier", Int "cache_write_tokens",
        Int "input_tokens", Int "cached_tokens", Int "output_tokens", Int "reasoning_tokens", Decimal "cost_usd",
        Bool "estimated"),
    table!(Rest, "budget", "budget", 1, 500:
        Id "owner", Int "day_since", Int "day_tokens", Decimal "day_usd", Int "month_since", Int "month_tokens",
        Decimal "month_usd"),
    table!(Rest, "budget_reservation", "budget_reservation", 1, 500:
        Id "reservation", Id "owner", Int "until", Bool "settled", Int "tokens", Decimal "usd"),
    table!(Rest, "note", "note", 2, 500: Id "owner", Text "name", Words "text", Id "run", Int "at"),
    table!(Rest, "thread", "thread", 1, 500:
        Id "thread", Id "owner", Words "title", Int "created_at", Int "updated_at"),
    table!(Rest, "share", "share", 2, 500: Id "thread", Id "reader", Id "owner", Int "at"),
    table!(Rest, "message", "message", 1, 200:
        Int "id", Id "thread", Id "run", Text "role", Words "text", Text "attachments", Int "at"),
    table!(Rest, "run", "run", 1, 200:
        Int "id", Id "run", Id "owner", Id "thread", Id "parent", Text "scopes", Id "request", Bytes "digest",
        Int "started_at", Int "ended_at", Text "state", Id "epoch", Int "fence", Int "attempt", Id "holder",
        Int "lease_until", Bool "placed", Int "head", Int "oldest", Int "bytes", Id "last_batch", Text "signals",
        Bool "unseen", Int "folded", Bool "dropped", Int "wake_at"),
    table!(Rest, "run_input", "run_input", 1, 200: Int "id", Words "text", Text "attachments"),
    // One may have 16 MiB.
    table!(Rest, "run_checkpoint", "run_checkpoint", 1, 4: Int "id", Int "version", Bytes "state"),
    table!(Rest, "run_checkpoint_more", "run_checkpoint_more", 2, 20: Int "id", Int "place", Bytes "state"),
    table!(Rest, "run_snapshot", "run_snapshot", 1, 50: Int "id", Words "snapshot"),
    table!(Rest, "event", "event", 2, 200: Int "id", Int "seq", Bool "terminal", Bytes "json"),
    table!(Rest, "inbox", "inbox", 2, 500:
        Id "owner", Int "seq", Id "run", Id "thread", Text "state", Int "at"),
];

/// Files, whose content is moved beside their rows.
pub(crate) static FILES: Table = table!(Rest, "file", "file", 1, 100:
    Id "file", Id "owner", Text "name", Int "bytes", Text "sha256", Int "at");

/// Artifacts, the same.
pub(crate) static ARTIFACTS: Table = table!(Rest, "artifact", "artifact", 1, 100:
    Id "artifact", Id "owner", Id "run", Text "name", Text "media_type", Int "bytes", Text "sha256");

impl Column {
    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite(&self) -> &'static str {
        match self.name {
            "owner" | "account" => "user",
            name => name,
        }
    }
}
