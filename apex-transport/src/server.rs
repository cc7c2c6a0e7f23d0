//! The service on a listener of its own, for hosts that have no HTTP server.

use crate::handshake::PeerAddress;
use crate::service::TransportService;
use apex_core::error::{Error, Kind, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long accepting pauses when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done, then drains: nobody new is accepted, requests under way are answered, WebSocket
/// clients are told to resume elsewhere, and whoever is still there after
/// [`crate::HttpConfig::shutdown_within`] is cut off.
///
/// # Errors
/// `unavailable` when the listener is of no use.
pub async fn serve(
    listener: TcpListener,
    service: TransportService,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    listener.local_addr().map_err(|error| {
        Error::new(Kind::Unavailable, "server.serve", "the listener is closed").with_source(error)
    })?;
    let config = service.gateway().config.http;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.headers_within)
        .max_buf_size(config.header_bytes)
        .max_headers(config.headers)
        .keep_alive(true);
    let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
    // However this function ends, nobody stays behind.
    let cut_off = CancellationToken::new();
    let _guard = cut_off.clone().drop_guard();
    let room = Arc::new(Semaphore::new(config.sockets));
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let peer = stream.peer_addr().ok().map(|peer| PeerAddress(peer.ip()));
        let service = service.for_peer(peer);
        let io = TokioIo::new(stream);
        let connection =
            http.serve_connection(io, TowerToHyperService::new(service)).with_upgrades();
        let (closing, cut_off) = (closing.clone(), cut_off.clone());
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let serving = async {
                tokio::select! {
                    ended = &mut connection => return ended,
                    () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
                }
                connection.await
            };
            match cut_off.run_until_cancelled(serving).await {
                Some(Err(error)) => tracing::debug!(%error, "an HTTP connection ended"),
                Some(Ok(())) => {}
                None => tracing::debug!("an HTTP connection was cut off"),
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
        tracing::warn!("connections were cut off, since they took longer than the shutdown may");
    }
    Ok(())
}

/// The next socket, with its place; a full house leaves the next ones in the system's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a socket keeps its delay");
                }
                return (stream, permit);
            }
            Err(error) => {
                // Mostly a client that is gone already; else the system is out of descriptors.
                tracing::warn!(%error, "a socket could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
