//! Conversations: what users said and what runs answered.

mod search;

pub use search::{Found, MOST_FOUND, MOST_TERMS, SearchIndex, SearchQuery, Snippet};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use search::CANDIDATES;
pub(crate) use search::{Candidate, ranked, terms, words};

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::{FileId, RunId, ThreadId, UserId};
use crate::principal::Principal;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Thread {
    /// Its id.
    pub thread: ThreadId,
    /// Whose it is: the reader's own, or that of who shares it with them.
    pub owner: UserId,
    /// The first words of its first message.
    pub title: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When the last message was added.
    pub updated_at: Timestamp,
}

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The user.
    User,
    /// A run.
    Assistant,
}

/// Something that was said in a conversation: each run has one message of the user's and, when it ends, one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ThreadMessage {
    /// The run that it belongs to.
    pub run: RunId,
    /// Who said it.
    pub role: Role,
    /// The words, as Markdown.
    pub text: String,
    /// The files that belong to it.
    pub attachments: Vec<FileId>,
    /// When.
    pub at: Timestamp,
}

/// Somebody with whom a conversation is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Share {
    /// Who may read it and follow its runs.
    pub user: UserId,
    /// Since when.
    pub at: Timestamp,
}

/// Which conversations a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The user's own.
    Own,
    /// Those that others share with the user.
    Shared,
}

/// With how many users one conversation is shared, at most.
pub const MOST_SHARES: usize = 100;

/// A piece of a list, with the cursor that the next piece follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Paged<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for next; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Keeps conversations.
///
/// A conversation that its owner shares may be read by whom it is shared with, and so may its runs and what they made:
/// the run log and the artifacts of the same database ask for it at each read. Nothing more is open to them: what
/// changes anything is `not_found` as for everybody else. Reading needs the scope `read` and changing `run`; without
/// it, `forbidden`.
#[async_trait]
pub trait ThreadStore: fmt::Debug + Send + Sync {
    /// Adds a message, and the conversation with it when it is new. The same message of the same run and role
    /// again changes nothing.
    ///
    /// # Errors
    /// `not_found` when the conversation is another user's.
    async fn add(
        &self,
        principal: &Principal,
        thread: ThreadId,
        message: ThreadMessage,
    ) -> Result<()>;

    /// One conversation, the user's own or a shared one.
    ///
    /// # Errors
    /// `not_found`.
    async fn thread(&self, principal: &Principal, thread: ThreadId) -> Result<Thread>;

    /// The user's conversations, or those shared with the user; the one last written to first.
    ///
    /// # Errors
    /// `bad_request` for a cursor that this store did not give out.
    async fn threads(
        &self,
        principal: &Principal,
        whose: Whose,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Thread>>;

    /// The messages of a conversation, oldest first.
    ///
    /// # Errors
    /// `not_found`; `bad_request` for a cursor that this store did not give out.
    async fn messages(
        &self,
        principal: &Principal,
        thread: ThreadId,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<ThreadMessage>>;

    /// Deletes a conversation; its runs are the run log's to forget.
    ///
    /// # Errors
    /// `not_found`.
    async fn delete(&self, principal: &Principal, thread: ThreadId) -> Result<()>;

    /// Shares a conversation of the user's own. Again changes nothing.
    ///
    /// # Errors
    /// `not_found`; `bad_request` with oneself; `too_large` past [`MOST_SHARES`].
    async fn share(&self, principal: &Principal, thread: ThreadId, with: Share) -> Result<()>;

    /// Ends that: the owner takes it back, or `user` wants it no longer. Whoever follows runs of it is woken
    /// ([`Topic::Run`](crate::run::Topic::Run)), and finds that they may not any more.
    ///
    /// # Errors
    /// `not_found`, also where it is not shared with `user`.
    async fn unshare(&self, principal: &Principal, thread: ThreadId, user: UserId) -> Result<()>;

    /// With whom a conversation of the user's own is shared, in the order of their ids.
    ///
    /// # Errors
    /// `not_found`.
    async fn shares(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<Share>>;
}

/// Passes for a share that may be made beside `others`.
pub(crate) fn check_share(principal: &Principal, with: &Share, others: usize) -> Result<()> {
    const OPERATION: &str = "thread.share";
    if with.user == principal.user() {
        let own = "a conversation is its owner's already";
        return Err(Error::new(Kind::BadRequest, OPERATION, own));
    }
    if others >= MOST_SHARES {
        let many = "this conversation is shared with as many users as it may be; end one of them";
        return Err(Error::new(Kind::TooLarge, OPERATION, many).with("limit", MOST_SHARES));
    }
    Ok(())
}

/// The longest title, in characters.
const TITLE: usize = 80;

/// The title that a conversation gets from its first message.
pub(crate) fn title_of(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(TITLE) {
        None => words,
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default().trim_end()),
    }
}

/// Where a list goes on: after the item with this order and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub(crate) order: i64,
    pub(crate) id: [u8; 16],
}

impl Cursor {
    pub(crate) fn encode(self) -> String {
        format!("{}.{:032x}", self.order, u128::from_be_bytes(self.id))
    }

    pub(crate) fn decode(cursor: &str, operation: &'static str) -> Result<Self> {
        cursor
            .split_once('.')
            .and_then(|(order, id)| {
                Some(Self {
                    order: order.parse().ok()?,
                    id: u128::from_str_radix(id, 16).ok()?.to_be_bytes(),
                })
            })
            .ok_or_else(|| {
                Error::new(
                    Kind::BadRequest,
                    operation,
                    "the cursor is not one of this list; begin without one",
                )
            })
    }
}

/// Cuts `items`, of which one more than `max` was fetched, down to a page.
pub(crate) fn page<T>(mut items: Vec<T>, max: usize, cursor: impl Fn(&T) -> Cursor) -> Paged<T> {
    let more = items.len() > max;
    items.truncate(max);
    let next = items.last().filter(|_| more).map(|last| cursor(last).encode());
    Paged { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_line_of_the_first_words() {
        assert_eq!(title_of("  Where does\n\tit go? "), "Where does it go?");
        let long = title_of(&"ä".repeat(200));
        assert_eq!(long.chars().count(), TITLE + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_cursor_survives_text_and_refuses_other_text() {
        let cursor = Cursor { order: -3, id: [0xfe; 16] };
        assert_eq!(Cursor::decode(&cursor.encode(), "test").unwrap(), cursor);
        for other in ["", "1", "x.y", "1.", "1.zz"] {
            let error = Cursor::decode(other, "test").unwrap_err();
            assert_eq!(error.kind(), Kind::BadRequest, "{other}");
        }
    }
}
