use crate::context::{id, json, read};
use crate::{Events, Serving};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use netra_apex::Apex;
use netra_apex::core::auth::{Entry, Presented, Way};
use netra_apex::core::clock::{Clock, SystemClock};
use netra_apex::core::error::{Error, Kind, Result};
use netra_apex::core::id::{FileId, RequestId, RunId, ThreadId};
use netra_apex::core::principal::Principal;
use netra_apex::core::run::{Message, Position};
use netra_apex::core::thread::Whose;
use netra_apex::core::usage::{GroupBy, UsageQuery};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json as object};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long a ticket's connection lasts for a user whom the host vouches for, before it has to bring another.
const LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// What is read of a file at a time.
const PIECE: usize = 256 * 1024;

/// After how long a store that could not say whether a run has ended is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// An Apex inside a host of another language. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Host {
    apex: Apex,
    listen: SocketAddr,
    /// Those who hold something until a run has ended; they go with the last clone.
    holding: Arc<Mutex<JoinSet<()>>>,
}

/// What a user asks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// The words.
    pub text: String,
    /// The conversation that it continues; none begins one.
    pub thread: Option<String>,
    /// Files that belong to it.
    pub files: Vec<String>,
    /// The caller's id of it; see [`Host::request_id`].
    pub request: Option<String>,
}

impl Host {
    pub(crate) fn new(apex: Apex, listen: SocketAddr) -> Self {
        Self { apex, listen, holding: Arc::default() }
    }

    /// The Apex.
    #[must_use]
    pub fn apex(&self) -> &Apex {
        &self.apex
    }

    /// A new id for a message. A host that keeps something for the functions that a run will call keeps it under this
    /// id before it [starts](Self::start) the run: [`Call::request`](crate::Call::request) brings it back.
    #[must_use]
    pub fn request_id() -> String {
        RequestId::new(&SystemClock).to_string()
    }

    /// As [`Apex::user`].
    ///
    /// # Errors
    /// As there; `bad_request` for no name.
    pub async fn user(&self, name: &str) -> Result<Principal> {
        if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
            let told = "a user's name has 1 to 256 bytes and no control characters";
            return Err(Error::new(Kind::BadRequest, "host.user", told));
        }
        self.apex.user(name).await
    }

    /// Puts a message on record and starts its run: `{"run", "thread", "request_id"}`. What is `kept` for the functions
    /// that the run will call is dropped once it has ended, or when it does not begin or this Apex is closed.
    ///
    /// # Errors
    /// As `Runner::start`.
    pub async fn start(
        &self,
        who: &Principal,
        ask: Ask,
        kept: impl Send + 'static,
    ) -> Result<Value> {
        let request = ask.request.as_deref();
        let bad = |_| Error::new(Kind::BadRequest, "host.start", "the request's id is no UUID");
        let request_id = request.map(|id| id.parse().map_err(bad)).transpose()?;
        let thread = ask.thread.as_deref().map(|thread| id(thread, "thread")).transpose()?;
        let files = ask.files.iter().map(|file| id(file, "file"));
        let message = Message {
            request_id: request_id.unwrap_or_else(|| RequestId::new(&SystemClock)),
            thread,
            text: ask.text,
            attachments: files.collect::<Result<_>>()?,
        };
        let accepted = self.apex.runner().start(who, message).await?;
        self.hold(who, accepted.run, kept);
        json(&accepted)
    }

    /// Holds something until a run has ended, or is no longer there.
    fn hold(&self, who: &Principal, run: RunId, kept: impl Send + 'static) {
        let (apex, who) = (self.apex.clone(), who.clone());
        let mut holding = self.holding.lock();
        while holding.try_join_next().is_some() {}
        holding.spawn(async move {
            while let Err(error) = apex.ended(&who, run).await
                && error.is_retryable()
            {
                tokio::time::sleep(PAUSE).await;
            }
            drop(kept);
        });
    }

    /// Waits for the answer of a run: `{"status", "text", "artifacts"}`.
    ///
    /// # Errors
    /// As [`Apex::result`].
    pub async fn result(&self, who: &Principal, run: &str) -> Result<Value> {
        json(&self.apex.result(who, id(run, "run")?).await?)
    }

    /// Follows a run, from its beginning or from after a position.
    ///
    /// # Errors
    /// `not_found`; `bad_request` for a number without the epoch in which it was counted.
    pub async fn follow(
        &self,
        who: &Principal,
        run: &str,
        after: u64,
        epoch: Option<&str>,
    ) -> Result<Events> {
        if after > 0 && epoch.is_none() {
            let told = "`after` needs the `epoch` in which it was counted";
            return Err(Error::new(Kind::BadRequest, "host.follow", told));
        }
        let epoch = epoch.map(|epoch| id(epoch, "epoch")).transpose()?;
        let following = self.apex.resume(who, id(run, "run")?, Position { epoch, after });
        following.await.map(Events::new)
    }

    /// Where a run stands.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn run(&self, who: &Principal, run: &str) -> Result<Value> {
        json(&self.apex.stores().runs.view(who, id(run, "run")?).await?)
    }

    /// Tells a run to stop.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn cancel(&self, who: &Principal, run: &str) -> Result<()> {
        self.apex.runner().cancel(who, id(run, "run")?).await
    }

    /// Tells one step of a run to stop.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn stop(&self, who: &Principal, run: &str, step: &str) -> Result<()> {
        self.apex.runner().stop(who, id(run, "run")?, id(step, "step")?).await
    }

    /// Decides what a run waits for: `approve` or `deny`.
    ///
    /// # Errors
    /// `not_found`; `conflict`; `bad_request` for another word.
    pub async fn decide(
        &self,
        who: &Principal,
        run: &str,
        approval: &str,
        digest: &str,
        decision: &str,
    ) -> Result<()> {
        let decision = serde_json::from_value(decision.into()).map_err(|_| {
            Error::new(Kind::BadRequest, "host.decide", "a decision is `approve` or `deny`")
        })?;
        let (run, approval) = (id(run, "run")?, id(approval, "approval")?);
        self.apex.runner().decide(who, run, approval, digest, decision).await
    }

    /// A piece of the user's conversations, or of those that others share: `{"items", "next"?}`.
    ///
    /// # Errors
    /// `bad_request` for a cursor that is none.
    pub async fn threads(
        &self,
        who: &Principal,
        shared: bool,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<Value> {
        let whose = if shared { Whose::Shared } else { Whose::Own };
        json(&self.apex.stores().threads.threads(who, whose, cursor, most).await?)
    }

    /// A piece of what was said in a conversation: `{"items", "next"?}`.
    ///
    /// # Errors
    /// `not_found`; `bad_request` for a cursor that is none.
    pub async fn messages(
        &self,
        who: &Principal,
        thread: &str,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<Value> {
        let thread: ThreadId = id(thread, "thread")?;
        json(&self.apex.stores().threads.messages(who, thread, cursor, most).await?)
    }

    /// Deletes a conversation with its runs and what they made.
    ///
    /// # Errors
    /// `not_found`; `conflict` while a run of it is open.
    pub async fn forget(&self, who: &Principal, thread: &str) -> Result<()> {
        self.apex.stores().forget(who, id(thread, "thread")?).await
    }

    /// Keeps a file of the user's.
    ///
    /// # Errors
    /// `too_large` past the limits; `bad_request` for a name that is none.
    pub async fn upload(&self, who: &Principal, name: &str, content: Vec<u8>) -> Result<Value> {
        let body = stream::once(async { Ok(Bytes::from(content)) }).boxed();
        json(&self.apex.upload(who, name, body).await?)
    }

    /// Keeps a file of the disk's as a file of the user's, a piece at a time.
    ///
    /// # Errors
    /// As [`Self::upload`]; `bad_data` for a path that cannot be read.
    pub async fn upload_path(&self, who: &Principal, name: &str, path: PathBuf) -> Result<Value> {
        let (sender, receiver) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || send_file(&path, &sender));
        let body = stream::unfold(receiver, |mut pieces| async {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        });
        json(&self.apex.upload(who, name, body.boxed()).await?)
    }

    /// The user's files.
    ///
    /// # Errors
    /// `storage_failed`.
    pub async fn files(&self, who: &Principal) -> Result<Value> {
        json(&self.apex.stores().files.list(who).await?)
    }

    /// The content of a file of the user's, up to `most` bytes.
    ///
    /// # Errors
    /// `not_found`; `too_large` for a longer one.
    pub async fn file(&self, who: &Principal, file: &str, most: u64) -> Result<Vec<u8>> {
        let content = self.apex.stores().files.open(who, id(file, "file")?).await?;
        tokio::task::spawn_blocking(move || read(content, most)).await.map_err(|error| {
            Error::internal("host.file", "reading a file ended by itself").with_source(error)
        })?
    }

    /// Deletes a file of the user's.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn delete_file(&self, who: &Principal, file: &str) -> Result<()> {
        let file: FileId = id(file, "file")?;
        self.apex.stores().files.delete(who, file).await
    }

    /// What a run has made.
    ///
    /// # Errors
    /// `not_found` for what is no run's id; `storage_failed`.
    pub async fn artifacts(&self, who: &Principal, run: &str) -> Result<Value> {
        json(&self.apex.stores().artifacts.list(who, id(run, "run")?).await?)
    }

    /// The content of something that a run has made.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn artifact(&self, who: &Principal, artifact: &str) -> Result<Vec<u8>> {
        let read = self.apex.stores().artifacts.read(who, id(artifact, "artifact")?).await?;
        Ok(read.1.to_vec())
    }

    /// What the user's runs, or one of them, used of models: sums by a [`GroupBy`], by its name.
    ///
    /// # Errors
    /// `bad_request` for another word; `not_found` for what is no run's id.
    pub async fn usage(&self, who: &Principal, run: Option<&str>, by: &str) -> Result<Value> {
        let by: GroupBy = serde_json::from_value(by.into()).map_err(|error| {
            let told = format!("that is nothing to sum usage up by: {error}");
            Error::new(Kind::BadRequest, "host.usage", told)
        })?;
        let run: Option<RunId> = run.map(|run| id(run, "run")).transpose()?;
        let query = UsageQuery { run, by, ..UsageQuery::default() };
        json(&self.apex.stores().usage.totals(who, &query).await?)
    }

    /// A ticket with which a client of this user's connects once: `{"ticket", "expires_at"}`.
    ///
    /// # Errors
    /// `rate_limited` with too many unused ones.
    pub async fn ticket(&self, who: &Principal) -> Result<Value> {
        let expires_at = SystemClock.now().plus(LASTS);
        let entry = Entry { principal: who.clone(), way: Way::Own, expires_at };
        let ticket = self.apex.auth().issue_ticket(&entry, None, &Presented::by(Way::Own)).await?;
        Ok(object!({ "ticket": ticket.ticket.reveal(), "expires_at": ticket.expires_at }))
    }

    /// How this node is doing, and the failures so far.
    ///
    /// # Errors
    /// `internal`.
    pub async fn health(&self) -> Result<Value> {
        json(&self.apex.health().await)
    }

    /// Serves on a listener of Apex's own: that of the configuration where none is named.
    ///
    /// # Errors
    /// `unavailable` for an address that cannot be listened on; `bad_request` for what is none.
    pub async fn serve(&self, address: Option<&str>) -> Result<Serving> {
        let bad = |_| Error::new(Kind::BadRequest, "host.serve", "an address is `127.0.0.1:8000`");
        let address = address.map(|address| address.parse().map_err(bad)).transpose()?;
        Serving::begin(self.apex.clone(), address.unwrap_or(self.listen)).await
    }

    /// As [`Apex::drain`].
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.apex.drain(deadline).await
    }
}

fn send_file(path: &std::path::Path, pieces: &mpsc::Sender<Result<Bytes>>) {
    let fault = |error: std::io::Error| {
        let told = "the file cannot be read";
        let fault = Error::new(Kind::BadData, "host.upload", told);
        fault.with("file", path.display()).with_source(error)
    };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) => return drop(pieces.blocking_send(Err(fault(error)))),
    };
    loop {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => {
                piece.truncate(read);
                if pieces.blocking_send(Ok(piece.into())).is_err() {
                    return;
                }
            }
            Err(error) => return drop(pieces.blocking_send(Err(fault(error)))),
        }
    }
}
