use super::progress::Progress;
use crate::failure::Failure;
use crate::stored::payload;
use crate::tools::Exchange;
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Payload;
use apex_core::file::{ArtifactStore, Content, FileInfo, FileStore};
use apex_core::id::{ArtifactId, CallId, FileId, RunId, ThreadId};
use apex_core::memory::{MemoryStore, Note};
use apex_core::principal::Principal;
use apex_core::thread::{Found, Paged, Role, SearchIndex, SearchQuery, ThreadMessage, ThreadStore};
use apex_core::usage::{Attempt, UsageStore};
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How much of a conversation is looked through for files.
const PAGE: usize = 200;
const MOST_PAGES: usize = 50;

/// What a tool may touch while it works on one call, in the name of the run's owner and of nobody else. A model that
/// asks for a call sees none of it.
#[derive(Debug, Clone)]
pub struct ToolContext {
    services: Arc<ToolServices>,
    scope: CallScope,
    summary: Arc<Mutex<Option<String>>>,
}

/// What all calls on a node share.
#[derive(Debug)]
pub(crate) struct ToolServices {
    pub(crate) files: Arc<dyn FileStore>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) threads: Arc<dyn ThreadStore>,
    pub(crate) usage: Arc<dyn UsageStore>,
    pub(crate) search: Arc<dyn SearchIndex>,
    pub(crate) memory: Arc<dyn MemoryStore>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How many pieces of blocking work run at the same time.
    pub(crate) blocking: Arc<Semaphore>,
}

/// Which call it is.
#[derive(Debug, Clone)]
pub(crate) struct CallScope {
    pub(crate) principal: Principal,
    pub(crate) run: RunId,
    pub(crate) thread: ThreadId,
    pub(crate) call: CallId,
    pub(crate) key: String,
    /// Whether a node that was lost may have made it.
    pub(crate) in_doubt: bool,
    pub(crate) progress: Progress,
    pub(crate) cancelled: CancellationToken,
}

impl ToolContext {
    pub(crate) fn new(services: Arc<ToolServices>, scope: CallScope) -> Self {
        Self { services, scope, summary: Arc::default() }
    }

    /// In whose name the call is made.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.scope.principal
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.scope.run
    }

    /// The call.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.scope.call
    }

    /// A key that stays the same when this call is made again after a crash that left open whether it took effect.
    /// Hand it to whatever makes a write happen once.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.scope.key
    }

    /// Says in a sentence what came of the call; users see it. The last one counts.
    pub fn summarise(&self, sentence: impl Into<String>) {
        *self.summary.lock() = Some(sentence.into());
    }

    /// Says how far the work is, in a unit such as `bytes` or `rows`; shown at most ten times a second.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        self.scope.progress.tell(done, total, unit);
    }

    /// Whether the call is to stop. Work in [`ToolContext::blocking`] cannot be stopped from outside: look at this
    /// often.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.scope.cancelled.is_cancelled()
    }

    /// Waits until the call is to stop.
    pub async fn cancelled(&self) {
        self.scope.cancelled.cancelled().await;
    }

    /// Does work that blocks or computes for long, on a thread of its own; how many run at the same time on a node
    /// is limited.
    ///
    /// # Errors
    /// What the work says; `tool_failed` when it panics; `cancelled` when the call was to stop before it began.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ToolContext) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        const OPERATION: &str = "tool.blocking";
        let permit = Arc::clone(&self.services.blocking)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(Kind::Draining, OPERATION, "this node is shutting down"))?;
        if self.is_cancelled() {
            return Err(Error::new(Kind::Cancelled, OPERATION, "the call was cancelled"));
        }
        let context = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&context)
        });
        match done.await {
            Ok(result) => result,
            Err(lost) => Err(match lost.try_into_panic() {
                Ok(panic) => {
                    Failure::panicked(Kind::ToolFailed, "the work", &*panic).into_error(OPERATION)
                }
                Err(_) => Error::new(Kind::Draining, OPERATION, "this node is shutting down"),
            }),
        }
    }

    /// One of the user's files.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn file(&self, file: FileId) -> Result<FileInfo> {
        self.services.files.info(self.principal(), file).await
    }

    /// The content of one of the user's files, to be read in [`ToolContext::blocking`].
    ///
    /// # Errors
    /// `not_found`.
    pub async fn open(&self, file: FileId) -> Result<Content> {
        self.services.files.open(self.principal(), file).await
    }

    /// The files of the last message of this conversation that had some; empty when none had.
    ///
    /// # Errors
    /// `not_found` when the conversation was deleted in the meantime.
    pub async fn earlier_files(&self) -> Result<Vec<FileId>> {
        let (mut last, mut cursor) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page = self
                .services
                .threads
                .messages(self.principal(), self.scope.thread, cursor.as_deref(), PAGE)
                .await?;
            let with_files = |message: &ThreadMessage| !message.attachments.is_empty();
            if let Some(message) = page.items.into_iter().rfind(with_files) {
                last = message.attachments;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(last)
    }

    /// Hands over what was asked and answered in this conversation before this run, oldest first.
    pub(crate) async fn said(&self, mut take: impl FnMut(Exchange) + Send) -> Result<()> {
        let (mut cursor, mut asked) = (None, FxHashMap::default());
        for _ in 0..MOST_PAGES {
            let page = self
                .services
                .threads
                .messages(self.principal(), self.scope.thread, cursor.as_deref(), PAGE)
                .await?;
            for message in page.items.into_iter().filter(|message| message.run != self.run()) {
                match message.role {
                    Role::User => drop(asked.insert(message.run, message.text)),
                    Role::Assistant => {
                        if let Some(question) = asked.remove(&message.run) {
                            take(Exchange { question, answer: message.text });
                        }
                    }
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Keeps a note about the user under a name; one of the same name is replaced.
    ///
    /// # Errors
    /// As [`MemoryStore::keep`].
    pub async fn remember(&self, name: &str, text: &str) -> Result<()> {
        let (name, text) = (name.to_owned(), text.to_owned());
        let note = Note { name, text, run: Some(self.run()), at: self.services.clock.now() };
        self.services.memory.keep(self.principal(), note).await
    }

    /// The notes about the user, by name.
    ///
    /// # Errors
    /// What the store says.
    pub async fn recall(&self) -> Result<Vec<Note>> {
        self.services.memory.notes(self.principal()).await
    }

    /// Drops a note about the user.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn forget(&self, name: &str) -> Result<()> {
        self.services.memory.forget(self.principal(), name).await
    }

    /// What the user's runs asked of models, the latest first.
    ///
    /// # Errors
    /// `bad_request` for a cursor that was not given out.
    pub async fn attempts(&self, cursor: Option<&str>, max: usize) -> Result<Paged<Attempt>> {
        self.services.usage.attempts(self.principal(), None, cursor, max).await
    }

    /// What was said in the user's own conversations, by its words; nothing of this run.
    ///
    /// # Errors
    /// What the store says.
    pub async fn search(&self, query: &SearchQuery) -> Result<Vec<Found>> {
        let mut found = self.services.search.search(self.principal(), query).await?;
        found.retain(|found| found.run != self.run());
        Ok(found)
    }

    /// Keeps a result of the run's; one of the same name is replaced.
    ///
    /// # Errors
    /// `too_large` past 64 MiB.
    pub async fn put_artifact(
        &self,
        name: &str,
        media_type: &str,
        content: impl Into<Bytes> + Send,
    ) -> Result<Payload> {
        self.services
            .artifacts
            .put(self.principal(), self.run(), name, media_type, content.into())
            .await
            .map(payload)
    }

    /// The content of one of the user's artifacts.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn artifact(&self, artifact: ArtifactId) -> Result<Bytes> {
        let (_, content) = self.services.artifacts.read(self.principal(), artifact).await?;
        Ok(content)
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.scope.in_doubt
    }

    pub(crate) fn artifacts(&self) -> &dyn ArtifactStore {
        &*self.services.artifacts
    }

    /// Tells the work to stop.
    pub(crate) fn stop(&self) {
        self.scope.cancelled.cancel();
    }

    pub(crate) fn take_summary(&self) -> Option<String> {
        self.summary.lock().take()
    }
}
