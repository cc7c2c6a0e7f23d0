//! Accounts and logins in a database of their own.

use crate::support::schema;
use netra_apex::ApexConfig;
use netra_apex::core::auth::{Presented, Way};
use netra_apex::core::config::Loader;
use netra_apex::core::store::Stores;
use netra_apex::core::thread::Whose;
use netra_apex::prelude::*;
use std::path::Path;
use std::time::Duration;

fn config(folder: &Path, url: &str, auth: Option<&str>) -> ApexConfig {
    let schema = schema(folder);
    let mut variables = vec![
        ("APEX_ENVIRONMENT", "development"),
        ("APEX_DATABASE_SCHEMA", &schema),
        ("APEX_DATABASE_URL", url),
    ];
    variables.extend(auth.map(|auth| ("APEX_DATABASE_AUTH", auth)));
    Loader::new().environment(variables).load::<ApexConfig>().unwrap().value
}

/// What stands in one database alone.
async fn alone(folder: &Path, url: &str) -> Stores {
    config(folder, url, None).builder().unwrap().stores_alone().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_and_logins_stand_in_a_database_of_their_own_and_the_rest_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = |name: &str| format!("sqlite:{}", folder.join(name).display());
    let mut pairs = vec![(file("runs.db"), file("auth.db"))];
    if cfg!(feature = "postgres") {
        pairs.extend(apex_test_services::shared("postgres").map(|url| (file("more.db"), url)));
    }
    for (url, auth) in pairs {
        let apex = config(folder, &url, Some(&auth)).builder().unwrap().build().await.unwrap();
        let presented = Presented::by(Way::Bearer);
        let login = apex.auth().development_login("ada", &presented).await.unwrap();
        let ada = login.principal;
        apex.ask(&ada, "What could we save?").await.unwrap();
        let rows = async |stores: &Stores| {
            let account = stores.users.user(ada.user()).await.map(|user| user.user);
            let logins = stores.sessions.list(&ada).await.unwrap().len();
            let threads =
                stores.threads.threads(&ada, Whose::Own, None, 10).await.unwrap().items.len();
            (account.ok(), logins, threads)
        };
        assert_eq!(rows(apex.stores()).await, (Some(ada.user()), 1, 1));
        assert!(apex.drain(Duration::from_secs(10)).await);
        drop(apex);
        assert_eq!(rows(&alone(folder, &url).await).await, (None, 0, 1));
        assert_eq!(rows(&alone(folder, &auth).await).await, (Some(ada.user()), 1, 0));
    }
}

#[test]
fn a_database_for_logins_that_cannot_be_one_is_refused_by_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("APEX_DATABASE_AUTH", "redis://127.0.0.1/0")];
    let refused = Loader::new().environment(variables).load::<ApexConfig>().unwrap_err();
    assert!(refused.to_string().contains("database.auth"), "{refused}");
    let builder = Apex::builder()
        .database(netra_apex::core::config::DatabaseUrl::sqlite(
            folder.path().join("a.db").to_str().unwrap(),
        ))
        .auth_database("redis://127.0.0.1/0".parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(builder.build()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), Kind::Config);
    assert!(refused.to_string().contains("database.auth"), "{refused}");
}
