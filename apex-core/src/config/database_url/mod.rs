//! The address of a database, parsed and built in one place.
//!
//! | | form |
//! |---|---|
//! | SQLite | `sqlite:PATH`, `sqlite::memory:` |
//! | PostgreSQL | `postgres://USER:PASSWORD@HOST:5432,HOST2:5432/DATABASE?sslmode=verify-full&sslrootcert=PATH`; a Unix socket by `postgres://USER@/DATABASE?host=/var/run/postgresql` |
//! | Redis | `redis://…HOST:6379/0`, with TLS `rediss://`; a Unix socket by `redis:///0?host=/run/redis.sock` |
//! | Redis Sentinel | `redis://…SENTINEL:26379,SENTINEL2:26379/0?sentinel=NAME`, by the name of the primary |
//! | Redis Cluster | `redis://…HOST:6379,HOST2:6379/0?cluster=true`, some of its nodes |
//! | a password that changes | `…?password_file=PATH` (PostgreSQL, Redis): read for every new connection |
//! | ClickHouse | `clickhouse://…HOST:8443/DATABASE?sslmode=verify-full` |

mod parse;
mod text;

use super::{Checks, Environment, FaultCode, Secret};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use text::{encode, encode_path, host_name};

/// The hosts of one address, at most.
const MAX_HOSTS: usize = 16;

/// Which database an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// A file, or memory.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// Redis, and what speaks like it.
    Redis,
    /// ClickHouse, by HTTP.
    ClickHouse,
}

impl DatabaseKind {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::ClickHouse => "clickhouse",
        }
    }

    /// The port where none is said.
    const fn port(self, tls: TlsMode) -> u16 {
        match (self, tls) {
            (Self::Sqlite, _) => 0,
            (Self::Postgres, _) => 5432,
            (Self::Redis, _) => 6379,
            (Self::ClickHouse, TlsMode::Off) => 8123,
            (Self::ClickHouse, TlsMode::VerifyFull) => 8443,
        }
    }
}

/// How several Redis servers belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum RedisTopology {
    /// The hosts are servers, of which one takes writes.
    #[default]
    Servers,
    /// The hosts are sentinels, which know the server that takes writes by this name.
    Sentinel(String),
    /// The hosts are some nodes of a cluster, which know the others.
    Cluster,
}

/// How a connection is protected. There is nothing between: a mode that encrypts without knowing to whom, or falls
/// back to plain text, protects from nobody who stands in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Plain.
    Off,
    /// Encrypted, with the server's certificate and name verified; a server that offers no TLS is an error.
    VerifyFull,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatabaseHost {
    /// By network.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// By a Unix socket; for PostgreSQL the folder of the socket.
    Unix(PathBuf),
}

impl DatabaseHost {
    /// Whether the traffic stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost"
                    || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// For people, as in an address.
impl fmt::Display for DatabaseHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The address of a database. `Display` and `Debug` never show the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    kind: DatabaseKind,
    user: Option<String>,
    password: Option<Secret<String>>,
    password_file: Option<PathBuf>,
    hosts: Vec<DatabaseHost>,
    /// The path of a SQLite file; empty where none was said.
    database: String,
    tls: TlsMode,
    root_certificate: Option<PathBuf>,
    application: Option<String>,
    topology: RedisTopology,
}

/// Why a text is not the address of a database; it does not repeat the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadDatabaseUrl(String);

impl fmt::Display for BadDatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadDatabaseUrl {}

fn bad<T>(problem: impl Into<String>) -> Result<T, BadDatabaseUrl> {
    Err(BadDatabaseUrl(problem.into()))
}

impl DatabaseUrl {
    /// The format of a schema that describes one.
    pub(super) const FORMAT: &'static str = "database-url";

    /// A SQLite file.
    #[must_use]
    pub fn sqlite(path: impl Into<String>) -> Self {
        Self::new(DatabaseKind::Sqlite, path)
    }

    /// A database on servers, without a host yet. A host that is not on this machine turns verified TLS on.
    #[must_use]
    pub fn new(kind: DatabaseKind, database: impl Into<String>) -> Self {
        Self {
            kind,
            user: None,
            password: None,
            password_file: None,
            hosts: Vec::new(),
            database: database.into(),
            tls: TlsMode::Off,
            root_certificate: None,
            application: None,
            topology: RedisTopology::default(),
        }
    }

    /// Who logs in; any characters.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password; any characters.
    #[must_use]
    pub fn with_password(mut self, password: Secret<String>) -> Self {
        self.password = Some(password);
        self
    }

    /// One more server.
    ///
    /// # Errors
    /// A name that is none, port 0, or more than 16 servers.
    pub fn with_host(mut self, host: &str, port: u16) -> Result<Self, BadDatabaseUrl> {
        let host = DatabaseHost::Tcp { host: host_name(host)?, port };
        if port == 0 {
            return bad("the port is 0");
        }
        if self.hosts.len() >= MAX_HOSTS {
            return bad(format!("more than {MAX_HOSTS} hosts"));
        }
        if !host.is_local() {
            self.tls = TlsMode::VerifyFull;
        }
        self.hosts.push(host);
        Ok(self)
    }

    /// A Unix socket instead of a network.
    #[must_use]
    pub fn with_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.hosts.push(DatabaseHost::Unix(path.into()));
        self
    }

    /// Sets the protection.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsMode) -> Self {
        self.tls = tls;
        self
    }

    /// Says how several Redis servers belong together.
    #[must_use]
    pub fn with_topology(mut self, topology: RedisTopology) -> Self {
        self.topology = topology;
        self
    }

    /// Which database.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// Who logs in.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, where the address has it itself.
    #[must_use]
    pub fn password(&self) -> Option<&Secret<String>> {
        self.password.as_ref()
    }

    /// The file that has the password instead.
    #[must_use]
    pub fn password_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    /// The password of now: the address's, or what is in its file, without the end of the line.
    ///
    /// # Errors
    /// The file cannot be read.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn password_now(&self) -> std::io::Result<Option<Secret<String>>> {
        let Some(path) = &self.password_file else {
            return Ok(self.password.clone());
        };
        // A line on this machine: reading it takes no longer than asking for a thread to read it.
        let text = zeroize::Zeroizing::new(std::fs::read_to_string(path)?);
        Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
    }

    /// Where it listens, in order of preference; empty for SQLite.
    #[must_use]
    pub fn hosts(&self) -> &[DatabaseHost] {
        &self.hosts
    }

    /// The name of the database, the number for Redis, the path for SQLite (`:memory:` for none).
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The protection.
    #[must_use]
    pub fn tls(&self) -> TlsMode {
        self.tls
    }

    /// The file of the authority that signs the servers' certificates, where it is not one of the system's.
    #[must_use]
    pub fn root_certificate(&self) -> Option<&Path> {
        self.root_certificate.as_deref()
    }

    /// How several Redis servers belong together.
    #[must_use]
    pub fn topology(&self) -> &RedisTopology {
        &self.topology
    }

    /// What the connections are called in the server's views.
    #[must_use]
    pub fn application(&self) -> Option<&str> {
        self.application.as_deref()
    }

    /// Whether any server is on another machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.hosts.iter().any(|host| !host.is_local())
    }

    /// The whole text, password included, for the driver.
    #[must_use]
    pub fn reveal(&self) -> Secret<String> {
        Secret::new(self.text(|password| encode(password.reveal())))
    }

    /// Judges the address under `key`: outside development a remote database needs verified TLS, and has a
    /// password.
    pub fn check(&self, checks: &mut Checks<'_>, key: &str) {
        checks.require_outside_development(
            &[key],
            !self.is_remote() || self.tls == TlsMode::VerifyFull,
            FaultCode::Insecure,
            "a remote database without verified TLS",
            "use sslmode=verify-full (rediss:// for Redis), with sslrootcert where the authority is your own",
        );
        checks.require_outside_development(
            &[key],
            !self.is_remote() || self.password.is_some() || self.password_file.is_some(),
            FaultCode::Insecure,
            "a remote database without a password",
            "give it one, from a secret file",
        );
        checks.require(
            &[key],
            checks.environment() == Environment::Development || self.database != ":memory:",
            FaultCode::Insecure,
            "a database in memory forgets everything at the end of the process",
            "name a file or a server",
        );
    }

    fn text(&self, password: impl Fn(&Secret<String>) -> String) -> String {
        if self.kind == DatabaseKind::Sqlite {
            return format!("sqlite:{}", encode_path(&self.database));
        }
        let secure = self.kind == DatabaseKind::Redis && self.tls == TlsMode::VerifyFull;
        let mut text = format!("{}{}://", self.kind.scheme(), if secure { "s" } else { "" });
        if self.user.is_some() || self.password.is_some() {
            text += &encode(self.user.as_deref().unwrap_or_default());
            if let Some(secret) = &self.password {
                text += ":";
                text += &password(secret);
            }
            text += "@";
        }
        let is_tcp = |host: &&DatabaseHost| matches!(host, DatabaseHost::Tcp { .. });
        let tcp = self.hosts.iter().filter(is_tcp).map(DatabaseHost::to_string);
        text += &tcp.collect::<Vec<_>>().join(",");
        text += "/";
        text += &encode(&self.database);
        let mut parameters = Vec::new();
        for host in &self.hosts {
            if let DatabaseHost::Unix(path) = host {
                parameters.push(format!("host={}", encode_path(&path.to_string_lossy())));
            }
        }
        if self.kind != DatabaseKind::Redis {
            parameters.push(format!(
                "sslmode={}",
                if self.tls == TlsMode::Off { "disable" } else { "verify-full" }
            ));
        }
        if let Some(path) = &self.root_certificate {
            parameters.push(format!("sslrootcert={}", encode_path(&path.to_string_lossy())));
        }
        if let Some(path) = &self.password_file {
            parameters.push(format!("password_file={}", encode_path(&path.to_string_lossy())));
        }
        if let Some(name) = &self.application {
            parameters.push(format!("application_name={}", encode(name)));
        }
        match &self.topology {
            RedisTopology::Servers => {}
            RedisTopology::Sentinel(name) => parameters.push(format!("sentinel={}", encode(name))),
            RedisTopology::Cluster => parameters.push("cluster=true".to_owned()),
        }
        if !parameters.is_empty() {
            text += "?";
            text += &parameters.join("&");
        }
        text
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(|_| "***".to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = zeroize::Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for DatabaseUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DatabaseUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": Self::FORMAT, "writeOnly": true})
    }
}
