//! One connection, made and set up.

use super::config::DatabaseConfig;
use super::fault::NoConnection;
use super::tls::Tls;
use crate::config::{DatabaseHost, DatabaseUrl};
use crate::error::{Error, Failure, Kind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, NoTls, SimpleQueryMessage, Socket, Statement};

/// How long a connection that is dropped may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// How soon a password that was refused is read again from its file.
const REREAD: Duration = Duration::from_millis(200);

/// How long a request to cancel may take.
const CANCEL: Duration = Duration::from_millis(500);

/// The prepared statements that a connection keeps; far more than there are.
const STATEMENTS: usize = 1_024;

/// How much later the server ends a transaction that went past its limit: it does so without a word to who holds it.
const SECOND_LINE: Duration = Duration::from_secs(1);

/// The oldest server, as `server_version_num` says it.
const OLDEST: u32 = 150_000;

/// Process ids are used again, so the time at which each began goes with them.
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     JOIN unnest($1::int4[], $2::text[]) AS other (pid, started) USING (pid) \
     WHERE extract(epoch FROM backend_start)::text = other.started";

/// How to connect to the hosts of an address.
pub(super) struct Target {
    url: DatabaseUrl,
    hosts: Vec<(tokio_postgres::Config, String)>,
    tls: Option<Tls>,
    connect: Duration,
    setup: String,
    /// What every connection that may write says first, once that is known.
    greeting: OnceLock<&'static str>,
}

impl Target {
    pub(super) fn new(
        url: &DatabaseUrl,
        config: &DatabaseConfig,
        schema: Option<&str>,
    ) -> Result<Self> {
        let refused = |what: &str| Error::new(Kind::Config, "database.open", what);
        let Some(user) = url.user() else {
            return Err(refused("the address of the database names no user"));
        };
        let tls = Tls::of(url)?;
        let mut common = tokio_postgres::Config::new();
        common
            .user(user)
            .dbname(url.database())
            .application_name(url.application().unwrap_or("apex"))
            .ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(30));
        let hosts = url.hosts().iter().map(|host| {
            let mut config = common.clone();
            let name = match host {
                DatabaseHost::Tcp { host, port } => {
                    config.host(host).port(*port);
                    format!("{host}:{port}")
                }
                DatabaseHost::Unix(folder) => {
                    config.host_path(folder).port(5432);
                    folder.display().to_string()
                }
            };
            (config, name)
        });
        let hosts: Vec<_> = hosts.collect();
        if hosts.is_empty() {
            return Err(refused("the address of the database names no host"));
        }
        let (url, setup) = (url.clone(), setup(config, schema));
        let greeting = OnceLock::new();
        Ok(Self { url, hosts, tls, connect: config.connect, setup, greeting })
    }

    /// Has every connection to come that may write say this before anything else.
    pub(super) fn greet_with(&self, sql: &'static str) {
        // The first one stays: there is one.
        let _ = self.greeting.set(sql);
    }

    /// How many hosts there are.
    pub(super) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Connects to one host and sees that it is one to use: TLS as asked for, and, with `writes`, taking writes.
    pub(super) async fn connect(
        &self,
        host: usize,
        writes: bool,
    ) -> Result<(Connection, Messages), NoConnection> {
        let Some((config, name)) = self.hosts.get(host) else {
            return Err(NoConnection::refused(
                Failure::Connection,
                "there is no such host",
                String::new(),
                "",
            ));
        };
        let began = Instant::now();
        let made = match timeout(self.connect, self.open(config, name, host, writes)).await {
            Ok(made) => made,
            Err(_) => Err(NoConnection::refused(
                Failure::Timeout,
                "the database server does not answer in time; check the address, firewall and load",
                name.clone(),
                format!("no connection within {:?}", self.connect),
            )),
        };
        match &made {
            Ok(_) => metrics::histogram!("apex_database_connect_seconds").record(began.elapsed()),
            Err(failed) => {
                let failure = format!("{:?}", failed.failure).to_lowercase();
                metrics::counter!("apex_database_connect_failures_total", "failure" => failure)
                    .increment(1);
            }
        }
        made
    }

    async fn open(
        &self,
        config: &tokio_postgres::Config,
        name: &str,
        host: usize,
        writes: bool,
    ) -> Result<(Connection, Messages), NoConnection> {
        let failed = |error: tokio_postgres::Error| NoConnection::of(&error, name.to_owned());
        let (client, task, messages, gone) = match self.log_in(config, name).await {
            // A password that was changed just now: the old one was read, or the file was behind the server.
            Err(error) if error.is_of_password() && self.url.password_file().is_some() => {
                sleep(REREAD).await;
                self.log_in(config, name).await?
            }
            made => made?,
        };
        let mut connection = Connection {
            client,
            task,
            tls: self.tls.clone(),
            statements: Mutex::default(),
            server: Server { host, pid: 0, started: String::new() },
            _gone: gone,
        };
        let answers = connection.client.simple_query(&self.setup).await.map_err(failed)?;
        let told = Told::read(&answers).ok_or_else(|| {
            NoConnection::refused(
                Failure::Unknown,
                "what answers is not PostgreSQL as it should be",
                name.to_owned(),
                "the answer to the first query cannot be read",
            )
        })?;
        if let Some(refused) = told.refuse(self.tls.is_some(), writes) {
            let (failure, message) = refused;
            return Err(NoConnection::refused(failure, message, name.to_owned(), ""));
        }
        if let Some(greeting) = self.greeting.get().filter(|_| writes) {
            // Sessions only read by themselves.
            let greeting = format!("BEGIN READ WRITE; {greeting}; COMMIT");
            connection.client.batch_execute(&greeting).await.map_err(failed)?;
        }
        connection.server = Server { host, pid: told.pid, started: told.started };
        Ok((connection, messages))
    }

    /// Connects and logs in by the password of now.
    async fn log_in(
        &self,
        config: &tokio_postgres::Config,
        name: &str,
    ) -> Result<Driven, NoConnection> {
        let failed = |error: tokio_postgres::Error| NoConnection::of(&error, name.to_owned());
        let mut config = config.clone();
        match self.url.password_now() {
            Ok(Some(password)) => drop(config.password(password.reveal().as_bytes())),
            Ok(None) => {}
            Err(error) => {
                return Err(NoConnection::refused(
                    Failure::Permission,
                    "the file with the password of the database cannot be read",
                    name.to_owned(),
                    error.to_string(),
                ));
            }
        }
        Ok(match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(failed)?;
                drive(client, connection)
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                drive(client, connection)
            }
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hosts.iter().map(|(_, name)| name)).finish()
    }
}

/// What the server says by itself: the notifications.
pub(super) type Messages = tokio::sync::mpsc::Receiver<tokio_postgres::Notification>;

/// A connection whose bytes are moved: by which task, what the server says by itself, and what ends it when dropped.
type Driven = (Client, AbortHandle, Messages, oneshot::Sender<()>);

/// Moves the bytes of a connection on a task of its own.
fn drive<T>(client: Client, mut connection: tokio_postgres::Connection<Socket, T>) -> Driven
where
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    let (gone, goodbye) = oneshot::channel::<()>();
    // Only a listener gets notifications, and it always reads; what it cannot take it looks up by itself.
    let (notify, messages) = tokio::sync::mpsc::channel(1_024);
    let task = tokio::spawn(async move {
        let mut run = std::pin::pin!(async move {
            loop {
                let next = std::future::poll_fn(|context| connection.poll_message(context)).await;
                match next {
                    Some(Ok(tokio_postgres::AsyncMessage::Notification(notification))) => {
                        let _ = notify.try_send(notification);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a database connection ended");
                        return;
                    }
                    None => return,
                }
            }
        });
        tokio::select! {
            () = &mut run => {}
            _ = goodbye => {
                let _ = timeout(GOODBYE, run).await;
            }
        }
    });
    (client, task.abort_handle(), messages, gone)
}

/// A connection. Dropping it says goodbye to the server.
pub(super) struct Connection {
    pub(super) client: Client,
    task: AbortHandle,
    tls: Option<Tls>,
    statements: Mutex<HashMap<(usize, usize), Statement>>,
    pub(super) server: Server,
    _gone: oneshot::Sender<()>,
}

/// Who serves a connection.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// Its place among the hosts of the address.
    pub(super) host: usize,
    /// The server's process.
    pub(super) pid: i32,
    /// When that process began: process ids are used again.
    pub(super) started: String,
}

impl Connection {
    /// A statement that is prepared once, and whether it was prepared before.
    pub(super) async fn prepared(
        &self,
        sql: &'static str,
    ) -> Result<(Statement, bool), tokio_postgres::Error> {
        let key = (sql.as_ptr() as usize, sql.len());
        if let Some(statement) = self.statements.lock().get(&key) {
            return Ok((statement.clone(), true));
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.lock();
        if statements.len() >= STATEMENTS {
            statements.clear();
        }
        statements.insert(key, statement.clone());
        Ok((statement, false))
    }

    /// Ends the server's processes of other connections, should they still be there: a process whose client has gone
    /// without a word keeps its transaction and its locks.
    pub(super) async fn end_others(&self, others: &[Server]) -> Result<(), tokio_postgres::Error> {
        let pids: Vec<i32> = others.iter().map(|other| other.pid).collect();
        let started: Vec<&str> = others.iter().map(|other| other.started.as_str()).collect();
        let (statement, _) = self.prepared(END).await?;
        self.client.execute(&statement, &[&pids, &started]).await.map(drop)
    }

    /// Asks the server to stop what this connection does. It may come too late and hit what comes next, so the
    /// connection is not used again.
    pub(super) fn canceller(&self) -> Canceller {
        Canceller { token: self.client.cancel_token(), tls: self.tls.clone() }
    }

    /// Ends it at once, whatever is under way. The statements that wait for an answer fail.
    pub(super) fn kill(&self) {
        self.task.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}

/// The right to cancel what a connection does.
pub(super) struct Canceller {
    token: CancelToken,
    tls: Option<Tls>,
}

impl Canceller {
    pub(super) async fn cancel(self) {
        let sent = async {
            match self.tls {
                Some(tls) => self.token.cancel_query(tls).await,
                None => self.token.cancel_query(NoTls).await,
            }
        };
        match timeout(CANCEL, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
            Err(_) => tracing::debug!("a statement could not be cancelled in time"),
        }
    }
}

/// Asks who answers, and then sets the limits that the server keeps. Statements outside a transaction only read:
/// writes open one that says so.
fn setup(config: &DatabaseConfig, schema: Option<&str>) -> String {
    let settings = [
        ("statement_timeout", config.statement),
        ("lock_timeout", config.lock),
        ("idle_in_transaction_session_timeout", config.transaction + SECOND_LINE),
        ("transaction_timeout", config.transaction + SECOND_LINE),
    ];
    let mut sql = String::from(
        "SELECT pg_backend_pid(), extract(epoch FROM backend_start), \
         current_setting('server_version_num'), pg_is_in_recovery() \
         OR current_setting('transaction_read_only')::bool, coalesce(ssl, false) \
         FROM pg_stat_get_activity(pg_backend_pid());\
         SET default_transaction_read_only = on; SET TimeZone = 'UTC';",
    );
    if let Some(schema) = schema {
        sql += &format!("SET search_path = \"{}\";", schema.replace('"', "\"\""));
    }
    for (name, limit) in settings {
        // transaction_timeout is there from version 17.
        sql += &format!(
            "SELECT set_config('{name}', '{}', false) \
             WHERE current_setting('{name}', true) IS NOT NULL;",
            limit.as_millis().max(1)
        );
    }
    // A server that cannot do it says so by an error: then a long statement of a dead client goes on.
    sql += "DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '5s', false); \
            EXCEPTION WHEN OTHERS THEN NULL; END $$";
    sql
}

/// What a server says of itself.
struct Told {
    pid: i32,
    started: String,
    version: u32,
    reads_only: bool,
    encrypted: bool,
}

impl Told {
    fn read(answers: &[SimpleQueryMessage]) -> Option<Self> {
        let row = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })?;
        let column = |index: usize| row.try_get(index).ok().flatten();
        Some(Self {
            pid: column(0)?.parse().ok()?,
            started: column(1)?.to_owned(),
            version: column(2)?.parse().ok()?,
            reads_only: column(3)? == "t",
            encrypted: column(4)? == "t",
        })
    }

    fn refuse(&self, tls: bool, writes: bool) -> Option<(Failure, &'static str)> {
        if self.version < OLDEST {
            return Some((Failure::Schema, "the server is older than PostgreSQL 15; update it"));
        }
        if tls && !self.encrypted {
            return Some((
                Failure::Permission,
                "the connection to the database server is not encrypted by that server",
            ));
        }
        if writes && self.reads_only {
            return Some((Failure::ReadOnly, "the database server takes no writes"));
        }
        None
    }
}
