//! Back-pressure end to end: what finds no database session is refused at the door with a code of its own and a time
//! to come back, and what is under way ends.

use crate::support::schema;
use crate::users::admitted;
use netra_apex::core::config::Environment;
use netra_apex::core::database::DatabaseConfig;
use netra_apex::prelude::*;
use netra_apex::transport::client::Api;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_refuses_at_the_door_and_what_runs_ends() {
    let Some(url) = apex_test_services::shared("postgres") else { return };
    let folder = tempfile::tempdir().unwrap();
    let apex = Apex::builder()
        .environment(Environment::Development)
        .database(url.parse().unwrap())
        .schema(schema(folder.path()).parse().unwrap())
        .pool(DatabaseConfig {
            connections: 1,
            waiting: Some(2),
            acquire: Duration::from_millis(500),
            ..DatabaseConfig::default()
        })
        .build()
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn({
        let apex = apex.clone();
        async move { apex.serve(listener, async { drop(stopped.await) }).await }
    });
    let user = admitted(|| apex.user("ada")).await;
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let (apex, user) = (apex.clone(), user.clone());
            tokio::spawn(
                async move { admitted(|| apex.start(&user, "hello", Vec::new())).await.run },
            )
        })
        .collect();
    let logins: Vec<_> = (0..60)
        .map(|number| {
            let api = Api::new(&url).unwrap();
            tokio::spawn(async move { api.log_in(&format!("user-{number}")).await.map(drop) })
        })
        .collect();
    let mut refused = 0;
    for login in logins {
        if let Err(error) = login.await.unwrap() {
            assert_eq!(error.kind(), Kind::PoolExhausted, "{error:?}");
            assert!(error.retry_after().is_some(), "{error:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "sixty logins found two places to wait");
    for run in runs {
        let run = run.await.unwrap();
        let ended = async {
            loop {
                match apex.stores().runs.view(&user, run).await {
                    Ok(view) if view.state.is_terminal() => return view.state,
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let state = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
        assert_eq!(state.name(), "completed");
    }
    admitted(|| Api::new(&url).unwrap().log_in("late")).await;
    drop(stop);
    server.await.unwrap().unwrap();
}
