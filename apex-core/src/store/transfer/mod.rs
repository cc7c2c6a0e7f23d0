//! Moving everything from one place to another without loss: accounts, logins, conversations, usage, files, results,
//! and runs with their logs, epochs and checkpoints. A place is a database, of one kind or the other, with the Redis
//! and the database of logins that stand beside it, if there are any: [`Stores`] know where each of their parts is kept.
//! What lives for seconds stays behind; [`LEFT_OUT`] names it.
//!
//! Nothing else may work with either place in the meantime: stop the nodes first. Where one is seen, nothing is begun.

#![cfg_attr(
    not(all(feature = "postgres", feature = "redis", feature = "sqlite")),
    allow(dead_code, unused_imports, reason = "each place needs another part")
)]

mod copying;
mod part;
mod rows;
mod table;

pub use copying::{Moved, Progress, copy, copy_logins};
pub use part::Portable;
pub(crate) use part::{Logins, Part};
pub(crate) use rows::{Row, Rows, Value, no_part};
pub(crate) use table::{ARTIFACTS, Column, FILES, Of, TABLES, Table};

use super::Stores;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// What is not moved, and what comes of that.
pub const LEFT_OUT: [(&str, &str); 4] = [
    ("tickets", "they are good for seconds, and clients buy new ones"),
    ("limits", "they begin at nothing, and who holds a place takes it again"),
    ("wake-ups", "whoever starts looks by itself"),
    ("hints of breakers", "each node decides by its own calls until it hears of others"),
];

/// Begins a new life of every log that is still open, and of the inboxes: after a database was put back to an earlier
/// state. Clients may know more of a run than the database does; by its new epoch they see that, and are told where the
/// run stands. Its events up to now go, their outcome stays. How many logs that were. Stop the nodes first.
///
/// # Errors
/// `bad_request` for stores that are in no database of ours; what the store says.
pub async fn renew_epochs(stores: &Stores, clock: &dyn Clock) -> Result<u64> {
    Portable::rows(stores, Part::Rest)?.renew_epochs(clock).await
}

/// Passes for stores that no [`copy`] has left half-filled; a node looks before it begins to work.
///
/// # Errors
/// `config_invalid` where one was broken off; what the stores say.
pub async fn refuse_half(stores: &Stores) -> Result<()> {
    for part in [Part::Accounts, Part::Logins, Part::Rest] {
        let Ok(rows) = Portable::rows(stores, part) else { continue };
        if rows.half().await?.is_some() {
            let told = "what was being moved here is not all here: run the same move once more, or empty this place";
            return Err(Error::new(Kind::Config, "transfer.refuse_half", told).with("part", part));
        }
    }
    Ok(())
}
