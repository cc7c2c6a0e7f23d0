//! A user, who asks, reads twice, goes from connection to connection and cancels, and writes down what was applied.

use crate::line::SimulatedClock;
use crate::node::PORT;
use crate::world::World;
use apex_core::config::Secret;
use apex_core::run::Position;
use apex_core::testkit::Random;
use apex_core::testkit::history::{Applied, Reader, Written};
use async_trait::async_trait;
use futures_util::future::join_all;
use netra_apex::prelude::*;
use netra_apex::transport::client::{
    Api, Client, ClientOptions, Dial, Login, Stream, Tickets, Update, Updates,
};
use netra_apex::transport::protocol::NewMessage;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// How long a user rests before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long the connections of a user who has left may take to end.
const LEAVING: Duration = Duration::from_secs(4);

/// One user, who comes, asks as often as the plan says, and leaves.
pub(crate) async fn live(world: Arc<World>, number: usize) -> turmoil::Result {
    let user = Arc::new(User {
        name: name(number),
        clock: Arc::new(SimulatedClock::new(0)),
        random: Mutex::new(Random::seeded(world.seed ^ ((number as u64 + 1) << 32))),
        login: Mutex::default(),
        world,
    });
    let runs = user.world.plan.users[number];
    let ask = (0..runs).map(|_| {
        let user = Arc::clone(&user);
        async move {
            sleep(user.below(4_000)).await;
            user.one_run().await;
        }
    });
    join_all(ask).await;
    user.strange().await;
    drop(user);
    sleep(LEAVING).await;
    Ok(())
}

pub(crate) fn name(number: usize) -> String {
    format!("user-{number}")
}

struct User {
    world: Arc<World>,
    name: String,
    clock: Arc<SimulatedClock>,
    random: Mutex<Random>,
    /// The login that its connections share.
    login: Mutex<Option<Login>>,
}

impl User {
    fn below(&self, millis: usize) -> Duration {
        Duration::from_millis(self.random.lock().unwrap().below(millis) as u64)
    }

    fn some(&self, limit: usize) -> usize {
        self.random.lock().unwrap().below(limit)
    }

    /// A new connection, to some node that lets the user in.
    async fn connect(&self) -> Client {
        loop {
            let node = self.some(self.world.plan.nodes);
            match self.connect_to(node).await {
                Ok(client) => return client,
                // A failover may have taken the login.
                Err(_) => *self.login.lock().unwrap() = None,
            }
            sleep(AGAIN + self.below(200)).await;
        }
    }

    async fn connect_to(&self, node: usize) -> Result<Client> {
        let url = format!("http://node-{node}:{PORT}");
        let api = Api::new(&url)?.with_dial(Arc::new(Net));
        let login = self.login.lock().unwrap().clone();
        let api = match login {
            Some(login) => api.with_login(login),
            None => api.log_in(&self.name).await?,
        };
        *self.login.lock().unwrap() = api.login();
        let tickets =
            Returning { name: self.name.clone(), api: tokio::sync::Mutex::new(api.clone()) };
        Client::connect(ClientOptions {
            first_pause: Duration::from_millis(100),
            call_within: Duration::from_secs(10),
            tickets: Arc::new(tickets),
            ..ClientOptions::new(api, Arc::clone(&self.clock) as _)
        })
        .await
    }

    /// Asks one question, until there is a run of it that no failover took away, and reads it twice.
    async fn one_run(&self) {
        let message = NewMessage {
            request_id: RequestId::new(&*self.clock),
            thread: None,
            text: "go on".to_owned(),
            attachments: Vec::new(),
        };
        loop {
            let (client, run, updates) = self.ask(&message).await;
            let cancel = async {
                if self.some(4) == 0 {
                    sleep(self.below(1_500)).await;
                    // Whether it came through is seen in the log.
                    let _ = client.cancel(run).await;
                }
            };
            let late = async {
                sleep(self.below(2_000)).await;
                self.read(run, None).await
            };
            let sent = self.read(run, Some(updates));
            let (sent, late, ()) = futures_util::join!(sent, late, cancel);
            let gone = [&sent, &late].iter().any(|end| **end == End::Gone);
            if !gone {
                self.world.answered.lock().unwrap().insert(run.to_string());
                return;
            }
        }
    }

    async fn ask(&self, message: &NewMessage) -> (Client, RunId, Updates) {
        loop {
            let client = self.connect().await;
            match client.message(message.clone()).await {
                Ok((accepted, updates)) => return (client, accepted.run, updates),
                Err(error) => {
                    let passes = error.is_retryable() || error.kind() == Kind::Cancelled;
                    let lost_login = error.kind() == Kind::Unauthenticated;
                    assert!(passes || lost_login, "{error:?}");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Reads a run to its end, over as many connections as it takes.
    async fn read(&self, run: RunId, mut first: Option<Updates>) -> End {
        let mut applied = Vec::new();
        let mut position = Position::default();
        let mut client = None;
        let end = loop {
            let mut updates = match first.take() {
                Some(updates) => updates,
                None => {
                    let connected = self.connect().await;
                    let updates = connected.subscribe(run, position).await;
                    client = Some(connected);
                    let Ok(updates) = updates else { continue };
                    updates
                }
            };
            // Now and then a reader goes away in the middle.
            let most = 2 + self.some(16);
            if let Some(end) = follow(&mut updates, &mut position, &mut applied, most).await {
                break end;
            }
            drop(updates);
            drop(client.take());
            sleep(self.below(300)).await;
        };
        let (user, run) = (self.name.clone(), run.to_string());
        self.world.readers.lock().unwrap().push(Reader { user, run, applied });
        end
    }

    /// Tries to read what is somebody else's.
    async fn strange(&self) {
        let others = || {
            let acknowledged = self.world.acknowledged.lock().unwrap();
            let known = self.world.readers.lock().unwrap();
            let own = |run: &str| known.iter().any(|r| r.user == self.name && r.run == run);
            acknowledged.iter().map(|w| w.run.clone()).find(|run| !own(run))
        };
        let Some(run) = others() else { return };
        let client = self.connect().await;
        let position = Position::default();
        let Ok(mut updates) = client.subscribe(run.parse().unwrap(), position).await else {
            return;
        };
        let (mut position, mut applied) = (position, Vec::new());
        follow(&mut updates, &mut position, &mut applied, usize::MAX).await;
        if applied.iter().any(|applied| !matches!(applied, Applied::Gone)) {
            let reader = Reader { user: self.name.clone(), run, applied };
            self.world.readers.lock().unwrap().push(reader);
        }
    }
}

/// How a reader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Gone,
}

/// Applies at most so many updates; how the run ended, where it did.
async fn follow(
    updates: &mut Updates,
    position: &mut Position,
    applied: &mut Vec<Applied>,
    most: usize,
) -> Option<End> {
    for _ in 0..most {
        match updates.next().await? {
            Ok(update) => {
                let last = update.is_last();
                match update {
                    Update::Event(event) => {
                        if let Some(written) = Written::read(&serde_json::to_value(&event).unwrap())
                        {
                            *position = Position { epoch: Some(event.epoch), after: written.seq };
                            applied.push(Applied::Event(written));
                        }
                    }
                    Update::Reset(reset) => {
                        *position = Position { epoch: Some(reset.epoch), after: reset.head };
                        applied.push(Applied::Reset {
                            epoch: reset.epoch.to_string(),
                            head: reset.head,
                            ended: last,
                        });
                    }
                }
                if last {
                    return Some(End::Whole);
                }
            }
            Err(error) if error.kind() == Kind::NotFound => {
                applied.push(Applied::Gone);
                return Some(End::Gone);
            }
            // The connection was closed for good: another one is made.
            Err(_) => return None,
        }
    }
    None
}

/// The way over the simulated network.
#[derive(Debug)]
struct Net;

#[async_trait]
impl Dial for Net {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let (host, port) = address.split_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let stream = turmoil::net::TcpStream::connect((host, port)).await?;
        Ok(Box::new(stream))
    }
}

/// Buys tickets, and logs in again where a failover took the login.
#[derive(Debug)]
struct Returning {
    name: String,
    api: tokio::sync::Mutex<Api>,
}

#[async_trait]
impl Tickets for Returning {
    async fn ticket(&self) -> Result<Secret<String>> {
        let mut api = self.api.lock().await;
        match api.ticket().await {
            Err(error) if error.kind() == Kind::Unauthenticated => {
                *api = api.clone().log_in(&self.name).await?;
                api.ticket().await
            }
            bought => bought,
        }
    }
}
