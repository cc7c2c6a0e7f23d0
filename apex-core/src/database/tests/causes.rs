//! Each cause is told, at once, and without a secret.

use super::*;
use apex_test_services::Tls;

async fn refusal(address: &str) -> Error {
    let began = Instant::now();
    let error = Database::open(&url(address), small()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}: {error:?}", began.elapsed());
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let shown = format!("{error} {error:?} {:?}", error.report());
    assert!(!shown.contains("s3cret"), "{shown}");
    error
}

/// The address with another login.
fn logging_in(address: &str, login: &str) -> String {
    let (_, server) = address.split_once('@').unwrap();
    format!("postgres://{login}{server}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_told_by_its_cause() {
    let Some(server) = server(&Options::default()) else { return };
    let address = server.url().to_owned();
    let of = |error: Error| (error.kind(), error.failure());

    let nobody = refusal("postgres://apex:s3cret@127.0.0.1:1/apex").await;
    assert!(nobody.message().contains("nothing listens"), "{nobody:?}");
    assert_eq!(of(nobody), (Kind::Unavailable, Some(Failure::Connection)));

    let password = refusal(&logging_in(&address, "apex:s3cret@")).await;
    assert!(password.message().contains("password"), "{password:?}");
    assert_eq!(of(password), (Kind::Storage, Some(Failure::Permission)));

    let missing = refusal(&address.replacen("/apex?", "/none?", 1)).await;
    assert!(missing.message().contains("no such database"), "{missing:?}");
    assert_eq!(of(missing), (Kind::Storage, Some(Failure::Schema)));

    let unnamed = refusal("postgres://127.0.0.1:1/apex").await;
    assert_eq!(unnamed.kind(), Kind::Config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_changes_is_read_again_from_its_file() {
    let Some(server) = server(&Options::default()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let password = password(&server);
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let by_file = server.url().replacen(&format!(":{password}@"), "@", 1);
    let by_file = format!("{by_file}&password_file={}", file.display());
    let database = open(&by_file, small()).await;
    let changed = database.write(access(), |transaction| {
        Box::pin(transaction.batch("ALTER ROLE apex PASSWORD 'n3w'"))
    });
    changed.await.unwrap();
    // The file comes a moment after the server.
    let address = url(&by_file);
    let behind = Database::open(&address, small());
    let change = async {
        sleep(Duration::from_millis(50)).await;
        std::fs::write(&file, "n3w").unwrap();
    };
    let (opened, ()) = tokio::join!(behind, change);
    assert_eq!(count(&opened.unwrap()).await, 0);
    fill(&database).await;
    std::fs::remove_file(&file).unwrap();
    let missing = refusal(&by_file).await;
    assert!(missing.message().contains("cannot be read"), "{missing:?}");
    assert_eq!(missing.failure(), Some(Failure::Permission));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_rights_and_missing_tables_are_told_and_not_repeated() {
    let Some(server) = server(&Options::default()) else { return };
    let database = open(server.url(), small()).await;
    let roles = database.write(access(), |transaction| {
        Box::pin(async move {
            transaction.batch("CREATE ROLE reader LOGIN PASSWORD 'reader'").await?;
            transaction.batch("GRANT SELECT ON t TO reader").await
        })
    });
    roles.await.unwrap();
    let address = logging_in(server.url(), "reader:reader@");
    let config = DatabaseConfig { connections: 1, ..DatabaseConfig::default() };
    let reader = Database::open(&url(&address), config).await.unwrap();
    assert_eq!(count(&reader).await, 0);
    let error = insert(&reader, access(), "x").await.unwrap_err();
    assert_eq!((error.kind(), error.failure()), (Kind::Storage, Some(Failure::Permission)));
    assert!(!error.is_retryable());
    let error = number(&database, "SELECT count(*) FROM none").await.unwrap_err();
    assert_eq!((error.kind(), error.failure()), (Kind::Storage, Some(Failure::Schema)));
    // The connections were good and are used again.
    assert_eq!((database.statistics().open, database.statistics().idle), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_too_few_connections_is_refused_at_start_with_the_arithmetic() {
    let options = Options::default().set("max_connections", "13");
    let Some(server) = server(&options) else { return };
    let config = DatabaseConfig { connections: 10, ..DatabaseConfig::default() };
    let error = Database::open(&url(server.url()), config.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let shown = error.to_string();
    assert!(shown.contains("12 = (10 connections + 2) x 1 nodes"), "{shown}");
    assert!(shown.contains("10 = max_connections 13 - reserved 3"), "{shown}");

    // Others have taken the rest: this one has the arithmetic right and still gets no connection.
    let config = DatabaseConfig { connections: 8, ..config };
    let database = open(server.url(), config.clone()).await;
    let address = server.url();
    let mut others = Vec::new();
    while others.len() < 12
        && let Ok((client, connection)) =
            tokio_postgres::connect(address.split('?').next().unwrap(), tokio_postgres::NoTls).await
    {
        tokio::spawn(connection);
        others.push(client);
    }
    let sleeps = (0..8).map(|_| sleep_on_server(&database, access(), 0.2));
    let answers = futures_util::future::join_all(sleeps).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty());
    for error in refused {
        assert_eq!((error.kind(), error.failure()), (Kind::Unavailable, Some(Failure::Capacity)));
        assert!(error.message().contains("no connection left"), "{error:?}");
    }
    drop(others);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(count(&database).await, 0, "back by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_in_full_or_there_is_no_connection() {
    let with = |tls| Options { tls: Some(tls), ..Options::default() };
    let (Some(good), Some(other), Some(expired), Some(plain)) = (
        server(&with(Tls::Good)),
        server(&with(Tls::WrongHost)),
        server(&with(Tls::Expired)),
        server(&Options::default()),
    ) else {
        return;
    };
    let database = open(good.url(), small()).await;
    const ENCRYPTED: &str = "SELECT count(*) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl";
    assert_eq!(number(&database, ENCRYPTED).await.unwrap(), 1);

    let authority = |server: &Server| server.ca().unwrap().display().to_string();
    let at = |server: &Server, port: u16, authority: &str| {
        let host = format!("postgres://apex:s3cret@127.0.0.1:{port}/apex");
        let _ = server;
        format!("{host}?sslmode=verify-full&sslrootcert={authority}")
    };
    let refused = [
        (&other, authority(&other), "another host's"),
        (&expired, authority(&expired), "has run out"),
        (&good, authority(&other), "no trusted authority"),
        (&plain, authority(&good), "does not support TLS"),
    ];
    for (server, authority, said) in refused {
        let proxy = Proxy::start(server.port()).unwrap();
        let error = refusal(&at(server, proxy.port(), &authority)).await;
        assert!(error.to_string().contains(said), "{said}: {error:?}");
        assert!(!error.is_retryable());
        let sent = proxy.sent();
        let names = |text: &[u8]| sent.windows(text.len()).any(|window| window == text);
        assert!(!names(b"s3cret") && !names(b"user\0apex"), "{said}: something was said in plain");
    }
    let missing = refusal(&at(&good, good.port(), "/nowhere.pem")).await;
    assert_eq!(missing.kind(), Kind::Config);
}
