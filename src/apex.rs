use crate::Builder;
use apex_agents::Engine;
use apex_agents::replay::Recording;
use apex_core::auth::Auth;
use apex_core::clock::Clock;
use apex_core::error::{Error, Group, Kind, Result};
use apex_core::event::{Envelope, Event, RunResult};
use apex_core::file::{Body, FileInfo};
use apex_core::health::{HealthReport, Observer};
use apex_core::id::{FileId, RequestId, RunId};
use apex_core::principal::Principal;
use apex_core::run::{
    Accepted, Delivery, Live, Message, Page, Position, RunGraph, Runner, Subscription, Topic,
};
use apex_core::store::Stores;
#[cfg(feature = "tls")]
use apex_transport::Tls;
use apex_transport::{Listen, TransportService};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long it is trusted that no wake-up was lost before the log is looked at.
const LOOK: Duration = Duration::from_secs(20);

/// The SDK, wired: agents at work on recorded runs, and the wire that serves them. Cheap to clone; all clones are
/// the same.
#[derive(Debug, Clone)]
pub struct Apex {
    pub(crate) stores: Stores,
    pub(crate) auth: Auth,
    pub(crate) engine: Arc<Engine>,
    pub(crate) live: Live,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Observer,
    pub(crate) service: TransportService,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

impl Apex {
    /// Begins to say what an Apex is made of.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Vouches for a user whom the host has verified, by the host's own name for them. The account is made at the
    /// first call.
    ///
    /// # Errors
    /// `forbidden` for an account that is barred; `unavailable`, `storage_failed`.
    pub async fn user(&self, name: &str) -> Result<Principal> {
        self.auth.vouch(name).await
    }

    /// Keeps a file of the user's, to be named in a message.
    ///
    /// # Errors
    /// `too_large` past the limits; what the body says.
    pub async fn upload(&self, principal: &Principal, name: &str, body: Body) -> Result<FileInfo> {
        self.stores.files.put(principal, FileId::new(&*self.clock), name, body).await
    }

    /// Puts a message on record and starts its run.
    ///
    /// # Errors
    /// As [`Runner::start`].
    pub async fn start(
        &self,
        principal: &Principal,
        text: &str,
        files: Vec<FileId>,
    ) -> Result<Accepted> {
        let message = Message {
            request_id: RequestId::new(&*self.clock),
            thread: None,
            text: text.to_owned(),
            attachments: files,
        };
        self.engine.start(principal, message).await
    }

    /// Follows a run from its beginning: what is recorded already, then what happens.
    ///
    /// # Errors
    /// `not_found` for a run that is not this principal's.
    pub async fn follow(&self, principal: &Principal, run: RunId) -> Result<Following> {
        self.resume(principal, run, Position::default()).await
    }

    /// Follows a run from where a reader is.
    ///
    /// # Errors
    /// `not_found` for a run that is not this principal's.
    pub async fn resume(
        &self,
        principal: &Principal,
        run: RunId,
        position: Position,
    ) -> Result<Following> {
        let (log, live) = (Arc::clone(&self.stores.runs), &self.live);
        let (_, subscription) =
            Subscription::open(log, &*self.stores.wakeup, live, principal.clone(), run, position)
                .await?;
        Ok(Following { subscription, read: VecDeque::new() })
    }

    /// The plan of a run and what happened in it so far; [`RunGraph::mermaid`] draws it.
    ///
    /// # Errors
    /// `not_found` for a run that this principal may not see.
    pub async fn graph(&self, principal: &Principal, run: RunId) -> Result<RunGraph> {
        RunGraph::read(&*self.stores.runs, principal, run).await
    }

    /// Asks a question and waits for the answer.
    ///
    /// # Errors
    /// As [`Apex::start`]; `cancelled`; and the error with which the run failed, by its code.
    pub async fn ask(&self, principal: &Principal, text: &str) -> Result<RunResult> {
        let accepted = self.start(principal, text, Vec::new()).await?;
        self.result(principal, accepted.run).await
    }

    /// Waits for the answer of a run.
    ///
    /// # Errors
    /// `not_found` for a run that is not this principal's; `cancelled`; and the error with which the run failed, by its
    /// code.
    pub async fn result(&self, principal: &Principal, run: RunId) -> Result<RunResult> {
        const OPERATION: &str = "apex.result";
        let page = self.end_of(principal, run).await?;
        let Some(last) = page.events.first() else {
            let told = "the end of this run's log is no longer kept; ask for its view";
            return Err(Error::new(Kind::Conflict, OPERATION, told).with("head", page.head));
        };
        match last.event()? {
            Event::RunCompleted { result, .. } => Ok(result),
            Event::RunCancelled { .. } => {
                Err(Error::new(Kind::Cancelled, OPERATION, "the run was cancelled"))
            }
            Event::RunFailed { error, .. } => {
                let kind = Kind::ALL.iter().find(|kind| kind.row().code == error.code).copied();
                let failed = Error::new(kind.unwrap_or(Kind::Internal), OPERATION, error.message);
                Err(match error.correlation {
                    Some(id) => failed.with_correlation(id),
                    None => failed,
                })
            }
            _ => {
                Err(Error::internal(OPERATION, "the run's log ended without an end")
                    .with("run", run))
            }
        }
    }

    /// The last event of a run's log, once it has ended.
    async fn end_of(&self, principal: &Principal, run: RunId) -> Result<Page> {
        let head = self.ended(principal, run).await?;
        self.stores.runs.read(principal, run, head.saturating_sub(1), 1).await
    }

    /// Waits until a run has ended, however it did: the number of its last event. Nothing that happens before wakes it.
    ///
    /// # Errors
    /// `not_found` for a run that this principal may not see; `unavailable`, `storage_failed`.
    pub async fn ended(&self, principal: &Principal, run: RunId) -> Result<u64> {
        let mut ended = self.stores.wakeup.listen(Topic::Ended(run));
        loop {
            let page = self.stores.runs.read(principal, run, u64::MAX, 1).await?;
            if page.ended {
                return Ok(page.head);
            }
            ended.wait(LOOK).await;
        }
    }

    /// What a run of this user's asked for and got, for a [`Replay`](apex_agents::replay::Replay); where `agents.record`
    /// is on and the run has ended.
    ///
    /// # Errors
    /// `not_found`; `bad_checkpoint` for one that this library cannot read.
    pub async fn recording(&self, principal: &Principal, run: RunId) -> Result<Recording> {
        self.engine.recording(principal, run).await
    }

    /// Steers runs: cancel, stop a step, decide.
    #[must_use]
    pub fn runner(&self) -> &dyn Runner {
        &*self.engine
    }

    /// Where everything is kept.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Logins and tickets.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The routes of the protocol as a tower service, to be mounted in the host's own server. All clones of it share
    /// their limits and connections.
    #[must_use]
    pub fn service(&self) -> TransportService {
        self.service.clone()
    }

    /// How this node is doing: the whole of it, for the host's own eyes.
    pub async fn health(&self) -> HealthReport {
        self.observer.health().report().await
    }

    /// The failures so far, those that are alike together, the most frequent first.
    #[must_use]
    pub fn failures(&self) -> Vec<Group> {
        self.observer.errors().groups()
    }

    /// The certificate that [`Apex::serve`] shows, to be looked at again on the host's word.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Serves the routes of the protocol on a listener until `shutdown` is done, then tells clients to go elsewhere;
    /// with TLS where the builder was given a certificate.
    ///
    /// # Errors
    /// `unavailable` when the listener is of no use.
    pub async fn serve(
        &self,
        listener: impl Listen,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return apex_transport::serve_tls(listener, self.service(), tls.clone(), shutdown)
                .await;
        }
        apex_transport::serve(listener, self.service(), shutdown).await
    }

    /// Takes no more work, gives the runs under way until `deadline` to end, and saves the rest where they are; a call
    /// that must not be made twice has 3 s more to end, so that nobody has to doubt it.
    /// Says whether all of them ended or were saved.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.observer.health().drain();
        self.engine.drain(deadline).await
    }
}

/// A run's events in order, each once, without a hole.
#[derive(Debug)]
pub struct Following {
    subscription: Subscription,
    read: VecDeque<Envelope>,
}

impl Following {
    /// What comes next, as it is recorded: several events at once where several are there, and a
    /// [`Delivery::Reset`] where a part is no longer kept. Dropping the future loses nothing. What [`Following::next`]
    /// has read already does not come again.
    ///
    /// # Errors
    /// What the log says; the place stays, so that the call can be made again.
    pub async fn delivery(&mut self) -> Result<Delivery> {
        self.subscription.next().await
    }

    /// The next event; `None` after the terminal one.
    ///
    /// # Errors
    /// What the log says; `conflict` when a part of the log is no longer kept.
    pub async fn next(&mut self) -> Result<Option<Envelope>> {
        loop {
            if let Some(envelope) = self.read.pop_front() {
                return Ok(Some(envelope));
            }
            match self.subscription.next().await? {
                Delivery::Events(events) => {
                    for event in &events {
                        self.read.push_back(event.decode()?);
                    }
                }
                Delivery::Live(event) => return Ok(Some(event.decode()?)),
                Delivery::Reset { head, .. } => {
                    return Err(Error::new(
                        Kind::Conflict,
                        "apex.follow",
                        "a part of this run's log is no longer kept; ask for its view",
                    )
                    .with("head", head));
                }
                Delivery::End(_) => return Ok(None),
            }
        }
    }
}
