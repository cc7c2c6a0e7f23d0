use super::super::{AddressMask, AuditEvent, AuditQuery, Login, REVOCATIONS_KEPT, Way};
use super::*;
use crate::principal::{Scope, Scopes};
use crate::store::memory;
use crate::testkit::VirtualClock;
use std::net::IpAddr;

mod bursts;

const PATIENCE: Duration = Duration::from_secs(5);

/// Auth over stores in memory.
struct House {
    auth: Auth,
    clock: Arc<VirtualClock>,
    stores: AuthStores,
}

impl House {
    fn new(config: AuthConfig, parts: AuthParts) -> Self {
        let clock = Arc::new(VirtualClock::still());
        let stores =
            memory::open(memory::MemoryOptions::default(), Arc::clone(&clock) as Arc<dyn Clock>);
        let stores = stores.auth();
        let auth = Auth::new(stores.clone(), parts, Arc::clone(&clock) as _, config);
        Self { auth, clock, stores }
    }

    fn open() -> Self {
        Self::new(development(), AuthParts::default())
    }

    /// Another node over the same stores.
    fn beside(&self) -> Auth {
        let clock = Arc::clone(&self.clock) as _;
        Auth::new(self.stores.clone(), self.auth.parts.clone(), clock, self.auth.config.clone())
    }

    async fn log_in(&self) -> Login {
        self.auth.development_login("ada", &by(Way::Bearer)).await.unwrap()
    }

    async fn entry(&self) -> (Login, Entry) {
        let login = self.log_in().await;
        let entry = self.enter(&token(&login), &by(Way::Bearer)).await.unwrap();
        (login, entry)
    }

    async fn enter(&self, credential: &Credential, presented: &Presented) -> Result<Entry> {
        self.auth.authenticate(credential, presented).await
    }

    async fn refused(&self, credential: &Credential, presented: &Presented) -> Kind {
        self.enter(credential, presented).await.unwrap_err().kind()
    }

    async fn ticket(&self, entry: &Entry, presented: &Presented) -> Credential {
        let ticket = self.auth.issue_ticket(entry, None, presented).await.unwrap();
        Credential::Ticket(ticket.ticket)
    }

    /// The record, oldest first.
    async fn record(&self) -> Vec<AuditEvent> {
        assert!(self.auth.audit_written(PATIENCE).await);
        let all = AuditQuery { user: None, before: None, limit: 1_000 };
        let mut events = self.auth.audit(all).await.unwrap();
        events.reverse();
        events
    }
}

fn development() -> AuthConfig {
    AuthConfig { environment: Environment::Development, ..AuthConfig::default() }
}

fn by(way: Way) -> Presented {
    Presented::by(way)
}

fn token(login: &Login) -> Credential {
    Credential::Token(login.token.clone())
}

#[tokio::test]
async fn the_development_login_is_for_development() {
    for environment in [Environment::Staging, Environment::Production] {
        let house = House::new(AuthConfig { environment, ..development() }, AuthParts::default());
        let error = house.auth.development_login("ada", &by(Way::Bearer)).await.err().unwrap();
        assert_eq!(error.kind(), Kind::NotFound);
    }
    let house = House::open();
    for name in ["", "  ", "a\u{0}b", &"x".repeat(65)] {
        let error = house.auth.development_login(name, &by(Way::Bearer)).await.err().unwrap();
        assert_eq!(error.kind(), Kind::BadRequest, "{name:?}");
    }
    let (first, again) = (house.entry().await.1, house.entry().await.1);
    assert_eq!(first.principal.user(), again.principal.user());
}

#[tokio::test]
async fn a_ticket_lets_in_once_and_lives_as_long_as_what_bought_it() {
    let house = House::open();
    let (login, entry) = house.entry().await;
    let ticket = house.ticket(&entry, &by(Way::Bearer)).await;
    let by_ticket = house.enter(&ticket, &by(Way::Query)).await.unwrap();
    assert_eq!((by_ticket.principal, by_ticket.expires_at), (entry.principal, login.expires_at));
    assert_eq!(house.refused(&ticket, &by(Way::Query)).await, Kind::Unauthenticated);
}

#[tokio::test]
async fn a_ticket_that_fails_a_check_is_burnt() {
    let house = House::open();
    let (_, entry) = house.entry().await;
    let page = Presented { origin: Some("https://a.example".into()), ..by(Way::Query) };
    let ticket = house.ticket(&entry, &page).await;
    for presented in [by(Way::Query), page] {
        assert_eq!(house.refused(&ticket, &presented).await, Kind::Unauthenticated);
    }
    let other = house.auth.issue_ticket(&entry, Some("files"), &by(Way::Bearer)).await.unwrap();
    let other = Credential::Ticket(other.ticket);
    assert_eq!(house.refused(&other, &by(Way::Query)).await, Kind::Unauthenticated);
    let late = house.ticket(&entry, &by(Way::Bearer)).await;
    house.clock.advance(Duration::from_secs(30));
    assert_eq!(house.refused(&late, &by(Way::Query)).await, Kind::Unauthenticated);
    let record = house.record().await.into_iter();
    let mut told: Vec<_> = record.filter_map(|event| event.reason).collect();
    // The clock stands still, so the order among them is not known.
    told.sort_unstable();
    let reasons =
        ["ticket_expired", "ticket_unknown", "ticket_wrong_audience", "ticket_wrong_origin"];
    assert_eq!(told, reasons);
}

#[tokio::test]
async fn a_ticket_may_be_bound_to_the_address_that_bought_it() {
    let config = AuthConfig { ticket_address: true, ..development() };
    let house = House::new(config, AuthParts::default());
    let (_, entry) = house.entry().await;
    let from = |address: &str| Presented {
        address: Some(address.parse::<IpAddr>().unwrap()),
        ..by(Way::Query)
    };
    let unknown = house.auth.issue_ticket(&entry, None, &by(Way::Bearer)).await.err().unwrap();
    assert_eq!(unknown.kind(), Kind::Forbidden);
    let here = from("192.0.2.7");
    let ticket = house.ticket(&entry, &here).await;
    house.enter(&ticket, &from("::ffff:192.0.2.7")).await.unwrap();
    for elsewhere in [from("192.0.2.8"), by(Way::Query)] {
        let ticket = house.ticket(&entry, &here).await;
        assert_eq!(house.refused(&ticket, &elsewhere).await, Kind::Unauthenticated);
        assert_eq!(house.refused(&ticket, &here).await, Kind::Unauthenticated);
    }
}

#[tokio::test]
async fn tickets_are_bought_at_a_bounded_rate() {
    let rate = crate::limit::Rate { burst: 3, refill: Duration::from_secs(1) };
    let config = AuthConfig { ticket_rate: rate, ..development() };
    let house = House::new(config, AuthParts::default());
    let (_, entry) = house.entry().await;
    for _ in 0..3 {
        house.ticket(&entry, &by(Way::Bearer)).await;
    }
    let refused = house.auth.issue_ticket(&entry, None, &by(Way::Bearer)).await.err().unwrap();
    assert_eq!(refused.kind(), Kind::RateLimited);
    assert!(refused.retry_after().is_some());
    let bob = house.auth.development_login("bob", &by(Way::Bearer)).await.unwrap();
    let bob = house.enter(&token(&bob), &by(Way::Bearer)).await.unwrap();
    house.ticket(&bob, &by(Way::Bearer)).await;
}

#[tokio::test]
async fn logging_out_ends_the_token_and_the_tickets_that_it_bought() {
    let house = House::open();
    let (login, entry) = house.entry().await;
    let ticket = house.ticket(&entry, &by(Way::Bearer)).await;
    house.auth.log_out(&entry.principal, &by(Way::Bearer)).await.unwrap();
    for credential in [token(&login), ticket] {
        let kind = house.refused(&credential, &by(Way::Hello)).await;
        assert_eq!(kind, Kind::Unauthenticated, "{credential:?}");
    }
    let renewed = house.auth.refresh(&login.refresh, &by(Way::Bearer)).await;
    assert_eq!(renewed.err().unwrap().kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn a_login_that_has_run_out_says_so_and_can_be_renewed() {
    let house = House::open();
    let login = house.log_in().await;
    house.clock.advance(AuthConfig::default().token_life);
    assert_eq!(house.refused(&token(&login), &by(Way::Bearer)).await, Kind::TokenExpired);
    let renewed = house.auth.refresh(&login.refresh, &by(Way::Bearer)).await.unwrap();
    let entry = house.enter(&token(&renewed), &by(Way::Bearer)).await.unwrap();
    assert_eq!(entry.principal, login.principal);
    assert_eq!(entry.expires_at, renewed.expires_at);
    assert_eq!(house.refused(&token(&login), &by(Way::Bearer)).await, Kind::Unauthenticated);
    assert_eq!(house.auth.sessions(&login.principal).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_used_refresh_token_ends_its_login_and_no_other() {
    let house = House::open();
    let (login, other) = (house.log_in().await, house.log_in().await);
    let renewed = house.auth.refresh(&login.refresh, &by(Way::Bearer)).await.unwrap();
    let thief = house.auth.refresh(&login.refresh, &by(Way::Bearer)).await.err().unwrap();
    assert_eq!(thief.kind(), Kind::Unauthenticated);
    let owner = house.auth.refresh(&renewed.refresh, &by(Way::Bearer)).await.err().unwrap();
    assert_eq!(owner.kind(), Kind::Unauthenticated);
    assert_eq!(house.refused(&token(&renewed), &by(Way::Bearer)).await, Kind::Unauthenticated);
    house.enter(&token(&other), &by(Way::Bearer)).await.unwrap();
    let record = house.record().await;
    let reuse = record.iter().find(|event| event.action == AuditAction::Reuse).unwrap();
    assert_eq!(reuse.session, login.principal.session());
    for nonsense in ["", ".", "a.b", "x".repeat(66).as_str(), login.token.reveal()] {
        let nonsense = Secret::new(nonsense.to_owned());
        let refused = house.auth.refresh(&nonsense, &by(Way::Bearer)).await.err().unwrap();
        assert_eq!(refused.kind(), Kind::Unauthenticated);
    }
}

#[tokio::test]
async fn what_is_revoked_is_told_once_to_each_who_watches() {
    let house = House::open();
    let (login, bystander) = (house.log_in().await, house.log_in().await);
    let other_node = house.beside();
    let (mut here, mut there) = (house.auth.revocations(), other_node.revocations());
    assert_eq!(here.look().await.unwrap(), []);
    house.auth.log_out(&login.principal, &by(Way::Bearer)).await.unwrap();
    for watch in [&mut here, &mut there] {
        let told = watch.look().await.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].session, login.principal.session());
        assert_eq!(watch.look().await.unwrap(), []);
    }
    other_node.disable_user(bystander.principal.user(), true).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    for watch in [&mut here, &mut there] {
        // The login by its name, and whatever else the user has.
        let mut told: Vec<_> =
            watch.look().await.unwrap().iter().map(|told| told.session).collect();
        told.sort_unstable();
        assert_eq!(told, [None, bystander.principal.session()]);
    }
    house.clock.advance(REVOCATIONS_KEPT);
    other_node.end_all_sessions(bystander.principal.user()).await.unwrap();
    assert_eq!(here.look().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_barred_or_erased_user_gets_in_by_nothing() {
    for erase in [false, true] {
        let house = House::open();
        let (login, entry) = house.entry().await;
        let user = entry.principal.user();
        let ticket = house.ticket(&entry, &by(Way::Bearer)).await;
        if erase {
            house.auth.erase_user(user).await.unwrap();
        } else {
            house.auth.disable_user(user, true).await.unwrap();
        }
        for credential in [token(&login), ticket] {
            let kind = house.refused(&credential, &by(Way::Bearer)).await;
            assert_eq!(kind, Kind::Unauthenticated);
        }
        let renewed = house.auth.refresh(&login.refresh, &by(Way::Bearer)).await;
        assert_eq!(renewed.err().unwrap().kind(), Kind::Unauthenticated);
        let again = house.auth.development_login("ada", &by(Way::Bearer)).await;
        if erase {
            assert_ne!(again.unwrap().principal.user(), user, "the person begins anew");
        } else {
            assert_eq!(again.err().unwrap().kind(), Kind::Forbidden);
            house.auth.disable_user(user, false).await.unwrap();
            assert_eq!(house.log_in().await.principal.user(), user);
        }
    }
}

#[tokio::test]
async fn scopes_are_those_of_the_account_from_the_next_login_on() {
    let house = House::open();
    let login = house.log_in().await;
    let scopes = Scopes::USER.with(Scope::Admin);
    house.auth.set_scopes(login.principal.user(), scopes).await.unwrap();
    assert_eq!(house.refused(&token(&login), &by(Way::Bearer)).await, Kind::Unauthenticated);
    assert_eq!(house.entry().await.1.principal.scopes(), scopes);
}

#[tokio::test]
async fn everything_goes_on_record_and_no_secret_does() {
    let config = AuthConfig { addresses: AddressMask::Network, ..development() };
    let house = House::new(config, AuthParts::default());
    let page = Presented {
        door: Door::Connection,
        address: Some("192.0.2.77".parse().unwrap()),
        ..by(Way::Subprotocol)
    };
    let login = house.auth.development_login("ada", &page).await.unwrap();
    let id = crate::id::CorrelationId::new(&*house.clock);
    let credential = token(&login);
    let entering = house.enter(&credential, &page);
    let entry = crate::error::correlation::within(id, entering).await.unwrap();
    let ticket = house.ticket(&entry, &page).await;
    house.enter(&ticket, &page).await.unwrap();
    house.enter(&ticket, &page).await.unwrap_err();
    let renewed = house.auth.refresh(&login.refresh, &page).await.unwrap();
    house.auth.log_out(&entry.principal, &page).await.unwrap();
    house.auth.link_user(entry.principal.user(), "host:ada").await.unwrap();
    house.auth.disable_user(entry.principal.user(), true).await.unwrap();
    house.auth.erase_user(entry.principal.user()).await.unwrap();
    let record = house.record().await;
    let mut told: Vec<_> =
        record.iter().map(|event| (event.action.as_str(), event.reason.as_deref())).collect();
    let mut expected = [
        ("login", None),
        ("entry", None),
        ("ticket_issue", None),
        ("ticket_redeem", None),
        ("ticket_redeem", Some("ticket_unknown")),
        ("refresh", None),
        ("logout", None),
        ("link", None),
        ("disable", Some("disabled")),
        ("revocation", None),
        ("erase", None),
        ("revocation", None),
    ];
    // The clock stands still, so the order among them is not known.
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
    let entered = record.iter().find(|event| event.action == AuditAction::Entry).unwrap();
    assert_eq!(entered.address.as_deref(), Some("192.0.2.0/24"));
    assert_eq!((entered.way, entered.correlation), (Some(Way::Subprotocol), Some(id)));
    assert_eq!(entered.user, Some(entry.principal.user()));
    let shown = format!("{record:?}{:?}", house.auth);
    let Credential::Ticket(ticket) = ticket else { panic!() };
    for secret in [&login.token, &login.refresh, &renewed.token, &renewed.refresh, &ticket] {
        assert!(!shown.contains(secret.reveal().as_str()));
    }
}

#[cfg(feature = "jwt")]
mod signed {
    use super::super::super::jwt::{Algorithm, KeyRing, SigningKey, TokenUse, jwks_of};
    use super::super::super::jwt::{KeySource, RemoteKeys, RemoteOptions};
    use super::super::super::{ServiceTokens, TokenAuthority, TrustedIssuer};
    use super::*;
    use async_trait::async_trait;
    use bytes::Bytes;
    use serde_json::json;

    const ISSUER: &str = "https://apex.example";
    const ELSEWHERE: &str = "https://login.example";

    fn key() -> SigningKey {
        SigningKey::generate().unwrap().0
    }

    /// An issuer whose set of keys is one key.
    #[derive(Debug)]
    struct Published(SigningKey);

    #[async_trait]
    impl KeySource for Published {
        async fn fetch(&self) -> Result<Bytes> {
            Ok(serde_json::to_vec(&jwks_of([self.0.verifying()])).unwrap().into())
        }
    }

    fn house() -> (House, SigningKey) {
        let elsewhere = key();
        let keys =
            RemoteKeys::new(Arc::new(Published(elsewhere.clone())), RemoteOptions::default());
        let services = ServiceTokens::new(KeyRing::new(key()), ISSUER, "apex").unwrap();
        let parts = AuthParts {
            tokens: Some(TokenAuthority::new(KeyRing::new(key()), ISSUER, "apex")),
            issuers: vec![TrustedIssuer::new(ELSEWHERE, "apex", keys).unwrap()],
            services: Some(services.allow("apex", Scopes::NONE.with(Scope::Admin)).unwrap()),
            ..AuthParts::default()
        };
        (House::new(development(), parts), elsewhere)
    }

    #[tokio::test]
    async fn a_signed_token_lets_in_until_it_is_revoked_on_any_node() {
        let (house, _) = house();
        let (login, entry) = house.entry().await;
        assert_eq!(entry.principal, login.principal);
        assert_eq!(login.token.reveal().split('.').count(), 3);
        let other_node = house.beside();
        let (credential, presented) = (token(&login), by(Way::Bearer));
        let enter_there = || other_node.authenticate(&credential, &presented);
        assert_eq!(enter_there().await.unwrap().principal, login.principal);
        house.auth.log_out(&login.principal, &by(Way::Bearer)).await.unwrap();
        assert_eq!(house.refused(&token(&login), &by(Way::Bearer)).await, Kind::Unauthenticated);
        // The other node hears of it with its next look.
        other_node.revocations().look().await.unwrap();
        assert_eq!(enter_there().await.unwrap_err().kind(), Kind::Unauthenticated);
        house.clock.advance(Duration::from_secs(1));
        house.entry().await;
    }

    #[tokio::test]
    async fn a_renewed_login_has_a_new_signed_token() {
        let (house, _) = house();
        let login = house.log_in().await;
        house.clock.advance(AuthConfig::default().token_life + Duration::from_secs(31));
        assert_eq!(house.refused(&token(&login), &by(Way::Bearer)).await, Kind::TokenExpired);
        let renewed = house.auth.refresh(&login.refresh, &by(Way::Bearer)).await.unwrap();
        let entry = house.enter(&token(&renewed), &by(Way::Bearer)).await.unwrap();
        assert_eq!(entry.principal, login.principal);
    }

    #[tokio::test]
    async fn a_user_whose_logins_all_ended_needs_a_newer_token() {
        let (house, _) = house();
        let login = house.log_in().await;
        house.auth.disable_user(login.principal.user(), true).await.unwrap();
        house.auth.disable_user(login.principal.user(), false).await.unwrap();
        assert_eq!(house.refused(&token(&login), &by(Way::Bearer)).await, Kind::Unauthenticated);
        house.clock.advance(Duration::from_secs(1));
        house.entry().await;
    }

    #[tokio::test]
    async fn the_tokens_of_a_trusted_issuer_let_its_users_in() {
        let (house, elsewhere) = house();
        let now = house.clock.now().as_millis() / 1_000;
        let sign = |key: &SigningKey, header_type: &str, change: serde_json::Value| {
            let mut claims = json!({
                "iss": ELSEWHERE, "sub": "4711", "aud": "apex", "iat": now, "exp": now + 600,
                "scope": "run read cancel admin",
            });
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
            Credential::Token(key.sign(header_type, &claims).unwrap())
        };
        let good = sign(&elsewhere, "JWT", json!({}));
        let entry = house.enter(&good, &by(Way::Bearer)).await.unwrap();
        let principal = entry.principal;
        assert_eq!(principal.scopes(), Scopes::USER, "what a token claims gives no rights");
        let again = house.enter(&good, &by(Way::Bearer)).await.unwrap();
        assert_eq!(again.principal, principal);
        for bad in [
            sign(&key(), "JWT", json!({})),
            sign(&elsewhere, "apex-service+jwt", json!({})),
            sign(&elsewhere, "JWT", json!({"iss": ISSUER})),
            sign(&elsewhere, "JWT", json!({"iss": "https://other.example"})),
            sign(&elsewhere, "JWT", json!({"aud": "another"})),
        ] {
            assert_eq!(house.refused(&bad, &by(Way::Bearer)).await, Kind::Unauthenticated);
        }
        house.auth.disable_user(principal.user(), true).await.unwrap();
        assert_eq!(house.refused(&good, &by(Way::Bearer)).await, Kind::Unauthenticated);
    }

    #[tokio::test]
    async fn no_credential_stands_in_for_another() {
        let (house, _) = house();
        let (login, entry) = house.entry().await;
        let ticket = house.auth.issue_ticket(&entry, None, &by(Way::Bearer)).await.unwrap().ticket;
        let service = house.auth.service_token("apex", Scopes::USER.with(Scope::Admin)).unwrap();
        let all = [&login.token, &login.refresh, &ticket, &service];
        for (made, credential) in all.into_iter().enumerate() {
            let as_token = Credential::Token(credential.clone());
            let entered = house.enter(&as_token, &by(Way::Bearer)).await;
            assert_eq!(entered.is_ok(), made == 0, "{made} as a token");
            assert_eq!(
                house.auth.service(Some(credential), &by(Way::Bearer)).is_ok(),
                made == 3,
                "{made} as a service's"
            );
        }
        for (made, credential) in all.into_iter().enumerate() {
            let renewed = house.auth.refresh(credential, &by(Way::Bearer)).await;
            assert_eq!(renewed.is_ok(), made == 1, "{made} as a refresh token");
        }
        for (made, credential) in all.into_iter().enumerate() {
            let as_ticket = Credential::Ticket(credential.clone());
            let entered = house.enter(&as_ticket, &by(Way::Query)).await;
            assert_eq!(entered.is_ok(), made == 2, "{made} as a ticket");
        }
    }

    #[tokio::test]
    async fn a_service_is_let_in_by_what_is_known_of_it_here() {
        let ring = KeyRing::new(key());
        let named = |name: &str| ServiceTokens::new(ring.clone(), ISSUER, name).unwrap();
        let with = |services: ServiceTokens| {
            let parts = AuthParts { services: Some(services), ..AuthParts::default() };
            House::new(development(), parts)
        };
        let caller = with(named("reports"));
        let stranger = with(named("stranger"));
        let admin = Scopes::NONE.with(Scope::Admin);
        let called = with(named("apex").allow("reports", admin).unwrap());
        let all = Scopes::USER.with(Scope::Admin);
        let serve = |token: &Secret<String>| called.auth.service(Some(token), &by(Way::Bearer));
        let token = caller.auth.service_token("apex", all).unwrap();
        let entry = serve(&token).unwrap();
        assert_eq!((entry.service.as_str(), entry.scopes), ("reports", admin));
        entry.require(Scope::Admin, "test").unwrap();
        let less = caller.auth.service_token("apex", Scopes::USER).unwrap();
        let refused = serve(&less).unwrap().require(Scope::Admin, "test").unwrap_err();
        assert_eq!(refused.kind(), Kind::Forbidden);
        let elsewhere = caller.auth.service_token("billing", all).unwrap();
        assert_eq!(serve(&elsewhere).unwrap_err().kind(), Kind::Unauthenticated);
        let strangers = stranger.auth.service_token("apex", all).unwrap();
        assert_eq!(serve(&strangers).unwrap_err().kind(), Kind::Unauthenticated);
        called.clock.advance(Duration::from_secs(5 * 60 + 31));
        assert_eq!(serve(&token).unwrap_err().kind(), Kind::TokenExpired);
        assert!(called.auth.service(None, &by(Way::Bearer)).is_err());
        assert!(caller.auth.service_token("a b", all).is_err());
        let nobody = House::open();
        assert!(nobody.auth.service_token("apex", all).is_err());
        assert!(nobody.auth.service(Some(&token), &by(Way::Bearer)).is_err());
    }

    #[test]
    fn the_names_of_uses_are_told_apart() {
        assert_eq!(Algorithm::EdDsa.name(), "EdDSA");
        let types: std::collections::HashSet<_> =
            TokenUse::ALL.map(TokenUse::header_type).into_iter().collect();
        assert_eq!(types.len(), TokenUse::ALL.len());
    }
}
