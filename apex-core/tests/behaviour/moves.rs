//! Moves between places of every kind: a database alone, with a Redis beside it, with a database of logins. What comes of
//! a move that is broken off, and what is refused.

use crate::backend::{Postgres, Redis, runtime};
use crate::transfer::{file, fill, rows, tables};
use apex_core::auth::{RefreshHash, Revocation, Rotated, Rotation, SessionRecord, TokenHash};
use apex_core::clock::{Clock as _, SystemClock, Timestamp};
use apex_core::error::Kind;
use apex_core::id::{SessionId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::store::postgres::{PostgresOptions, Time};
use apex_core::store::sqlite::{SqliteOptions, Synchronous};
use apex_core::store::transfer::{Progress, copy, copy_logins, refuse_half};
use apex_core::store::{Stores, memory, postgres, redis, sqlite};
use futures_util::{StreamExt as _, stream};
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// More than are moved together.
const LOGINS: usize = 600;

pub(crate) fn trials(redis: &[Arc<Redis>]) -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("moves::what_a_careless_user_asks_for_is_refused", || {
            runtime().block_on(careless());
            Ok(())
        }),
        Trial::test("moves::a_database_that_another_process_has_open_is_left_alone", || {
            runtime().block_on(in_company());
            Ok(())
        }),
    ];
    let (Some(server), Some(single)) = (Postgres::shared("postgres"), redis.first()) else {
        return trials;
    };
    let cluster = redis.iter().find(|redis| redis.is_cluster()).unwrap_or(single);
    let newer = Postgres::shared("postgres18");
    let newer = newer.map_or_else(|| server.options(), |server| server.options());
    let servers = Arc::new(Servers {
        postgres: server.options(),
        newer,
        single: Arc::clone(single),
        cluster: Arc::clone(cluster),
    });
    let mut add = |name: &str, run: fn(&Servers)| {
        let servers = Arc::clone(&servers);
        trials.push(Trial::test(format!("moves::{name}"), move || {
            run(&servers);
            Ok(())
        }));
    };
    add("logins_move_between_all_kinds_of_places", |servers| {
        runtime().block_on(logins(servers));
    });
    add("everything_moves_from_and_to_several_places_at_once", |servers| {
        runtime().block_on(everything(servers));
    });
    add("a_move_that_is_broken_off_goes_on", |servers| {
        runtime().block_on(broken_off(servers));
    });
    trials
}

struct Servers {
    postgres: PostgresOptions,
    newer: PostgresOptions,
    single: Arc<Redis>,
    cluster: Arc<Redis>,
}

/// A place where logins may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Sqlite,
    Postgres,
    Single,
    Cluster,
}

impl Servers {
    /// A new one.
    async fn open(&self, kept: Kept, folder: &Path) -> Stores {
        let clock = Arc::new(SystemClock);
        let name = format!("{:016x}.db", fastrand::u64(..));
        match kept {
            Kept::Sqlite => sqlite::open(&quick(&folder.join(name)), clock).unwrap(),
            Kept::Postgres => postgres::open(&anew(&self.postgres), clock).await.unwrap(),
            Kept::Single => self.beside(&self.single, nowhere()).await,
            Kept::Cluster => self.beside(&self.cluster, nowhere()).await,
        }
    }

    /// A new Redis, beside these.
    async fn beside(&self, server: &Redis, stores: Stores) -> Stores {
        redis::open(&server.options(), &SystemClock).await.unwrap().of(stores)
    }
}

fn nowhere() -> Stores {
    memory::open(Default::default(), Arc::new(SystemClock))
}

fn quick(path: &Path) -> SqliteOptions {
    SqliteOptions { synchronous: Synchronous::Normal, ..SqliteOptions::new(path) }
}

/// The same server with a schema of one's own.
fn anew(options: &PostgresOptions) -> PostgresOptions {
    let schema = format!("test_{}", uuid::Uuid::now_v7().simple()).parse().unwrap();
    PostgresOptions { schema, time: Time::Host, ..options.clone() }
}

fn quietly(_: Progress) {}

/// A way along which each kind of place is moved to each other one.
const WAY: [Kept; 13] = {
    use Kept::{Cluster, Postgres, Single, Sqlite};
    [
        Sqlite, Postgres, Single, Cluster, Sqlite, Single, Sqlite, Cluster, Single, Postgres,
        Cluster, Postgres, Sqlite,
    ]
};

async fn logins(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let mut pairs = BTreeSet::new();
    let first = servers.open(WAY[0], folder.path()).await;
    let (records, revoked) = log_in(&first).await;
    let mut from = first;
    for pair in WAY.windows(2) {
        assert!(pairs.insert(format!("{pair:?}")));
        let to = servers.open(pair[1], folder.path()).await;
        let moved = copy_logins(&from, &to, &quietly).await.unwrap();
        assert_eq!(
            (moved.rows, moved.bytes),
            ((records.len() + revoked.len()) as u64, 0),
            "{pair:?}"
        );
        compare(&to, &records, &revoked).await;
        let again = copy_logins(&from, &to, &quietly).await.unwrap_err();
        assert_eq!(again.kind(), Kind::Conflict, "{pair:?} {again}");
        compare(&from, &records, &revoked).await;
        from = to;
    }
    assert_eq!(pairs.len(), 12);
    // Whoever was logged in at the beginning is so at the end, renews the login and ends it.
    let known = records.iter().find(|known| known.refresh.is_some()).unwrap();
    let now = SystemClock.now();
    let rotation = Rotation {
        presented: known.refresh.unwrap(),
        refresh: TokenHash::of("next"),
        token: TokenHash::of("next token"),
        token_life: Duration::from_secs(60),
        idle_life: Duration::from_secs(600),
        now,
    };
    let Rotated::Renewed(renewed) = from.sessions.rotate(rotation).await.unwrap() else { panic!() };
    assert_eq!(from.sessions.find(&renewed.hash).await.unwrap(), Some(renewed.clone()));
    let principal = Principal::vouched(known.user, known.scopes);
    from.sessions.end(&principal, known.session, now).await.unwrap();
    assert_eq!(from.sessions.revoked(now).await.unwrap().len(), 1);
}

/// Logins of some users, of every sort, and what was revoked.
async fn log_in(stores: &Stores) -> (Vec<SessionRecord>, BTreeSet<Revocation>) {
    let now = SystemClock.now();
    let users: Vec<UserId> = (0..9).map(|_| UserId::new(&SystemClock)).collect();
    let mut records = Vec::new();
    for number in 0..LOGINS {
        let life = |seconds| now.plus(Duration::from_secs(seconds));
        let over = number % 10 == 0;
        let ends_at = if over { now.minus(Duration::from_secs(9_000)) } else { life(100_000) };
        let record = SessionRecord {
            session: SessionId::new(&SystemClock),
            user: users[number % users.len()],
            scopes: Scopes::USER,
            method: format!("oidc:größe {number}"),
            hash: TokenHash::of(&format!("token {number}")),
            expires_at: life(900).min(ends_at),
            refresh: (number % 3 > 0).then(|| RefreshHash {
                family: TokenHash::of(&format!("family {number}")),
                current: TokenHash::of(&format!("whole {number}")),
            }),
            created_at: now.minus(Duration::from_secs(20_000)),
            renewed_at: now.minus(Duration::from_secs(10_000)),
            lapses_at: life(5_000).min(ends_at),
            ends_at,
        };
        stores.sessions.create(record.clone()).await.unwrap();
        records.push(record);
    }
    for number in [3, 30] {
        let known = records.remove(number);
        let principal = Principal::vouched(known.user, known.scopes);
        stores.sessions.end(&principal, known.session, now).await.unwrap();
    }
    let ended = stores.sessions.end_all(users[0], now).await.unwrap();
    records.retain(|known| !ended.contains(&known.session));
    assert!(ended.len() > 50 && records.len() > 500);
    let revoked = stores.sessions.revoked(Timestamp::from_millis(0)).await.unwrap();
    (records, revoked.into_iter().collect())
}

async fn compare(stores: &Stores, records: &[SessionRecord], revoked: &BTreeSet<Revocation>) {
    let sessions = &stores.sessions;
    let lists: BTreeSet<UserId> = records.iter().map(|known| known.user).collect();
    let looks = stream::iter(records).for_each_concurrent(32, |known| async move {
        let found = sessions.session(known.session).await.unwrap();
        assert_eq!(found.as_ref(), Some(known));
        assert_eq!(sessions.find(&known.hash).await.unwrap(), found);
    });
    looks.await;
    let mut listed = 0;
    for user in lists {
        listed += sessions.list(&Principal::vouched(user, Scopes::USER)).await.unwrap().len();
    }
    assert_eq!(listed, records.len());
    let there = sessions.revoked(Timestamp::from_millis(0)).await.unwrap();
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), *revoked);
}

/// A file; a server with a Redis; two servers with a Cluster; the other way round; a file.
async fn everything(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (first, last) = (path("first.db"), path("last.db"));
    let from = file(&first);
    let (user, _) = fill(&from).await;
    let clock = from.clock.clone();
    let alone = async |options: &PostgresOptions| {
        postgres::open(&anew(options), clock.clone()).await.unwrap()
    };
    let with_redis = servers.beside(&servers.single, alone(&servers.postgres).await).await;
    let apart = alone(&servers.newer).await.with_auth(&alone(&servers.postgres).await);
    let apart = servers.beside(&servers.cluster, apart).await;
    let split = file(&path("rest.db")).stores.with_auth(&file(&path("door.db")).stores);
    let to = file(&last);
    let places = [&from.stores, &with_redis, &apart, &split, &to.stores];
    let mut moved = BTreeSet::new();
    for pair in places.windows(2) {
        let tables = std::sync::Mutex::new(Vec::new());
        let told = |progress: Progress| tables.lock().unwrap().push(progress);
        let done = copy(pair[0], pair[1], &told).await.unwrap();
        moved.insert((done.rows, done.bytes));
        let told = tables.into_inner().unwrap();
        assert!(told.iter().all(|progress| progress.rows <= progress.of), "{told:?}");
        assert_eq!(told.last().unwrap().bytes, done.bytes);
        let (list, there) = (pair[0].sessions.list(&user), pair[1].sessions.list(&user));
        let list = list.await.unwrap();
        assert_eq!((list.len(), &there.await.unwrap()), (1, &list));
        refuse_half(pair[1]).await.unwrap();
    }
    assert_eq!(moved.len(), 1, "as much each time: {moved:?}");
    for table in tables(&first) {
        assert_eq!(rows(&first, &table), rows(&last, &table), "{table}");
    }
}

/// It is broken off again and again, and each time goes on; a node is refused until all is there.
async fn broken_off(servers: &Servers) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (first, last) = (path("first.db"), path("last.db"));
    let from = file(&first);
    fill(&from).await;
    let clock = from.clock.clone();
    let alone = postgres::open(&anew(&servers.postgres), clock.clone()).await.unwrap();
    let between = servers.beside(&servers.cluster, alone).await;
    let to = file(&last);
    for (from, to) in [(&from.stores, &between), (&between, &to.stores)] {
        for table in ["account", "session", "message", "event", "file", "artifact"] {
            let stop = Notify::new();
            let told = |progress: Progress| {
                if progress.table == table {
                    stop.notify_one();
                }
            };
            tokio::select! {
                biased;
                () = stop.notified() => {}
                done = copy(from, to, &told) => panic!("not broken off at {table}: {done:?}"),
            }
            let refused = refuse_half(to).await.unwrap_err();
            assert_eq!(refused.kind(), Kind::Config, "{refused}");
        }
        let other = file(&path(&format!("other {:016x}.db", fastrand::u64(..))));
        fill(&other).await;
        let refused = copy(&other.stores, to, &quietly).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Conflict);
        assert!(refused.message().contains("half a copy of something else"), "{refused}");
        copy(from, to, &quietly).await.unwrap();
        refuse_half(to).await.unwrap();
    }
    for table in tables(&first) {
        assert_eq!(rows(&first, &table), rows(&last, &table), "{table}");
    }
}

async fn careless() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (full, empty) = (file(&path("full.db")), file(&path("empty.db")));
    fill(&full).await;
    let refusal = async |from: &Stores, to: &Stores| copy(from, to, &quietly).await.unwrap_err();
    let nothing = refusal(&empty.stores, &file(&path("other.db")).stores).await;
    assert_eq!(nothing.kind(), Kind::BadRequest);
    assert!(nothing.message().contains("nothing to move"), "{nothing}");
    let same = refusal(&full.stores, &full.stores).await;
    assert_eq!(same.kind(), Kind::Conflict);
    assert!(same.message().contains("the same database"), "{same}");
    let memory = refusal(&full.stores, &nowhere()).await;
    assert_eq!(memory.kind(), Kind::BadRequest);
    assert!(memory.message().contains("sqlite:PATH"), "{memory}");
    // A store of the host's own, whose logins would be left behind without a word.
    let own = Stores { sessions: nowhere().sessions, ..full.stores.clone() };
    let own = refusal(&own, &empty.stores).await;
    assert_eq!(own.kind(), Kind::BadRequest);
    assert!(own.to_string().contains("logins"), "{own}");
    let used = file(&path("used.db"));
    fill(&used).await;
    let used = refusal(&full.stores, &used.stores).await;
    assert_eq!(used.kind(), Kind::Conflict);
    assert!(used.message().contains("not empty"), "{used}");
    // What was refused left nothing behind.
    for stores in [&full.stores, &empty.stores] {
        refuse_half(stores).await.unwrap();
    }
    copy(&full.stores, &empty.stores, &quietly).await.unwrap();
}

async fn in_company() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let from = file(&path("from.db"));
    fill(&from).await;
    let node = file(&path("from.db"));
    let to = file(&path("to.db"));
    let refused = copy(&from.stores, &to.stores, &quietly).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert!(refused.message().contains("stop all of them"), "{refused}");
    drop(node);
    copy(&from.stores, &to.stores, &quietly).await.unwrap();
}
