//! What is found out when a Redis is opened.

use crate::support::{back, open, options, refusal, say, until, works};
use apex_core::auth::{SessionRecord, TokenHash};
use apex_core::clock::{Clock as _, SystemClock};
use apex_core::config::Environment;
use apex_core::error::{Failure, Kind};
use apex_core::id::{HolderId, NodeId, SessionId, UserId};
use apex_core::limit::{LimitKey, Place, Rate};
use apex_core::principal::Scopes;
use apex_core::resilience::BreakerHint;
use apex_core::store::redis::RedisOptions;
use apex_test_services::{Kind as Service, Options, Proxy, Server, Tls};
use std::time::{Duration, Instant};

fn server(options: &Options) -> Option<Server> {
    Server::start_or_skip(Service::Redis, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_not_shown() {
    let Some(server) = server(&Options::default().set("requirepass", "right")) else { return };
    let redis = open(&options(server.url())).await;
    works(&redis).await.unwrap();
    for (url, what) in [
        (server.url().replace(":right@", ":wr0ngSecret@"), "wrong"),
        (server.url().replace(":right@", ""), "none"),
        (server.url().replace(":right@", "nobody:wr0ngSecret@"), "no such user"),
    ] {
        let began = Instant::now();
        let error = refusal(&options(&url)).await;
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        assert_eq!((error.kind(), error.failure()), (Kind::Storage, Some(Failure::Permission)));
        assert!(error.message().contains("login"), "{what}: {error}");
        assert!(!format!("{error:?}").contains("wr0ngSecret"), "{what}");
        assert!(!error.is_retryable(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_for_a_server_without_is_refused_too() {
    let Some(server) = server(&Options::default()) else { return };
    let error = refusal(&options(&server.url().replace("//", "//:x@"))).await;
    assert_eq!(error.failure(), Some(Failure::Permission), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_certificate_is_taken() {
    for (tls, message) in [
        (Tls::Good, None),
        (Tls::WrongHost, Some("another host's")),
        (Tls::Expired, Some("run out")),
    ] {
        let settings =
            Options { tls: Some(tls), ..Options::default() }.set("requirepass", "s3cret");
        let Some(server) = server(&settings) else { return };
        let proxy = Proxy::start(server.port()).unwrap();
        let url = server.url_at(proxy.port());
        match message {
            None => works(&open(&options(&url)).await).await.unwrap(),
            Some(message) => {
                let error = refusal(&options(&url)).await;
                assert_eq!(
                    (error.kind(), error.failure()),
                    (Kind::Storage, Some(Failure::Permission))
                );
                assert!(error.message().contains(message), "{error}");
            }
        }
        // An authority that is not ours.
        let (strange, _) = url.split_once("?sslrootcert").unwrap();
        let error = refusal(&options(strange)).await;
        assert!(error.message().contains("authority") || message.is_some(), "{error}");
        let sent = proxy.sent();
        assert!(!sent.windows(6).any(|window| window == b"s3cret"), "nothing in plain text");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_not_spoken_to_in_plain() {
    let Some(server) = server(&Options::default().set("requirepass", "s3cret")) else { return };
    let proxy = Proxy::start(server.port()).unwrap();
    let url = server.url_at(proxy.port()).replace("redis://", "rediss://");
    let began = Instant::now();
    let error = refusal(&options(&url)).await;
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    assert!(error.message().contains("TLS") || error.kind() == Kind::Unavailable, "{error}");
    assert!(!proxy.sent().windows(6).any(|window| window == b"s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_where_nothing_listens_is_named_within_50_ms() {
    let Some(server) = server(&Options::default()) else { return };
    server.kill("redis");
    let began = Instant::now();
    let error = refusal(&options(server.url())).await;
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    assert_eq!((error.kind(), error.failure()), (Kind::Unavailable, Some(Failure::Connection)));
    assert!(error.message().contains("nothing listens"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_another_environment_are_refused() {
    let Some(server) = server(&Options::default()) else { return };
    let production = options(server.url());
    works(&open(&production).await).await.unwrap();
    open(&production).await;
    let staging = RedisOptions { environment: Environment::Staging, ..production.clone() };
    let error = refusal(&staging).await;
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("belongs to production"), "{error}");
    // Another prefix is another's.
    open(&RedisOptions { prefix: format!("{}x", staging.prefix), ..staging }).await;
    let bad = RedisOptions { prefix: "a b".into(), ..production };
    assert_eq!(refusal(&bad).await.kind(), Kind::Config);
}

/// The address leads to another server by and by: the one of another environment is not written to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_leads_to_another_environment_is_not_taken() {
    let (Some(here), Some(there)) = (server(&Options::default()), server(&Options::default()))
    else {
        return;
    };
    let proxy = Proxy::start(here.port()).unwrap();
    let production = options(&here.url_at(proxy.port()));
    let redis = open(&production).await;
    let staging = RedisOptions {
        environment: Environment::Staging,
        url: there.url().parse().unwrap(),
        ..production
    };
    open(&staging).await;
    proxy.redirect(there.port());
    proxy.cut();
    let error = loop {
        match works(&redis).await {
            Err(error) if error.kind() == Kind::Config => break error,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(()) => panic!("it wrote to another environment"),
        }
    };
    assert!(error.message().contains("staging"), "{error}");
    proxy.redirect(here.port());
    back(&redis, Duration::from_secs(2)).await;
}

/// The rights that docs/operations.md names are enough, and no more is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_with_the_named_rights_is_enough() {
    let page = include_str!("../../../docs/operations.md");
    let (_, after) = page.split_once("The login needs the commands `").unwrap();
    let (commands, _) = after.split_once('`').unwrap();
    let Some(server) = server(&Options::default()) else { return };
    let rights: Vec<String> =
        commands.split(' ').map(|command| format!("+{}", command.to_lowercase())).collect();
    let prefix = "test-rights";
    let user = format!("ACL SETUSER apex on >s3cret ~{prefix}:* &{prefix}:* {}", rights.join(" "));
    assert_eq!(say(server.port(), &user), "+OK");
    let url = server.url().replace("//", "//apex:s3cret@");
    let options = RedisOptions { prefix: prefix.into(), ..options(&url) };
    let redis = open(&options).await;
    works(&redis).await.unwrap();
    until("subscribed", async || redis.probe.probe().await.is_ok()).await;
    let now = SystemClock.now();
    let record = SessionRecord {
        session: SessionId::new(&SystemClock),
        user: UserId::new(&SystemClock),
        scopes: Scopes::USER,
        method: "dev".into(),
        hash: TokenHash::of("token"),
        expires_at: now.plus(Duration::from_secs(60)),
        refresh: None,
        created_at: now,
        renewed_at: now,
        lapses_at: now.plus(Duration::from_secs(60)),
        ends_at: now.plus(Duration::from_secs(60)),
    };
    redis.sessions.create(record.clone()).await.unwrap();
    assert_eq!(redis.sessions.find(&record.hash).await.unwrap(), Some(record.clone()));
    redis.sessions.end_all(record.user, now).await.unwrap();
    assert_eq!(redis.sessions.revoked(now).await.unwrap().len(), 2);
    let key = LimitKey::new("connections", record.user).unwrap();
    let place = Place { key: key.clone(), holder: HolderId::new(&SystemClock), most: 1 };
    redis.limits.hold(&place, Duration::from_secs(9)).await.unwrap();
    redis.limits.release(&place).await.unwrap();
    let rate = Rate { burst: 1, refill: Duration::from_secs(1) };
    redis.limits.take(&key, rate, 1).await.unwrap();
    let hint = BreakerHint {
        dependency: "postgres".into(),
        node: NodeId::new(&SystemClock),
        probing: true,
    };
    redis.breakers.publish(hint.node, vec![hint.clone()]).await.unwrap();
    assert_eq!(redis.breakers.hints().await.unwrap(), [hint]);
    let denied = say(server.port(), "ACL LOG");
    assert_eq!(denied, "*0", "nothing was refused");
    // Keys of others are out of reach.
    let error = refusal(&RedisOptions { prefix: "other".into(), ..options }).await;
    assert_eq!(error.failure(), Some(Failure::Permission), "{error}");
}
