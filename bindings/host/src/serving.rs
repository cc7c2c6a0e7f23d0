use netra_apex::Apex;
use netra_apex::core::error::{Error, Kind, Result};
use parking_lot::Mutex;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;

/// Apex on a listener of its own; dropping it cuts the clients off.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    task: AsyncMutex<Option<JoinHandle<Result<()>>>>,
}

impl Serving {
    pub(crate) async fn begin(apex: Apex, address: SocketAddr) -> Result<Self> {
        let fault = |error: std::io::Error| {
            let told = format!("{address} cannot be listened on; choose another port");
            Error::new(Kind::Unavailable, "host.serve", told).with_source(error)
        };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let (stop, stopped) = oneshot::channel();
        let work = async move { apex.serve(listener, async { drop(stopped.await) }).await };
        Ok(Self {
            address,
            stop: Mutex::new(Some(stop)),
            task: AsyncMutex::new(Some(tokio::spawn(work))),
        })
    }

    /// Where it listens, with the port that a `0` was turned into.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes nobody new, tells clients to come back elsewhere, and waits until they are gone.
    ///
    /// # Errors
    /// What kept it from serving.
    pub async fn stop(&self) -> Result<()> {
        drop(self.stop.lock().take());
        self.ended().await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What kept it from serving.
    pub async fn ended(&self) -> Result<()> {
        let mut task = self.task.lock().await;
        let Some(running) = task.as_mut() else {
            return Ok(());
        };
        let ended = running.await;
        *task = None;
        ended.map_err(|error| {
            Error::internal("host.serve", "the server ended by itself").with_source(error)
        })?
    }
}
