//! A user's share of connections over all nodes. Each connection holds a place in the store of limits, which it renews
//! while it lives; what a node held that died lapses by itself.

use apex_core::error::{Error, Kind, Result};
use apex_core::id::{ConnectionId, HolderId, UserId};
use apex_core::limit::{Grant, LimitKey, LimitStore, Place};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

const OPERATION: &str = "hub.share";

/// How long a place is held without being renewed, and how often it is.
const LIFE: Duration = Duration::from_secs(45);
const RENEW_EVERY: Duration = Duration::from_secs(15);

/// How long the store of limits may take. It keeps nobody out by being down: each node's own limit still holds.
const WITHIN: Duration = Duration::from_secs(2);
const RENEW_WITHIN: Duration = Duration::from_secs(10);

/// The places of this node's connections.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Arc<dyn LimitStore>,
    most: usize,
    held: Mutex<HashMap<ConnectionId, Place>>,
}

impl Shares {
    /// Each user may have `most` connections over all nodes that share these limits.
    pub(crate) fn new(limits: Arc<dyn LimitStore>, most: usize) -> Self {
        Self(Arc::new(Inner { limits, most, held: Mutex::default() }))
    }

    /// Takes a place for a connection; it keeps the one that it has.
    ///
    /// # Errors
    /// `too_many_connections`.
    pub(crate) async fn take(&self, connection: ConnectionId, user: UserId) -> Result<()> {
        let key = LimitKey::new("connections", user)?;
        let holder = HolderId::from_bytes(*connection.as_bytes());
        let place = Place { key, holder, most: self.0.most };
        // Noted before it is asked for, so that a connection that goes away meanwhile gives it back.
        match self.0.held.lock().entry(connection) {
            Entry::Occupied(_) => return Ok(()),
            Entry::Vacant(free) => {
                free.insert(place.clone());
            }
        }
        match timeout(WITHIN, self.0.limits.hold(&place, LIFE)).await {
            Ok(Ok(Grant::Granted)) => Ok(()),
            Ok(Ok(Grant::Refused { retry_after })) => {
                self.0.held.lock().remove(&connection);
                let most = self.0.most;
                Err(Error::new(
                    Kind::TooManyConnections,
                    OPERATION,
                    format!("this user has {most} connections, which is the limit; close one"),
                )
                .with_retry_after(retry_after))
            }
            // The next renewal asks again.
            Ok(Err(error)) => {
                tracing::warn!(%error, "connections are limited by this node alone");
                Ok(())
            }
            Err(_) => {
                tracing::warn!("connections are limited by this node alone: no answer in time");
                Ok(())
            }
        }
    }

    /// Gives the place of a connection back, if it has one.
    pub(crate) fn give_back(&self, connection: ConnectionId) {
        let Some(place) = self.0.held.lock().remove(&connection) else {
            return;
        };
        // Off the runtime it lapses.
        if let Ok(runtime) = Handle::try_current() {
            let limits = Arc::clone(&self.0.limits);
            runtime.spawn(async move {
                if let Ok(Err(error)) = timeout(WITHIN, limits.release(&place)).await {
                    tracing::debug!(%error, "a place lapses by itself");
                }
            });
        }
    }

    /// Renews the places for as long as it is polled. One that was lost while this node could not renew it, and that
    /// others have taken since, is asked for again and again; its connection stays.
    pub(crate) async fn renew(self) {
        loop {
            sleep(RENEW_EVERY).await;
            let places: Vec<Place> = self.0.held.lock().values().cloned().collect();
            if places.is_empty() {
                continue;
            }
            match timeout(RENEW_WITHIN, self.0.limits.renew(&places, LIFE)).await {
                Ok(Ok(lost)) if lost.is_empty() => {}
                Ok(Ok(lost)) => tracing::debug!(lost = lost.len(), "places are over the limit"),
                Ok(Err(error)) => tracing::warn!(%error, "places were not renewed"),
                Err(_) => tracing::warn!("places were not renewed in time"),
            }
        }
    }
}
