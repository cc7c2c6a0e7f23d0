use super::probe::Probe;
use super::watch::Health;
use crate::auth::TokenHash;
use crate::error::{Kind, Result};
use crate::id::{ArtifactId, FileId, RunId, ThreadId, UserId};
use crate::principal::{Principal, Scopes};
use crate::store::Stores;
use async_trait::async_trait;
use std::sync::Arc;

/// The stores that a node cannot serve without.
const ALL: [&str; 7] = ["runs", "threads", "files", "artifacts", "tickets", "sessions", "users"];

impl Health {
    /// Watches every store: it is asked for something of nobody's, and one that answers that it has no such thing
    /// has answered.
    #[must_use]
    pub fn with_stores(self, stores: &Stores) -> Self {
        let probe = |name| Arc::new(StoreProbe { name, stores: stores.clone() });
        ALL.into_iter().fold(self, |health, name| health.with_probe(probe(name)))
    }
}

#[derive(Debug)]
struct StoreProbe {
    name: &'static str,
    stores: Stores,
}

#[async_trait]
impl Probe for StoreProbe {
    fn dependency(&self) -> &str {
        self.name
    }

    fn is_required(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<()> {
        let none = [0; 16];
        let nobody = Principal::vouched(UserId::from_bytes(none), Scopes::USER);
        let hash = TokenHash::from_bytes([0; 32]);
        let stores = &self.stores;
        let answer = match self.name {
            "runs" => stores.runs.view(&nobody, RunId::from_bytes(none)).await.map(drop),
            "threads" => stores.threads.thread(&nobody, ThreadId::from_bytes(none)).await.map(drop),
            "files" => stores.files.info(&nobody, FileId::from_bytes(none)).await.map(drop),
            "artifacts" => {
                stores.artifacts.read(&nobody, ArtifactId::from_bytes(none)).await.map(drop)
            }
            "tickets" => stores.tickets.redeem(&hash).await.map(drop),
            "sessions" => stores.sessions.find(&hash).await.map(drop),
            _ => stores.users.user(nobody.user()).await.map(drop),
        };
        match answer {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
