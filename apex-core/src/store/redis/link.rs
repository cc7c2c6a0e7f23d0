//! One connection to one server.

use super::error::Why;
use crate::config::{DatabaseHost, DatabaseUrl, Environment, Secret};
use crate::error::{Failure, Result};
use crate::tls;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, Value,
    from_redis_value,
};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long a connection may be silent before the system looks whether the other side is there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMES: u32 = 3;

/// The oldest version of a server.
const OLDEST: u32 = 7;

/// What every connection is made with.
pub(super) struct Settings {
    user: Option<String>,
    /// The address, which knows the password of now.
    url: DatabaseUrl,
    database: u16,
    tls: Option<TlsConnector>,
    /// How long making one may take.
    pub(super) connect: Duration,
    /// How long an answer may take.
    pub(super) answer: Duration,
    /// Calls under way on one route.
    pub(super) calls: usize,
    /// Where a server says which environment it belongs to.
    pub(super) mark: String,
    pub(super) environment: Environment,
}

impl Settings {
    pub(super) fn new(options: &super::RedisOptions, mark: String) -> Result<Self> {
        let url: &DatabaseUrl = &options.url;
        Ok(Self {
            user: url.user().map(str::to_owned),
            url: url.clone(),
            database: url.database().parse().unwrap_or(0),
            tls: tls::of_database(url)?.map(TlsConnector::from),
            connect: options.connect,
            answer: options.answer,
            calls: options.calls,
            mark,
            environment: options.environment,
        })
    }
}

impl Settings {
    /// How a connection begins. One that hears what is said unasked logs in at once, by the third version of the
    /// protocol: only that tells what was said unasked from an answer.
    fn hello(
        &self,
        hear: Option<Hear>,
        password: Option<&Secret<String>>,
    ) -> (RedisConnectionInfo, AsyncConnectionConfig) {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let mut config = AsyncConnectionConfig::new().set_response_timeout(None);
        if let Some(hear) = hear {
            info = info.set_protocol(ProtocolVersion::RESP3);
            if let Some(password) = password {
                info = info.set_username(self.user.as_deref().unwrap_or("default"));
                info = info.set_password(password.reveal());
            }
            config = config.set_push_sender(move |push: PushInfo| -> Result<(), Failure> {
                hear(push);
                Ok(())
            });
        }
        (info, config)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Hears what a server says unasked; it must not block.
pub(super) type Hear = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// One connection, which many calls share. It is closed when the last of them lets it go.
pub(super) struct Link {
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// Where it leads, for people.
    pub(super) server: String,
}

impl Link {
    /// Connects and logs in.
    pub(super) async fn open(
        host: &DatabaseHost,
        settings: &Settings,
        login: Login,
        hear: Option<Hear>,
    ) -> Result<Self, Why> {
        let server = host.to_string();
        let opening = Self::open_now(host, settings, login, hear, &server);
        match timeout(settings.connect, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Why::unreached(&io::ErrorKind::TimedOut.into(), &server)),
        }
    }

    async fn open_now(
        host: &DatabaseHost,
        settings: &Settings,
        login: Login,
        hear: Option<Hear>,
        server: &str,
    ) -> Result<Self, Why> {
        let unreached = |error: io::Error| Why::unreached(&error, server);
        let password = settings.url.password_now().map_err(|error| {
            Why::unfit(
                Failure::Permission,
                "the file with the password of Redis cannot be read",
                server,
                &error.to_string(),
            )
        })?;
        let (info, config) = settings.hello(hear.clone(), password.as_ref());
        let (connection, driver) = match (host, &settings.tls) {
            (DatabaseHost::Unix(path), _) => {
                let stream = UnixStream::connect(path).await.map_err(unreached)?;
                speak(stream, info, config, server).await?
            }
            (DatabaseHost::Tcp { host, port }, None) => {
                let stream = tcp(host, *port).await.map_err(unreached)?;
                speak(stream, info, config, server).await?
            }
            (DatabaseHost::Tcp { host, port }, Some(tls)) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|error| unreached(io::Error::other(error)))?;
                let stream = tcp(host, *port).await.map_err(unreached)?;
                let stream = tls.connect(name, stream).await.map_err(unreached)?;
                speak(stream, info, config, server).await?
            }
        };
        let link = Self { connection, driver, server: server.to_owned() };
        if hear.is_none() {
            link.log_in(settings, password.as_ref(), login).await?;
        }
        Ok(link)
    }

    async fn log_in(
        &self,
        settings: &Settings,
        password: Option<&Secret<String>>,
        login: Login,
    ) -> Result<(), Why> {
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = settings.user.as_ref().filter(|_| login == Login::Server) {
                auth.arg(user);
            }
            auth.arg(password.reveal());
            match self.ask(&auth).await {
                // A sentinel often has no password of its own.
                Err(_) if login == Login::Sentinel => {}
                done => {
                    done?;
                }
            }
        }
        if settings.database != 0 && login == Login::Server {
            self.ask(redis::cmd("SELECT").arg(settings.database)).await?;
        }
        match login {
            Login::Server => self.check_version().await,
            Login::Sentinel => Ok(()),
        }
    }

    /// Refuses a server before version 7; one that does not let this login ask is taken as it is.
    async fn check_version(&self) -> Result<(), Why> {
        let told = match self.ask(&redis::cmd("HELLO")).await {
            Ok(told) => version(told),
            Err(why) if why.failure == Failure::Permission || !why.said => return Ok(()),
            // Before 6.2 it wants an argument, before 6 it is not known.
            Err(_) => Some("it does not know HELLO".to_owned()),
        };
        let is_old = |told: &String| major(told).is_none_or(|major| major < OLDEST);
        let Some(told) = told.filter(is_old) else {
            return Ok(());
        };
        let message = "this Redis is older than version 7; update it";
        Err(Why::unfit(Failure::Schema, message, &self.server, &told))
    }

    /// Sends a command and waits for its answer, within the limit of whoever connects.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Why> {
        self.send(command).await.map_err(|error| Why::of(&error, &self.server))
    }

    /// Sends a command and waits at most `limit` for its answer. `asking` for a key that is on its way to this node.
    pub(super) async fn call(
        &self,
        command: &Cmd,
        asking: bool,
        limit: Duration,
    ) -> Result<Value, Why> {
        let answer = async {
            if asking { self.send_asking(command).await } else { self.send(command).await }
        };
        match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error| Why::of(&error, &self.server)),
            Err(_) => Err(Why::silent(&self.server)),
        }
    }

    /// Whether it is known to be closed.
    pub(super) fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut connection = self.connection.clone();
        connection.send_packed_command(command).await?.extract_error()
    }

    async fn send_asking(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command.clone());
        let mut connection = self.connection.clone();
        let answer = connection.send_packed_commands(&both, 1, 1).await?;
        answer.into_iter().next().unwrap_or_default().extract_error()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Calls that still wait for an answer hold no link, and see the end of the connection.
        self.driver.abort();
    }
}

/// Whose door it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    Server,
    Sentinel,
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TIMES);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

async fn speak<S>(
    stream: S,
    info: RedisConnectionInfo,
    config: AsyncConnectionConfig,
    server: &str,
) -> Result<(MultiplexedConnection, JoinHandle<()>), Why>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = made.map_err(|error| Why::of(&error, server))?;
    Ok((connection, tokio::spawn(driver)))
}

/// The version in an answer to `HELLO`.
fn version(told: Value) -> Option<String> {
    let told: HashMap<String, Value> = from_redis_value(told).ok()?;
    from_redis_value(told.get("version")?.clone()).ok()
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_a_server_says() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let told = |of: &str| {
            let words = [text("server"), text("redis"), text("version"), text(of), text("proto")];
            Value::Array(words.into_iter().chain([Value::Int(2)]).collect())
        };
        for (of, is_old) in [("6.2.14", true), ("7.0.15", false), ("10.1", false)] {
            let version = version(told(of)).unwrap();
            assert_eq!((version.as_str(), major(&version) < Some(OLDEST)), (of, is_old));
        }
        assert_eq!(version(Value::Okay), None);
    }
}
