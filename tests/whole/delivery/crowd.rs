//! Users who ask while something goes wrong, and write down what they see.

use super::connections::{self, LIFE};
use super::node::{LEASE, Node, Place, value};
use apex_test_services::Proxy;
use async_trait::async_trait;
use netra_apex::core::auth::{Standing, User};
use netra_apex::core::clock::{Clock as _, SystemClock};
use netra_apex::core::config::Secret;
use netra_apex::core::id::UserId;
use netra_apex::core::run::Position;
use netra_apex::core::testkit::history::{Applied, Counted, History, Log, Reader, Written};
use netra_apex::prelude::*;
use netra_apex::transport::HubConfig;
use netra_apex::transport::client::{Api, Client, ClientOptions, Tickets, Update, Updates};
use netra_apex::transport::protocol::NewMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// How many users ask how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) users: usize,
    pub(super) runs: usize,
}

impl Size {
    /// 20 runs; 1,000 of 100 users where `APEX_FULL` asks for them.
    pub(super) fn told() -> Self {
        match std::env::var_os("APEX_FULL") {
            Some(_) => Self { users: 100, runs: 10 },
            None => Self { users: 5, runs: 4 },
        }
    }
}

/// How long all of it may take: a run is given up only long after every node has had its chance.
const PATIENCE: Duration = Duration::from_secs(180);

/// Two nodes, each behind a proxy, and the users who reach them through it.
pub(super) struct Group {
    pub(super) place: Place,
    pub(super) folder: tempfile::TempDir,
    pub(super) nodes: Vec<Node>,
    pub(super) proxies: Vec<Proxy>,
}

impl Group {
    pub(super) fn start(database: &str, redis: Option<&str>) -> Self {
        Self::start_with(database, redis, false)
    }

    /// As [`Self::start`], with the events in Redis.
    pub(super) fn start_with(database: &str, redis: Option<&str>, event_log: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = crate::support::schema(folder.path());
        let (database, redis) = (database.to_owned(), redis.map(str::to_owned));
        let place = Place { database, redis, event_log, name };
        let nodes: Vec<_> = (0..2).map(|_| Node::start(&place, folder.path())).collect();
        let proxies = nodes.iter().map(|node| Proxy::start(node.port).unwrap()).collect();
        Self { place, folder, nodes, proxies }
    }

    /// Another node, which the clients of proxy `number` reach from now on.
    pub(super) fn replace(&mut self, number: usize) {
        let node = Node::start(&self.place, self.folder.path());
        self.proxies[number].redirect(node.port);
        self.nodes.push(node);
    }

    /// Lets users ask while `harm` goes on, then waits for every reader's end, and judges.
    pub(super) async fn judge(mut self, size: Size, harm: impl AsyncFnOnce(&mut Self)) {
        let mut crowd = Vec::new();
        for number in 0..size.users {
            let url = format!("http://127.0.0.1:{}", self.proxies[number % 2].port());
            // Who comes later finds everything broken, and gets in all the same.
            crowd.push(tokio::spawn(one_user(url, number, size.runs)));
        }
        sleep(Duration::from_millis(500)).await;
        harm(&mut self).await;
        for proxy in &self.proxies {
            proxy.pass();
        }
        let mut readers = Vec::new();
        for user in crowd {
            readers.extend(timeout(PATIENCE, user).await.unwrap().unwrap());
        }
        let mut history = History {
            logs: self.logs(size).await,
            readers,
            // A node may be lost just after it took a run over, which another finds when the lease has run out.
            patience: 3 * LEASE + Duration::from_secs(10),
            ..History::default()
        };
        // Everybody is gone: what each node has left it says itself.
        for node in &mut self.nodes {
            history.counted.extend(node.left());
        }
        for proxy in &self.proxies {
            let left = proxy.open() as u64;
            history.counted.push(Counted {
                what: "connections left".to_owned(),
                count: left,
                most: 0,
            });
        }
        history.acknowledged = self.nodes.iter().flat_map(Node::acknowledged).collect();
        self.judge_connections();
        let found = history.judge();
        assert!(found.is_empty(), "{found:#?}\nsee {:?}", self.folder.keep());
        assert_eq!(history.logs.len(), size.users * size.runs, "a run was never made, or twice");
        let tally = history.tally();
        let taken_over = history.logs.values().flat_map(|log| &log.events);
        let taken_over = taken_over.filter(|e| e.envelope.contains("\"run_resumed\"")).count();
        println!(
            "{} runs, {} events acknowledged to their writers, {} readers: {} lost, {} doubled, {} misordered, {} resets, \
             {taken_over} taken over: no violation",
            history.logs.len(),
            tally.written,
            history.readers.len(),
            tally.lost,
            tally.doubled,
            tally.misordered,
            tally.resets,
        );
    }

    fn judge_connections(&self) {
        let watched: Vec<_> = self.nodes.iter().map(Node::watched).collect();
        let most = HubConfig::default().per_user;
        let breaches = connections::judge(&watched, most);
        assert!(breaches.is_empty(), "{breaches:#?}");
    }

    /// One user connects to one node and the other until there is no place left, gives some back, and loses those of a
    /// node that is killed.
    pub(super) async fn fill(mut self) {
        let most = HubConfig::default().per_user;
        let mut options = Vec::new();
        for proxy in &self.proxies {
            let api = Api::new(&format!("http://127.0.0.1:{}", proxy.port())).unwrap();
            let api = insist(|| api.clone().log_in("ada")).await;
            options.push(ClientOptions::new(api, Arc::new(SystemClock)));
        }
        let mut clients = Vec::new();
        for number in 0..most {
            clients.push(Client::connect(options[number % 2].clone()).await.unwrap());
        }
        for options in &options {
            assert!(Client::connect(options.clone()).await.is_err(), "one too many");
        }
        clients.truncate(most - 3);
        let begun = Instant::now();
        while clients.len() < most {
            match Client::connect(options[clients.len() % 2].clone()).await {
                Ok(client) => clients.push(client),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
            assert!(begun.elapsed() < PATIENCE, "no place came back");
        }
        self.nodes[0].kill();
        // What it held is held until its lease has run out.
        assert!(Client::connect(options[1].clone()).await.is_err(), "taken from the dead too soon");
        if std::env::var_os("APEX_FULL").is_some() {
            sleep(LIFE).await;
            Client::connect(options[1].clone()).await.unwrap();
        }
        drop(clients);
        for left in self.nodes[1].left() {
            assert!(left.count <= left.most, "{left:?}");
        }
        self.judge_connections();
    }

    /// Every run of every user, as the store has it.
    async fn logs(&self, size: Size) -> BTreeMap<String, Log> {
        let stores = self.place.stores().await;
        let mut logs = BTreeMap::new();
        for number in 0..size.users {
            let account = User {
                user: UserId::new(&SystemClock),
                scopes: Scopes::USER,
                created_at: SystemClock.now(),
                standing: Standing::Active,
            };
            let name = name(number);
            let user = stores.users.resolve(&format!("dev:{name}"), account).await.unwrap().user;
            let owner = Principal::vouched(user, Scopes::USER);
            let inbox = stores.runs.inbox(&owner, 0, 1_000).await.unwrap();
            for entry in inbox.entries {
                let page = stores.runs.read(&owner, entry.run, 0, 1_000).await.unwrap();
                let events: Vec<Written> =
                    page.events.iter().filter_map(|e| Written::read(&value(&e.json))).collect();
                let (epoch, oldest) = (page.epoch.to_string(), page.oldest);
                // Of a log that was lost as a whole after its run had ended only the outcome is left.
                let outcome_alone = page.ended && events.is_empty() && oldest > page.head;
                let log = Log { owner: name.clone(), epoch, oldest, events, outcome_alone };
                logs.insert(entry.run.to_string(), log);
            }
        }
        logs
    }
}

fn name(number: usize) -> String {
    format!("user-{number}")
}

/// Asks so many times, two questions at once, and reads every run twice: as its sender, and once more from the start on
/// another connection.
async fn one_user(url: String, number: usize, runs: usize) -> Vec<Reader> {
    let name = name(number);
    let api = insist(|| Api::new(&url).unwrap().log_in(&name)).await;
    let options = ClientOptions {
        first_pause: Duration::from_millis(100),
        call_within: Duration::from_secs(10),
        tickets: Arc::new(Returning { name: name.clone(), api: Mutex::new(api.clone()) }),
        ..ClientOptions::new(api, Arc::new(SystemClock))
    };
    let first = insist(|| Client::connect(options.clone())).await;
    let second = insist(|| Client::connect(options.clone())).await;
    let mut readers = Vec::new();
    for round in 0..runs.div_ceil(2) {
        let questions =
            (2 * round..runs.min(2 * round + 2)).map(|_| one_run(&name, &first, &second));
        for both in futures_util::future::join_all(questions).await {
            readers.extend(both);
        }
    }
    readers
}

/// Buys tickets, and logs in again where the login is gone: an empty Redis knows nobody.
#[derive(Debug)]
struct Returning {
    name: String,
    api: Mutex<Api>,
}

#[async_trait]
impl Tickets for Returning {
    async fn ticket(&self) -> Result<Secret<String>> {
        let mut api = self.api.lock().await;
        match api.ticket().await {
            Err(error) if error.kind() == Kind::Unauthenticated => {
                *api = Api::new(api.url())?.log_in(&self.name).await?;
                api.ticket().await
            }
            bought => bought,
        }
    }
}

async fn one_run(user: &str, sender: &Client, other: &Client) -> [Reader; 2] {
    let message = NewMessage {
        request_id: RequestId::new(&SystemClock),
        thread: None,
        text: "go on".to_owned(),
        attachments: Vec::new(),
    };
    let (accepted, updates) = insist(|| sender.message(message.clone())).await;
    let again = other.subscribe(accepted.run, Position::default()).await.unwrap();
    let (sent, late) = futures_util::join!(read(updates), read(again));
    [sent, late].map(|applied| Reader {
        user: user.to_owned(),
        run: accepted.run.to_string(),
        applied,
    })
}

async fn read(mut updates: Updates) -> Vec<Applied> {
    let mut applied = Vec::new();
    while let Some(update) = updates.next().await {
        match update.unwrap() {
            Update::Event(event) => {
                let event = serde_json::to_value(&event).unwrap();
                applied.extend(Written::read(&event).map(Applied::Event));
            }
            Update::Reset(reset) => applied.push(Applied::Reset {
                epoch: reset.epoch.to_string(),
                head: reset.head,
                ended: reset.snapshot.as_ref().is_some_and(|s| s.state.is_terminal()),
            }),
        }
    }
    applied
}

/// Does again what failed for a reason that passes.
async fn insist<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(done) => return done,
            Err(error) if error.is_retryable() && begun.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
