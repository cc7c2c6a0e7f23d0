//! Faults of one server.

use crate::support::{
    back, connections, issue, open, options, refusal, say, say_all, until, works,
};
use apex_core::auth::TokenHash;
use apex_core::clock::SystemClock;
use apex_core::error::{Failure, Kind, Outcome};
use apex_core::id::{HolderId, UserId};
use apex_core::limit::{Grant, LimitKey, Place};
use apex_test_services::{Kind as Service, Options, Server};
use std::time::{Duration, Instant};

fn server(options: &Options) -> Option<Server> {
    Server::start_or_skip(Service::Redis, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_says_so_and_works_again_with_room() {
    let Some(server) = server(&Options::default()) else { return };
    let redis = open(&options(server.url())).await;
    issue(&redis, "kept").await.unwrap();
    say(server.port(), "CONFIG SET maxmemory 1");
    let error = issue(&redis, "a").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::NotApplied));
    assert_eq!(error.failure(), Some(Failure::Capacity));
    assert!(error.message().contains("maxmemory"), "{error}");
    let key = LimitKey::new("connections", UserId::new(&SystemClock)).unwrap();
    let place = Place { key, holder: HolderId::new(&SystemClock), most: 2 };
    let error = redis.limits.hold(&place, Duration::from_secs(9)).await.unwrap_err();
    assert_eq!(
        error.failure(),
        Some(Failure::Capacity),
        "a script says it in other words: {error}"
    );
    // What needs no memory works on, also for a node that starts now.
    assert!(redis.tickets.redeem(&TokenHash::of("kept")).await.unwrap().is_some());
    let other = open(&options(server.url())).await;
    say(server.port(), "CONFIG SET maxmemory 0");
    works(&redis).await.unwrap();
    works(&other).await.unwrap();
    assert_eq!(redis.limits.hold(&place, Duration::from_secs(9)).await.unwrap(), Grant::Granted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_say_that_it_is_version_7_is_refused() {
    // As one that is too old to know the question.
    let old = Options::default().set("rename-command", "HELLO UNKNOWN");
    let Some(server) = server(&old) else { return };
    let error = refusal(&options(server.url())).await;
    assert_eq!((error.kind(), error.failure()), (Kind::Storage, Some(Failure::Schema)));
    assert!(error.message().contains("older than version 7"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_changes_is_read_again_from_its_file() {
    let Some(server) = server(&Options::default().set("requirepass", "first")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let url = format!("redis://127.0.0.1:{}/0?password_file={}", server.port(), file.display());
    let redis = open(&options(&url)).await;
    works(&redis).await.unwrap();
    let admin = ["AUTH first", "CONFIG SET requirepass second", "CLIENT KILL TYPE normal"];
    say_all(server.port(), &admin);
    let refused = works(&redis).await.unwrap_err();
    assert_eq!(refused.failure(), Some(Failure::Permission), "{refused}");
    std::fs::write(&file, "second\n").unwrap();
    let (took, said) = back(&redis, Duration::from_secs(5)).await;
    println!("back by the new password within {took:?}: {said:?}");
    std::fs::remove_file(&file).unwrap();
    let error = refusal(&options(&url)).await;
    assert!(error.message().contains("cannot be read"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_refused_and_the_primary_found_again() {
    let (Some(primary), Some(other)) = (server(&Options::default()), server(&Options::default()))
    else {
        return;
    };
    let both = format!("redis://127.0.0.1:{},127.0.0.1:{}/0", other.port(), primary.port());
    let redis = open(&options(&both)).await;
    works(&redis).await.unwrap();
    assert_eq!(connections(primary.port()), 0, "it is the second of them");
    // The first one becomes a replica of the second, as after somebody's failover by hand.
    say(other.port(), &format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    let (took, said) = back(&redis, Duration::from_secs(2)).await;
    assert!(took < Duration::from_secs(1), "{took:?} {said:?}");
    assert!(connections(primary.port()) > 0);
    let alone = refusal(&options(other.url())).await;
    assert_eq!((alone.kind(), alone.failure()), (Kind::Unavailable, Some(Failure::ReadOnly)));
    assert!(alone.message().contains("replica"), "{alone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_named_at_once_and_found_again_empty() {
    let Some(mut server) = server(&Options::default()) else { return };
    let redis = open(&options(server.url())).await;
    issue(&redis, "lost").await.unwrap();
    server.kill("redis");
    let began = Instant::now();
    let mut refused = works(&redis).await.unwrap_err();
    if refused.outcome() == Outcome::Unknown {
        // Sent into a connection whose end was not seen yet.
        refused = works(&redis).await.unwrap_err();
    }
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!((refused.kind(), refused.outcome()), (Kind::Unavailable, Outcome::NotApplied));
    assert!(refused.message().contains("nothing listens"), "{refused}");
    assert!(refused.to_string().contains(&server.port().to_string()), "{refused}");
    server.restart("redis").unwrap();
    let (took, _) = back(&redis, Duration::from_secs(2)).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(redis.tickets.redeem(&TokenHash::of("lost")).await.unwrap(), None);
    redis.probe.probe().await.ok();
    until("the probe passes", async || redis.probe.probe().await.is_ok()).await;
    assert_eq!(connections(server.port()), 2, "one for calls and one to hear");
    drop(redis);
    until("closed", async || connections(server.port()) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_are_made_again() {
    let Some(server) = server(&Options::default()) else { return };
    let redis = open(&options(server.url())).await;
    for _ in 0..5 {
        say(server.port(), "CLIENT KILL TYPE normal SKIPME yes");
        say(server.port(), "CLIENT KILL TYPE pubsub SKIPME yes");
        let (took, said) = back(&redis, Duration::from_secs(2)).await;
        assert!(took < Duration::from_millis(500), "{took:?} {said:?}");
    }
    until("the probe passes", async || redis.probe.probe().await.is_ok()).await;
    assert_eq!(connections(server.port()), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_not_waited_for_and_works_when_it_goes_on() {
    let Some(server) = server(&Options::default()) else { return };
    let redis = open(&options(server.url())).await;
    issue(&redis, "a").await.unwrap();
    server.pause("redis");
    let began = Instant::now();
    let error = redis.tickets.redeem(&TokenHash::of("a")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::DeadlineExceeded, Outcome::Unknown));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for _ in 0..4 {
        let began = Instant::now();
        let error = works(&redis).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
        assert!(matches!(error.kind(), Kind::DeadlineExceeded | Kind::Unavailable), "{error:?}");
    }
    server.resume("redis");
    let (took, said) = back(&redis, Duration::from_secs(3)).await;
    assert!(took < Duration::from_secs(1), "{took:?} {said:?}");
    until("two connections", async || connections(server.port()) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_are_sent_again() {
    let Some(server) = server(&Options::default()) else { return };
    let redis = open(&options(server.url())).await;
    for _ in 0..3 {
        works(&redis).await.unwrap();
        say(server.port(), "SCRIPT FLUSH");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_calls_is_bounded() {
    let Some(server) = server(&Options::default()) else { return };
    let redis =
        open(&apex_core::store::redis::RedisOptions { calls: 4, ..options(server.url()) }).await;
    works(&redis).await.unwrap();
    server.pause("redis");
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let redis = redis.clone();
            tokio::spawn(async move { redis.tickets.redeem(&TokenHash::of("a")).await })
        })
        .collect();
    let began = Instant::now();
    let mut full = 0;
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        full += usize::from(error.kind() == Kind::PoolExhausted);
    }
    assert!(full >= 64 - 4 - 16, "{full} were refused at once");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    server.resume("redis");
    back(&redis, Duration::from_secs(3)).await;
}
