//! Who may have a session: decided before the pool of connections.

use super::access::Access;
use super::config::DatabaseConfig;
use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Gives out the places.
#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    wait: Duration,
}

/// The right to one connection; dropping it gives it to who is next.
#[derive(Debug)]
pub(super) struct Place(#[allow(dead_code)] OwnedSemaphorePermit);

impl Admission {
    pub(super) fn new(config: &DatabaseConfig) -> Self {
        Self { places: Arc::new(Semaphore::new(config.connections)), wait: config.acquire }
    }

    pub(super) async fn enter(&self, access: &Access) -> Result<Place> {
        match timeout(self.wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Place(permit)),
            Ok(Err(_)) => Err(Error::new(Kind::Unavailable, access.operation, "closed")),
            Err(_) => Err(Error::new(
                Kind::PoolExhausted,
                access.operation,
                "no database session became free in time; try again",
            )
            .with_retry_after(self.wait)),
        }
    }
}
