//! The addresses of databases: what is read, what is refused, and that nothing shows a password.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

use apex_core::config::{DatabaseHost, DatabaseKind, DatabaseUrl, RedisTopology, Secret, TlsMode};
use proptest::prelude::*;
use std::path::Path;

fn url(text: &str) -> DatabaseUrl {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn each_database_is_read() {
    assert_eq!(url("sqlite:apex.db").database(), "apex.db");
    assert_eq!(url("sqlite:///var/lib/apex.db").database(), "/var/lib/apex.db");
    assert_eq!(url("sqlite::memory:").database(), ":memory:");
    let pg =
        url("postgres://me:p%40ss%2F@db1.example:5433,[2001:db8::1]/apex?application_name=a%20b");
    assert_eq!(pg.password().unwrap().reveal(), "p@ss/");
    assert_eq!(pg.hosts().len(), 2);
    assert_eq!(pg.hosts()[1], DatabaseHost::Tcp { host: "2001:db8::1".into(), port: 5432 });
    assert_eq!(pg.tls(), TlsMode::VerifyFull, "remote: verified unless said otherwise");
    assert_eq!(
        pg.to_string(),
        "postgres://me:***@db1.example:5433,[2001:db8::1]:5432/apex?sslmode=verify-full&application_name=a%20b"
    );
    assert_eq!(
        url("redis://localhost").hosts()[0],
        DatabaseHost::Tcp { host: "localhost".into(), port: 6379 }
    );
    assert_eq!(url("rediss://:x@cache.example/2").tls(), TlsMode::VerifyFull);
    assert_eq!(
        url("redis://cache.example").tls(),
        TlsMode::Off,
        "the scheme says so; the rules refuse it"
    );
    let socket = url("postgres://me@/apex?host=/var/run/postgresql");
    assert!(!socket.is_remote() && socket.tls() == TlsMode::Off);
    assert!(matches!(
        url("clickhouse://h.example/d").hosts()[0],
        DatabaseHost::Tcp { port: 8443, .. }
    ));
}

#[test]
fn redis_servers_belong_together_in_three_ways() {
    assert_eq!(url("redis://a,b/0").topology(), &RedisTopology::Servers);
    let sentinels = url("redis://:x@a,b:7/3?sentinel=my%20primary");
    assert_eq!(sentinels.topology(), &RedisTopology::Sentinel("my primary".into()));
    let port = |n: usize| match &sentinels.hosts()[n] {
        DatabaseHost::Tcp { port, .. } => *port,
        DatabaseHost::Unix(_) => 0,
    };
    assert_eq!((port(0), port(1)), (26379, 7));
    assert_eq!(sentinels.to_string(), "redis://:***@a:26379,b:7/3?sentinel=my%20primary");
    let cluster = url("rediss://a,b?cluster=true");
    assert_eq!(cluster.topology(), &RedisTopology::Cluster);
    assert_eq!(cluster.to_string(), "rediss://a:6379,b:6379/?cluster=true");
}

#[test]
fn a_password_may_stand_in_a_file() {
    let with = url("postgres://ada@h/d?password_file=/run/secrets/my%20password");
    assert_eq!(with.password_file(), Some(Path::new("/run/secrets/my password")));
    assert!(with.password().is_none());
    let again = url(with.reveal().reveal());
    assert_eq!(again.to_string(), with.to_string());
}

#[test]
fn bad_addresses_are_refused_without_being_repeated() {
    for text in [
        "",
        "postgres",
        "mysql://h/d",
        "redis://h/0?sentinel=",
        "redis://h/1?cluster=true",
        "redis://h/0?cluster=yes",
        "redis://h/0?cluster=true&sentinel=a",
        "postgres://h/d?cluster=true",
        "postgres:h/d",
        "postgres://",
        "postgres:///d",
        "postgres://h",
        "postgres://h/",
        "postgres://h:0/d",
        "postgres://h:65536/d",
        "postgres://h:/d",
        "postgres://h:x/d",
        "postgres://u:canary@@h/d",
        "postgres://u:can@ary@h/d",
        "postgres://u:canary#@h/d",
        "postgres://u:canary%@h/d",
        "postgres://u:canary%zz@h/d",
        "postgres://u:@h/d",
        "postgres://u:canary%ff@h/d",
        "postgres://::1/d",
        "postgres://[::1/d",
        "postgres://[::zz]/d",
        "postgres://[::1]5432/d",
        "postgres://h,/d",
        "postgres://-h/d",
        "postgres://h-/d",
        "postgres://h..x/d",
        "postgres://h h/d",
        "postgres://1.2.3/d",
        "postgres://1.2.3.400/d",
        "postgres://h/a/b",
        "postgres://h/d?sslmode=prefer",
        "postgres://h/d?sslmode=require",
        "postgres://h/d?sslmode=allow",
        "postgres://h/d?sslmode=verify-ca",
        "postgres://h/d?sslmode=",
        "postgres://h/d?sslmode=disable&sslmode=verify-full",
        "postgres://h/d?ssl_mode=disable",
        "postgres://h/d?canary=1",
        "postgres://h/d?host=relative",
        "postgres://h/d?password_file=",
        "postgres://u:canary@h/d?password_file=/x",
        "clickhouse://h/d?password_file=/x",
        "postgres://h/d%00",
        "redis://h/x",
        "redis://h/70000",
        "redis://h?sslmode=disable",
        "clickhouse://h",
        "clickhouse://h/d?host=/x",
        "sqlite:",
        "sqlite:a?mode=ro",
        "sqlite:a%00",
        "sqlite:a#b",
        "redis://",
        "POSTGRES://h/d",
        " postgres://h/d",
        "postgres:/h/d",
        "postgres://u:canary@/d",
        "postgres://u@:5432/d",
    ] {
        let error = text.parse::<DatabaseUrl>().expect_err(text);
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let long = format!("postgres://{}/d", vec!["h"; 17].join(","));
    assert!(long.parse::<DatabaseUrl>().is_err());
}

proptest! {
    #[test]
    fn what_is_built_reads_back(user in "\\PC{1,12}", password in "\\PC{1,24}", database in "[^/\\p{C}]{1,12}", port in 1_u16..) {
        let built = DatabaseUrl::new(DatabaseKind::Postgres, database.clone())
            .with_user(user.clone())
            .with_password(Secret::new(password.clone()))
            .with_host("2001:db8::7", port).unwrap()
            .with_host("db.example", port).unwrap();
        let read: DatabaseUrl = built.reveal().reveal().parse().unwrap();
        prop_assert_eq!(read.user(), Some(user.as_str()));
        prop_assert_eq!(read.password().unwrap().reveal(), &password);
        prop_assert_eq!(read.database(), database.as_str());
        prop_assert_eq!(read.hosts(), built.hosts());
        prop_assert_eq!(read.tls(), TlsMode::VerifyFull);
        prop_assert!(password.len() < 4 || user.contains(&password) || database.contains(&password) || !built.to_string().contains(&password));
    }

    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,60}", tail in "[a-z:/@?&=%#\\[\\],.0-9]{0,40}") {
        let _ = text.parse::<DatabaseUrl>();
        for scheme in ["postgres://", "redis://", "sqlite:", "clickhouse://"] {
            if let Ok(url) = format!("{scheme}{tail}").parse::<DatabaseUrl>() {
                let again: DatabaseUrl = url.reveal().reveal().parse().unwrap();
                prop_assert_eq!(again.to_string(), url.to_string());
            }
        }
    }
}
