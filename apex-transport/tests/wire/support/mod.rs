//! A service over stores in memory and a scripted runner, on a loopback port.

pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod runner;
pub(crate) mod socket;
pub(crate) mod watch;

use apex_core::auth::{Auth, AuthConfig, AuthParts, TokenHash};
use apex_core::budget::{BudgetLimits, BudgetPolicy};
use apex_core::clock::{Clock, SystemClock, Timestamp};
use apex_core::config::Environment;
use apex_core::error::AlertSink;
use apex_core::health::{Health, HealthConfig, Observer};
use apex_core::principal::Principal;
use apex_core::run::Live;
use apex_core::store::Stores;
use apex_core::store::memory::{MemoryOptions, open};
use apex_transport::client::Api;
use apex_transport::{
    Chain, HubStatistics, Tls, TlsFiles, Transport, TransportConfig, TransportService, serve,
    serve_tls,
};
use runner::ScriptedRunner;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The page that may use the service in tests.
pub(crate) const PAGE: &str = "https://chat.example.com";

/// The machine's clock, moved on by what a test says.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap();
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let moved = self.0.load(Ordering::SeqCst);
        Timestamp::from_millis(SystemClock.now().as_millis() + moved)
    }
}

/// How a test wants the service.
pub(crate) struct Settings {
    pub(crate) transport: TransportConfig,
    pub(crate) auth: AuthConfig,
    pub(crate) parts: AuthParts,
    pub(crate) chain: Chain,
    pub(crate) memory: MemoryOptions,
    /// Replaces what the service is given.
    pub(crate) stores: Box<dyn FnOnce(Stores) -> Stores + Send>,
    /// Serves with TLS.
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) alerts: Arc<dyn AlertSink>,
    pub(crate) budget: Arc<dyn BudgetPolicy>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            transport: TransportConfig { origins: vec![PAGE.into()], ..TransportConfig::default() },
            auth: AuthConfig { environment: Environment::Development, ..AuthConfig::default() },
            parts: AuthParts::default(),
            chain: Chain::default(),
            memory: MemoryOptions::default(),
            stores: Box::new(|stores| stores),
            tls: None,
            alerts: Arc::new(()),
            budget: Arc::new(BudgetLimits::default()),
        }
    }
}

/// The running service.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    pub(crate) service: TransportService,
    pub(crate) stores: Stores,
    pub(crate) auth: Auth,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) observer: Observer,
    pub(crate) tls: Option<Tls>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        watch::begin();
        let clock = Arc::new(TestClock::default());
        let live = Live::default();
        let stores = open(settings.memory, Arc::clone(&clock) as Arc<dyn Clock>);
        let runner = Arc::new(ScriptedRunner::new(
            stores.clone(),
            live.clone(),
            Arc::clone(&clock) as Arc<dyn Clock>,
        ));
        let stores = (settings.stores)(stores);
        let auth = Auth::new(
            stores.auth(),
            settings.parts,
            Arc::clone(&clock) as Arc<dyn Clock>,
            settings.auth,
        );
        let config = HealthConfig { ready_for: Duration::ZERO, ..HealthConfig::default() };
        let health = Health::new(Arc::clone(&clock) as _, config).with_stores(&stores);
        let observer = Observer::new(health, Arc::clone(&clock) as _, settings.alerts);
        let service = TransportService::new(Transport {
            stores: stores.clone(),
            auth: auth.clone(),
            runner,
            live,
            clock: Arc::clone(&clock) as _,
            observer: observer.clone(),
            chain: settings.chain,
            budget: settings.budget,
            config: settings.transport,
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let tls = settings.tls.map(|files| Tls::open(files, Arc::clone(&clock) as _).unwrap());
        let (serving, with_tls) = (service.clone(), tls.clone());
        let server = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            match with_tls {
                Some(tls) => serve_tls(listener, serving, tls, stopped).await.unwrap(),
                None => serve(listener, serving, stopped).await.unwrap(),
            }
        });
        Self { address, service, stores, auth, clock, observer, tls, stop: Some(stop), server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The routes as a user who is logged in.
    pub(crate) async fn api(&self, user: &str) -> Api {
        let api = Api::new(&self.url()).unwrap().log_in(user).await.unwrap();
        watch::note(api.login().unwrap().token.reveal());
        api
    }

    /// A token of a user's.
    pub(crate) async fn token(&self, user: &str) -> String {
        let body = format!(r#"{{"user":"{user}"}}"#);
        let answer = self.post("/auth/dev", &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// A ticket bought with a token.
    pub(crate) async fn ticket(&self, token: &str) -> String {
        let bearer = format!("Bearer {token}");
        let answer = self.post("/auth/ticket", &[("authorization", &bearer)], "").await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["ticket"].as_str().unwrap().to_owned()
    }

    /// The user of a token.
    pub(crate) async fn principal(&self, token: &str) -> Principal {
        let hash = TokenHash::of(token);
        let session = self.stores.sessions.find(&hash).await.unwrap().unwrap();
        Principal::vouched(session.user, session.scopes)
    }

    pub(crate) fn statistics(&self) -> HubStatistics {
        self.service.hub().statistics()
    }

    /// Waits until nobody is connected, and fails when somebody stays.
    pub(crate) async fn emptied(&self) {
        let emptied = self.service.hub().emptied();
        tokio::time::timeout(Duration::from_secs(10), emptied)
            .await
            .unwrap_or_else(|_| panic!("somebody stays: {:?}", self.statistics()));
        let left = self.statistics();
        assert_eq!((left.connections, left.unknown, left.users), (0, 0, 0));
    }

    /// Begins to shut the server down; the answer is its end.
    pub(crate) fn stop(&mut self) -> JoinHandle<()> {
        let _ = self.stop.take().unwrap().send(());
        std::mem::replace(&mut self.server, tokio::spawn(async {}))
    }
}

/// The value of `Authorization`.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
