//! Conversations: what users said and what runs answered.

use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{FileId, RunId, ThreadId};
use crate::principal::Principal;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Thread {
    /// Its id.
    pub thread: ThreadId,
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

    /// One conversation.
    ///
    /// # Errors
    /// `not_found`.
    async fn thread(&self, principal: &Principal, thread: ThreadId) -> Result<Thread>;

    /// The user's conversations, the one last written to first.
    ///
    /// # Errors
    /// `bad_request` for a cursor that this store did not give out.
    async fn threads(
        &self,
        principal: &Principal,
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
}
