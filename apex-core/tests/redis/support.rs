use apex_core::auth::{TicketRecord, TokenHash};
use apex_core::clock::{Clock, SystemClock};
use apex_core::config::DatabaseUrl;
use apex_core::error::{Error, Result};
use apex_core::id::UserId;
use apex_core::principal::Scopes;
use apex_core::store::redis::{self, Redis, RedisOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Options as a host has them, with keys of one's own.
pub(crate) fn options(url: &str) -> RedisOptions {
    RedisOptions {
        prefix: format!("test-{:016x}", fastrand::u64(..)),
        ..RedisOptions::new(url.parse::<DatabaseUrl>().unwrap())
    }
}

pub(crate) async fn open(options: &RedisOptions) -> Redis {
    redis::open(options, &SystemClock).await.unwrap()
}

pub(crate) async fn refusal(options: &RedisOptions) -> Error {
    redis::open(options, &SystemClock).await.unwrap_err()
}

pub(crate) fn ticket(token: &str) -> TicketRecord {
    let now = SystemClock.now();
    TicketRecord {
        hash: TokenHash::of(token),
        user: UserId::new(&SystemClock),
        scopes: Scopes::USER,
        session: None,
        audience: "ws".into(),
        origin: None,
        address: None,
        expires_at: now.plus(Duration::from_secs(30)),
        credential_expires_at: now.plus(Duration::from_secs(60)),
    }
}

pub(crate) async fn issue(redis: &Redis, token: &str) -> Result<()> {
    redis.tickets.issue(ticket(token), SystemClock.now(), 32).await
}

/// Issues a ticket and takes it.
pub(crate) async fn works(redis: &Redis) -> Result<()> {
    let token = format!("{:032x}", fastrand::u128(..));
    issue(redis, &token).await?;
    assert!(redis.tickets.redeem(&TokenHash::of(&token)).await?.is_some());
    Ok(())
}

/// How long it takes until it works, and what was said until then.
pub(crate) async fn back(redis: &Redis, most: Duration) -> (Duration, Vec<Error>) {
    let began = Instant::now();
    let mut said = Vec::new();
    loop {
        match works(redis).await {
            Ok(()) => return (began.elapsed(), said),
            Err(error) => said.push(error),
        }
        assert!(began.elapsed() < most, "not back within {most:?}: {said:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for something that comes by itself.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says several commands over one connection.
pub(crate) fn say_all(port: u16, commands: &[&str]) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reader = BufReader::new(&stream);
    for command in commands {
        (&stream).write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(!line.starts_with('-'), "{command}: {line}");
    }
}

/// The answer of a server to one command, past everything that is tested.
pub(crate) fn say(port: u16, command: &str) -> String {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reader = BufReader::new(&stream);
    (&stream).write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    if let Some(length) = line.strip_prefix('$') {
        let mut text = vec![0; length.trim().parse::<usize>().unwrap()];
        reader.read_exact(&mut text).unwrap();
        return String::from_utf8(text).unwrap();
    }
    line.trim().to_owned()
}

/// The connections of ours that a server has: without those by which tests and replicas ask.
pub(crate) fn connections(port: u16) -> usize {
    let list = say(port, "CLIENT LIST");
    let ours = |line: &&str| !line.contains("cmd=client|list") && !line.contains("flags=S");
    list.lines().filter(|line| !line.is_empty()).filter(ours).count()
}
