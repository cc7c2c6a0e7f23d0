//! All that is kept of a user, as one stream of JSON lines, for the user to take along.
//!
//! Each line is an object with its `kind`: first `export`, then `account`, `subject`, `session`, `audit`, `thread`,
//! `share`, `message`, `run`, `event`, `artifact`, `file`, `content` (a piece of a file or an artifact in base64),
//! `shared_thread`, `usage`, `budget` and `note`, and last `end` with the number of lines, or `error`. What has
//! neither at its end was cut off. It is read page by page while life goes on, so it is no picture of one moment.
//! Secrets (tokens, their digests) are not in it, and nothing of other users.

use super::Stores;
use crate::auth::{AuditQuery, SessionRecord};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::file::Content;
use crate::id::{RunId, ThreadId};
use crate::principal::{Principal, Scope};
use crate::thread::Whose;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read as _;
use tokio::sync::mpsc;

/// The version of the format.
pub const EXPORT_VERSION: u32 = 1;

/// The items that are read at a time.
const PAGE: usize = 200;

/// How much of a content stands on one line, in bytes before base64.
const PIECE: usize = 48 * 1024;

/// Sends all that is kept of the user, line by line, as fast as it is taken. The user's logins, which may be kept
/// apart, and the record of the door are among it.
///
/// # Errors
/// `forbidden` without the scope `read`; what a store says, which is the last line, too; `cancelled` when nobody takes
/// it any more.
pub async fn export_user(
    stores: &Stores,
    principal: &Principal,
    now: Timestamp,
    to: &mpsc::Sender<Bytes>,
) -> Result<()> {
    principal.require(Scope::Read, "store.export")?;
    let mut export = Export { stores, principal, to, lines: 0 };
    let all = export.all(now).await;
    let last = match &all {
        Ok(()) => export.line("end", json!({"lines": export.lines + 1})).await,
        Err(error) => export.line("error", json!(error.report())).await,
    };
    all.and(last)
}

struct Export<'a> {
    stores: &'a Stores,
    principal: &'a Principal,
    to: &'a mpsc::Sender<Bytes>,
    lines: u64,
}

impl Export<'_> {
    async fn all(&mut self, now: Timestamp) -> Result<()> {
        let user = self.principal.user();
        self.line("export", json!({"version": EXPORT_VERSION, "user": user, "at": now})).await?;
        self.account().await?;
        self.conversations().await?;
        self.files().await?;
        let mut cursor: Option<String> = None;
        loop {
            let usage = &self.stores.usage;
            let page = usage.attempts(self.principal, None, cursor.as_deref(), PAGE).await?;
            self.each("usage", page.items).await?;
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        let used = self.stores.budgets.used(self.principal).await?;
        self.each("budget", used).await?;
        let notes = self.stores.memory.notes(self.principal).await?;
        self.each("note", notes).await
    }

    async fn account(&mut self) -> Result<()> {
        let user = self.principal.user();
        match self.stores.users.user(user).await {
            Ok(account) => self.line("account", json!(account)).await?,
            // A host may vouch for users whom it keeps itself.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        for subject in self.stores.users.subjects(user).await? {
            self.line("subject", json!({"subject": subject})).await?;
        }
        for session in self.stores.sessions.list(self.principal).await? {
            let SessionRecord { session, method, created_at, renewed_at, ends_at, .. } = session;
            let told = json!({
                "session": session, "method": method, "created_at": created_at,
                "renewed_at": renewed_at, "ends_at": ends_at,
            });
            self.line("session", told).await?;
        }
        let mut query = AuditQuery { user: Some(user), before: None, limit: PAGE };
        loop {
            let events = self.stores.audit.list(query).await?;
            let Some(last) = events.last() else {
                return Ok(());
            };
            query.before = Some(last.id);
            self.each("audit", events).await?;
        }
    }

    async fn conversations(&mut self) -> Result<()> {
        for whose in [Whose::Own, Whose::Shared] {
            let mut cursor: Option<String> = None;
            loop {
                let threads = &self.stores.threads;
                let page = threads.threads(self.principal, whose, cursor.as_deref(), PAGE).await?;
                for thread in page.items {
                    if whose == Whose::Shared {
                        // What is said there is another user's.
                        self.line("shared_thread", json!({"thread": thread.thread})).await?;
                        continue;
                    }
                    self.line("thread", json!(thread)).await?;
                    self.conversation(thread.thread).await?;
                }
                match page.next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn conversation(&mut self, thread: ThreadId) -> Result<()> {
        for share in self.stores.threads.shares(self.principal, thread).await? {
            self.line("share", json!({"thread": thread, "user": share.user, "at": share.at}))
                .await?;
        }
        let (mut cursor, mut runs) = (None::<String>, BTreeSet::new());
        loop {
            let threads = &self.stores.threads;
            let page = threads.messages(self.principal, thread, cursor.as_deref(), PAGE).await?;
            for message in page.items {
                // Its answer comes later, and may be on another page.
                let new = runs.insert(message.run).then_some(message.run);
                self.line("message", with(json!({"thread": thread}), json!(message))).await?;
                if let Some(run) = new {
                    self.run(run).await?;
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn run(&mut self, run: RunId) -> Result<()> {
        let view = match self.stores.runs.view(self.principal, run).await {
            Ok(view) => view,
            // Its history was dropped.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let told = json!({
            "run": run, "thread": view.thread, "state": view.state, "attempt": view.attempt,
            "started_at": view.started_at, "ended_at": view.ended_at, "head": view.head,
            "snapshot": view.snapshot,
        });
        self.line("run", told).await?;
        let mut after = view.oldest.saturating_sub(1);
        loop {
            let page = self.stores.runs.read(self.principal, run, after, PAGE).await?;
            let Some(last) = page.events.last() else {
                break;
            };
            after = last.seq;
            for event in page.events {
                let envelope: Value = serde_json::from_slice(&event.json).unwrap_or(Value::Null);
                self.line("event", json!({"event": envelope})).await?;
            }
        }
        for artifact in self.stores.artifacts.list(self.principal, run).await? {
            let id = artifact.artifact;
            self.line("artifact", json!(artifact)).await?;
            let (_, content) = self.stores.artifacts.read(self.principal, id).await?;
            for (number, piece) in content.chunks(PIECE).enumerate() {
                self.content(&id.to_string(), number * PIECE, piece).await?;
            }
        }
        Ok(())
    }

    async fn files(&mut self) -> Result<()> {
        for file in self.stores.files.list(self.principal).await? {
            let id = file.file;
            self.line("file", json!(file)).await?;
            let mut content = self.stores.files.open(self.principal, id).await?;
            let mut offset = 0;
            loop {
                let (rest, piece) = piece(content).await?;
                if piece.is_empty() {
                    break;
                }
                self.content(&id.to_string(), offset, &piece).await?;
                offset += piece.len();
                content = rest;
            }
        }
        Ok(())
    }

    async fn content(&mut self, of: &str, offset: usize, piece: &[u8]) -> Result<()> {
        let base64 = STANDARD.encode(piece);
        self.line("content", json!({"of": of, "offset": offset, "base64": base64})).await
    }

    async fn each<T: Serialize + Send>(
        &mut self,
        kind: &'static str,
        items: impl IntoIterator<Item = T, IntoIter: Send>,
    ) -> Result<()> {
        for item in items {
            self.line(kind, json!(item)).await?;
        }
        Ok(())
    }

    async fn line(&mut self, kind: &'static str, value: Value) -> Result<()> {
        self.lines += 1;
        let mut line = with(json!({"kind": kind}), value).to_string();
        line.push('\n');
        self.to.send(line.into()).await.map_err(|_| {
            Error::new(Kind::Cancelled, "store.export", "nobody takes the export any more")
        })
    }
}

/// Both objects as one.
fn with(mut first: Value, second: Value) -> Value {
    if let (Value::Object(first), Value::Object(second)) = (&mut first, second) {
        for (key, value) in second {
            first.entry(key).or_insert(value);
        }
    }
    first
}

/// Reads the next piece of a content, on a thread that may block.
async fn piece(mut content: Content) -> Result<(Content, Vec<u8>)> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut piece = Vec::with_capacity(PIECE);
        let read = content.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        read.map(|_| (content, piece))
    });
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Storage, "store.export", "a content could not be read")
            .with("cause", error)
    };
    match reading.await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}
