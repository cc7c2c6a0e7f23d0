//! A store that is down, slow or broken closes the door and says so; it never opens it.

use crate::support::socket::Socket;
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::auth::{
    Revocation, Rotated, Rotation, SessionRecord, SessionStore, TicketRecord, TicketStore,
    TokenHash,
};
use apex_core::clock::Timestamp;
use apex_core::error::{Alert, AlertSink, Error, Kind, Notice, Result};
use apex_core::id::{SessionId, UserId};
use apex_core::principal::Principal;
use apex_core::store::Stores;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What a store does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Down,
    Silent,
    Broken,
}

/// Tickets and logins behind a fault.
#[derive(Debug)]
struct Faulty {
    tickets: Arc<dyn TicketStore>,
    sessions: Arc<dyn SessionStore>,
    fault: Arc<Mutex<Fault>>,
}

impl Faulty {
    async fn fail(&self) -> Result<()> {
        let fault = *self.fault.lock();
        match fault {
            Fault::None => Ok(()),
            Fault::Down => Err(Error::new(Kind::Unavailable, "test.store", "the store is down")
                .with_retry_after(Duration::from_secs(2))),
            Fault::Silent => std::future::pending().await,
            Fault::Broken => panic!("as asked"),
        }
    }
}

#[async_trait]
impl TicketStore for Faulty {
    async fn issue(&self, ticket: TicketRecord, now: Timestamp, most: usize) -> Result<()> {
        self.fail().await?;
        self.tickets.issue(ticket, now, most).await
    }
    async fn redeem(&self, hash: &TokenHash) -> Result<Option<TicketRecord>> {
        self.fail().await?;
        self.tickets.redeem(hash).await
    }
}

#[async_trait]
impl SessionStore for Faulty {
    async fn create(&self, session: SessionRecord) -> Result<()> {
        self.fail().await?;
        self.sessions.create(session).await
    }
    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>> {
        self.fail().await?;
        self.sessions.find(hash).await
    }
    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>> {
        self.sessions.list(principal).await
    }
    async fn session(&self, session: SessionId) -> Result<Option<SessionRecord>> {
        self.fail().await?;
        self.sessions.session(session).await
    }
    async fn rotate(&self, rotation: Rotation) -> Result<Rotated> {
        self.fail().await?;
        self.sessions.rotate(rotation).await
    }
    async fn end(&self, principal: &Principal, session: SessionId, now: Timestamp) -> Result<()> {
        self.sessions.end(principal, session, now).await
    }
    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionId>> {
        self.sessions.end_all(user, now).await
    }
    async fn revoked(&self, since: Timestamp) -> Result<Vec<Revocation>> {
        self.sessions.revoked(since).await
    }
}

async fn start() -> (Wire, Arc<Mutex<Fault>>) {
    let (settings, fault) = settings();
    (Wire::start_with(settings).await, fault)
}

fn settings() -> (Settings, Arc<Mutex<Fault>>) {
    let fault = Arc::new(Mutex::new(Fault::None));
    let of_store = Arc::clone(&fault);
    let mut settings = Settings {
        stores: Box::new(move |stores| {
            let faulty = Arc::new(Faulty {
                tickets: Arc::clone(&stores.tickets),
                sessions: Arc::clone(&stores.sessions),
                fault: of_store,
            });
            Stores { tickets: Arc::clone(&faulty) as _, sessions: faulty, ..stores }
        }),
        ..Settings::default()
    };
    settings.transport.http.auth_within = Duration::from_millis(200);
    (settings, fault)
}

#[tokio::test]
async fn nobody_is_let_in_while_the_store_cannot_answer() {
    let (wire, fault) = start().await;
    let token = wire.token("ada").await;
    let auth = bearer(&token);
    for (kind, status, close, code) in [
        (Fault::Down, 503, 1013, "unavailable"),
        (Fault::Silent, 503, 1013, "unavailable"),
        (Fault::Broken, 500, 1011, "internal"),
    ] {
        *fault.lock() = kind;
        let answer = wire.get("/threads", &[("authorization", &auth)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{kind:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
        let ticket = "/ws?ticket=abc";
        let refusal = Socket::open(wire.address, ticket, &[]).await.unwrap_err();
        assert_eq!((refusal.status, &refusal.body["code"]), (status, &json!(code)));
        let mut page = Socket::open(wire.address, ticket, &[("origin", PAGE)]).await.unwrap();
        let (closed, reason) = page.closed().await;
        assert_eq!(closed, close);
        assert_eq!(reason.starts_with("correlation "), close == 1011, "{reason}");
        let mut unknown = wire.unknown().await;
        unknown.say(json!({"frame": "hello", "token": token})).await;
        assert_eq!(unknown.closed().await.0, close);
        let ready = wire.get("/health/ready", &[]).await;
        assert_eq!(
            (ready.status, ready.json()),
            (503, json!({"status": "fail", "version": "1"})),
            "{kind:?}"
        );
    }
    *fault.lock() = Fault::None;
    assert_eq!(wire.get("/health/ready", &[]).await.status, 200);
    wire.socket(&token).await;
}

#[tokio::test]
async fn who_is_in_already_stays_in() {
    let (wire, fault) = start().await;
    let mut socket = wire.socket(&wire.token("ada").await).await;
    *fault.lock() = Fault::Down;
    let run = socket.start("thoughts 2").await["run"].clone();
    assert_eq!(socket.events(&run).await.len(), 6);
    let answer = socket.call(json!({"frame": "hello", "token": "other"})).await;
    assert_eq!(answer["code"], "unavailable");
    assert_eq!(socket.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
}

/// Counts what the host is told.
#[derive(Debug, Default)]
struct Pager(Mutex<Vec<Alert>>);

impl AlertSink for Pager {
    fn alert(&self, alert: &Alert) {
        self.0.lock().push(alert.clone());
    }

    fn notice(&self, notice: &Notice) {
        panic!("a failing request is no notice: {notice:?}");
    }
}

#[tokio::test]
async fn an_outage_of_a_thousand_failing_requests_is_one_alert() {
    let pager = Arc::new(Pager::default());
    let (mut settings, fault) = settings();
    settings.alerts = Arc::clone(&pager) as _;
    let wire = Wire::start_with(settings).await;
    let token = bearer(&wire.token("ada").await);
    let mut socket = wire.socket(&wire.token("ada").await).await;
    *fault.lock() = Fault::Down;
    for number in 0..1_000 {
        if number % 10 == 0 {
            let answer = socket.call(json!({"frame": "hello", "token": "other"})).await;
            assert_eq!(answer["code"], "unavailable");
        } else {
            let answer = wire.get("/threads", &[("authorization", &token)]).await;
            assert_eq!(answer.status, 503);
        }
        // The limit on frames is another subject.
        if number % 200 == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let groups = wire.observer.errors().groups();
    let group = groups.iter().find(|group| group.operation == "test.store").unwrap();
    assert_eq!(group.count, 1_000);
    assert!(group.correlation.is_some());
    let alerts = pager.0.lock();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].kind, alerts[0].failures), (Kind::Unavailable, 50));
}
