//! Ours: the whole transport on its own listener over a log in SQLite, with the limits raised that a benchmark needs,
//! and a writer that appends one event at a time. The run belongs to the first user, who shares its conversation with
//! all others.

use crate::steps::{Steps, tell};
use crate::{Outcome, event};
use apex_core::auth::{Auth, AuthConfig, AuthParts, Credential, Presented, Way};
use apex_core::clock::{Clock, SystemClock};
use apex_core::config::{Environment, Secret};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::{Decision, Event};
use apex_core::health::Observer;
use apex_core::id::{ApprovalId, RequestId, RunId, StepId, ThreadId};
use apex_core::limit::Rate;
use apex_core::principal::Principal;
use apex_core::run::{
    Accepted, Claim, Emitter, Live, Message, NewRun, RunLimits, RunState, Runner,
};
use apex_core::store::Stores;
use apex_core::store::sqlite::{self, SqliteOptions};
use apex_core::thread::{Role, Share, ThreadMessage};
use apex_transport::{Chain, Transport, TransportConfig, TransportService, serve as listen};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};

/// Runs are begun so many at a time, so that they share commits.
const AT_ONCE: usize = 256;

/// The runs of one user where there are many.
const RUNS_OF_ONE: usize = 100;

/// Nobody starts a run through the wire here.
#[derive(Debug)]
struct NoRuns;

#[async_trait::async_trait]
impl Runner for NoRuns {
    async fn start(&self, _: &Principal, _: Message) -> Result<Accepted> {
        Err(none())
    }
    async fn cancel(&self, _: &Principal, _: RunId) -> Result<()> {
        Err(none())
    }
    async fn stop(&self, _: &Principal, _: RunId, _: StepId) -> Result<()> {
        Err(none())
    }
    async fn decide(
        &self,
        _: &Principal,
        _: RunId,
        _: ApprovalId,
        _: &str,
        _: Decision,
    ) -> Result<()> {
        Err(none())
    }
}

fn none() -> Error {
    Error::new(Kind::Unavailable, "peers", "no runs are started here")
}

/// Serves, and appends when told to.
pub(crate) async fn serve(folder: &Path, users: usize) -> Outcome<()> {
    let mut house = House::open(folder, users).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let service = house.service()?;
    let hub = service.hub().clone();
    tokio::spawn(listen(listener, service, std::future::pending()));
    let run = house.begin(&house.users[0].clone(), house.thread).await?;
    let mut single = house.claimed(1).await?;
    let many = tokio::runtime::Handle::current();
    tell(&json!({
        "port": port,
        "tokens": house.tokens,
        "run": run.to_string(),
        "epoch": single[0].lease().epoch.to_string(),
        "head": single[0].head(),
    }))?;
    let mut runs: Vec<Emitter> = Vec::new();
    let mut steps = Steps::new();
    while let Some(step) = steps.next().await? {
        let words: Vec<&str> = step.iter().map(String::as_str).collect();
        match words[..] {
            ["publish", count, every_us] => {
                publish(&mut single, count.parse()?, every_us.parse()?).await?;
                tell(&json!({ "published": single[0].head() }))?;
            }
            // As many more runs; each user has a hundred.
            ["runs", count] => {
                runs = house.many(count.parse()?).await?;
                let ids: Vec<String> = runs.iter().map(|run| run.lease().run.to_string()).collect();
                tell(&json!({ "runs": ids }))?;
            }
            ["spread", count, every_us] => {
                publish(&mut runs, count.parse()?, every_us.parse()?).await?;
                tell(&json!({ "published": count }))?;
            }
            ["statistics"] => {
                let statistics = hub.statistics();
                tell(&json!({
                    "connections": statistics.connections,
                    "users": statistics.users,
                    "admitted": statistics.admitted,
                    "tasks": many.metrics().num_alive_tasks(),
                }))?;
            }
            _ => return Err(format!("an unknown order: {step:?}").into()),
        }
    }
    Ok(())
}

/// Appends to the runs in turn, one event a time.
async fn publish(runs: &mut [Emitter], count: usize, every_us: u64) -> Outcome<()> {
    let every = Duration::from_micros(every_us);
    let mut due = Instant::now();
    for number in 0..count {
        let place = number % runs.len();
        let thought =
            Event::AgentThinking { step: StepId(1), agent: "triage".into(), note: event::note() };
        runs[place].append(vec![thought], None, None).await?;
        due += every;
        if !every.is_zero() {
            sleep_until(due).await;
        }
    }
    Ok(())
}

struct House {
    stores: Stores,
    auth: Auth,
    clock: Arc<dyn Clock>,
    live: Live,
    users: Vec<Principal>,
    tokens: Vec<String>,
    thread: ThreadId,
}

impl House {
    async fn open(folder: &Path, users: usize) -> Outcome<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let options = SqliteOptions {
            environment: Environment::Development,
            runs: RunLimits {
                running: 100_000,
                queued: 100_000,
                lease: Duration::from_secs(600),
                ..RunLimits::default()
            },
            ..SqliteOptions::new(folder.join("apex.db"))
        };
        let stores = sqlite::open(&options, Arc::clone(&clock))?;
        let config = AuthConfig {
            environment: Environment::Development,
            ticket_rate: Rate { burst: u32::MAX, refill: Duration::ZERO },
            ..AuthConfig::default()
        };
        let auth = Auth::new(stores.auth(), AuthParts::default(), Arc::clone(&clock), config);
        let mut house = Self {
            thread: ThreadId::new(&*clock),
            stores,
            auth,
            clock,
            live: Live::default(),
            users: Vec::new(),
            tokens: Vec::new(),
        };
        for number in 0..users {
            let by = Presented::by(Way::Own);
            let login = house.auth.development_login(&format!("user-{number}"), &by).await?;
            let token = login.token.reveal().clone();
            let shown = Credential::Token(Secret::new(token.clone()));
            let entry = house.auth.authenticate(&shown, &Presented::by(Way::Bearer)).await?;
            house.users.push(entry.principal);
            house.tokens.push(token);
        }
        house.share().await?;
        Ok(house)
    }

    /// The first user's conversation, which all others may read.
    async fn share(&self) -> Outcome<()> {
        let Some((owner, others)) = self.users.split_first() else { return Ok(()) };
        let message = ThreadMessage {
            run: RunId::new(&*self.clock),
            role: Role::User,
            text: "what is going on?".to_owned(),
            attachments: Vec::new(),
            at: self.clock.now(),
        };
        self.stores.threads.add(owner, self.thread, message).await?;
        for other in others {
            let share = Share { user: other.user(), at: self.clock.now() };
            self.stores.threads.share(owner, self.thread, share).await?;
        }
        Ok(())
    }

    fn service(&self) -> Result<TransportService> {
        let mut config = TransportConfig::default();
        config.hub.per_user = 10_000;
        config.hub.connections = 50_000;
        config.hub.unknown = 50_000;
        config.http.sockets = 50_000;
        config.connection.subscriptions = 1_000;
        config.connection.frames_per_s = 1_000;
        config.connection.frames_burst = 1_000;
        TransportService::new(Transport {
            stores: self.stores.clone(),
            auth: self.auth.clone(),
            runner: Arc::new(NoRuns),
            live: self.live.clone(),
            clock: Arc::clone(&self.clock),
            observer: Observer::quiet(Arc::clone(&self.clock)),
            chain: Chain::default(),
            config,
        })
    }

    async fn begin(&self, owner: &Principal, thread: ThreadId) -> Result<RunId> {
        let clock = &*self.clock;
        let new = NewRun {
            run: RunId::new(clock),
            request: RequestId::new(clock),
            digest: [7; 32],
            thread,
            parent: None,
            text: "what is going on?".into(),
            attachments: Vec::new(),
            agents: vec!["triage".into()],
            budget: None,
            trace: None,
        };
        Ok(self.stores.runs.start(owner, new).await?.run)
    }

    /// Writers of so many runs that wait, each begun.
    async fn claimed(&self, count: usize) -> Outcome<Vec<Emitter>> {
        let mut emitters = Vec::new();
        while emitters.len() < count {
            let claim = Claim { node: self.stores.node, max: AT_ONCE };
            let claimed = self.stores.runs.claim(claim).await?;
            if claimed.is_empty() {
                return Err("a run cannot be claimed".into());
            }
            for claimed in claimed {
                let log = Arc::clone(&self.stores.runs);
                let (clock, live) = (Arc::clone(&self.clock), self.live.clone());
                emitters.push(Emitter::new(log, clock, live, claimed.lease));
            }
        }
        let begun = emitters.iter_mut().map(|emitter| {
            let started = Event::AgentStarted {
                step: StepId(1),
                agent: "triage".into(),
                purpose: "to be measured".into(),
                attempt: 1,
                needs: Vec::new(),
            };
            emitter.append(vec![started], None, Some(RunState::Running))
        });
        futures_util::future::try_join_all(begun).await?;
        Ok(emitters)
    }

    async fn many(&mut self, count: usize) -> Outcome<Vec<Emitter>> {
        for first in (0..count).step_by(AT_ONCE) {
            let begun = (first..count.min(first + AT_ONCE)).map(|number| {
                let owner = &self.users[number / RUNS_OF_ONE % self.users.len()];
                self.begin(owner, ThreadId::new(&*self.clock))
            });
            futures_util::future::try_join_all(begun).await?;
        }
        let mut emitters = self.claimed(count).await?;
        let of = |user| self.users.iter().position(|known| known.user() == user);
        emitters.sort_by_key(|emitter| of(emitter.lease().user));
        Ok(emitters)
    }
}
