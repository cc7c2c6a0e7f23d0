//! Moving a host as its operator does it, by the example: a file to PostgreSQL with a Redis, and what a careless hand
//! asks for.

use crate::support::{example, schema};
use netra_apex::ApexConfig;
use netra_apex::core::auth::{Credential, Presented, Way};
use netra_apex::core::config::{Loader, Secret};
use netra_apex::prelude::*;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What the example says on both of its outputs, when it ends as wanted.
fn transfer(folder: &Path, good: bool, words: &[&str]) -> String {
    let output = Command::new(example("transfer"))
        .current_dir(folder)
        .env("APEX_ENVIRONMENT", "development")
        .env("APEX_DATABASE_SCHEMA", schema(folder))
        .env("APEX_REDIS_PREFIX", schema(folder))
        .env_remove("APEX_DATABASE_URL")
        .env_remove("APEX_REDIS_URL")
        .args(words)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.success(), good, "{words:?}: {said}");
    said
}

async fn host(folder: &Path, url: &str, redis: Option<&str>) -> Result<Apex> {
    let schema = schema(folder);
    let mut variables = vec![
        ("APEX_ENVIRONMENT", "development"),
        ("APEX_DATABASE_SCHEMA", &schema),
        ("APEX_REDIS_PREFIX", &schema),
        ("APEX_DATABASE_URL", url),
    ];
    variables.extend(redis.map(|redis| ("APEX_REDIS_URL", redis)));
    let config = Loader::new().environment(variables).load::<ApexConfig>().unwrap().value;
    config.builder()?.build().await
}

/// Ends it, and waits until nothing holds its files.
async fn leave(apex: Apex) {
    assert!(apex.drain(Duration::from_secs(10)).await);
    drop(apex);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_moves_with_its_users_logged_in_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = |name: &str| format!("sqlite:{}", folder.join(name).display());
    let mut places = vec![(file("new.db"), None)];
    if cfg!(all(feature = "postgres", feature = "redis")) {
        let servers =
            apex_test_services::shared("postgres").zip(apex_test_services::shared("redis"));
        places.extend(servers.map(|(postgres, redis)| (postgres, Some(redis))));
    }
    let (presented, begins) = (Presented::by(Way::Bearer), file("begin.db"));
    let apex = host(folder, &begins, None).await.unwrap();
    let login = apex.auth().development_login("ada", &presented).await.unwrap();
    apex.ask(&login.principal, "What could we save?").await.unwrap();
    leave(apex).await;
    let (mut here, mut here_redis) = (begins, None);
    places.push((file("end.db"), None));
    for (url, redis) in places {
        let mut words = vec!["copy", &*here];
        words.extend(here_redis.as_deref());
        words.extend(["to", &*url]);
        words.extend(redis.as_deref());
        let said = transfer(folder, true, &words);
        assert!(said.contains("session: 1 of 1 rows"), "{said}");
        assert!(said.contains("tickets: they are good for seconds"), "{said}");
        assert!(said.contains("left out"), "{said}");
        let again = transfer(folder, false, &words);
        assert!(again.contains("lead to the same database"), "{again}");
        let apex = host(folder, &url, redis.as_deref()).await.unwrap();
        let token = Credential::Token(Secret::new(login.token.reveal().clone()));
        let entry = apex.auth().authenticate(&token, &presented).await.unwrap();
        assert_eq!(entry.principal.user(), login.principal.user());
        let inbox = apex.stores().runs.inbox(&entry.principal, 0, 10).await.unwrap();
        assert!(!inbox.entries.is_empty());
        leave(apex).await;
        (here, here_redis) = (url, redis);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_careless_operator_types_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = |name: &str| format!("sqlite:{}", folder.join(name).display());
    let (full, other, new) = (file("full.db"), file("other.db"), file("new.db"));
    for url in [&full, &other] {
        let apex = host(folder, url, None).await.unwrap();
        let ada = apex.user("ada").await.unwrap();
        apex.ask(&ada, "hello").await.unwrap();
        leave(apex).await;
    }
    let refused = |words: &[&str], wanted: &str| {
        let said = transfer(folder, false, words);
        assert!(said.contains(wanted), "{words:?}: {said}");
    };
    refused(&["copy", &full, &new], "usage:");
    refused(&["copy", &full, "to"], "usage:");
    refused(&["copy", &full, &other, "to", &new], "two addresses of one kind");
    refused(&["copy", &full, "to", "new.db"], "no address of a database");
    refused(&["copy", &file("typo.db"), "to", &new], "there is no file");
    assert!(!folder.join("typo.db").exists());
    refused(&["copy", "redis://127.0.0.1:1/0", "to", &new], "needs the address of a database");
    refused(&["copy", &full, "to", &other], "not empty");
    refused(&["copy", &full, "to", &full], "the same database");
    refused(&["copy", "@missing", "to", &new], "missing");
    if cfg!(feature = "postgres")
        && let Some(url) = apex_test_services::shared("postgres")
    {
        // The right server with a schema in which nothing is, and a password that is another.
        refused(&["copy", &url, "to", &new], "there is nothing to move");
        let (before, host) = url.rsplit_once('@').unwrap();
        let (scheme, user) = before.split_once("://").unwrap();
        let user = user.split(':').next().unwrap();
        let wrong = format!("{scheme}://{user}:wrong@{host}");
        refused(&["copy", &full, "to", &wrong], "password");
    }
    // One that a newer library has written, and one that has lost a table.
    let change = |name: &str, sql: &str| {
        rusqlite::Connection::open(folder.join(name)).unwrap().execute_batch(sql).unwrap();
    };
    let connection = rusqlite::Connection::open(folder.join("other.db")).unwrap();
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    drop(connection);
    change("other.db", "PRAGMA user_version = 99");
    refused(&["copy", &other, "to", &new], "newer version");
    refused(&["copy", &full, "to", &other], "newer version");
    change("other.db", &format!("PRAGMA user_version = {version}; DROP TABLE audit"));
    refused(&["copy", &other, "to", &file("third.db")], "audit");
    // Half a copy is there: no node starts on it, and another move is refused; nothing is lost by moving elsewhere.
    let half = host(folder, &file("third.db"), None).await.map(drop).unwrap_err();
    assert_eq!(half.kind(), Kind::Config, "{half}");
    assert!(half.message().contains("the same move once more"), "{half}");
    refused(&["copy", &full, "to", &file("third.db")], "half a copy");
    transfer(folder, true, &["copy", &full, "to", &new]);
}
