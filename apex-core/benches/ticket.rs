//! What taking a ticket out of Redis costs, beside a bare `GETDEL` of the same value over the same driver; and how much
//! of Redis's memory tickets, logins and places take.
//!
//! `cargo bench -p apex-core --bench ticket` starts a Redis of its own and prints both.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and fails by panicking"
)]

use apex_core::auth::{RefreshHash, SessionRecord, TicketRecord, TokenHash};
use apex_core::clock::{Clock as _, SystemClock};
use apex_core::id::{HolderId, SessionId, UserId};
use apex_core::limit::{LimitKey, Place};
use apex_core::principal::Scopes;
use apex_core::store::redis::{self as store, Redis, RedisOptions};
use apex_test_services::{Kind, Options, Server};
use redis::aio::MultiplexedConnection;
use std::time::{Duration, Instant};

/// Tickets in each round.
const TICKETS: usize = 4_000;

/// How often each row is measured, in turn; the median counts.
const ROUNDS: usize = 5;

fn main() {
    let Some(server) = Server::start_or_skip(Kind::Redis, &Options::default()) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let url = server.url().parse().unwrap();
        let ours = store::open(&RedisOptions::new(url), &SystemClock).await.unwrap();
        let client = ::redis::Client::open(server.url()).unwrap();
        let bare = client.get_multiplexed_async_connection().await.unwrap();
        println!("{:<12} {:>14} {:>14} {:>8}", "at a time", "apex µs", "GETDEL µs", "ratio");
        for at_a_time in [1, 32] {
            let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                of_ours.push(redeem(&ours, round, at_a_time).await);
                of_bare.push(getdel(&bare, round, at_a_time).await);
            }
            let (of_ours, of_bare) = (median(of_ours), median(of_bare));
            let ratio = of_ours / of_bare;
            println!("{at_a_time:<12} {of_ours:>14.1} {of_bare:>14.1} {ratio:>8.2}");
        }
        sizes(&ours, bare).await;
    });
}

/// Prints what one of each thing takes.
async fn sizes(ours: &Redis, mut bare: MultiplexedConnection) {
    let mut before = used(&mut bare).await;
    for i in 0..TICKETS {
        ours.tickets.issue(ticket(&format!("size {i}")), SystemClock.now(), 32).await.unwrap();
    }
    let tickets = used(&mut bare).await;
    println!("a ticket takes {} bytes", (tickets - before) / TICKETS);
    before = tickets;
    for i in 0..TICKETS {
        ours.sessions.create(session(&format!("size {i}"))).await.unwrap();
    }
    let sessions = used(&mut bare).await;
    println!("a login takes {} bytes", (sessions - before) / TICKETS);
    before = sessions;
    let now = SystemClock.now();
    for i in 0..TICKETS {
        // Noted as a revocation, whether there is a login or not.
        ours.sessions
            .end_all(UserId::new(&SystemClock), now.plus(Duration::from_millis(i as u64)))
            .await
            .unwrap();
    }
    let revoked = used(&mut bare).await;
    println!("a revocation takes {} bytes", (revoked - before) / TICKETS);
    before = revoked;
    for i in 0..TICKETS {
        let key = LimitKey::new("connections", i / 4).unwrap();
        let place = Place { key, holder: HolderId::new(&SystemClock), most: 20 };
        ours.limits.hold(&place, Duration::from_secs(60)).await.unwrap();
    }
    let places = used(&mut bare).await;
    println!("a place takes {} bytes, where a user has four", (places - before) / TICKETS);
}

async fn used(bare: &mut MultiplexedConnection) -> usize {
    let mut info = ::redis::cmd("INFO");
    let text: String = info.arg("memory").query_async(bare).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}

fn session(name: &str) -> SessionRecord {
    let now = SystemClock.now();
    SessionRecord {
        session: SessionId::new(&SystemClock),
        user: UserId::new(&SystemClock),
        scopes: Scopes::USER,
        method: "oidc:google".into(),
        hash: TokenHash::of(name),
        expires_at: now.plus(Duration::from_secs(600)),
        refresh: Some(RefreshHash {
            family: TokenHash::of(&format!("family {name}")),
            current: TokenHash::of(&format!("current {name}")),
        }),
        created_at: now,
        renewed_at: now,
        lapses_at: now.plus(Duration::from_secs(3_600)),
        ends_at: now.plus(Duration::from_secs(86_400)),
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6 / TICKETS as f64
}

fn ticket(name: &str) -> TicketRecord {
    let now = SystemClock.now();
    TicketRecord {
        hash: TokenHash::of(name),
        user: UserId::new(&SystemClock),
        scopes: Scopes::USER,
        session: None,
        audience: "ws".into(),
        origin: Some("https://app.example".into()),
        address: None,
        expires_at: now.plus(Duration::from_secs(60)),
        credential_expires_at: now.plus(Duration::from_secs(3_600)),
    }
}

async fn redeem(ours: &Redis, round: usize, at_a_time: usize) -> Duration {
    let names: Vec<String> = (0..TICKETS).map(|i| format!("{round} {at_a_time} {i}")).collect();
    for name in &names {
        ours.tickets.issue(ticket(name), SystemClock.now(), 32).await.unwrap();
    }
    let began = Instant::now();
    let tasks: Vec<_> = names
        .chunks(TICKETS / at_a_time)
        .map(|names| {
            let (ours, names) = (ours.clone(), names.to_vec());
            tokio::spawn(async move {
                for name in &names {
                    let taken = ours.tickets.redeem(&TokenHash::of(name)).await.unwrap();
                    assert!(taken.is_some());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    began.elapsed()
}

async fn getdel(bare: &MultiplexedConnection, round: usize, at_a_time: usize) -> Duration {
    let keys: Vec<String> = (0..TICKETS)
        .map(|i| format!("bare:production:t:{round:04}{at_a_time:04}{i:056}"))
        .collect();
    let value = serde_json::to_vec(&ticket("a")).unwrap();
    for key in &keys {
        let mut connection = bare.clone();
        ::redis::cmd("SET").arg(key).arg(&value).exec_async(&mut connection).await.unwrap();
    }
    let began = Instant::now();
    let tasks: Vec<_> = keys
        .chunks(TICKETS / at_a_time)
        .map(|keys| {
            let (mut connection, keys) = (bare.clone(), keys.to_vec());
            tokio::spawn(async move {
                for key in &keys {
                    let mut take = ::redis::cmd("GETDEL");
                    let taken: Option<Vec<u8>> =
                        take.arg(key).query_async(&mut connection).await.unwrap();
                    assert!(taken.is_some());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    began.elapsed()
}
