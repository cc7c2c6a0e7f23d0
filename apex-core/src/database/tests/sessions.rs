use super::*;
use crate::id::UserId;
use std::sync::atomic::AtomicU32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_and_an_error_undoes_it() {
    let Some(server) = server(&Options::default()) else { return };
    let database = open(server.url(), small()).await;
    insert(&database, access(), "a").await.unwrap();
    let key = String::from("b");
    let undone = database.write(access(), |transaction| {
        let key = &key;
        Box::pin(async move {
            transaction.execute("INSERT INTO t (k) VALUES ($1)", &[key]).await?;
            Err::<(), _>(Error::new(Kind::Conflict, "test", "no"))
        })
    });
    assert_eq!(undone.await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(count(&database).await, 1);
    let twice = insert(&database, access(), "a").await.unwrap_err();
    assert_eq!((twice.kind(), twice.failure()), (Kind::Conflict, Some(Failure::Constraint)));
    assert!(twice.context().any(|(key, value)| key == "constraint" && value == "t_pkey"));

    let recorded = access().recorded([7; 16]);
    insert(&database, recorded, "c").await.unwrap();
    let again = insert(&database, recorded, "d").await.unwrap_err();
    assert_eq!((again.kind(), again.outcome()), (Kind::Conflict, Outcome::Applied));
    assert_eq!(count(&database).await, 2);

    let wrote = database.read(access(), |transaction| {
        Box::pin(async move { transaction.execute("INSERT INTO t (k) VALUES ('x')", &[]).await })
    });
    assert_eq!(wrote.await.unwrap_err().kind(), Kind::Internal, "reading work cannot write");
    let swallowed = database.write(access(), |transaction| {
        Box::pin(async move {
            transaction.execute("INSERT INTO t (k) VALUES ('x')", &[]).await?;
            let _ = transaction.execute("INSERT INTO t (k) VALUES ('x')", &[]).await;
            Ok(())
        })
    });
    assert_eq!(swallowed.await.unwrap_err().kind(), Kind::Internal);
    let nested = database.write(access(), |_| {
        let database = &database;
        Box::pin(async move { count_again(database).await })
    });
    assert_eq!(nested.await.unwrap_err().kind(), Kind::Internal, "a session in a session");
    assert_eq!(count(&database).await, 2);
    assert_eq!(database.statistics().in_use, 0);
}

async fn count_again(database: &Database) -> Result<i64> {
    number(database, "SELECT count(*) FROM t").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_met_others_are_repeated_as_a_whole() {
    let Some(server) = server(&Options::default()) else { return };
    let database = open(server.url(), small()).await;
    insert(&database, access(), "a").await.unwrap();
    insert(&database, access(), "b").await.unwrap();
    let tries = AtomicU32::new(0);
    let both_began = tokio::sync::Barrier::new(2);
    let lock = |first: &'static str, second: &'static str| {
        let (database, tries, both_began) = (&database, &tries, &both_began);
        async move {
            let begun = AtomicU32::new(0);
            let begun = &begun;
            let locked = database.write(access(), |transaction| {
                Box::pin(async move {
                    const LOCK: &str = "SELECT k FROM t WHERE k = $1 FOR UPDATE";
                    tries.fetch_add(1, Ordering::SeqCst);
                    transaction.query(LOCK, &[&first]).await?;
                    if begun.fetch_add(1, Ordering::SeqCst) == 0 {
                        both_began.wait().await;
                    }
                    transaction.query(LOCK, &[&second]).await.map(drop)
                })
            });
            locked.await
        }
    };
    let (one, other) = tokio::join!(lock("a", "b"), lock("b", "a"));
    one.and(other).unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 3, "one of two was undone and repeated");

    // A storm: whoever reads the same state and writes it meets the others.
    let tries = AtomicU32::new(0);
    let tries = &tries;
    let always = database.write(access(), |transaction| {
        Box::pin(async move {
            tries.fetch_add(1, Ordering::SeqCst);
            const RAISE: &str = "DO $$ BEGIN RAISE EXCEPTION 'met' USING ERRCODE = '40001'; END $$";
            transaction.batch(RAISE).await
        })
    });
    let error = always.await.unwrap_err();
    assert_eq!(
        (error.failure(), error.outcome()),
        (Some(Failure::Serialization), Outcome::NotApplied)
    );
    assert_eq!(tries.load(Ordering::SeqCst), work::TRIES, "and not for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_from_before_a_migration_is_prepared_anew() {
    let Some(server) = server(&Options::default()) else { return };
    let config = DatabaseConfig { connections: 1, ..small() };
    let database = open(server.url(), DatabaseConfig { per_user: None, ..config }).await;
    let migrations = ["ALTER TABLE t ADD COLUMN more int", "DEALLOCATE ALL"];
    for migration in migrations {
        let all = || {
            database.write(access(), |transaction| {
                Box::pin(async move { Ok(transaction.query("SELECT * FROM t", &[]).await?.len()) })
            })
        };
        all().await.unwrap();
        let migrated = database.write(access(), |transaction| {
            Box::pin(async move { transaction.batch(migration).await })
        });
        migrated.await.unwrap();
        all().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn critical_work_takes_the_place_of_the_youngest_preemptible_session() {
    let Some(server) = server(&Options::default()) else { return };
    let watcher = Watcher::new(&server).await;
    let database = open(server.url(), small()).await;
    fill(&database).await;
    let low = access().priority(Priority::Low);
    let sleeper = |access: Access| {
        let database = database.clone();
        tokio::spawn(async move { sleep_on_server(&database, access, 30.0).await })
    };
    let kept = [sleeper(low), sleeper(low), sleeper(low.preemptible())];
    while database.0.held().len() < 3 {
        sleep(Duration::from_millis(5)).await;
    }
    let youngest = sleeper(low.preemptible());
    while database.0.held().len() < 4 {
        sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    let critical = access().priority(Priority::Critical);
    insert(&database, critical, "critical").await.unwrap();
    let took = began.elapsed();
    println!("critical work waited {took:?}");
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    let error = youngest.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::PoolExhausted, Outcome::NotApplied));
    assert!(error.retry_after().is_some());
    assert!(kept.iter().all(|sleeper| !sleeper.is_finished()));
    // The order to stop is on its way while its caller has its answer already.
    let until = Instant::now() + Duration::from_secs(3);
    while watcher.busy().await != 3 {
        assert!(Instant::now() < until, "what gave its place does not go on on the server");
        sleep(Duration::from_millis(5)).await;
    }
    kept.iter().for_each(tokio::task::JoinHandle::abort);
    watcher.nothing_left_within(Duration::from_secs(3)).await;
    all_back_within(&database, Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_a_thousand_requests_does_not_stop_others() {
    let Some(server) = server(&Options::default()) else { return };
    let config = DatabaseConfig { per_user: Some(2), ..small() };
    let database = open(server.url(), config).await;
    fill(&database).await;
    let user = |number: u8| UserId::from_bytes([number; 16]);
    let greedy: Vec<_> = (0..1_000)
        .map(|_| {
            let database = database.clone();
            let access = Access::user(user(1), "greedy");
            tokio::spawn(async move { sleep_on_server(&database, access, 30.0).await })
        })
        .collect();
    sleep(Duration::from_millis(200)).await;
    let watcher = Watcher::new(&server).await;
    assert_eq!(watcher.busy().await, 2);
    for number in 2..20 {
        let began = Instant::now();
        insert(&database, Access::user(user(number), "x"), &number.to_string()).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
    let refused = greedy.iter().filter(|task| task.is_finished()).count();
    assert!(refused >= 1_000 - 2 - DatabaseConfig::default().waiting_per_user, "{refused}");
    greedy.iter().for_each(tokio::task::JoinHandle::abort);
    all_back_within(&database, Duration::from_secs(3)).await;
    watcher.nothing_left_within(Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_hears_and_is_made_again() {
    let Some(server) = server(&Options::default()) else { return };
    let proxy = Proxy::start(server.port()).unwrap();
    let direct = open(server.url(), small()).await;
    let database = open(&server.url_at(proxy.port()), small()).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let listener = database.listen(&["news"], move |heard| {
        let _ = tell.send(match heard {
            Heard::Gap => "gap".to_owned(),
            Heard::Notified { channel, payload } => format!("{channel}: {payload}"),
        });
    });
    let notify = || {
        direct.write(access(), |transaction| {
            Box::pin(async move {
                transaction.query("SELECT pg_notify('news', 'hello')", &[]).await.map(drop)
            })
        })
    };
    let limit = Duration::from_secs(15);
    assert_eq!(within(limit, told.recv()).await.unwrap(), "gap");
    notify().await.unwrap();
    assert_eq!(within(limit, told.recv()).await.unwrap(), "news: hello");
    proxy.cut();
    assert_eq!(within(limit, told.recv()).await.unwrap(), "gap");
    // Dead without a word: only the canary notices.
    proxy.abandon();
    notify().await.unwrap();
    assert_eq!(within(limit, told.recv()).await.unwrap(), "gap");
    notify().await.unwrap();
    assert_eq!(within(limit, told.recv()).await.unwrap(), "news: hello");
    drop(listener);
}
