//! What an error of the driver means.

use super::cluster::Redirect;
use crate::config::DatabaseHost;
use crate::error::{Error, Failure, Kind, Phase};
use redis::{ErrorKind, RedisError};
use std::error::Error as _;
use std::io;
use tokio_rustls::rustls;

/// Why a call failed, so that it can be judged first and told afterwards, also to many.
#[derive(Debug, Clone)]
pub(super) struct Why {
    pub(super) failure: Failure,
    kind: Kind,
    message: String,
    /// Whether the server said so itself: then nothing was done.
    pub(super) said: bool,
    /// The server's word for it, such as `NOSCRIPT`.
    pub(super) code: Option<String>,
    /// Where it is instead.
    pub(super) redirect: Option<Redirect>,
    server: String,
    cause: String,
}

impl Why {
    /// What a call on an open connection came to.
    pub(super) fn of(error: &RedisError, server: &str) -> Self {
        let (failure, said) = match error.kind() {
            ErrorKind::AuthenticationFailed => (Failure::Permission, true),
            ErrorKind::Io => (of_io(error), false),
            _ => match error.code() {
                // A script says "ERR" for everything, and the reason after it.
                Some("ERR") if text(error).contains("-OOM ") => (Failure::Capacity, true),
                Some("ERR") if text(error).contains("-READONLY ") => (Failure::ReadOnly, true),
                Some("ERR") if is_password(error) => (Failure::Permission, true),
                Some(code) => (Failure::of_redis(code), true),
                None => (Failure::Unknown, false),
            },
        };
        let advice = failure.consequence();
        let message = match error.code() {
            Some("OOM") => "Redis is full; raise maxmemory, or look at what fills it",
            Some("WRONGPASS" | "NOAUTH") => {
                "Redis does not take the login; check user and password"
            }
            _ if is_password(error) => "Redis does not take the login; check user and password",
            _ if failure == Failure::Capacity && text(error).contains("OOM") => {
                "Redis is full; raise maxmemory, or look at what fills it"
            }
            _ => advice.advice,
        };
        Self {
            failure,
            kind: advice.kind,
            message: message.to_owned(),
            said,
            code: error.code().map(str::to_owned),
            redirect: redirect(error),
            server: server.to_owned(),
            cause: text(error),
        }
    }

    /// No answer within the limit.
    pub(super) fn silent(server: &str) -> Self {
        let consequence = Failure::Timeout.consequence();
        Self {
            failure: Failure::Timeout,
            kind: consequence.kind,
            message: "Redis did not answer in time; look at its load and its slow log".to_owned(),
            said: false,
            code: None,
            redirect: None,
            server: server.to_owned(),
            cause: "no answer within the limit".to_owned(),
        }
    }

    /// A server that cannot be reached, or does not prove who it is.
    pub(super) fn unreached(error: &io::Error, server: &str) -> Self {
        let (failure, kind, message) = unreached(error);
        Self {
            failure,
            kind,
            message: message.to_owned(),
            said: true,
            code: None,
            redirect: None,
            server: server.to_owned(),
            cause: error.to_string(),
        }
    }

    /// A server that answered, but is not one to use.
    pub(super) fn unfit(failure: Failure, message: &str, server: &str, cause: &str) -> Self {
        Self {
            failure,
            kind: failure.consequence().kind,
            message: message.to_owned(),
            said: true,
            code: None,
            redirect: None,
            server: server.to_owned(),
            cause: cause.to_owned(),
        }
    }

    /// A server that belongs to another environment.
    pub(super) fn foreign(error: &Error, server: &str) -> Self {
        Self {
            kind: Kind::Config,
            ..Self::unfit(Failure::Permission, error.message(), server, "its mark says so")
        }
    }

    /// The error for a caller.
    pub(super) fn error(&self, phase: Phase, operation: &'static str) -> Error {
        if self.failure == Failure::Unknown {
            metrics::counter!("apex_errors_unclassified_total", "operation" => operation)
                .increment(1);
        }
        let phase = if self.said { Phase::BeforeCommit } else { phase };
        Error::new(self.kind, operation, &*self.message)
            .with("redis", &self.server)
            .with_failure(self.failure)
            .with_outcome(self.failure.outcome(phase))
            .with_source(self.cause.clone())
    }
}

/// An answer of another form than ours have.
pub(super) fn garbled(operation: &'static str, what: impl std::fmt::Display) -> Error {
    Error::new(
        Kind::Storage,
        operation,
        "Redis gave an answer that this library does not know; is the prefix shared with something else?",
    )
    .with("answer", what)
    .with_failure(Failure::Schema)
}

fn redirect(error: &RedisError) -> Option<Redirect> {
    let once = error.code() == Some("ASK");
    let (node, _) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    let host = DatabaseHost::Tcp { host: host.to_owned(), port: port.parse().ok()? };
    Some(Redirect { once, host })
}

fn text(error: &RedisError) -> String {
    error.to_string().chars().take(300).collect()
}

/// `ERR AUTH <password> called without any password configured` has no word of its own.
fn is_password(error: &RedisError) -> bool {
    error.code() == Some("ERR") && text(error).contains("AUTH")
}

fn of_io(error: &RedisError) -> Failure {
    let mut cause = error.source();
    while let Some(here) = cause {
        if let Some(io) = here.downcast_ref::<io::Error>() {
            return match Failure::of_io(io.kind()) {
                Failure::Unknown => Failure::Connection,
                known => known,
            };
        }
        cause = here.source();
    }
    Failure::Connection
}

fn unreached(error: &io::Error) -> (Failure, Kind, &'static str) {
    use io::ErrorKind as Io;
    if let Some(refused) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        use rustls::CertificateError as Bad;
        let message = match refused {
            rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
                "the certificate of Redis has run out"
            }
            rustls::Error::InvalidCertificate(
                Bad::NotValidForName | Bad::NotValidForNameContext { .. },
            ) => "the certificate of Redis is another host's",
            rustls::Error::InvalidCertificate(_) => {
                "the certificate of Redis is of no trusted authority; name yours by sslrootcert"
            }
            _ => "Redis does not speak TLS at this address; look at its tls-port",
        };
        return (Failure::Permission, Kind::Storage, message);
    }
    let unreachable = |message| (Failure::Connection, Kind::Unavailable, message);
    match error.kind() {
        Io::ConnectionRefused | Io::NotFound => {
            unreachable("nothing listens where Redis should; check the address and that it runs")
        }
        Io::PermissionDenied => (
            Failure::Permission,
            Kind::Storage,
            "the system does not let this process at the socket of Redis",
        ),
        Io::TimedOut => (
            Failure::Timeout,
            Kind::Unavailable,
            "Redis does not answer; check the address, firewall and load",
        ),
        _ => unreachable("the connection to Redis cannot be made"),
    }
}
