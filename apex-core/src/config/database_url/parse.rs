//! Reading an address.

use super::text::{decode, host_and_port};
use super::{
    BadDatabaseUrl, DatabaseHost, DatabaseKind, DatabaseUrl, MAX_HOSTS, RedisTopology, TlsMode, bad,
};
use crate::config::Secret;
use crate::config::report::nearest;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a sentinel listens when nothing is said.
const SENTINEL_PORT: u16 = 26379;

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
        url.password_file = parameters.password_file;
        if url.password.is_some() && url.password_file.is_some() {
            return bad("there is a password and a password_file: leave one out");
        }
        url.application = parameters.application;
        url.topology = parameters.topology;
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
        if self.password.as_ref().is_some_and(|password| password.reveal().is_empty()) {
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
        let remote = named
            .iter()
            .any(|(host, _)| !DatabaseHost::Tcp { host: host.clone(), port: 1 }.is_local());
        let default = if remote { TlsMode::VerifyFull } else { TlsMode::Off };
        self.tls = parameters.tls.or(by_scheme).unwrap_or(default);
        let port = match parameters.topology {
            RedisTopology::Sentinel(_) => SENTINEL_PORT,
            _ => self.kind.port(self.tls),
        };
        let tcp = named
            .into_iter()
            .map(|(host, own)| DatabaseHost::Tcp { host, port: own.unwrap_or(port) });
        self.hosts =
            tcp.chain(parameters.sockets.iter().cloned().map(DatabaseHost::Unix)).collect();
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
            DatabaseKind::Redis
                if self.topology == RedisTopology::Cluster
                    && !matches!(self.database.as_str(), "" | "0") =>
            {
                bad("a Redis Cluster has the database 0 only")
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
    password_file: Option<PathBuf>,
    application: Option<String>,
    topology: RedisTopology,
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
                "password_file" if kind != DatabaseKind::ClickHouse && !value.is_empty() => {
                    parameters.password_file = Some(value.into())
                }
                "application_name" if kind == DatabaseKind::Postgres => {
                    parameters.application = Some(value)
                }
                "sentinel" | "cluster" if kind == DatabaseKind::Redis => {
                    if parameters.topology != RedisTopology::Servers {
                        return bad("the servers are sentinels or a cluster, said once");
                    }
                    parameters.topology = match (name, value.as_str()) {
                        ("sentinel", "") => return bad("sentinel names the primary, and is empty"),
                        ("sentinel", name) => RedisTopology::Sentinel(name.to_owned()),
                        (_, "true") => RedisTopology::Cluster,
                        _ => return bad("cluster is true, or left out"),
                    };
                }
                _ => {
                    let known = [
                        "host",
                        "sslmode",
                        "sslrootcert",
                        "password_file",
                        "application_name",
                        "sentinel",
                        "cluster",
                    ];
                    let hint = nearest(name, known).map(|near| format!("; did you mean {near}?"));
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
        "allow" | "prefer" | "require" | "verify-ca" => {
            bad(format!("sslmode={value} does not verify who answers: use verify-full"))
        }
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
