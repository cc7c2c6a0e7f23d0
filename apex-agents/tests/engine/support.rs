use apex_agents::{Engine, EngineOptions, Registry};
use apex_core::clock::{Clock, Timestamp};
use apex_core::event::{Envelope, Event};
use apex_core::health::Observer;
use apex_core::id::{RequestId, RunId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Accepted, Delivery, Live, Message, Position, Runner, Subscription};
use apex_core::store::{Stores, memory};
use apex_core::thread::{Role, ThreadMessage};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The wall clock of a runtime whose time is virtual.
#[derive(Debug)]
pub(crate) struct RuntimeClock(Instant);

impl RuntimeClock {
    pub(crate) fn shared() -> Arc<dyn Clock> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).plus(self.0.elapsed())
    }
}

/// One process with an engine.
pub(crate) struct Node {
    pub stores: Stores,
    pub clock: Arc<dyn Clock>,
    pub engine: Arc<Engine>,
    pub live: Live,
}

impl Node {
    /// A node with stores of its own, working.
    pub(crate) fn new(registry: Registry) -> Self {
        let clock = RuntimeClock::shared();
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        Self::on(stores, clock, registry, EngineOptions::default())
    }

    /// A node on these stores, working.
    pub(crate) fn on(
        stores: Stores,
        clock: Arc<dyn Clock>,
        registry: Registry,
        options: EngineOptions,
    ) -> Self {
        let observer = Observer::quiet(Arc::clone(&clock));
        let live = Live::default();
        let engine = Engine::new(
            stores.clone(),
            live.clone(),
            Arc::clone(&clock),
            registry,
            observer,
            options,
        )
        .unwrap();
        engine.launch();
        Self { stores, clock, engine, live }
    }

    pub(crate) fn user(&self) -> Principal {
        Principal::vouched(UserId::new(&*self.clock), Scopes::USER)
    }

    pub(crate) fn message(&self, text: &str) -> Message {
        Message {
            request_id: RequestId::new(&*self.clock),
            thread: None,
            text: text.into(),
            attachments: Vec::new(),
        }
    }

    pub(crate) async fn ask(&self, user: &Principal, text: &str) -> Accepted {
        self.engine.start(user, self.message(text)).await.unwrap()
    }

    /// All recorded events of a run, once it has ended; at most an hour is waited for.
    pub(crate) async fn ended(&self, user: &Principal, run: RunId) -> Vec<Envelope> {
        tokio::time::timeout(
            Duration::from_secs(2 * 3_600),
            recorded(&self.stores, user, run, |_| false),
        )
        .await
        .expect("the run has not ended")
    }

    /// The recorded events of a run up to the first that is looked for.
    pub(crate) async fn until(
        &self,
        user: &Principal,
        run: RunId,
        found: impl Fn(&Event) -> bool,
    ) -> Vec<Envelope> {
        tokio::time::timeout(Duration::from_secs(600), recorded(&self.stores, user, run, found))
            .await
            .expect("the event did not come")
    }

    /// What was said in the run's conversation.
    pub(crate) async fn said(&self, user: &Principal, accepted: Accepted) -> Vec<ThreadMessage> {
        let all = self.stores.threads.messages(user, accepted.thread, None, 100).await;
        all.unwrap().items
    }

    /// What the run answered in its conversation.
    pub(crate) async fn answer(&self, user: &Principal, accepted: Accepted) -> String {
        let said = self.said(user, accepted).await;
        let roles: Vec<Role> = said.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant]);
        said.last().unwrap().text.clone()
    }
}

async fn recorded(
    stores: &Stores,
    user: &Principal,
    run: RunId,
    found: impl Fn(&Event) -> bool,
) -> Vec<Envelope> {
    let (log, user) = (Arc::clone(&stores.runs), user.clone());
    let (_, mut events) =
        Subscription::open(log, &*stores.wakeup, &Live::default(), user, run, Position::default())
            .await
            .unwrap();
    let mut seen: Vec<Envelope> = Vec::new();
    loop {
        match events.next().await.unwrap() {
            Delivery::Events(recorded) => {
                for event in recorded {
                    seen.push(event.decode().unwrap());
                    if found(&seen.last().unwrap().event) {
                        return seen;
                    }
                }
            }
            Delivery::End(_) => return seen,
            other => panic!("{other:?}"),
        }
    }
}

/// A runtime of one thread whose time is virtual.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

pub(crate) fn names(events: &[Envelope]) -> Vec<&'static str> {
    events.iter().map(|envelope| envelope.event.name()).collect()
}
