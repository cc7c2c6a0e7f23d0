use super::model::{Scripted, chain, once};
use crate::agent::{Request, agent_fn};
use crate::context::Context;
use crate::engine::{Engine, EngineOptions};
use crate::registry::Registry;
use apex_core::clock::Clock;
use apex_core::event::{Envelope, Event};
use apex_core::health::Observer;
use apex_core::id::{RequestId, RunId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Accepted, Delivery, Live, Message, Position, Runner, Subscription};
use apex_core::store::{Stores, memory};
use apex_core::testkit::VirtualClock;
use apex_core::thread::{Role, ThreadMessage};
use std::sync::Arc;
use std::time::Duration;

/// A clock that follows tokio's time, which a test pauses, and gives the same ids each time.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(VirtualClock::following().seeded(1))
}

/// One process with an engine.
#[derive(Debug)]
pub struct Node {
    /// Its stores.
    pub stores: Stores,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its engine, working.
    pub engine: Arc<Engine>,
    /// Where its runs show what is not recorded.
    pub live: Live,
}

impl Node {
    /// A node with stores of its own, working.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        let clock = clock();
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        Self::on(stores, clock, registry, EngineOptions::default())
    }

    /// A node with stores of its own whose agents may ask these models, working.
    #[must_use]
    pub fn with_models(registry: Registry, models: &[&Arc<Scripted>]) -> Self {
        let clock = clock();
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        let models = Some(chain(&stores, &clock, models, once()));
        Self::on(stores, clock, registry, EngineOptions { models, ..EngineOptions::default() })
    }

    /// A message on record whose run no node works on yet.
    pub async fn queued(
        stores: &Stores,
        clock: &Arc<dyn Clock>,
        text: &str,
    ) -> (Principal, Accepted) {
        let nobody =
            agent_fn("nobody", "Nothing.", |_: Request, _: Context| async { Ok(String::new()) });
        let live = Live::default();
        let engine = Engine::new(
            stores.clone(),
            live.clone(),
            Arc::clone(clock),
            Registry::default().agent(nobody),
            Observer::quiet(Arc::clone(clock)),
            EngineOptions::default(),
        )
        .unwrap();
        let node = Self { stores: stores.clone(), clock: Arc::clone(clock), engine, live };
        let user = node.user();
        let accepted = node.ask(&user, text).await;
        (user, accepted)
    }

    /// A node on these stores, working.
    #[must_use]
    pub fn on(
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

    /// A new user.
    #[must_use]
    pub fn user(&self) -> Principal {
        Principal::vouched(UserId::new(&*self.clock), Scopes::USER)
    }

    /// A new message in a conversation of its own.
    #[must_use]
    pub fn message(&self, text: &str) -> Message {
        Message {
            request_id: RequestId::new(&*self.clock),
            thread: None,
            text: text.into(),
            attachments: Vec::new(),
        }
    }

    /// Asks in a conversation of its own.
    pub async fn ask(&self, user: &Principal, text: &str) -> Accepted {
        self.engine.start(user, self.message(text)).await.unwrap()
    }

    /// All recorded events of a run, once it has ended; at most two hours of virtual time are waited for.
    pub async fn ended(&self, user: &Principal, run: RunId) -> Vec<Envelope> {
        tokio::time::timeout(
            Duration::from_secs(2 * 3_600),
            recorded(&self.stores, user, run, |_| false),
        )
        .await
        .expect("the run has not ended")
    }

    /// The recorded events of a run up to the first that is looked for.
    pub async fn until(
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
    pub async fn said(&self, user: &Principal, accepted: Accepted) -> Vec<ThreadMessage> {
        let all = self.stores.threads.messages(user, accepted.thread, None, 100).await;
        all.unwrap().items
    }

    /// What the run answered in its conversation.
    pub async fn answer(&self, user: &Principal, accepted: Accepted) -> String {
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
#[must_use]
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// The names of events.
#[must_use]
pub fn names(events: &[Envelope]) -> Vec<&'static str> {
    events.iter().map(|envelope| envelope.event.name()).collect()
}
