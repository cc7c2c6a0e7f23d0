//! Another server takes over.

use super::loss::{TABLE, there, write};
use super::*;
use crate::testkit::loss::Writes;
use std::sync::atomic::AtomicBool;

/// Statements to one node by itself, outside a transaction.
async fn tell(server: &Server, node: &str, statements: &[&str]) {
    let port = server.node(node).port;
    let password = password(server);
    let address = format!("postgres://apex:{password}@127.0.0.1:{port}/apex?application_name=test");
    let (client, driven) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driven);
    for statement in statements {
        client.batch_execute(statement).await.unwrap();
    }
}

/// Writes until it is told to stop; what it was told.
fn writer(
    database: &Database,
    number: u64,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Writes> {
    let (database, stop) = (database.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut writes = Writes::default();
        for write_number in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let key = format!("x {number} {write_number}");
            writes.intend(&key);
            let answer = write(&database, &key, number.is_multiple_of(2)).await;
            writes.told(&key, &answer);
            if answer.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        writes
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_takes_over_and_no_acknowledged_write_is_lost() {
    let options = Options { replicas: 1, ..Options::default() };
    let Some(mut server) = server(&options) else { return };
    let database = open(server.url(), small()).await;
    let made = database.write(access(), |transaction| Box::pin(transaction.batch(TABLE)));
    made.await.unwrap();
    // Otherwise the standby may lack the last moments.
    let synchronous = "ALTER SYSTEM SET synchronous_standby_names = '*'";
    tell(&server, "postgres", &[synchronous, "SELECT pg_reload_conf()"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4).map(|number| writer(&database, number, &stop)).collect();
    sleep(Duration::from_millis(500)).await;
    server.kill("postgres");
    sleep(Duration::from_millis(200)).await;
    tell(&server, "standby1", &["SELECT pg_promote(true, 30)"]).await;
    let promoted = Instant::now();
    while let Err(error) = write(&database, "y", true).await {
        assert!(promoted.elapsed() < Duration::from_secs(10), "{error:?}");
        sleep(Duration::from_millis(5)).await;
    }
    println!("written {:?} after the promotion", promoted.elapsed());

    // Who was the first comes back, and still believes that it is.
    server.restart("postgres").unwrap();
    sleep(Duration::from_millis(300)).await;
    insert(&database, access(), "later").await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let of = |node: &str| {
        let (password, port) = (password(&server), server.node(node).port);
        format!(
            "postgres://apex:{password}@127.0.0.1:{port}/apex?sslmode=disable&application_name=test"
        )
    };
    let (first, second) = (url(&of("postgres")), url(&of("standby1")));
    let first = Database::open(&first, small()).await.unwrap();
    let second = Database::open(&second, small()).await.unwrap();
    let all = there(&second, "x").await;
    let mut applied = 0;
    for writer in writers {
        let writes = within(Duration::from_secs(30), writer).await.unwrap();
        let own = all.iter().filter(|(key, _)| writes.has(key));
        let own = own.map(|(key, times)| (key.clone(), *times)).collect();
        applied += writes.check(&own).unwrap_or_else(|broken| panic!("{broken:?}")).applied;
    }
    assert!(applied > 0);
    assert_eq!((count(&first).await, count(&second).await), (0, 1), "only the new one is written");
    all_back_within(&database, Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_taking_writes_is_left_for_the_one_that_takes_them() {
    let (Some(first), Some(second)) = (server(&Options::default()), server(&Options::default()))
    else {
        return;
    };
    drop(open(second.url(), small()).await);
    let host = |server: &Server| format!("127.0.0.1:{}", server.port());
    let hosts = format!("{},{}", host(&first), host(&second));
    let database = open(&first.url().replace(&host(&first), &hosts), small()).await;
    fill(&database).await;
    insert(&database, access(), "before").await.unwrap();
    let watcher = Watcher::new(&first).await;
    // A server in recovery refuses those who come, and says this to those who are there.
    tell(
        &first,
        "postgres",
        &[
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'as a standby' USING ERRCODE = '25006'; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON t EXECUTE FUNCTION refuse()",
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        ],
    )
    .await;
    let writes = (0..8).map(|number| {
        let database = &database;
        async move { insert(database, access(), &format!("after {number}")).await }
    });
    futures_util::future::try_join_all(writes).await.unwrap();
    let direct = Database::open(&url(second.url()), small()).await.unwrap();
    assert_eq!(count(&direct).await, 8);
    // What led to the first is closed, but for who listens and watches there.
    let until = Instant::now() + Duration::from_secs(5);
    while watcher.connections().await > 2 {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(20)).await;
    }
    all_back_within(&database, Duration::from_secs(3)).await;
}
