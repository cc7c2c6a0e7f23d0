use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_transactions_and_locks_end_at_their_limits() {
    for server in servers() {
        let watcher = Watcher::new(&server).await;
        let config = DatabaseConfig {
            statement: Duration::from_millis(400),
            transaction: Duration::from_millis(1_000),
            lock: Duration::from_millis(200),
            ..small()
        };
        let database = open(server.url(), config).await;
        let began = Instant::now();
        let error = sleep_on_server(&database, access(), 30.0).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.failure()),
            (Kind::DeadlineExceeded, Some(Failure::Timeout))
        );
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());

        // Many short statements, none of which is too long.
        let began = Instant::now();
        let many = database.write(access(), |transaction| {
            Box::pin(async move {
                transaction.execute("INSERT INTO t (k) VALUES ('many')", &[]).await?;
                loop {
                    transaction.query("SELECT pg_sleep(0.05)", &[]).await?;
                }
                #[allow(unreachable_code)]
                Ok(())
            })
        });
        let error = many.await.unwrap_err();
        assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert!(began.elapsed() < Duration::from_millis(1_600), "{:?}", began.elapsed());

        // A transaction in which nothing happens.
        let idle = database.write(access(), |transaction| {
            Box::pin(async move {
                transaction.execute("INSERT INTO t (k) VALUES ('idle')", &[]).await?;
                sleep(Duration::from_millis(1_500)).await;
                Ok(())
            })
        });
        let error = idle.await.unwrap_err();
        assert_eq!(error.kind(), Kind::DeadlineExceeded, "{error:?}");

        // A lock that somebody else holds.
        insert(&database, access(), "locked").await.unwrap();
        let holds = database.write(access(), |transaction| {
            let database = database.clone();
            Box::pin(async move {
                const LOCK: &str = "SELECT k FROM t WHERE k = 'locked' FOR UPDATE";
                transaction.query(LOCK, &[]).await?;
                let waits = tokio::spawn(async move {
                    let waits = database.write(access(), |transaction| {
                        Box::pin(async move { transaction.query(LOCK, &[]).await.map(drop) })
                    });
                    waits.await
                });
                Ok(waits.await.unwrap())
            })
        });
        let error = holds.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.failure()),
            (Kind::DeadlineExceeded, Some(Failure::Timeout))
        );
        watcher.nothing_left_within(Duration::from_secs(1)).await;
        all_back_within(&database, Duration::from_secs(1)).await;
        assert_eq!(count(&database).await, 1);
    }
}

/// The second line: what the server does by itself when this process does nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_the_limits_too() {
    for server in servers() {
        let database = open(server.url(), small()).await;
        let asked = database.read(access(), |transaction| {
            Box::pin(async move {
                const NEW: &str = "SELECT current_setting('transaction_timeout', true) IS NOT NULL";
                let new = transaction.query_one(NEW, &[]).await?.column::<bool>(0)?;
                let sql = if new {
                    "SELECT current_setting('transaction_timeout')"
                } else {
                    "SELECT current_setting('idle_in_transaction_session_timeout')"
                };
                let limit = transaction.query_one(sql, &[]).await?.column::<String>(0)?;
                let row = transaction.query_one("SELECT current_setting('statement_timeout')", &[]);
                Ok((limit, row.await?.column::<String>(0)?))
            })
        });
        assert_eq!(asked.await.unwrap(), ("61s".to_owned(), "30s".to_owned()));
    }
}
