//! One HTTP request on a connection of its own.

use super::dial::{Dial, Stream, Tcp};
use apex_core::error::{Error, ErrorReport, Kind, Result};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;

const OPERATION: &str = "client.http";

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// Where a service is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) authority: String,
    address: String,
    prefix: String,
    pub(super) dial: Arc<dyn Dial>,
}

impl Place {
    /// Reads `http://host[:port][/prefix]`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                Kind::BadRequest,
                OPERATION,
                "the address of the service must be like http://127.0.0.1:8000 or http://host/prefix",
            )
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            authority: authority.as_str().to_owned(),
            address: format!("{}:{port}", authority.host()),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            dial: Arc::new(Tcp),
        })
    }

    pub(super) fn path(&self, route: &str) -> String {
        format!("{}{route}", self.prefix)
    }

    pub(super) async fn dial(&self) -> Result<Box<dyn Stream>> {
        tokio::time::timeout(CONNECT, self.dial.dial(&self.address))
            .await
            .map_err(|_| unreachable())?
            .map_err(|error| unreachable().with_source(error))
    }

    /// Sends a request to a route; the body of the answer is still to be read. An answer that is no success is an
    /// error of the catalogue.
    pub(super) async fn send<B>(
        &self,
        route: &str,
        request: http::request::Builder,
        body: B,
        within: Duration,
    ) -> Result<Response<Incoming>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let host = HeaderValue::from_str(&self.authority)
            .map_err(|_| Error::internal(OPERATION, "a host that is no header value"))?;
        let request: Request<_> =
            request.uri(self.path(route)).header(HOST, host).body(body.boxed_unsync()).map_err(
                |error| {
                    Error::new(Kind::BadRequest, OPERATION, "the request is malformed")
                        .with("cause", error)
                },
            )?;
        let io = TokioIo::new(self.dial().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(|error| unreachable().with_source(error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a request's connection ended");
            }
        });
        let response = tokio::time::timeout(within, sender.send_request(request))
            .await
            .map_err(|_| unreachable())?
            .map_err(|error| unreachable().with_source(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = collect(response.into_body(), 64 * 1024).await.unwrap_or_default();
        Err(error_of(status, &body))
    }
}

/// The whole body, of at most `limit` bytes.
pub(super) async fn collect(body: Incoming, limit: usize) -> Result<Bytes> {
    let reading = Limited::new(body, limit).collect();
    match tokio::time::timeout(ANSWER, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(Error::new(
            Kind::Unavailable,
            OPERATION,
            "the answer broke off or is larger than expected",
        )
        .with_source(error)),
        Err(_) => Err(unreachable()),
    }
}

/// The error that an answer carries, or one that fits its status.
pub(super) fn error_of(status: u16, body: &[u8]) -> Error {
    match serde_json::from_slice::<ErrorReport>(body) {
        Ok(report) => error_from(report),
        Err(_) => {
            let kind = match status {
                400 => Kind::BadRequest,
                401 => Kind::Unauthenticated,
                403 => Kind::Forbidden,
                404 => Kind::NotFound,
                409 => Kind::Conflict,
                413 => Kind::TooLarge,
                429 => Kind::RateLimited,
                _ => Kind::Unavailable,
            };
            let message = format!("the service, or something before it, answered {status}");
            Error::new(kind, OPERATION, message)
        }
    }
}

/// An error as it was reported.
pub(super) fn error_from(report: ErrorReport) -> Error {
    let named = |kind: &&Kind| kind.row().code == report.code;
    let kind = Kind::ALL.iter().find(named).copied();
    let mut error = Error::new(kind.unwrap_or(Kind::Unavailable), "client.call", report.message);
    if let Some(correlation) = report.correlation {
        error = error.with_correlation(correlation);
    }
    match report.retry_after_ms {
        Some(after) => error.with_retry_after(Duration::from_millis(after)),
        None => error,
    }
}

pub(super) fn unreachable() -> Error {
    Error::new(
        Kind::Unavailable,
        OPERATION,
        "the service does not answer; is it running, and is the address right?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let place = Place::parse("http://localhost/apex/").unwrap();
        assert_eq!(place.path("/ws"), "/apex/ws");
        assert_eq!(place.address, "localhost:80");
        for bad in ["", "localhost", "https://a", "http://a?x=1", "ws://a", "/x"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_that_is_not_ours_is_still_an_error_of_the_catalogue() {
        assert_eq!(error_of(404, b"<html>").kind(), Kind::NotFound);
        assert_eq!(error_of(502, b"").kind(), Kind::Unavailable);
        assert_eq!(error_of(418, b"").kind(), Kind::Unavailable);
    }
}
