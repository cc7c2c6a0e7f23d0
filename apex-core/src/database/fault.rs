//! What an error of the driver means.

use crate::error::{Error, Failure, Kind, Phase};
use std::error::Error as _;
use std::fmt;
use tokio_postgres::error::DbError;
use tokio_rustls::rustls;

/// The class of an error of a statement.
pub(super) fn failure(error: &tokio_postgres::Error) -> Failure {
    if let Some(reported) = error.as_db_error() {
        return Failure::of_sqlstate(reported.code().code());
    }
    if error.is_closed() {
        return Failure::Connection;
    }
    match io(error) {
        Some(io) => match Failure::of_io(io.kind()) {
            Failure::Unknown => Failure::Connection,
            known => known,
        },
        // What is left is of our own making: a value or a column of another type than the statement's.
        None => Failure::Schema,
    }
}

/// The error of a statement or a commit.
pub(super) fn statement(
    error: &tokio_postgres::Error,
    phase: Phase,
    operation: &'static str,
) -> Error {
    let made = Error::driver(failure(error), phase, operation, Cause::of(error));
    match error.as_db_error() {
        Some(reported) => described(made, reported),
        None => made,
    }
}

/// Why there is no connection, so that it can be told to everyone who waits for one.
#[derive(Debug, Clone)]
pub(super) struct NoConnection {
    pub(super) failure: Failure,
    kind: Kind,
    message: &'static str,
    host: String,
    sqlstate: Option<String>,
    cause: String,
}

impl NoConnection {
    pub(super) fn of(error: &tokio_postgres::Error, host: String) -> Self {
        let sqlstate = error.code().map(|code| code.code().to_owned());
        let (failure, kind, message) = match sqlstate.as_deref() {
            Some("28P01") => {
                (Failure::Permission, Kind::Storage, "the database does not take the password")
            }
            Some("28000") => (
                Failure::Permission,
                Kind::Storage,
                "the database does not let this login in from here; look at pg_hba.conf",
            ),
            Some("3D000") => (
                Failure::Schema,
                Kind::Storage,
                "the server has no such database; make it, or name another one",
            ),
            Some("53300") => (
                Failure::Capacity,
                Kind::Unavailable,
                "the server has no connection left; raise max_connections or lower connections",
            ),
            Some("57P03") => (
                Failure::Connection,
                Kind::Unavailable,
                "the database server starts or stops; try again",
            ),
            Some(code) => {
                let failure = Failure::of_sqlstate(code);
                let consequence = failure.consequence();
                (failure, consequence.kind, consequence.advice)
            }
            None => unreached(error),
        };
        Self { failure, kind, message, host, sqlstate, cause: Cause::of(error).0 }
    }

    /// A server that answered, but is not one to use.
    pub(super) fn refused(
        failure: Failure,
        message: &'static str,
        host: String,
        cause: impl Into<String>,
    ) -> Self {
        let kind = failure.consequence().kind;
        Self { failure, kind, message, host, sqlstate: None, cause: cause.into() }
    }

    /// Whether the server did not take the password.
    pub(super) fn is_of_password(&self) -> bool {
        self.sqlstate.as_deref() == Some("28P01")
    }

    pub(super) fn error(&self, operation: &'static str) -> Error {
        let error = Error::new(self.kind, operation, self.message)
            .with("host", &self.host)
            .with_failure(self.failure)
            .with_source(Cause(self.cause.clone()));
        match &self.sqlstate {
            Some(code) => error.with("sqlstate", code),
            None => error,
        }
    }
}

/// A server that could not be reached, or did not prove who it is.
fn unreached(error: &tokio_postgres::Error) -> (Failure, Kind, &'static str) {
    use std::io::ErrorKind as Io;
    let tls = |message| (Failure::Permission, Kind::Storage, message);
    if let Some(refused) = chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return tls(match refused {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Expired)
            | rustls::Error::InvalidCertificate(rustls::CertificateError::ExpiredContext {
                ..
            }) => "the database server's certificate has run out",
            rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForName)
            | rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForNameContext { .. },
            ) => "the database server's certificate is another host's",
            rustls::Error::InvalidCertificate(_) => {
                "the database server's certificate is of no trusted authority; name yours by sslrootcert"
            }
            _ => "the TLS handshake with the database server failed",
        });
    }
    if let Some(io) = io(error) {
        let unreachable = |message| (Failure::Connection, Kind::Unavailable, message);
        return match io.kind() {
            Io::ConnectionRefused | Io::NotFound => unreachable(
                "nothing listens where the database should; check the address and that it runs",
            ),
            Io::PermissionDenied => (
                Failure::Permission,
                Kind::Storage,
                "the system does not let this process at the database's socket",
            ),
            Io::TimedOut => (
                Failure::Timeout,
                Kind::Unavailable,
                "the database server does not answer; check the address, firewall and load",
            ),
            _ => unreachable("the connection to the database server cannot be made"),
        };
    }
    if error.is_closed() {
        return (
            Failure::Connection,
            Kind::Unavailable,
            "the database server closed the connection while it was made",
        );
    }
    // The driver's own refusals: a server without TLS, an authentication that it does not know, no password.
    tls("the login at the database server failed")
}

fn io(error: &tokio_postgres::Error) -> Option<&std::io::Error> {
    chain(error).find_map(|cause| cause.downcast_ref::<std::io::Error>())
}

/// The error's causes, also those that hide in an error of the operating system.
fn chain(
    error: &tokio_postgres::Error,
) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| next(*cause))
}

fn next<'e>(
    cause: &'e (dyn std::error::Error + 'static),
) -> Option<&'e (dyn std::error::Error + 'static)> {
    match cause.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => cause.source(),
    }
}

fn described(error: Error, reported: &DbError) -> Error {
    let error = error.with("sqlstate", reported.code().code());
    match reported.constraint() {
        Some(constraint) => error.with("constraint", constraint),
        None => error,
    }
}

/// What the driver said, without the details that repeat a row's values.
#[derive(Debug)]
struct Cause(String);

impl Cause {
    fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(reported) = error.as_db_error() {
            return Self(reported.message().to_owned());
        }
        let mut text = error.to_string();
        for cause in chain(error) {
            text += ": ";
            text += &cause.to_string();
        }
        Self(text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}
