use crate::call::in_time;
use crate::config::TransportConfig;
use crate::connection::Terms;
use crate::handshake::{Chain, Offer, Origins};
use crate::hub::Hub;
use crate::share::Shares;
#[cfg(feature = "websocket")]
use crate::websocket::Frames;
use apex_core::auth::{Auth, Credential, Entry, Presented, Revocation, RevocationWatch, Way};
use apex_core::budget::BudgetPolicy;
use apex_core::clock::{Clock, Timestamp};
use apex_core::error::{Error, Kind, Result};
use apex_core::health::Observer;
use apex_core::id::ConnectionId;
use apex_core::run::{Live, Runner, Topic, Woken};
use apex_core::store::Stores;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often what was revoked is looked up where nobody tells.
const LOOK: Duration = Duration::from_secs(20);

/// How long such a look may take, and how long after one that failed there is another.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What the transport is built on.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Where everything is kept.
    pub stores: Stores,
    /// Who is let in.
    pub auth: Auth,
    /// What starts and steers runs.
    pub runner: Arc<dyn Runner>,
    /// Where volatile events of this process are shown.
    pub live: Live,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How this node is doing, and where failures are counted.
    pub observer: Observer,
    /// By which ways clients come in; the default are those of the protocol.
    pub chain: Chain,
    /// What each user may use of models, as it is told by `GET /budget`.
    pub budget: Arc<dyn BudgetPolicy>,
    /// How the transport behaves.
    pub config: TransportConfig,
}

/// What every request and connection of one service shares.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) stores: Stores,
    pub(crate) auth: Auth,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) live: Live,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Observer,
    pub(crate) chain: Chain,
    pub(crate) budget: Arc<dyn BudgetPolicy>,
    pub(crate) config: TransportConfig,
    pub(crate) origins: Origins,
    pub(crate) terms: Arc<Terms>,
    pub(crate) hub: Hub,
    #[cfg(feature = "websocket")]
    pub(crate) frames: Frames,
    shares: Shares,
    watching: AtomicBool,
    /// Ends with the gateway what was begun for it.
    ended: CancellationToken,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl Gateway {
    /// # Errors
    /// `config_invalid`.
    pub(crate) fn new(transport: Transport) -> Result<Self> {
        transport.config.validate()?;
        let Transport { stores, auth, runner, live, clock, observer, chain, budget, config } =
            transport;
        let shares = Shares::new(Arc::clone(&stores.limits), config.hub.per_user);
        Ok(Self {
            stores,
            auth,
            runner,
            live,
            clock,
            observer,
            origins: Origins::new(config.origins.clone()),
            terms: Arc::new(Terms::from(&config)),
            hub: Hub::new(config.hub, shares.clone()),
            #[cfg(feature = "websocket")]
            frames: Frames::default(),
            shares,
            chain,
            budget,
            config,
            watching: AtomicBool::new(false),
            ended: CancellationToken::new(),
        })
    }

    /// Begins to close the connections of logins that are revoked, here or on another node, and to renew the places
    /// that connections hold. Called with every request,
    /// since only then there is surely a runtime; it does so once.
    pub(crate) fn watch_revocations(self: &Arc<Self>) {
        if self.watching.swap(true, Ordering::Relaxed) {
            return;
        }
        let woken = self.stores.wakeup.listen(Topic::Revocations);
        let watching = watch(self.auth.revocations(), woken, self.hub.clone());
        let ended = self.ended.clone();
        let renewing = self.shares.clone().renew();
        let both = async move { tokio::join!(watching, renewing) };
        tokio::spawn(async move { ended.run_until_cancelled(both).await });
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn connection_id(&self) -> ConnectionId {
        ConnectionId::new(&*self.clock)
    }

    /// Closes on this node at once what came by logins that have ended.
    pub(crate) fn close(&self, revoked: &[Revocation]) {
        for revocation in revoked {
            self.hub.revoke(revocation);
        }
    }

    /// Verifies one credential.
    pub(crate) async fn verify(
        &self,
        credential: &Credential,
        presented: &Presented,
    ) -> Result<Entry> {
        let verifying = self.auth.authenticate(credential, presented);
        let verified = within(self.config.http.auth_within, verifying).await;
        count(Some(presented.way), verified.as_ref().err());
        verified
    }

    /// Verifies what a request presents.
    pub(crate) async fn verify_offer(&self, offer: Offer) -> Result<Option<Entry>> {
        let way = offer.way();
        let verified = within(self.config.http.auth_within, offer.verify(&self.auth)).await;
        if way.is_some() || verified.is_err() {
            count(way, verified.as_ref().err());
        }
        verified
    }
}

/// Closes what is revoked: at once when told, and by a look from time to time for what was told to nobody.
async fn watch(mut revocations: RevocationWatch, mut woken: Woken, hub: Hub) {
    loop {
        let pause = match in_time(LOOK_WITHIN, revocations.look()).await {
            Ok(revoked) => {
                for revocation in &revoked {
                    hub.revoke(revocation);
                }
                LOOK
            }
            Err(error) => {
                tracing::warn!(%error, "what was revoked lately could not be looked up");
                LOOK_AGAIN
            }
        };
        woken.wait(pause).await;
    }
}

/// Counts an attempt to come in, by its way.
fn count(way: Option<Way>, refused: Option<&Error>) {
    let way = way.map_or("malformed", Way::as_str);
    let outcome = refused.map_or("in", Error::code);
    metrics::counter!("apex_entries_total", "way" => way, "outcome" => outcome).increment(1);
}

/// Gives up on a store that does not answer: nobody is let in by default.
async fn within<T>(longest: Duration, verify: impl Future<Output = Result<T>>) -> Result<T> {
    in_time(longest, verify).await.map_err(|error| match error.kind() {
        Kind::DeadlineExceeded => Error::new(
            Kind::Unavailable,
            "auth.verify",
            "the credential could not be verified in time; try again",
        )
        .with_retry_after(Duration::from_secs(1)),
        _ => error,
    })
}
