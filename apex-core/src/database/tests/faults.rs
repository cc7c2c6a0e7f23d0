use super::*;
use std::sync::atomic::AtomicU32;

/// A second, and what a busy machine and a build that is not optimised need for the logins.
const SOON: Duration = Duration::from_secs(3);

async fn behind_proxy(config: DatabaseConfig) -> Option<(Server, Proxy, Database)> {
    let server = server(&Options::default())?;
    let proxy = Proxy::start(server.port()).unwrap();
    let database = open(&server.url_at(proxy.port()), config).await;
    Some((server, proxy, database))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_death_of_every_idle_connection_is_over_within_a_second() {
    let Some((server, proxy, database)) = behind_proxy(small()).await else { return };
    let watcher = Watcher::new(&server).await;
    for round in 0..5 {
        fill(&database).await;
        proxy.abandon();
        let began = Instant::now();
        let writes = (0..8).map(|number| {
            let database = &database;
            async move {
                let access = access().recorded([round * 8 + number; 16]);
                insert(database, access, &format!("{round} {number}")).await
            }
        });
        futures_util::future::try_join_all(writes).await.unwrap();
        let took = began.elapsed();
        println!("all connections dead while idle: {took:?}");
        assert!(took < SOON, "{took:?}");
    }
    assert_eq!(count(&database).await, 40);
    all_back_within(&database, Duration::from_secs(1)).await;
    drop(proxy);
    watcher.nothing_left_within(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_death_of_every_connection_in_use_is_over_within_a_second() {
    let Some((_server, proxy, database)) = behind_proxy(small()).await else { return };
    fill(&database).await;
    let tries = AtomicU32::new(0);
    let in_use = futures_util::future::join_all((0..4).map(|number| {
        let (database, tries) = (&database, &tries);
        database.write(access(), move |transaction| {
            Box::pin(async move {
                let key = format!("used {number}");
                transaction.execute("INSERT INTO t (k) VALUES ($1)", &[&key]).await?;
                // Only the first time round, so that the rest is what finding out and beginning again takes.
                if tries.fetch_add(1, Ordering::SeqCst) < 4 {
                    sleep(Duration::from_millis(300)).await;
                }
                transaction.query("SELECT 1", &[]).await.map(drop)
            })
        })
    }));
    let dies = async {
        sleep(Duration::from_millis(150)).await;
        proxy.abandon();
        Instant::now()
    };
    let (done, died) = tokio::join!(in_use, dies);
    let took = died.elapsed();
    println!("all connections dead while in use: {took:?}");
    // Their commits were not sent, so they were repeated on new connections.
    done.into_iter().collect::<Result<Vec<_>>>().unwrap();
    assert!(took < SOON, "{took:?}");
    assert_eq!((tries.load(Ordering::SeqCst), count(&database).await), (8, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_before_the_commit_is_repeated_and_one_after_it_looked_up() {
    let Some((_server, proxy, database)) = behind_proxy(small()).await else { return };
    let tries = AtomicU32::new(0);
    let (tries, proxy) = (&tries, &proxy);
    let cut = database.write(access(), |transaction| {
        Box::pin(async move {
            transaction.execute("INSERT INTO t (k) VALUES ('cut')", &[]).await?;
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                proxy.cut();
            }
            transaction.query("SELECT 1", &[]).await.map(drop)
        })
    });
    cut.await.unwrap();
    assert_eq!((tries.load(Ordering::SeqCst), count(&database).await), (2, 1));

    proxy.lose_reply_to(b"COMMIT\0");
    insert(&database, access().recorded([1; 16]), "recorded").await.unwrap();
    assert_eq!(count(&database).await, 2, "found on record, and not done twice");

    proxy.lose_reply_to(b"COMMIT\0");
    let lost = insert(&database, access(), "lost").await.unwrap_err();
    assert_eq!((lost.kind(), lost.outcome()), (Kind::Unavailable, Outcome::Unknown));
    assert_eq!(count(&database).await, 3, "without a record nobody can tell");

    // The commit does not reach the server: the record says so, and the write is made again.
    let first = AtomicU32::new(0);
    let first = &first;
    let unsent = database.write(access().recorded([2; 16]), |transaction| {
        Box::pin(async move {
            transaction.execute("INSERT INTO t (k) VALUES ('unsent')", &[]).await?;
            if first.fetch_add(1, Ordering::SeqCst) == 0 {
                proxy.abandon();
            }
            Ok(())
        })
    });
    within(Duration::from_secs(5), unsent).await.unwrap();
    assert_eq!((first.load(Ordering::SeqCst), count(&database).await), (2, 4));

    // Where there are records, every write is on one.
    database.keep_records();
    proxy.lose_reply_to(b"COMMIT\0");
    insert(&database, access(), "kept").await.unwrap();
    assert_eq!(count(&database).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_or_stopped_and_started_again_serves_again_by_itself() {
    for mut server in servers() {
        let database = open(server.url(), small()).await;
        for round in 0..2 {
            let (reached, is_reached) = tokio::sync::oneshot::channel();
            let reached = Mutex::new(Some(reached));
            let key = format!("round {round}");
            let work = {
                let (database, key) = (database.clone(), key.clone());
                tokio::spawn(async move {
                    let (key, reached) = (&key, &reached);
                    let work = database.write(access(), |transaction| {
                        Box::pin(async move {
                            transaction.execute("INSERT INTO t (k) VALUES ($1)", &[key]).await?;
                            if let Some(reached) = reached.lock().take() {
                                let _ = reached.send(());
                            }
                            sleep(Duration::from_secs(1)).await;
                            transaction.query("SELECT 1", &[]).await.map(drop)
                        })
                    });
                    work.await
                })
            };
            is_reached.await.unwrap();
            if round == 0 {
                server.kill("postgres");
            } else {
                server.stop("postgres");
            }
            let began = Instant::now();
            let refused = insert(&database, access(), "down").await.unwrap_err();
            assert_eq!(refused.kind(), Kind::Unavailable, "{refused:?}");
            assert_eq!(refused.failure(), Some(Failure::Connection), "{refused:?}");
            assert!(began.elapsed() < Duration::from_millis(500), "told at once");
            let lost = work.await.unwrap().unwrap_err();
            assert_eq!((lost.kind(), lost.outcome()), (Kind::Unavailable, Outcome::NotApplied));
            start_again(&mut server).await;
            insert(&database, access(), &key).await.unwrap();
        }
        assert_eq!(count(&database).await, 2);
        all_back_within(&database, Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_seconds_of_silence_cost_no_write_and_no_place() {
    let Some((server, proxy, database)) = behind_proxy(small()).await else { return };
    let watcher = Watcher::new(&server).await;
    fill(&database).await;
    let began = Instant::now();
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let database = database.clone();
            tokio::spawn(async move {
                let mut acknowledged = 0;
                while began.elapsed() < Duration::from_secs(7) {
                    let key = format!("{number} {acknowledged}");
                    match insert(&database, access(), &key).await {
                        Ok(()) => acknowledged += 1,
                        // The key is there if the write took effect after all.
                        Err(error) if error.failure() == Some(Failure::Constraint) => {
                            acknowledged += 1;
                        }
                        Err(_) => sleep(Duration::from_millis(50)).await,
                    }
                }
                acknowledged
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    proxy.freeze();
    sleep(Duration::from_secs(5)).await;
    proxy.pass();
    let mut acknowledged = 0;
    for writer in writers {
        acknowledged += writer.await.unwrap();
    }
    let last = insert(&database, access(), "after").await;
    last.unwrap();
    all_back_within(&database, Duration::from_secs(3)).await;
    let rows = count(&database).await - 1;
    // A last write of each may have taken effect without an answer.
    assert!((acknowledged..=acknowledged + 8).contains(&rows), "{acknowledged}, {rows}");
    watcher.nothing_left_within(Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_slower_than_the_wait_is_there_for_the_next_one() {
    let config = DatabaseConfig { acquire: Duration::from_millis(300), ..small() };
    let Some((_server, proxy, database)) = behind_proxy(config).await else { return };
    proxy.cut();
    // Each piece of a handshake of several takes this long.
    proxy.delay(Duration::from_millis(150));
    let slow = count_again(&database).await.unwrap_err();
    assert_eq!(slow.kind(), Kind::Unavailable, "{slow:?}");
    sleep(Duration::from_millis(2_500)).await;
    assert!(database.statistics().idle > 0, "the connection was made all the same");
    proxy.pass();
    count_again(&database).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_at_any_byte_of_an_answer_is_a_stated_error_and_no_half_write() {
    let Some((server, proxy, database)) = behind_proxy(small()).await else { return };
    let watcher = Watcher::new(&server).await;
    let direct = open(server.url(), small()).await;
    for bytes in (0..600).step_by(13) {
        proxy.cut();
        proxy.replies(Replies::CutAfter(bytes));
        let key = format!("{bytes}");
        let done = insert(&database, access(), &key).await;
        proxy.pass();
        let there = direct.read(access(), |transaction| {
            let key = &key;
            Box::pin(async move {
                let row = transaction.query_opt("SELECT k FROM t WHERE k = $1", &[key]).await?;
                Ok(row.is_some())
            })
        });
        let there = there.await.unwrap();
        match done {
            Ok(()) => assert!(there, "{bytes}"),
            Err(error) => {
                assert_ne!(error.failure(), Some(Failure::Unknown), "{bytes}: {error:?}");
                assert!(error.outcome() == Outcome::Unknown || !there, "{bytes}: {error:?}");
            }
        }
        all_back_within(&database, Duration::from_secs(3)).await;
    }
    count_again(&database).await.unwrap();
    watcher.nothing_left_within(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_to_the_host_that_takes_them() {
    let read_only = Options::default().set("default_transaction_read_only", "on");
    let (Some(standby), Some(first), Some(second)) =
        (server(&read_only), server(&Options::default()), server(&Options::default()))
    else {
        return;
    };
    drop(open(second.url(), small()).await);
    let host = |server: &Server| format!("127.0.0.1:{}", server.port());
    let hosts = format!("{},{},{}", host(&standby), host(&first), host(&second));
    let address = first.url().replace(&host(&first), &hosts);
    let database = open(&address, small()).await;
    fill(&database).await;
    insert(&database, access(), "on the first").await.unwrap();
    first.kill("postgres");
    let began = Instant::now();
    while insert(&database, access(), "on the second").await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(count(&database).await, 1);
    let error = Database::open(&url(standby.url()), small()).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::ReadOnly), "{error:?}");
}

async fn count_again(database: &Database) -> Result<i64> {
    number(database, "SELECT count(*) FROM t").await
}

/// A file system of a few megabytes, as only root can make one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=90m,mode=0777", "tmpfs"]).arg(&path);
        mount.stderr(std::process::Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        apex_test_services::skip("tmpfs", "mounting a small file system needs root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path().join("disk")) else { return };
    let data = disk.0.join("server");
    std::fs::create_dir(&data).unwrap();
    let options = Options { folder: Some(data), ..Options::default() };
    let options = options.set("max_wal_size", "32MB").set("min_wal_size", "32MB");
    let Some(server) = server(&options) else { return };
    let database = open(server.url(), small()).await;
    insert(&database, access(), "before").await.unwrap();
    let fill = database.write(access(), |transaction| {
        Box::pin(async move {
            let sql = "CREATE TABLE big AS SELECT repeat('x', 1000) AS filler FROM generate_series(1, 200000)";
            transaction.batch(sql).await
        })
    });
    let error = fill.await.unwrap_err();
    assert_eq!(
        (error.kind(), error.failure()),
        (Kind::Storage, Some(Failure::DiskFull)),
        "{error:?}"
    );
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(!error.is_retryable());
    // The server has given back what it had taken, and goes on.
    let until = Instant::now() + Duration::from_secs(10);
    while insert(&database, access(), "after").await.is_err() {
        assert!(Instant::now() < until);
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(count(&database).await, 2);
    all_back_within(&database, Duration::from_secs(3)).await;
    drop(server);
}
