//! What agents remember of a user: short notes under names, which the user can see, take along and delete.
//!
//! A note is the user's, not a run's or a conversation's: it stays until it is deleted or its user erased.

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::RunId;
use crate::principal::Principal;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most notes of one user.
pub const MOST_NOTES: usize = 256;

/// The longest name and the longest text, in bytes.
pub const LONGEST_NAME: usize = 64;
/// The longest text of a note, in bytes.
pub const LONGEST_NOTE: usize = 4 * 1024;

/// Something that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Note {
    /// By which it is found and replaced: 1 to 64 of `a-z`, `0-9`, `_`, `-` and `.`.
    pub name: String,
    /// What is remembered: data, never an instruction.
    pub text: String,
    /// The run that wrote it.
    pub run: Option<RunId>,
    /// When it was written.
    pub at: Timestamp,
}

/// Keeps notes. Reading needs the scope `read` and changing `run`; without it, `forbidden`.
#[async_trait]
pub trait MemoryStore: fmt::Debug + Send + Sync {
    /// Keeps a note; one of the same name is replaced, so the same again changes nothing.
    ///
    /// # Errors
    /// `bad_request` for a name of another form; `too_large` for a longer text, and for more notes than a user may
    /// have; `not_found` for a user who was erased.
    async fn keep(&self, principal: &Principal, note: Note) -> Result<()>;

    /// All of the user's notes, by name.
    ///
    /// # Errors
    /// What the store says.
    async fn notes(&self, principal: &Principal) -> Result<Vec<Note>>;

    /// Forgets one note.
    ///
    /// # Errors
    /// `not_found`.
    async fn forget(&self, principal: &Principal, name: &str) -> Result<()>;

    /// Forgets all of the user's notes; says how many.
    ///
    /// # Errors
    /// What the store says.
    async fn forget_all(&self, principal: &Principal) -> Result<u64>;
}

/// Passes a note that may be kept; for stores of one's own.
///
/// # Errors
/// As [`MemoryStore::keep`].
pub fn check(note: &Note) -> Result<()> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let named = (1..=LONGEST_NAME).contains(&note.name.len()) && note.name.chars().all(letter);
    if !named {
        let told = "a note is named by 1 to 64 of a-z, 0-9, _, - and .";
        return Err(Error::new(Kind::BadRequest, "memory.keep", told));
    }
    if note.text.len() > LONGEST_NOTE {
        let told = "the note is longer than a note may be; keep less, or several";
        return Err(Error::new(Kind::TooLarge, "memory.keep", told).with("limit", LONGEST_NOTE));
    }
    Ok(())
}

/// The answer where there is no room for a further note.
#[must_use]
pub fn full() -> Error {
    let told = "as many notes are kept as may be; forget some";
    Error::new(Kind::TooLarge, "memory.keep", told).with("limit", MOST_NOTES)
}

/// The answer for a note that is not there.
#[must_use]
pub fn missing() -> Error {
    Error::not_found("memory.forget", "note")
}
