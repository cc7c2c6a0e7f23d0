//! The address of a database, parsed and built in one place.
//!
//! | | form |
//! |---|---|
//! | SQLite | `sqlite:PATH`, `sqlite::memory:` |
//! | PostgreSQL | `postgres://USER:PASSWORD@HOST:5432,HOST2:5432/DATABASE?sslmode=verify-full&sslrootcert=PATH`; a Unix socket by `postgres://USER@/DATABASE?host=/var/run/postgresql` |
//! | Redis | `redis://…HOST:6379/0`, with TLS `rediss://`; a Unix socket by `redis:///0?host=/run/redis.sock` |
//! | ClickHouse | `clickhouse://…HOST:8443/DATABASE?sslmode=verify-full` |

use super::{Checks, Environment, FaultCode, Secret};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

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
                    || host
                        .parse::<IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// The address of a database. `Display` and `Debug` never show the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    kind: DatabaseKind,
    user: Option<String>,
    password: Option<Secret<String>>,
    hosts: Vec<DatabaseHost>,
    /// The path of a SQLite file; empty where none was said.
    database: String,
    tls: TlsMode,
    root_certificate: Option<PathBuf>,
    application: Option<String>,
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
            hosts: Vec::new(),
            database: database.into(),
            tls: TlsMode::Off,
            root_certificate: None,
            application: None,
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
        let host = DatabaseHost::Tcp {
            host: host_name(host)?,
            port,
        };
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

    /// The password.
    #[must_use]
    pub fn password(&self) -> Option<&Secret<String>> {
        self.password.as_ref()
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
            !self.is_remote() || self.password.is_some(),
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
        let tcp = self.hosts.iter().filter_map(|host| match host {
            DatabaseHost::Tcp { host, port } if host.contains(':') => {
                Some(format!("[{host}]:{port}"))
            }
            DatabaseHost::Tcp { host, port } => Some(format!("{host}:{port}")),
            DatabaseHost::Unix(_) => None,
        });
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
                if self.tls == TlsMode::Off {
                    "disable"
                } else {
                    "verify-full"
                }
            ));
        }
        if let Some(path) = &self.root_certificate {
            parameters.push(format!(
                "sslrootcert={}",
                encode_path(&path.to_string_lossy())
            ));
        }
        if let Some(name) = &self.application {
            parameters.push(format!("application_name={}", encode(name)));
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

impl FromStr for DatabaseUrl {
    type Err = BadDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, BadDatabaseUrl> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return bad(
                "there is no scheme: begin with sqlite:, postgres://, redis://, rediss:// or clickhouse://",
            );
        };
        if rest.contains('#') {
            return bad("there is a # in it: write %23");
        }
        let (kind, by_scheme) = match scheme {
            "sqlite" => return sqlite(rest),
            "postgres" | "postgresql" => (DatabaseKind::Postgres, None),
            "redis" => (DatabaseKind::Redis, Some(TlsMode::Off)),
            "rediss" => (DatabaseKind::Redis, Some(TlsMode::VerifyFull)),
            "clickhouse" => (DatabaseKind::ClickHouse, None),
            _ => return bad("the scheme is none of sqlite, postgres, redis, rediss, clickhouse"),
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return bad("after the scheme and : comes //");
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let mut url = Self::new(kind, decode(database)?);
        let hosts = url.credentials(authority)?;
        let parameters = Parameters::parse(query, kind)?;
        url.address(hosts, &parameters, by_scheme)?;
        url.root_certificate = parameters.root_certificate;
        url.application = parameters.application;
        url.check_database()?;
        Ok(url)
    }
}

impl DatabaseUrl {
    /// Takes user and password, and leaves the hosts.
    fn credentials<'t>(&mut self, authority: &'t str) -> Result<&'t str, BadDatabaseUrl> {
        let Some((login, hosts)) = authority.rsplit_once('@') else {
            return Ok(authority);
        };
        if login.contains('@') {
            return bad("there are two @ before the path: write %40 for one in the password");
        }
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        self.user = Some(decode(user)?).filter(|user| !user.is_empty());
        self.password = password.map(decode).transpose()?.map(Secret::new);
        if self
            .password
            .as_ref()
            .is_some_and(|password| password.reveal().is_empty())
        {
            return bad("the password is empty: leave out the colon, or give one");
        }
        Ok(hosts)
    }

    fn address(
        &mut self,
        hosts: &str,
        parameters: &Parameters,
        by_scheme: Option<TlsMode>,
    ) -> Result<(), BadDatabaseUrl> {
        let mut named = Vec::new();
        if !hosts.is_empty() {
            for host in hosts.split(',') {
                named.push(host_and_port(host)?);
            }
        }
        if named.is_empty() && parameters.sockets.is_empty() {
            return bad("there is no host, and no socket by ?host=/path");
        }
        if named.len() + parameters.sockets.len() > MAX_HOSTS {
            return bad(format!("more than {MAX_HOSTS} hosts"));
        }
        let remote = named.iter().any(|(host, _)| {
            !DatabaseHost::Tcp {
                host: host.clone(),
                port: 1,
            }
            .is_local()
        });
        let default = if remote {
            TlsMode::VerifyFull
        } else {
            TlsMode::Off
        };
        self.tls = parameters.tls.or(by_scheme).unwrap_or(default);
        let port = self.kind.port(self.tls);
        let tcp = named.into_iter().map(|(host, own)| DatabaseHost::Tcp {
            host,
            port: own.unwrap_or(port),
        });
        self.hosts = tcp
            .chain(parameters.sockets.iter().cloned().map(DatabaseHost::Unix))
            .collect();
        Ok(())
    }

    fn check_database(&self) -> Result<(), BadDatabaseUrl> {
        match self.kind {
            DatabaseKind::Postgres | DatabaseKind::ClickHouse if self.database.is_empty() => {
                bad("there is no database: name it after the host and /")
            }
            DatabaseKind::Postgres if self.database.len() > 63 => {
                bad("the name of the database is longer than 63 bytes")
            }
            DatabaseKind::Redis
                if !self.database.is_empty() && self.database.parse::<u16>().is_err() =>
            {
                bad("a Redis database is a number")
            }
            _ if self.database.contains(['/', '\0']) => {
                bad("the name of the database contains / or NUL")
            }
            _ => Ok(()),
        }
    }
}

/// What may stand after the question mark.
#[derive(Default)]
struct Parameters {
    sockets: Vec<PathBuf>,
    tls: Option<TlsMode>,
    root_certificate: Option<PathBuf>,
    application: Option<String>,
}

impl Parameters {
    fn parse(query: &str, kind: DatabaseKind) -> Result<Self, BadDatabaseUrl> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            match name {
                "host" if kind != DatabaseKind::ClickHouse && value.starts_with('/') => {
                    parameters.sockets.push(value.into());
                }
                "host" => return bad("the parameter host names a Unix socket, an absolute path"),
                "sslmode" if kind != DatabaseKind::Redis => {
                    if parameters.tls.is_some() {
                        return bad("sslmode is there twice");
                    }
                    parameters.tls = Some(tls_mode(&value)?);
                }
                "sslrootcert" if !value.is_empty() => {
                    parameters.root_certificate = Some(value.into())
                }
                "application_name" if kind == DatabaseKind::Postgres => {
                    parameters.application = Some(value)
                }
                _ => {
                    let known = ["host", "sslmode", "sslrootcert", "application_name"];
                    let hint = super::report::nearest(name, known)
                        .map(|near| format!("; did you mean {near}?"));
                    return bad(format!(
                        "there is a parameter that is not known here{}",
                        hint.unwrap_or_default()
                    ));
                }
            }
        }
        Ok(parameters)
    }
}

fn tls_mode(value: &str) -> Result<TlsMode, BadDatabaseUrl> {
    match value {
        "disable" => Ok(TlsMode::Off),
        "verify-full" => Ok(TlsMode::VerifyFull),
        "allow" | "prefer" | "require" | "verify-ca" => bad(format!(
            "sslmode={value} does not verify who answers: use verify-full"
        )),
        _ => bad("sslmode is verify-full or disable"),
    }
}

fn sqlite(rest: &str) -> Result<DatabaseUrl, BadDatabaseUrl> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.contains('?') {
        return bad("a SQLite address has no parameters: write %3F for a ? in the path");
    }
    let path = decode(path)?;
    if path.is_empty() || path.contains('\0') {
        return bad("there is no path: write sqlite:PATH");
    }
    Ok(DatabaseUrl::sqlite(path))
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), BadDatabaseUrl> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, port)) = rest.split_once(']') else {
                return bad("an IPv6 address lacks its ]");
            };
            (
                host,
                port.strip_prefix(':')
                    .or_else(|| (!port.is_empty()).then_some("?")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if text.starts_with('[') && host.parse::<Ipv6Addr>().is_err() {
        return bad("what stands in [] is not an IPv6 address");
    }
    let port = match port {
        None => None,
        Some(port) if port.contains(':') => return bad("an IPv6 address stands in []"),
        Some(port) => match port.parse::<u16>() {
            Ok(0) | Err(_) => return bad("a port is a number from 1 to 65535"),
            Ok(port) => Some(port),
        },
    };
    Ok((host_name(host)?, port))
}

fn host_name(host: &str) -> Result<String, BadDatabaseUrl> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = host.to_ascii_lowercase();
    let numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if host.is_empty() {
        return bad("a host is empty");
    }
    if numeric
        || host.len() > 253
        || !host
            .strip_suffix('.')
            .unwrap_or(&host)
            .split('.')
            .all(label)
    {
        return bad("a host is neither a name nor an address");
    }
    Ok(host)
}

fn decode(text: &str) -> Result<String, BadDatabaseUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            // Two hexadecimal digits fit a byte.
            (Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default())
            }
            _ => return bad("a % is not followed by two hexadecimal digits: write %25"),
        }
    }
    let text =
        String::from_utf8(bytes).or_else(|_| bad("what the % signs stand for is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return bad("there is a control character in it");
    }
    Ok(text)
}

fn encode(text: &str) -> String {
    encode_but(text, |_| false)
}

fn encode_path(text: &str) -> String {
    encode_but(text, |byte| matches!(byte, b'/' | b':'))
}

fn encode_but(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || keep(byte)
    };
    let one = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> DatabaseUrl {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn each_database_is_read() {
        assert_eq!(url("sqlite:apex.db").database(), "apex.db");
        assert_eq!(
            url("sqlite:///var/lib/apex.db").database(),
            "/var/lib/apex.db"
        );
        assert_eq!(url("sqlite::memory:").database(), ":memory:");
        let pg = url(
            "postgres://me:p%40ss%2F@db1.example:5433,[2001:db8::1]/apex?application_name=a%20b",
        );
        assert_eq!(pg.password().unwrap().reveal(), "p@ss/");
        assert_eq!(pg.hosts().len(), 2);
        assert_eq!(
            pg.hosts()[1],
            DatabaseHost::Tcp {
                host: "2001:db8::1".into(),
                port: 5432
            }
        );
        assert_eq!(
            pg.tls(),
            TlsMode::VerifyFull,
            "remote: verified unless said otherwise"
        );
        assert_eq!(
            pg.to_string(),
            "postgres://me:***@db1.example:5433,[2001:db8::1]:5432/apex?sslmode=verify-full&application_name=a%20b"
        );
        assert_eq!(
            url("redis://localhost").hosts()[0],
            DatabaseHost::Tcp {
                host: "localhost".into(),
                port: 6379
            }
        );
        assert_eq!(
            url("rediss://:x@cache.example/2").tls(),
            TlsMode::VerifyFull
        );
        assert_eq!(
            url("redis://cache.example").tls(),
            TlsMode::Off,
            "the scheme says so; the rules refuse it"
        );
        let socket = url("postgres://me@/apex?host=/var/run/postgresql");
        assert!(!socket.is_remote() && socket.tls() == TlsMode::Off);
        assert!(matches!(
            url("clickhouse://h.example/d").hosts()[0],
            DatabaseHost::Tcp { port: 8443, .. }
        ));
    }

    #[test]
    fn bad_addresses_are_refused_without_being_repeated() {
        for text in [
            "",
            "postgres",
            "mysql://h/d",
            "postgres:h/d",
            "postgres://",
            "postgres:///d",
            "postgres://h",
            "postgres://h/",
            "postgres://h:0/d",
            "postgres://h:65536/d",
            "postgres://h:/d",
            "postgres://h:x/d",
            "postgres://u:canary@@h/d",
            "postgres://u:can@ary@h/d",
            "postgres://u:canary#@h/d",
            "postgres://u:canary%@h/d",
            "postgres://u:canary%zz@h/d",
            "postgres://u:@h/d",
            "postgres://u:canary%ff@h/d",
            "postgres://::1/d",
            "postgres://[::1/d",
            "postgres://[::zz]/d",
            "postgres://[::1]5432/d",
            "postgres://h,/d",
            "postgres://-h/d",
            "postgres://h-/d",
            "postgres://h..x/d",
            "postgres://h h/d",
            "postgres://1.2.3/d",
            "postgres://1.2.3.400/d",
            "postgres://h/a/b",
            "postgres://h/d?sslmode=prefer",
            "postgres://h/d?sslmode=require",
            "postgres://h/d?sslmode=allow",
            "postgres://h/d?sslmode=verify-ca",
            "postgres://h/d?sslmode=",
            "postgres://h/d?sslmode=disable&sslmode=verify-full",
            "postgres://h/d?ssl_mode=disable",
            "postgres://h/d?canary=1",
            "postgres://h/d?host=relative",
            "postgres://h/d%00",
            "redis://h/x",
            "redis://h/70000",
            "redis://h?sslmode=disable",
            "clickhouse://h",
            "clickhouse://h/d?host=/x",
            "sqlite:",
            "sqlite:a?mode=ro",
            "sqlite:a%00",
            "sqlite:a#b",
            "redis://",
            "POSTGRES://h/d",
            " postgres://h/d",
            "postgres:/h/d",
            "postgres://u:canary@/d",
            "postgres://u@:5432/d",
        ] {
            let error = text.parse::<DatabaseUrl>().expect_err(text);
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        let long = format!("postgres://{}/d", vec!["h"; 17].join(","));
        assert!(long.parse::<DatabaseUrl>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_built_reads_back(user in "\\PC{1,12}", password in "\\PC{1,24}", database in "[^/\\p{C}]{1,12}", port in 1_u16..) {
            let built = DatabaseUrl::new(DatabaseKind::Postgres, database.clone())
                .with_user(user.clone())
                .with_password(Secret::new(password.clone()))
                .with_host("2001:db8::7", port).unwrap()
                .with_host("db.example", port).unwrap();
            let read: DatabaseUrl = built.reveal().reveal().parse().unwrap();
            prop_assert_eq!(read.user(), Some(user.as_str()));
            prop_assert_eq!(read.password().unwrap().reveal(), &password);
            prop_assert_eq!(read.database(), database.as_str());
            prop_assert_eq!(read.hosts(), built.hosts());
            prop_assert_eq!(read.tls(), TlsMode::VerifyFull);
            prop_assert!(password.len() < 4 || user.contains(&password) || database.contains(&password) || !built.to_string().contains(&password));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,60}", tail in "[a-z:/@?&=%#\\[\\],.0-9]{0,40}") {
            let _ = text.parse::<DatabaseUrl>();
            for scheme in ["postgres://", "redis://", "sqlite:", "clickhouse://"] {
                if let Ok(url) = format!("{scheme}{tail}").parse::<DatabaseUrl>() {
                    let again: DatabaseUrl = url.reveal().reveal().parse().unwrap();
                    prop_assert_eq!(again.to_string(), url.to_string());
                }
            }
        }
    }
}
