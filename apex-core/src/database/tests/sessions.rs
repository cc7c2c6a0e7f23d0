use super::*;

fn access() -> Access {
    Access::system("test")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_and_an_error_undoes_it() {
    let Some(server) = server(&Options::default()) else { return };
    let database = open(&server, small()).await;
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_on_record_is_carried_out_once() {
    let Some(server) = server(&Options::default()) else { return };
    let database = open(&server, small()).await;
    let recorded = access().recorded([7; 16]);
    insert(&database, recorded, "a").await.unwrap();
    let again = insert(&database, recorded, "b").await.unwrap_err();
    assert_eq!((again.kind(), again.outcome()), (Kind::Conflict, Outcome::Applied));
    assert_eq!(count(&database).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_work_cannot_write_and_a_swallowed_failure_commits_nothing() {
    let Some(server) = server(&Options::default()) else { return };
    let database = open(&server, small()).await;
    let wrote = database.read(access(), |transaction| {
        Box::pin(async move { transaction.execute("INSERT INTO t (k) VALUES ('x')", &[]).await })
    });
    assert_eq!(wrote.await.unwrap_err().kind(), Kind::Internal);
    let swallowed = database.write(access(), |transaction| {
        Box::pin(async move {
            transaction.execute("INSERT INTO t (k) VALUES ('x')", &[]).await?;
            let _ = transaction.execute("INSERT INTO t (k) VALUES ('x')", &[]).await;
            Ok(())
        })
    });
    assert_eq!(swallowed.await.unwrap_err().kind(), Kind::Internal);
    assert_eq!(count(&database).await, 0);
}
