//! The service on a listener of its own, for hosts that have no HTTP server.

use crate::handshake::PeerAddress;
use crate::patience::{Lift, Patient};
use crate::service::TransportService;
#[cfg(feature = "tls")]
use crate::tls::{Look, Tls};
use apex_core::error::{Error, Kind, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long accepting pauses when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients' sockets come from: a [`TcpListener`], or whatever else a host has.
pub trait Listen: Send + Sync + 'static {
    /// One client's socket.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next socket, and the address at its other end where there is one.
    ///
    /// # Errors
    /// Whatever kept it from being accepted; the next call may bring another.
    fn accept(
        &self,
    ) -> impl Future<Output = std::io::Result<(Self::Stream, Option<IpAddr>)>> + Send;

    /// Whether it can be of use.
    ///
    /// # Errors
    /// Why it cannot.
    fn check(&self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    fn check(&self) -> std::io::Result<()> {
        self.local_addr().map(drop)
    }

    async fn accept(&self) -> std::io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps its delay");
        }
        Ok((stream, Some(peer.ip())))
    }
}

/// Serves until `shutdown` is done, then drains: nobody new is accepted, requests under way are answered, WebSocket
/// clients are told to resume elsewhere, and whoever is still there after
/// [`crate::HttpConfig::shutdown_within`] is cut off. So is, at any time, a client that takes nothing of an answer for
/// [`crate::ConnectionConfig::outbound_wait`].
///
/// # Errors
/// `unavailable` when the listener is of no use.
pub async fn serve(
    listener: impl Listen,
    service: TransportService,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    Server::new(listener, service)?.run(shutdown, |stream| async { Some(stream) }).await
}

/// As [`serve`], with TLS. The pair's files are looked at every two seconds: a new pair is shown from the next
/// handshake on and drops no connection, and one that is of no use is an error for the host (in the log, in its
/// alerts and in the health of `listener`) and leaves the last good pair in place.
///
/// # Errors
/// As [`serve`].
#[cfg(feature = "tls")]
pub async fn serve_tls(
    listener: impl Listen,
    service: TransportService,
    tls: Tls,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let gateway = Arc::clone(service.gateway());
    let within = gateway.config.http.headers_within;
    let acceptor = tls.acceptor();
    let server = Server::new(listener, service)?;
    let serving = server.run(shutdown, move |stream| {
        let handshake = acceptor.accept(stream);
        async move {
            match tokio::time::timeout(within, handshake).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
            None
        }
    });
    let health = gateway.observer.health();
    health.observe_certificate(LISTENER, &tls.chain());
    let watching = tls.watch(|news| match news {
        Look::Good => {
            tracing::info!("the listener shows the certificate of its files");
            health.observe_certificate(LISTENER, &tls.chain());
        }
        Look::Refused(error) => {
            health.certificate_failed(LISTENER, &error);
            gateway.observer.errors().record(&error, None);
        }
    });
    tokio::select! {
        served = serving => served,
        () = watching => Ok(()),
    }
}

/// What the listener is called in reports of health.
#[cfg(feature = "tls")]
const LISTENER: &str = "listener";

struct Server<L> {
    listener: L,
    service: TransportService,
    http: http1::Builder,
}

impl<L: Listen> Server<L> {
    fn new(listener: L, service: TransportService) -> Result<Self> {
        listener.check().map_err(|error| {
            Error::new(Kind::Unavailable, "server.serve", "the listener is closed")
                .with_source(error)
        })?;
        let config = service.gateway().config.http;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(config.headers_within)
            .max_buf_size(config.header_bytes)
            .max_headers(config.headers)
            .keep_alive(true);
        Ok(Self { listener, service, http })
    }

    /// Serves what `prepare` makes of each socket; it gives up on one by `None`.
    async fn run<P, F, S>(self, shutdown: impl Future<Output = ()>, prepare: P) -> Result<()>
    where
        P: Fn(Patient<L::Stream>) -> F,
        F: Future<Output = Option<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { listener, service, http } = self;
        let config = service.gateway().config.http;
        let patience = service.gateway().config.connection.outbound_wait;
        let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
        // However this function ends, nobody stays behind.
        let cut_off = CancellationToken::new();
        let _guard = cut_off.clone().drop_guard();
        let room = Arc::new(Semaphore::new(config.sockets));
        let mut shutdown = pin!(shutdown);
        loop {
            let (stream, peer, permit) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accept(&listener, &room) => accepted,
            };
            let (stream, lift) = Patient::new(stream, patience);
            let prepared = prepare(stream);
            let service = service.for_peer(peer.map(PeerAddress));
            let conversation = converse(http.clone(), service, prepared, lift, closing.clone());
            let cut_off = cut_off.clone();
            connections.spawn(async move {
                if cut_off.run_until_cancelled(conversation).await.is_none() {
                    tracing::debug!("an HTTP connection was cut off");
                }
                drop(permit);
            });
        }
        drop(listener);
        service.hub().drain();
        let drained = async {
            connections.close();
            closing.cancel();
            connections.wait().await;
            service.hub().emptied().await;
        };
        if tokio::time::timeout(config.shutdown_within, drained).await.is_err() {
            tracing::warn!(
                "connections were cut off, since they took longer than the shutdown may"
            );
        }
        Ok(())
    }
}

/// One socket's requests, until its client or the server is done.
async fn converse<S>(
    http: http1::Builder,
    service: TransportService,
    prepared: impl Future<Output = Option<S>>,
    lift: Lift,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(Some(stream)) = closing.run_until_cancelled(prepared).await else {
        return;
    };
    let io = TokioIo::new(stream);
    let mut connection =
        pin!(http.serve_connection(io, TowerToHyperService::new(service)).with_upgrades());
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // What is left of the socket is a WebSocket, whose conversation tells a slow reader from a broken line.
    lift.lift();
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

/// The next socket, with its place; a full house leaves the next ones in the system's queue.
async fn accept<L: Listen>(
    listener: &L,
    room: &Arc<Semaphore>,
) -> (L::Stream, Option<IpAddr>, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
            Err(error) => {
                // Mostly a client that is gone already; else the system is out of descriptors.
                tracing::warn!(%error, "a socket could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
