//! What only a database file can show: that it opens or says plainly why not, keeps what it was given, and tells the
//! dead from the living.

use crate::backend::runtime;
use apex_core::auth::{Standing, TokenHash, User};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind};
use apex_core::id::{FileId, UserId};
use apex_core::principal::{Principal, Scope, Scopes};
use apex_core::store::sqlite::{SqliteOptions, Synchronous, open};
use apex_core::testkit::{Bench, VirtualClock, thought};
use bytes::Bytes;
use libtest_mimic::Trial;
use rusqlite::Connection;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type Test = fn(PathBuf) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<Trial> {
            let tests: Vec<(&str, Test)> = vec![$((stringify!($name), |folder| Box::pin($name(folder))),)*];
            tests
                .into_iter()
                .map(|(name, test)| {
                    Trial::test(format!("sqlite::database::{name}"), move || {
                        let folder = tempfile::tempdir().unwrap();
                        runtime().block_on(test(folder.path().to_owned()));
                        Ok(())
                    })
                })
                .collect()
        }
    };
}

trials!(
    a_path_that_cannot_be_a_database_is_refused_plainly,
    a_file_of_something_else_is_refused_and_left_alone,
    a_damaged_file_is_told_as_one,
    a_newer_version_is_refused,
    accounts_and_logins_of_an_older_version_are_taken_over,
    everything_is_there_after_opening_again,
    a_dead_nodes_runs_are_taken_over_at_once,
    a_living_nodes_runs_are_left_alone,
    content_that_no_row_names_is_removed,
    content_that_another_node_is_writing_is_left_alone,
    one_write_that_fails_does_not_hurt_the_others,
    writes_that_wait_are_answered_when_the_store_closes,
    a_closed_store_lets_go_of_the_file,
    two_stores_on_one_file_write_side_by_side,
    many_may_open_a_new_file_at_once,
    nobody_else_on_the_machine_can_read_it,
);

async fn a_path_that_cannot_be_a_database_is_refused_plainly(folder: PathBuf) {
    for (path, what) in [
        (folder.clone(), "is a folder"),
        (folder.join("no/such/a.db"), "does not exist"),
        (PathBuf::from("/"), "is a folder"),
    ] {
        let error = refusal(&path);
        assert_eq!(error.kind(), Kind::Storage);
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

async fn a_file_of_something_else_is_refused_and_left_alone(folder: PathBuf) {
    let text = folder.join("notes.txt");
    std::fs::write(&text, "not a database at all, but long enough to look at. ".repeat(40))
        .unwrap();
    let error = refusal(&text);
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.to_string().contains("not a SQLite database"), "{error}");

    let other = folder.join("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let before = std::fs::read(&other).unwrap();
    let error = refusal(&other);
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(std::fs::read(&other).unwrap(), before);
    assert!(!folder.join("other.db.files").exists());
}

async fn a_damaged_file_is_told_as_one(folder: PathBuf) {
    let path = folder.join("a.db");
    let bench = bench(&path);
    let user = bench.user();
    for _ in 0..40 {
        let lease = bench.running(&user).await.lease;
        bench.append(&lease, 1, vec![thought(3_000)], None).await.unwrap();
        bench.complete(&lease, 2).await.unwrap();
    }
    let run = bench.start(&user).await.run;
    drop(bench);
    let mut bytes = std::fs::read(&path).unwrap();
    // The first page stays whole; everything after it is garbage.
    bytes[4_096..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let told = match open(&SqliteOptions::new(&path), Arc::new(VirtualClock::still())) {
        Err(error) => error,
        Ok(stores) => stores.runs.view(&user, run).await.unwrap_err(),
    };
    assert_eq!(told.kind(), Kind::Storage);
    assert!(told.to_string().contains("damaged"), "{told}");
}

async fn a_newer_version_is_refused(folder: PathBuf) {
    let path = folder.join("a.db");
    drop(bench(&path));
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = refusal(&path);
    assert!(error.to_string().contains("newer version"), "{error}");
    assert!(error.to_string().contains("database_version: 99"), "{error}");
}

async fn accounts_and_logins_of_an_older_version_are_taken_over(folder: PathBuf) {
    let path = folder.join("a.db");
    let connection = Connection::open(&path).unwrap();
    let (user, session, hash) = ([1_u8; 16], [2_u8; 16], [3_u8; 32]);
    for step in [
        include_str!("../../src/store/sqlite/migrations/0001_stores.sql"),
        include_str!("../../src/store/sqlite/migrations/0002_environment.sql"),
    ] {
        connection.execute_batch(step).unwrap();
    }
    for (name, value) in [("application_id", 0x4150_4558), ("user_version", 2)] {
        connection.pragma_update(None, name, value).unwrap();
    }
    connection.execute("INSERT INTO store VALUES (1, ?1, 'production')", [[0_u8; 16]]).unwrap();
    connection.execute("INSERT INTO user VALUES (?1, 'dev:ada', 1000, 1)", [user]).unwrap();
    let scopes = r#"["run","admin"]"#;
    connection
        .execute(
            "INSERT INTO session VALUES (?1, ?2, ?3, ?4, 1000, 2000)",
            (hash, session, user, scopes),
        )
        .unwrap();
    drop(connection);
    let bench = bench(&path);
    let new = User {
        user: UserId::from_bytes([9; 16]),
        scopes: Scopes::NONE,
        created_at: bench.clock.now(),
        standing: Standing::Active,
    };
    let ada = bench.stores.users.resolve("dev:ada", new).await.unwrap();
    assert_eq!((ada.user.as_bytes(), ada.standing), (&user, Standing::Disabled));
    assert_eq!(ada.scopes, Scopes::USER);
    let login = bench.stores.sessions.find(&TokenHash::from_bytes(hash)).await.unwrap().unwrap();
    assert_eq!((login.session.as_bytes(), login.refresh), (&session, None));
    assert_eq!(login.scopes, [Scope::Run, Scope::Admin].into_iter().collect());
    assert_eq!((login.expires_at.as_millis(), login.ends_at.as_millis()), (2_000, 2_000));
}

async fn everything_is_there_after_opening_again(folder: PathBuf) {
    let path = folder.join("a.db");
    let first = bench(&path);
    let user = first.user();
    let lease = first.running(&user).await.lease;
    first.append(&lease, 1, vec![thought(5)], None).await.unwrap();
    let file = put(&first, &user, b"abc").await;
    let inbox = first.stores.runs.inbox(&user, 0, 10).await.unwrap();
    let log = first.log(&user, lease.run).await;
    let node = first.stores.node;
    drop(first);
    let second = bench(&path);
    assert_ne!(second.stores.node, node);
    assert_eq!(second.log(&user, lease.run).await, log);
    assert_eq!(second.stores.runs.inbox(&user, 0, 10).await.unwrap(), inbox);
    assert_eq!(content(&second, &user, file).await.unwrap(), b"abc");
}

async fn a_dead_nodes_runs_are_taken_over_at_once(folder: PathBuf) {
    let path = folder.join("a.db");
    let (first, second) = (bench(&path), bench(&path));
    let user = first.user();
    let lease = first.running(&user).await.lease;
    drop(first);
    // By a node that was there before, and by one that comes after.
    let claimed = second.claim(second.stores.node, 10).await.remove(0);
    assert_eq!((claimed.lease.run, claimed.attempt), (lease.run, 2));
    drop(second);
    let third = bench(&path);
    let claimed = third.claim(third.stores.node, 10).await.remove(0);
    assert_eq!((claimed.lease.run, claimed.attempt), (lease.run, 3));
    let nodes = std::fs::read_dir(folder.join("a.db.nodes")).unwrap();
    assert_eq!(nodes.count(), 2, "its own and the guard: the dead are buried");
}

async fn a_living_nodes_runs_are_left_alone(folder: PathBuf) {
    let path = folder.join("a.db");
    let (first, second) = (bench(&path), bench(&path));
    let lease = first.running(&first.user()).await.lease;
    assert!(second.claim(second.stores.node, 10).await.is_empty());
    first.append(&lease, 1, vec![thought(5)], None).await.unwrap();
    // A stalled node is taken over by its lease, alive or not.
    second.clock.advance(Duration::from_secs(16));
    assert_eq!(second.claim(second.stores.node, 10).await.len(), 1);
    let error = first.append(&lease, 2, vec![], None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
}

async fn content_that_no_row_names_is_removed(folder: PathBuf) {
    let path = folder.join("a.db");
    let first = bench(&path);
    let user = first.user();
    let file = put(&first, &user, b"abc").await;
    drop(first);
    let files = folder.join("a.db.files");
    let (orphan, part) =
        (files.join("0".repeat(32)), files.join(format!("{}.part", "1".repeat(32))));
    let foreign = files.join("README");
    for path in [&orphan, &part, &foreign] {
        std::fs::write(path, "x").unwrap();
    }
    let second = bench(&path);
    assert!(!orphan.exists() && !part.exists());
    assert!(foreign.exists(), "only what has our kind of name");
    assert_eq!(content(&second, &user, file).await.unwrap(), b"abc");
}

async fn content_that_another_node_is_writing_is_left_alone(folder: PathBuf) {
    let path = folder.join("a.db");
    let first = bench(&path);
    let orphan = folder.join("a.db.files").join("0".repeat(32));
    std::fs::write(&orphan, "x").unwrap();
    drop(bench(&path));
    assert!(orphan.exists());
    drop(first);
    drop(bench(&path));
    assert!(!orphan.exists());
}

async fn one_write_that_fails_does_not_hurt_the_others(folder: PathBuf) {
    let bench = bench(&folder.join("a.db"));
    let user = bench.user();
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(bench.running(&user).await.lease);
    }
    let writes: Vec<_> = (0..400_u64)
        .map(|number| {
            let (bench, lease) = (bench.clone(), leases[(number % 4) as usize].clone());
            // Three of four follow no head.
            let after = if number % 16 < 4 { 1 + number / 16 } else { 9_999 };
            tokio::spawn(async move {
                let batch = bench.batch(&lease, after, vec![thought(50)], None);
                loop {
                    // Those of one run may overtake each other on their way to the writer.
                    match bench.stores.runs.append(&lease, batch.clone()).await {
                        Err(error) if after < 9_999 && error.kind() == Kind::Conflict => {
                            tokio::task::yield_now().await;
                        }
                        answer => return (after < 9_999, answer.is_ok()),
                    }
                }
            })
        })
        .collect();
    for write in writes {
        let (good, worked) = write.await.unwrap();
        assert_eq!(good, worked);
    }
    for lease in leases {
        assert_eq!(bench.log(&user, lease.run).await.len(), 26);
    }
}

async fn writes_that_wait_are_answered_when_the_store_closes(folder: PathBuf) {
    let path = folder.join("a.db");
    let first = bench(&path);
    let user = first.user();
    let starts: Vec<_> = (0..12)
        .map(|_| {
            let (runs, new) = (Arc::clone(&first.stores.runs), first.new_run(first.thread()));
            let user = user.clone();
            tokio::spawn(async move { runs.start(&user, new).await })
        })
        .collect();
    tokio::task::yield_now().await;
    drop(first);
    let mut kept = 0;
    for start in starts {
        kept += usize::from(start.await.unwrap().is_ok());
    }
    let inbox = bench(&path).stores.runs.inbox(&user, 0, 100).await.unwrap();
    assert_eq!((kept, inbox.entries.len()), (12, 12));
}

async fn a_closed_store_lets_go_of_the_file(folder: PathBuf) {
    let bench = bench(&folder.join("a.db"));
    bench.start(&bench.user()).await;
    let path = folder.join("a.db");
    assert_eq!(open_handles(&path), 5, "a writer and four readers");
    drop(bench);
    assert_eq!(open_handles(&path), 0);
}

/// How many handles this process has on a file; told by the system, where it tells.
fn open_handles(path: &Path) -> usize {
    let path = path.canonicalize().unwrap();
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| *target == path)
        .count()
}

async fn two_stores_on_one_file_write_side_by_side(folder: PathBuf) {
    let path = folder.join("a.db");
    let benches = [bench(&path), bench(&path)];
    let user = benches[0].user();
    let mut leases = Vec::new();
    for bench in &benches {
        leases.push(bench.running(&user).await.lease);
    }
    let writers: Vec<_> = benches
        .iter()
        .zip(&leases)
        .map(|(bench, lease)| {
            let (bench, lease) = (bench.clone(), lease.clone());
            tokio::spawn(async move {
                for after in 1..50 {
                    bench.append(&lease, after, vec![thought(50)], None).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for lease in leases {
        assert_eq!(benches[0].log(&user, lease.run).await.len(), 50);
    }
}

async fn many_may_open_a_new_file_at_once(folder: PathBuf) {
    let path = folder.join("a.db");
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || bench(&path))
        })
        .collect();
    let benches: Vec<Bench> = openers.into_iter().map(|o| o.join().unwrap()).collect();
    let user = benches[0].user();
    for bench in &benches {
        bench.start(&user).await;
    }
    let inbox = benches[0].stores.runs.inbox(&user, 0, 100).await.unwrap();
    assert_eq!(inbox.entries.len(), 8);
}

async fn nobody_else_on_the_machine_can_read_it(folder: PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = bench(&folder.join("a.db"));
    bench.start(&bench.user()).await;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort_unstable();
    assert_eq!(names, ["a.db", "a.db-shm", "a.db-wal", "a.db.files", "a.db.nodes"]);
}

fn bench(path: &Path) -> Bench {
    let clock = Arc::new(VirtualClock::still());
    let options = SqliteOptions { synchronous: Synchronous::Normal, ..SqliteOptions::new(path) };
    let stores = open(&options, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    Bench::of(stores, clock)
}

fn refusal(path: &Path) -> Error {
    open(&SqliteOptions::new(path), Arc::new(VirtualClock::still())).unwrap_err()
}

pub(crate) async fn put(bench: &Bench, user: &Principal, bytes: &'static [u8]) -> FileId {
    let file = FileId::new(&*bench.clock);
    let body = futures_util::stream::iter([Ok(Bytes::from_static(bytes))]);
    let put = bench.stores.files.put(user, file, "a.csv", Box::pin(body));
    put.await.unwrap();
    file
}

async fn content(bench: &Bench, user: &Principal, file: FileId) -> std::io::Result<Vec<u8>> {
    let mut content = bench.stores.files.open(user, file).await.unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut content, &mut bytes)?;
    Ok(bytes)
}
