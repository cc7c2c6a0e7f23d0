//! What only a PostgreSQL server can show: that a schema is made once, upgraded whole or not at all, and refused
//! plainly; that nodes wake each other, and tell the dead from the living.

use crate::backend::{Postgres, runtime};
use apex_core::clock::{Clock as _, SystemClock};
use apex_core::config::Environment;
use apex_core::error::{Error, Kind};
use apex_core::file::Body;
use apex_core::id::FileId;
use apex_core::run::{Claim, Topic};
use apex_core::store::postgres::{PostgresOptions, Time, open};
use apex_core::testkit::{Bench, VirtualClock, thought};
use bytes::Bytes;
use futures_util::StreamExt as _;
use libtest_mimic::Trial;
use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

type Test = fn(PostgresOptions) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        const TESTS: &[(&str, Test)] = &[$((stringify!($name), |options| Box::pin($name(options))),)*];
    };
}

trials!(
    nodes_that_start_at_once_make_one_schema,
    a_newer_version_is_refused,
    the_schema_of_another_program_is_refused_and_left_alone,
    a_migration_that_fails_leaves_the_old_version_whole,
    a_missing_right_is_told_with_the_grant,
    another_environment_is_refused,
    everything_is_there_after_opening_again,
    a_node_wakes_another,
    a_dead_nodes_runs_are_taken_over_before_their_lease,
    a_large_file_is_read_in_pieces,
    what_nobody_needs_is_removed,
    all_nodes_go_by_the_databases_clock,
);

pub(crate) fn trials(server: &Arc<Postgres>, name: &'static str) -> Vec<Trial> {
    TESTS
        .iter()
        .map(|(test, run)| {
            let server = Arc::clone(server);
            Trial::test(format!("{name}::database::{test}"), move || {
                runtime().block_on(run(server.options()));
                Ok(())
            })
        })
        .collect()
}

async fn nodes_that_start_at_once_make_one_schema(options: PostgresOptions) {
    let nodes: Vec<_> = (0..6)
        .map(|_| {
            let options = options.clone();
            tokio::spawn(async move { bench(&options).await })
        })
        .collect();
    let mut benches = Vec::new();
    for node in nodes {
        benches.push(node.await.unwrap());
    }
    let user = benches[0].user();
    for bench in &benches {
        bench.start(&user).await;
    }
    let inbox = benches[0].stores.runs.inbox(&user, 0, 100).await.unwrap();
    assert_eq!(inbox.entries.len(), 6);
}

async fn a_newer_version_is_refused(options: PostgresOptions) {
    drop(bench(&options).await);
    let client = client(&options).await;
    client.batch_execute("UPDATE store SET version = 99").await.unwrap();
    let error = refusal(&options).await;
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.to_string().contains("newer version"), "{error}");
    assert!(error.to_string().contains("database_version: 99"), "{error}");
}

async fn the_schema_of_another_program_is_refused_and_left_alone(options: PostgresOptions) {
    let client = client(&options).await;
    make_schema(&client, &options).await;
    client.batch_execute("CREATE TABLE theirs (x int)").await.unwrap();
    let error = refusal(&options).await;
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(tables(&client, &options).await, ["theirs"]);
}

/// From version 1 to the next, with something in the way of the next one's last step.
async fn a_migration_that_fails_leaves_the_old_version_whole(options: PostgresOptions) {
    let client = client(&options).await;
    make_schema(&client, &options).await;
    let first = include_str!("../../src/store/postgres/migrations/0001_stores.sql");
    client.batch_execute(first).await.unwrap();
    let mark = "INSERT INTO store VALUES (1, 1, gen_random_uuid(), 'production');
        INSERT INTO account VALUES ('00000000-0000-7000-8000-000000000001', '[]', 1, 'active');
        CREATE DOMAIN limit_rate AS int";
    client.batch_execute(mark).await.unwrap();
    let before = tables(&client, &options).await;
    let error = refusal(&options).await;
    assert!(error.to_string().contains("42710"), "{error:?}");
    assert_eq!(tables(&client, &options).await, before, "nothing of the next version is there");
    let version: i32 = client.query_one("SELECT version FROM store", &[]).await.unwrap().get(0);
    assert_eq!(version, 1);
    client.batch_execute("DROP DOMAIN limit_rate").await.unwrap();
    let bench = bench(&options).await;
    let account = bench.stores.users.user("00000000-0000-7000-8000-000000000001".parse().unwrap());
    assert_eq!(account.await.unwrap().created_at.as_millis(), 1);
    let version: i32 = client.query_one("SELECT version FROM store", &[]).await.unwrap().get(0);
    assert!(version >= 2);
}

async fn a_missing_right_is_told_with_the_grant(options: PostgresOptions) {
    let client = client(&options).await;
    let login = format!("login_{}", options.schema);
    client.batch_execute(&format!("CREATE ROLE {login} LOGIN PASSWORD 'x'")).await.unwrap();
    let password = apex_core::config::Secret::new("x".to_owned());
    let url = options.url.clone().with_user(&*login).with_password(password);
    let theirs = PostgresOptions { url, ..options.clone() };
    let error = refusal(&theirs).await;
    assert_eq!(error.kind(), Kind::Storage);
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA {} TO \"{login}\"", options.schema);
    assert!(error.to_string().contains(&grant), "{error}");
    // What it says helps.
    make_schema(&client, &options).await;
    client.batch_execute(&grant).await.unwrap();
    drop(bench(&theirs).await);
    // A schema of another login's is told the same way.
    let mine = PostgresOptions {
        schema: format!("{}_b", options.schema).parse().unwrap(),
        ..options.clone()
    };
    drop(bench(&mine).await);
    let error = refusal(&PostgresOptions { schema: mine.schema, ..theirs }).await;
    assert!(error.to_string().contains("GRANT"), "{error}");
}

async fn another_environment_is_refused(options: PostgresOptions) {
    drop(bench(&options).await);
    let environment = Environment::Development;
    let error = refusal(&PostgresOptions { environment, ..options.clone() }).await;
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("belongs to production"), "{error}");
    drop(bench(&options).await);
}

async fn everything_is_there_after_opening_again(options: PostgresOptions) {
    let first = bench(&options).await;
    let user = first.user();
    let lease = first.running(&user).await.lease;
    first.append(&lease, 1, vec![thought(5)], None).await.unwrap();
    let inbox = first.stores.runs.inbox(&user, 0, 10).await.unwrap();
    let log = first.log(&user, lease.run).await;
    let node = first.stores.node;
    drop(first);
    let second = bench(&options).await;
    assert_ne!(second.stores.node, node);
    assert_eq!(second.log(&user, lease.run).await, log);
    assert_eq!(second.stores.runs.inbox(&user, 0, 10).await.unwrap(), inbox);
}

async fn a_node_wakes_another(options: PostgresOptions) {
    let (first, second) = (bench(&options).await, bench(&options).await);
    let user = first.user();
    let lease = first.running(&user).await.lease;
    let mut woken = second.stores.wakeup.listen(Topic::Run(lease.run));
    // The listener may just be connecting: then everyone is woken, and the log is the truth.
    let began = Instant::now();
    let mut head = 1;
    while began.elapsed() < Duration::from_secs(10) {
        head = first.append(&lease, head, vec![thought(5)], None).await.unwrap().head;
        let waited = Instant::now();
        woken.wait(Duration::from_secs(3)).await;
        if head > 3 && waited.elapsed() < Duration::from_secs(1) {
            return;
        }
    }
    panic!("no wake-up came through");
}

async fn a_dead_nodes_runs_are_taken_over_before_their_lease(options: PostgresOptions) {
    let (first, second) = (bench(&options).await, bench(&options).await);
    let user = first.user();
    let lease = first.running(&user).await.lease;
    let other = second.running(&user).await.lease;
    let mut work = second.stores.wakeup.listen(Topic::Work);
    // Both say that they live; nobody is taken for dead.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(second.claim(second.stores.node, 10).await.is_empty());
    first.append(&lease, 1, vec![thought(5)], None).await.unwrap();
    drop(first);
    let began = Instant::now();
    let claimed = loop {
        work.wait(Duration::from_secs(1)).await;
        if let Some(claimed) = second.claim(second.stores.node, 10).await.pop() {
            break claimed;
        }
        assert!(began.elapsed() < Duration::from_secs(14), "only the lease would tell");
    };
    assert_eq!((claimed.lease.run, claimed.attempt), (lease.run, 2));
    second.append(&other, 1, vec![thought(5)], None).await.unwrap();
}

async fn a_large_file_is_read_in_pieces(options: PostgresOptions) {
    let bench = bench(&options).await;
    let (user, file) = (bench.user(), FileId::new(&*bench.clock));
    let pieces = (0..700_u32).map(|number| Ok(Bytes::from(number.to_le_bytes().repeat(1_500))));
    let body: Body = Box::pin(futures_util::stream::iter(pieces));
    let info = bench.stores.files.put(&user, file, "large", body).await.unwrap();
    assert_eq!(info.bytes, 700 * 6_000);
    let mut content = bench.stores.files.open(&user, file).await.unwrap();
    bench.stores.files.delete(&user, file).await.unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = reading.await.unwrap().unwrap();
    let whole = (0..700_u32).flat_map(|number| number.to_le_bytes().repeat(1_500));
    assert!(bytes.into_iter().eq(whole), "a reader finishes, deleted or not");
}

async fn what_nobody_needs_is_removed(options: PostgresOptions) {
    let bench = bench(&options).await;
    let user = bench.user();
    let stalls: Body = Box::pin(
        futures_util::stream::iter([Ok(Bytes::from(vec![7; 300_000]))])
            .chain(futures_util::stream::pending()),
    );
    let put = bench.stores.files.put(&user, FileId::new(&*bench.clock), "a", stalls);
    assert!(tokio::time::timeout(Duration::from_millis(300), put).await.is_err());
    let client = client(&options).await;
    let orphan =
        "INSERT INTO content (content, writer) VALUES (gen_random_uuid(), gen_random_uuid());
        INSERT INTO content (content, removed_at) VALUES (gen_random_uuid(), 1);
        INSERT INTO limit_rate VALUES ('a:b', 1)";
    client.batch_execute(orphan).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM content) + (SELECT count(*) FROM chunk) + \
        (SELECT count(*) FROM limit_rate)";
    let began = Instant::now();
    while client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "something stays");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The host's clock is years off; leases are not.
async fn all_nodes_go_by_the_databases_clock(options: PostgresOptions) {
    let options = PostgresOptions { time: Time::Database, ..options };
    let (right, wrong) = (Arc::new(SystemClock), Arc::new(VirtualClock::still()));
    let first = Bench::of(open(&options, right).await.unwrap(), wrong.clone());
    let second = Bench::of(open(&options, wrong.clone()).await.unwrap(), wrong);
    let user = first.user();
    let run = second.start(&user).await.run;
    let view = first.stores.runs.view(&user, run).await.unwrap();
    let off =
        SystemClock.now().since(view.started_at).max(view.started_at.since(SystemClock.now()));
    assert!(off < Duration::from_secs(5), "{off:?}");
    assert_eq!(first.claim(first.stores.node, 10).await.len(), 1);
    let claim = Claim { node: second.stores.node, max: 10 };
    assert!(second.stores.runs.claim(claim).await.unwrap().is_empty());
}

async fn bench(options: &PostgresOptions) -> Bench {
    let clock = Arc::new(VirtualClock::still());
    let options = PostgresOptions { time: Time::Host, ..options.clone() };
    Bench::of(open(&options, clock.clone()).await.unwrap(), clock)
}

async fn refusal(options: &PostgresOptions) -> Error {
    open(options, Arc::new(SystemClock)).await.unwrap_err()
}

/// A connection of the test's own, in the schema.
async fn client(options: &PostgresOptions) -> Client {
    let url = options.url.reveal();
    let (client, connection) = tokio_postgres::connect(url.reveal(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let path = format!("SET search_path = {}", options.schema);
    client.batch_execute(&path).await.unwrap();
    client
}

async fn make_schema(client: &Client, options: &PostgresOptions) {
    client.batch_execute(&format!("CREATE SCHEMA {}", options.schema)).await.unwrap();
}

async fn tables(client: &Client, options: &PostgresOptions) -> Vec<String> {
    let named = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1";
    let rows = client.query(named, &[&options.schema.as_str()]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
