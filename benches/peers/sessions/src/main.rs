//! Sessions of apex beside a bare connection, sqlx's pool and deadpool's, on a PostgreSQL of its own: what a session
//! costs, how many queries a second 32 tasks get from 4 connections, whether users that contend get their share, and
//! whether critical work gets through an overload.

use apex_core::config::DatabaseUrl;
use apex_core::database::{Database, DatabaseConfig, Priority};
use apex_core::id::UserId;
use apex_core::testkit::sessions::number;
use apex_test_services::{Kind, Options, Proxy, Server};
use futures_util::future::join_all;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

const ROUNDS: usize = 5;
const QUERY: &str = "SELECT 1::int8";
const SLOW: &str = "SELECT 1::int8 FROM pg_sleep(0.005)";

type Problem = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let server = Server::start(Kind::Postgres, &Options::default())?;
    one_after_the_other(&server).await?;
    many_at_once(&server).await?;
    users_that_contend(&server).await?;
    critical_in_an_overload(&server).await?;
    silent_death(&server).await
}

async fn open(address: &str, config: DatabaseConfig) -> Result<Database, Problem> {
    let address: DatabaseUrl = address.parse()?;
    Ok(Database::open(&address, config).await?)
}

async fn apex(server: &Server, connections: usize) -> Result<Database, Problem> {
    let config = DatabaseConfig {
        connections,
        per_user: Some(connections),
        waiting: Some(10_000),
        acquire: Duration::from_secs(60),
        ..DatabaseConfig::default()
    };
    open(server.url(), config).await
}

async fn sqlx_pool(server: &Server, connections: u32) -> Result<sqlx::PgPool, Problem> {
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(connections);
    Ok(options.connect(server.url()).await?)
}

fn deadpool(server: &Server, connections: usize) -> Result<deadpool_postgres::Pool, Problem> {
    let manager = deadpool_postgres::Manager::new(server.url().parse()?, NoTls);
    Ok(deadpool_postgres::Pool::builder(manager).max_size(connections).build()?)
}

async fn ask_sqlx(pool: &sqlx::PgPool) -> Result<(), Problem> {
    let answer: i64 = sqlx::query_scalar(QUERY).fetch_one(pool).await?;
    check(answer)
}

async fn ask_deadpool(pool: &deadpool_postgres::Pool) -> Result<(), Problem> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(QUERY).await?;
    check(client.query_one(&statement, &[]).await?.try_get(0)?)
}

async fn ask_apex(database: &Database) -> Result<(), Problem> {
    check(number(database, None, Priority::Normal, QUERY).await?)
}

fn check(answer: i64) -> Result<(), Problem> {
    if answer == 1 { Ok(()) } else { Err("another answer".into()) }
}

/// The time of one call, the mean of a round.
async fn time<F: Future<Output = Result<(), Problem>>>(
    times: u32,
    call: impl Fn() -> F,
) -> Result<f64, Problem> {
    let began = Instant::now();
    for _ in 0..times {
        call().await?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn one_after_the_other(server: &Server) -> Result<(), Problem> {
    const TIMES: u32 = 5_000;
    let (client, connection) = tokio_postgres::connect(server.url(), NoTls).await?;
    tokio::spawn(connection);
    let statement = client.prepare(QUERY).await?;
    let (database, sqlx, deadpool) =
        (apex(server, 4).await?, sqlx_pool(server, 4).await?, deadpool(server, 4)?);
    let bare = async || check(client.query_one(&statement, &[]).await?.try_get(0)?);
    let mut rounds = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let took = [
            time(TIMES, bare).await?,
            time(TIMES, || ask_apex(&database)).await?,
            time(TIMES, || ask_deadpool(&deadpool)).await?,
            time(TIMES, || ask_sqlx(&sqlx)).await?,
        ];
        // The first one warms up.
        if round > 0 {
            rounds.iter_mut().zip(took).for_each(|(all, one)| all.push(one));
        }
    }
    let [bare, apex, deadpool, sqlx] = rounds.map(median);
    println!("one task, a query: bare {bare:.1} us, apex {apex:.1} ({:+.1}), deadpool-postgres {deadpool:.1} ({:+.1}), sqlx::Pool {sqlx:.1} ({:+.1})", apex - bare, deadpool - bare, sqlx - bare);
    Ok(())
}

/// Queries a second of 32 tasks.
async fn rate<T, F>(
    shared: &T,
    call: impl Fn(T) -> F + Clone + Send + 'static,
) -> Result<f64, Problem>
where
    T: Clone + Send + 'static,
    F: Future<Output = Result<(), Problem>> + Send,
{
    const TASKS: u32 = 32;
    const TIMES: u32 = 500;
    let began = Instant::now();
    let tasks = (0..TASKS).map(|_| {
        let (shared, call) = (shared.clone(), call.clone());
        tokio::spawn(async move {
            for _ in 0..TIMES {
                call(shared.clone()).await?;
            }
            Ok::<(), Problem>(())
        })
    });
    for task in join_all(tasks).await {
        task??;
    }
    Ok(f64::from(TASKS * TIMES) / began.elapsed().as_secs_f64())
}

async fn many_at_once(server: &Server) -> Result<(), Problem> {
    let (database, sqlx, deadpool) =
        (apex(server, 4).await?, sqlx_pool(server, 4).await?, deadpool(server, 4)?);
    let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let took = [
            rate(&database, async |database: Database| ask_apex(&database).await).await,
            rate(&deadpool, async |pool: deadpool_postgres::Pool| ask_deadpool(&pool).await).await,
            rate(&sqlx, async |pool: sqlx::PgPool| ask_sqlx(&pool).await).await,
        ];
        for (all, one) in rounds.iter_mut().zip(took) {
            let one = one?;
            if round > 0 {
                all.push(one);
            }
        }
    }
    let [apex, deadpool, sqlx] = rounds.map(median);
    println!("32 tasks on 4 connections, queries a second: apex {apex:.0}, deadpool-postgres {deadpool:.0}, sqlx::Pool {sqlx:.0}");
    Ok(())
}

async fn users_that_contend(server: &Server) -> Result<(), Problem> {
    const USERS: u64 = 200;
    const EACH: u32 = 20;
    let config = DatabaseConfig {
        connections: 20,
        waiting: Some(10_000),
        acquire: Duration::from_secs(60),
        ..DatabaseConfig::default()
    };
    let database = open(server.url(), config).await?;
    let tasks = (0..USERS).map(|user| {
        let database = database.clone();
        let user = UserId::derived(&[&user.to_be_bytes()]);
        tokio::spawn(async move {
            let began = Instant::now();
            for _ in 0..EACH {
                number(&database, Some(user), Priority::Normal, SLOW).await?;
            }
            Ok::<f64, apex_core::error::Error>(began.elapsed().as_secs_f64())
        })
    });
    let mut took = Vec::new();
    for task in join_all(tasks).await {
        took.push(task??);
    }
    let slowest = took.iter().copied().fold(0.0, f64::max);
    let middle = median(took);
    println!("{USERS} users on 20 connections, {EACH} queries of 5 ms each: median user {middle:.2} s, slowest {slowest:.2} s ({:.2} times)", slowest / middle);
    Ok(())
}

/// Twice as much low work as the connections can do, and a little critical work.
async fn critical_in_an_overload(server: &Server) -> Result<(), Problem> {
    const SECONDS: u64 = 5;
    let config = DatabaseConfig {
        connections: 4,
        waiting: Some(2_000),
        waiting_per_user: 2_000,
        acquire: Duration::from_secs(30),
        ..DatabaseConfig::default()
    };
    let database = Arc::new(open(server.url(), config).await?);
    // What four connections can do.
    let began = Instant::now();
    let alone = (0..400).map(|_| number(&database, None, Priority::Normal, SLOW));
    for answer in join_all(alone).await {
        answer?;
    }
    let capacity = 400.0 / began.elapsed().as_secs_f64();
    let gap = Duration::from_secs_f64(0.5 / capacity);
    let until = Instant::now() + Duration::from_secs(SECONDS);
    let mut ticks = tokio::time::interval(gap);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut tasks = Vec::new();
    for count in 0_u32.. {
        if Instant::now() >= until {
            break;
        }
        ticks.tick().await;
        let priority = if count % 20 == 0 { Priority::Critical } else { Priority::Low };
        let database = Arc::clone(&database);
        tasks.push(tokio::spawn(async move {
            let began = Instant::now();
            let answer = number(&database, None, priority, SLOW).await;
            (priority, answer.is_ok(), began.elapsed().as_secs_f64() * 1e3)
        }));
    }
    let mut of = [Vec::new(), Vec::new()];
    let mut refused = [0, 0];
    for task in tasks {
        let (priority, done, took) = task.await?;
        let which = usize::from(priority == Priority::Critical);
        if done {
            of[which].push(took);
        } else {
            refused[which] += 1;
        }
    }
    let p99 = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[(values.len() * 99 / 100).min(values.len() - 1)]
    };
    let [low, critical] = &mut of;
    println!("overload of 2 ({capacity:.0} queries a second are possible): p99 of critical work {:.0} ms ({} done, {} refused), of low work {:.0} ms ({} done, {} refused)", p99(critical), critical.len(), refused[1], p99(low), low.len(), refused[0]);
    Ok(())
}

/// Every connection dies without a word while idle; new ones work. How long eight queries then take.
async fn silent_death(server: &Server) -> Result<(), Problem> {
    const TIMES: usize = 20;
    let proxy = Proxy::start(server.port())?;
    let config = DatabaseConfig { connections: 4, ..DatabaseConfig::default() };
    let database = open(&server.url_at(proxy.port()), config).await?;
    let mut took = Vec::new();
    for _ in 0..TIMES {
        for answer in join_all((0..4).map(|_| number(&database, None, Priority::Normal, SLOW))).await
        {
            answer?;
        }
        proxy.abandon();
        let began = Instant::now();
        for answer in join_all((0..8).map(|_| number(&database, None, Priority::Normal, SLOW))).await
        {
            answer?;
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let longest = took.iter().copied().fold(0.0, f64::max);
    println!("silent death of all 4 connections, until 8 queries are answered: median {:.0} ms, longest of {TIMES} {longest:.0} ms", median(took));
    Ok(())
}
