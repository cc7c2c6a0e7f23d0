//! Whether another server has taken the place of the one that the rows were written by: it may lack what that one had
//! acknowledged, and number what follows as that one had.
//!
//! Every connection that may write says so before anything else, since a server changes its timeline only where all
//! connections to it end. Inboxes get a new epoch at once, a run when it is claimed next: nobody writes to it before.

use crate::database::{Access, Database};

/// Notes who writes here now, and whether that is another one than before.
const NOTE: &str = "WITH here AS (SELECT (SELECT system_identifier FROM pg_control_system()) || '/' \
     || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS name) \
     UPDATE store SET written_by = here.name, era = era + (written_by IS NOT NULL)::int, \
     inbox_epoch = CASE WHEN written_by IS NULL THEN inbox_epoch ELSE gen_random_uuid() END \
     FROM here WHERE written_by IS DISTINCT FROM here.name";

/// Those of these runs whose events are from before.
pub(super) const OTHERS: &str =
    "SELECT run.id FROM run, store WHERE run.id = ANY($1) AND run.era <> store.era";

/// Has it noted from now on. A service that does not say which server it is cannot be watched: there only the operator
/// knows that something was lost.
pub(super) async fn watch(database: &Database) {
    if let Err(error) = database.greet_with(Access::system("postgres.open"), NOTE).await {
        tracing::warn!(%error, "this PostgreSQL does not say when another server takes its place");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PostgresOptions, Time, open};
    use crate::database::DatabaseConfig;
    use crate::error::Kind;
    use crate::run::RunLimits;
    use crate::testkit::{Bench, VirtualClock, thought};
    use apex_test_services::{Kind as Service, Options, Server};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Says something to one node by itself.
    async fn tell(server: &Server, node: &str, statements: &[&str]) {
        let address = server.url().parse::<crate::config::DatabaseUrl>().unwrap();
        let password = address.password().unwrap().reveal().clone();
        let port = server.node(node).port;
        let address = format!("postgres://apex:{password}@127.0.0.1:{port}/apex");
        let (client, driven) =
            tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(driven);
        for statement in statements {
            client.batch_execute(statement).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_promoted_standby_that_lacks_events_says_so_by_new_epochs() {
        let options = Options { replicas: 1, ..Options::default() };
        let Some(server) = Server::start_or_skip(Service::Postgres, &options) else { return };
        let runs = RunLimits { lease: Duration::from_secs(2), ..RunLimits::default() };
        let options = PostgresOptions {
            time: Time::Host,
            runs,
            database: DatabaseConfig { connections: 4, ..DatabaseConfig::default() },
            ..PostgresOptions::new(server.url().parse().unwrap())
        };
        let clock = Arc::new(VirtualClock::still());
        let bench = Bench::of(open(&options, clock.clone()).await.unwrap(), clock);
        let user = bench.user();
        let [lost, kept] = [bench.running(&user).await.lease, bench.running(&user).await.lease];
        for lease in [&lost, &kept] {
            bench.append(lease, 1, vec![thought(2), thought(3)], None).await.unwrap();
        }
        let inbox = bench.stores.runs.inbox(&user, 0, 10).await.unwrap();
        // What the standby has by now, and what it never gets.
        let caught_up = "DO $$ BEGIN FOR i IN 1..500 LOOP EXIT WHEN (SELECT count(*) FROM event) = 6; \
             PERFORM pg_sleep(0.02); END LOOP; END $$";
        let schema = format!("SET search_path = {}", options.schema.as_str());
        let cut = ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"];
        tell(&server, "standby1", &[&schema, caught_up]).await;
        tell(&server, "standby1", &cut).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        bench.append(&lost, 3, vec![thought(3), thought(4)], None).await.unwrap();
        server.kill("postgres");
        tell(&server, "standby1", &["SELECT pg_promote(true, 30)"]).await;

        // Who knows more than the server cannot go on, and who does not can.
        let promoted = Instant::now();
        let refused = loop {
            assert!(promoted.elapsed() < Duration::from_secs(20), "nobody takes writes");
            match bench.append(&lost, 5, vec![thought(5)], None).await {
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(refused.kind(), Kind::Conflict, "{refused}");
        bench.append(&kept, 3, vec![thought(5)], None).await.unwrap();
        let now = bench.stores.runs.inbox(&user, 0, 10).await.unwrap();
        assert_ne!(now.epoch, inbox.epoch);
        assert_eq!(now.head, inbox.head);

        bench.pass(2 * runs.lease).await;
        for before in [&lost, &kept] {
            let claimed = bench.claim(bench.node(), 1).await;
            let lease = &claimed[0].lease;
            assert_eq!(lease.run, before.run);
            assert_ne!(lease.epoch, before.epoch);
            let page = bench.stores.runs.read(&user, lease.run, lease.head, 10).await.unwrap();
            assert_eq!((page.epoch, page.oldest), (lease.epoch, lease.head + 1));
            bench.append(lease, lease.head, vec![thought(6)], None).await.unwrap();
        }
        // It is not said again.
        bench.pass(2 * runs.lease).await;
        let again = bench.claim(bench.node(), 2).await;
        let epochs = |run| again.iter().find(|c| c.lease.run == run).unwrap().lease.epoch;
        let page = bench.stores.runs.read(&user, lost.run, 4, 10).await.unwrap();
        assert_eq!(epochs(lost.run), page.epoch);
        assert_eq!(page.oldest, 4, "what was written since is kept");
    }
}
