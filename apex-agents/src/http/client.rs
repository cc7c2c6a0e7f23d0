//! Requests to one host over connections that are kept for the next one.

use super::connect::Connector;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The connections kept for the next requests, and how long.
const IDLE: usize = 16;
const IDLE_LIFE: Duration = Duration::from_secs(30);

pub(crate) type Body = Full<Bytes>;

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum NoResponse {
    /// There is no connection: the request did not leave.
    Unreachable(String),
    /// Connecting took too long.
    ConnectTimedOut,
    /// The connection broke before a response came.
    Broken(String),
}

pub(crate) struct Client {
    connector: Connector,
    connect: Duration,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: SendRequest<Body>,
    since: Instant,
}

impl Client {
    pub(crate) fn new(connector: Connector, connect: Duration) -> Self {
        Self { connector, connect, idle: Mutex::default() }
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Sends a request. The connection comes back with the response, to be [kept](Self::keep) once its body was read
    /// to the end; dropped before, it is closed.
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, SendRequest<Body>), NoResponse> {
        while let Some(mut connection) = self.take() {
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    // The server had closed it meanwhile, and nothing was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(broken(error.error())),
                },
            }
        }
        let mut connection = self.open().await?;
        let response = connection.send_request(request).await;
        response.map(|response| (response, connection)).map_err(|error| broken(&error))
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, connection: SendRequest<Body>) {
        let since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() >= IDLE {
            idle.remove(0);
        }
        idle.push(Idle { connection, since });
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.since.elapsed() < IDLE_LIFE && !idle.connection.is_closed());
        idle.pop().map(|idle| idle.connection)
    }

    async fn open(&self) -> Result<SendRequest<Body>, NoResponse> {
        let io = timeout(self.connect, self.connector.connect())
            .await
            .map_err(|_| NoResponse::ConnectTimedOut)?
            .map_err(|error| NoResponse::Unreachable(error.to_string()))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|error| broken(&error))?;
        // It ends by itself when its sender and its response are gone.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
        Ok(sender)
    }
}

fn broken(error: &hyper::Error) -> NoResponse {
    NoResponse::Broken(describe(error))
}

/// An error with its causes, which hyper's own text leaves out.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}
