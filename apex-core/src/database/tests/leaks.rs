use super::*;
use std::pin::Pin;
use std::task::Poll;

/// Polls a future so many times and then drops it; says whether it was done.
async fn cancelled_after<F: Future>(polls: u32, work: F) -> Option<F::Output> {
    let mut work = Box::pin(work);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        Pin::new(&mut work).poll(context).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_cancelled_at_every_point_leaves_nothing_behind() {
    for server in servers() {
        let watcher = Watcher::new(&server).await;
        let config = DatabaseConfig { connections: 1, ..DatabaseConfig::default() };
        let database = open(server.url(), config).await;
        let (mut polls, mut done) = (0, 0);
        while done < 20 {
            polls += 1;
            assert!(polls < 500, "it never ends");
            let key = format!("key {polls}");
            let operation = u128::from(polls).to_be_bytes();
            let work = insert(&database, access().recorded(operation), &key);
            done += u32::from(cancelled_after(polls, work).await.is_some());
            all_back_within(&database, Duration::from_secs(3)).await;
        }
        // One connection is enough to see that each one came back fit for use.
        let rows = count(&database).await;
        let recorded = number(&database, "SELECT count(*) FROM apex_operation").await.unwrap();
        assert_eq!(rows, recorded, "a transaction is whole or not there");
        assert!(rows >= i64::from(done));
        watcher.nothing_left_within(Duration::from_secs(1)).await;
        assert!(watcher.connections().await <= 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_session_is_named_and_then_taken_back() {
    let Some(server) = server(&Options::default()) else { return };
    let watcher = Watcher::new(&server).await;
    let config = DatabaseConfig {
        connections: 1,
        leak_warn: Duration::from_millis(200),
        leak_take_back: Duration::from_millis(800),
        ..DatabaseConfig::default()
    };
    let database = open(server.url(), config).await;
    let held = database.clone();
    let mut forgotten: BoxFuture<'static, Result<()>> = Box::pin(async move {
        let work = held.write(access(), |transaction| {
            Box::pin(async move {
                transaction.execute("INSERT INTO t (k) VALUES ('forgotten')", &[]).await?;
                std::future::pending().await
            })
        });
        work.await
    });
    let hold = std::future::poll_fn(|context| forgotten.as_mut().poll(context));
    assert!(tokio::time::timeout(Duration::from_millis(100), hold).await.is_err());
    std::mem::forget(forgotten);
    let statistics = database.statistics();
    assert_eq!(statistics.in_use, 1);
    let site = statistics.longest_held_by.unwrap();
    assert!(site.contains("tests/leaks.rs:"), "{site}");
    sleep(Duration::from_millis(300)).await;
    assert!(database.0.held()[0].warned.load(Ordering::SeqCst));
    all_back_within(&database, Duration::from_secs(2)).await;
    watcher.nothing_left_within(Duration::from_secs(1)).await;
    insert(&database, access(), "next").await.unwrap();
    assert_eq!(count(&database).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_and_a_drop_without_a_runtime_give_the_session_back() {
    let Some(server) = server(&Options::default()) else { return };
    let watcher = Watcher::new(&server).await;
    let config = DatabaseConfig { connections: 1, ..DatabaseConfig::default() };
    let database = open(server.url(), config).await;
    let panics = {
        let database = database.clone();
        tokio::spawn(async move {
            let work = database.write(access(), |transaction| {
                Box::pin(async move {
                    transaction.execute("INSERT INTO t (k) VALUES ('x')", &[]).await?;
                    panic!("as asked");
                    #[allow(unreachable_code)]
                    Ok(())
                })
            });
            work.await
        })
    };
    assert!(panics.await.unwrap_err().is_panic());
    all_back_within(&database, Duration::from_secs(3)).await;

    let sleeper = database.clone();
    let mut work: BoxFuture<'static, Result<()>> =
        Box::pin(async move { sleep_on_server(&sleeper, access(), 30.0).await });
    let some = std::future::poll_fn(|context| work.as_mut().poll(context));
    assert!(tokio::time::timeout(Duration::from_millis(200), some).await.is_err());
    assert_eq!(watcher.busy().await, 1);
    std::thread::spawn(move || drop(work)).join().unwrap();
    all_back_within(&database, Duration::from_secs(3)).await;
    watcher.nothing_left_within(Duration::from_millis(500)).await;
    assert_eq!(count(&database).await, 0);
}

/// After the runtime has ended nothing can be said to the server any more, but nothing panics either.
#[test]
fn a_session_outlives_its_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    };
    let Some(server) = server(&Options::default()) else { return };
    let first = runtime();
    let database = first.block_on(open(server.url(), small()));
    let held = database.clone();
    let mut work: BoxFuture<'static, Result<()>> =
        Box::pin(async move { sleep_on_server(&held, access(), 30.0).await });
    first.block_on(async {
        let some = std::future::poll_fn(|context| work.as_mut().poll(context));
        assert!(tokio::time::timeout(Duration::from_millis(100), some).await.is_err());
    });
    first.shutdown_timeout(Duration::from_secs(1));
    drop(work);
    let second = runtime();
    let error = second.block_on(insert(&database, access(), "x")).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
    drop(database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_cancellations_lose_no_connection() {
    const TASKS: u64 = 64;
    let rounds = if std::env::var_os("APEX_FULL").is_some() { 1_000_000 } else { 6_400 };
    // What is on the disk does not count here.
    let Some(server) = server(&Options::default().set("fsync", "off")) else { return };
    let watcher = Watcher::new(&server).await;
    let database = open(server.url(), small()).await;
    let began = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let database = database.clone();
            tokio::spawn(async move {
                let (mut random, mut done) = (fastrand::Rng::with_seed(task), 0);
                for round in 0..rounds / TASKS {
                    let key = format!("{task} {round}");
                    // Cancelled while it waits for its place, at any point later, or not at all.
                    let polls = match random.u32(0..8) {
                        0..3 => 1,
                        3 => random.u32(2..10),
                        _ => u32::MAX,
                    };
                    let kind = random.u32(0..8);
                    let work = async {
                        // Mostly what is taken and given back most often.
                        match kind {
                            0 => insert(&database, access(), &key).await,
                            _ => number(&database, "SELECT 1::int8").await.map(drop),
                        }
                    };
                    done += u64::from(cancelled_after(polls, work).await.is_some());
                    if task == 0 && (round + 1).is_multiple_of(1_562) {
                        println!("{} rounds in {:?}", (round + 1) * TASKS, began.elapsed());
                    }
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    let cancelled = rounds - done;
    println!("{cancelled} of {rounds} cancelled in {:?}", began.elapsed());
    assert!(done > 0 && cancelled > rounds / 4, "{cancelled} of {rounds} cancelled");
    all_back_within(&database, Duration::from_secs(5)).await;
    watcher.nothing_left_within(Duration::from_secs(1)).await;
    assert!(watcher.connections().await <= 5, "the pool, and who looks after it");
    // A connection that was being made when its waiter went away is finished.
    let until = Instant::now() + Duration::from_secs(3);
    while database.statistics().open != database.statistics().idle {
        assert!(Instant::now() < until, "{:?}", database.statistics());
        sleep(Duration::from_millis(20)).await;
    }
    let four = || futures_util::future::try_join_all((0..4).map(|_| count_again(&database)));
    four().await.unwrap();
}

async fn count_again(database: &Database) -> Result<i64> {
    number(database, "SELECT count(*) FROM t").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_what_is_under_way_and_every_connection() {
    let Some(server) = server(&Options::default()) else { return };
    let watcher = Watcher::new(&server).await;
    let database = open(server.url(), small()).await;
    let sleeper = {
        let database = database.clone();
        tokio::spawn(async move { sleep_on_server(&database, access(), 30.0).await })
    };
    sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    database.close().await;
    assert!(began.elapsed() < CLOSE + Duration::from_secs(1));
    assert_eq!(sleeper.await.unwrap().unwrap_err().kind(), Kind::Draining);
    assert_eq!(insert(&database, access(), "x").await.unwrap_err().kind(), Kind::Draining);
    drop(database);
    let until = Instant::now() + Duration::from_secs(3);
    while watcher.connections().await > 0 {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(20)).await;
    }
}
