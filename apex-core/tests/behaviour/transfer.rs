//! Everything moves from SQLite to PostgreSQL and back, and is what it was.

use crate::backend::{Postgres, runtime};
use apex_core::auth::{
    AuditAction, AuditEvent, RefreshHash, SessionRecord, Standing, TokenHash, User,
};
use apex_core::budget::Charge;
use apex_core::clock::Clock as _;
use apex_core::error::Kind;
use apex_core::file::Body;
use apex_core::id::{AttemptId, AuditId, FileId, ReservationId, SessionId, UserId};
use apex_core::memory::Note;
use apex_core::money::Usage;
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Checkpoint, RunState, Signal};
use apex_core::store::postgres::{self, PostgresOptions, Time};
use apex_core::store::sqlite::{self, SqliteOptions, Synchronous};
use apex_core::store::transfer::{copy, renew_epochs};
use apex_core::testkit::{Bench, VirtualClock, completed, thought};
use apex_core::thread::{Role, Share, ThreadMessage};
use apex_core::usage::{Attempt, AttemptOutcome};
use bytes::Bytes;
use libtest_mimic::Trial;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn trials(server: &Arc<Postgres>, name: &'static str) -> Vec<Trial> {
    let server = Arc::clone(server);
    let what = format!("{name}::transfer::what_moves_there_and_back_is_what_it_was");
    vec![Trial::test(what, move || {
        runtime().block_on(there_and_back(server.options()));
        Ok(())
    })]
}

async fn there_and_back(options: PostgresOptions) {
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("first.db"), folder.path().join("last.db"));
    let from = file(&first);
    let (user, file_id) = fill(&from).await;
    let options = PostgresOptions { time: Time::Host, ..options };
    let clock = Arc::clone(&from.clock);
    let stores = postgres::open(&options, clock.clone()).await.unwrap();
    let between = Bench::of(stores, clock);
    let moved = copy(&from.stores, &between.stores, &|_| ()).await.unwrap();
    assert!(moved.rows >= 60, "{moved:?}");
    assert_eq!(moved.bytes, 700_000 + 5);
    let again = copy(&from.stores, &between.stores, &|_| ()).await.unwrap_err();
    assert_eq!(again.kind(), Kind::Conflict);
    let to = file(&last);
    assert_eq!(copy(&between.stores, &to.stores, &|_| ()).await.unwrap(), moved);
    for table in tables(&first) {
        assert_eq!(rows(&first, &table), rows(&last, &table), "{table}");
    }
    let contents = |bench: &Bench| {
        let (files, user) = (Arc::clone(&bench.stores.files), user.clone());
        async move {
            let mut content = files.open(&user, file_id).await.unwrap();
            let reading = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes).unwrap();
                bytes
            });
            reading.await.unwrap()
        }
    };
    let expected = contents(&from).await;
    assert_eq!(contents(&between).await, expected);
    assert_eq!(contents(&to).await, expected);
    // What came can be gone on with.
    let before = from.stores.runs.inbox(&user, 0, 100).await.unwrap();
    for bench in [&between, &to] {
        bench.start(&user).await;
        let inbox = bench.stores.runs.inbox(&user, 0, 100).await.unwrap();
        assert_eq!((inbox.epoch, inbox.head), (before.epoch, before.head + 1));
        assert_eq!(inbox.entries[..before.entries.len()], before.entries);
    }
    renewed(&between, &user).await;
    renewed(&to, &user).await;
    let memory = apex_core::store::memory::open(Default::default(), from.clock.clone());
    assert_eq!(copy(&memory, &to.stores, &|_| ()).await.unwrap_err().kind(), Kind::BadRequest);
}

/// Open logs and inboxes begin a new life, in which everybody is told where things stand; what ended stays.
async fn renewed(bench: &Bench, user: &Principal) {
    let runs = &bench.stores.runs;
    let before = runs.inbox(user, 0, 100).await.unwrap();
    let mut views = Vec::new();
    for run in before.entries.iter().map(|entry| entry.run).collect::<BTreeSet<_>>() {
        views.push(runs.view(user, run).await.unwrap());
    }
    let open = views.iter().filter(|view| !view.state.is_terminal()).count();
    assert!(open > 1 && open < views.len());
    assert_eq!(renew_epochs(&bench.stores, &*bench.clock).await.unwrap(), open as u64);
    assert_ne!(runs.inbox(user, 0, 100).await.unwrap().epoch, before.epoch);
    for view in views {
        let now = runs.view(user, view.run).await.unwrap();
        let page = runs.read(user, view.run, 0, 100).await.unwrap();
        if view.state.is_terminal() {
            assert_eq!((&now, page.events.len() as u64), (&view, view.head));
        } else {
            assert_ne!(now.epoch, view.epoch);
            assert_eq!((now.head, now.oldest), (view.head, view.head + 1));
            assert_eq!(now.snapshot, view.snapshot);
            assert!(page.events.is_empty());
        }
    }
}

pub(crate) fn file(path: &Path) -> Bench {
    let clock = Arc::new(VirtualClock::still());
    let options = SqliteOptions { synchronous: Synchronous::Normal, ..SqliteOptions::new(path) };
    Bench::of(sqlite::open(&options, clock.clone()).unwrap(), clock)
}

/// Something of everything.
pub(crate) async fn fill(bench: &Bench) -> (Principal, FileId) {
    let (stores, clock) = (&bench.stores, &*bench.clock);
    let account = User {
        user: UserId::new(clock),
        scopes: Scopes::USER,
        created_at: clock.now(),
        standing: Standing::Active,
    };
    let account = stores.users.resolve("dev:ada", account).await.unwrap();
    stores.users.link(account.user, "host:Größe €").await.unwrap();
    let user = Principal::vouched(account.user, account.scopes);
    // A run that ended, one that goes on with a checkpoint and a wish, one that is queued.
    let ended = bench.running(&user).await.lease;
    for after in 1..40 {
        bench.append(&ended, after, vec![thought(300)], None).await.unwrap();
    }
    bench.append(&ended, 40, vec![completed()], Some(RunState::Completed)).await.unwrap();
    let open = bench.running(&user).await.lease;
    let mut batch = bench.batch(&open, 1, vec![thought(5)], None);
    let state = Bytes::from(vec![0xff; 70_000]);
    batch.checkpoint = Some(Checkpoint::whole(3, state));
    stores.runs.append(&open, batch).await.unwrap();
    for more in ["and", "more"] {
        let mut batch = bench.batch(&open, 2, vec![], None);
        batch.checkpoint = Some(Checkpoint::more(3, more));
        stores.runs.append(&open, batch).await.unwrap();
    }
    stores.runs.signal(&user, open.run, Signal::Cancel).await.unwrap();
    bench.start_in(&user, open.thread).await;
    for (role, text) in [(Role::User, "a\0b ü"), (Role::Assistant, "# there")] {
        let message = ThreadMessage {
            run: ended.run,
            role,
            text: text.into(),
            attachments: vec![FileId::new(clock)],
            at: clock.now(),
        };
        stores.threads.add(&user, ended.thread, message).await.unwrap();
    }
    let reader = Share { user: UserId::new(clock), at: clock.now() };
    stores.threads.share(&user, ended.thread, reader).await.unwrap();
    let file = FileId::new(clock);
    let pieces = (0..7_u8).map(|number| Ok(Bytes::from(vec![number; 100_000])));
    let body: Body = Box::pin(futures_util::stream::iter(pieces));
    stores.files.put(&user, file, "usage.csv", body).await.unwrap();
    let report = Bytes::from_static(b"{\"a\"}");
    let json = "application/json";
    stores.artifacts.put(&user, ended.run, "report.json", json, report).await.unwrap();
    at_the_door(bench, &user).await;
    let attempt = Attempt {
        attempt: AttemptId::new(clock),
        run: Some(ended.run),
        step: None,
        number: 1,
        at: clock.now(),
        took_ms: 1_250,
        provider: "openai".into(),
        model: "gpt-5".into(),
        outcome: AttemptOutcome::Answered,
        reason: None,
        request: Some("req_ä".into()),
        service_tier: None,
        cache_write_tokens: 0,
        usage: Usage {
            cost_usd: Some("0.000000000000000000000001".parse().unwrap()),
            ..Usage::NONE
        },
        estimated: false,
    };
    let unpriced = Attempt {
        attempt: AttemptId::new(clock),
        usage: Usage { cost_usd: None, ..attempt.usage },
        ..attempt.clone()
    };
    stores.usage.record(&user, vec![attempt, unpriced]).await.unwrap();
    let note = Note {
        name: "city".into(),
        text: "Gr\0az ü".into(),
        run: Some(ended.run),
        at: clock.now(),
    };
    stores.memory.keep(&user, note).await.unwrap();
    let usd = "0.000000000000000000000001".parse().unwrap();
    let spent = Charge { tokens: 1_100, usd };
    stores.budgets.settle(&user, ReservationId::new(clock), spent).await.unwrap();
    (user, file)
}

async fn at_the_door(bench: &Bench, user: &Principal) {
    let (stores, clock) = (&bench.stores, &*bench.clock);
    let now = clock.now();
    let session = SessionRecord {
        session: SessionId::new(clock),
        user: user.user(),
        scopes: Scopes::USER,
        method: "dev".into(),
        hash: TokenHash::of("token"),
        expires_at: now,
        refresh: Some(RefreshHash {
            family: TokenHash::of("family"),
            current: TokenHash::of("whole"),
        }),
        created_at: now,
        renewed_at: now,
        lapses_at: now.plus(std::time::Duration::from_secs(60)),
        ends_at: now.plus(std::time::Duration::from_secs(600)),
    };
    let other = SessionRecord {
        session: SessionId::new(clock),
        hash: TokenHash::of("other"),
        refresh: None,
        ..session.clone()
    };
    stores.sessions.create(session.clone()).await.unwrap();
    stores.sessions.create(other.clone()).await.unwrap();
    stores.sessions.end(user, other.session, now).await.unwrap();
    let event = AuditEvent {
        id: AuditId::new(clock),
        at: now,
        action: AuditAction::Login,
        reason: None,
        way: None,
        user: Some(user.user()),
        session: None,
        address: None,
        correlation: None,
    };
    stores.audit.append(vec![event]).await.unwrap();
}

/// Those that move, as the file has them.
pub(crate) fn tables(path: &Path) -> Vec<String> {
    let named = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
        AND name NOT LIKE 'limit_%' AND name NOT LIKE 'message_search%' AND name <> 'ticket' ORDER BY name";
    let connection = look(path);
    let mut statement = connection.prepare(named).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// Every row, without the names that contents have in their folder.
pub(crate) fn rows(path: &Path, table: &str) -> Vec<Vec<(String, Value)>> {
    let connection = look(path);
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let found = statement.query_map([], |row| {
        let values = names.iter().enumerate().filter(|(_, name)| *name != "blob");
        values.map(|(place, name)| Ok((name.clone(), row.get(place)?))).collect()
    });
    let mut rows: Vec<Vec<(String, Value)>> = found.unwrap().map(Result::unwrap).collect();
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

fn look(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}
