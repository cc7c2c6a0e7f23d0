use super::probe::Probe;
use super::watch::Health;
use crate::auth::{AuditQuery, TokenHash};
use crate::error::{Kind, Result};
use crate::id::{ArtifactId, FileId, HolderId, RunId, ThreadId, UserId};
use crate::limit::{LimitKey, Place};
use crate::principal::{Principal, Scopes};
use crate::store::Stores;
use async_trait::async_trait;
use std::sync::Arc;

/// The stores that a node cannot serve without.
const REQUIRED: [&str; 8] =
    ["runs", "threads", "files", "artifacts", "tickets", "sessions", "users", "limits"];
/// Those whose writes wait in memory while they are away.
const OPTIONAL: [&str; 2] = ["audit", "usage"];

impl Health {
    /// Watches every store: it is asked for something of nobody's, and one that answers that it has no such thing
    /// has answered.
    #[must_use]
    pub fn with_stores(self, stores: &Stores) -> Self {
        let probe = |name| Arc::new(StoreProbe { name, stores: stores.clone() });
        let all = REQUIRED.into_iter().chain(OPTIONAL);
        all.fold(self, |health, name| health.with_probe(probe(name)))
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
        REQUIRED.contains(&self.name)
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
            "users" => stores.users.user(nobody.user()).await.map(drop),
            "limits" => {
                let key = LimitKey::new("probe", "")?;
                let holder = HolderId::from_bytes(none);
                stores.limits.release(&Place { key, holder, most: 1 }).await
            }
            "audit" => {
                let query = AuditQuery { user: Some(nobody.user()), before: None, limit: 1 };
                stores.audit.list(query).await.map(drop)
            }
            _ => stores.usage.attempts(&nobody, None, None, 1).await.map(drop),
        };
        match answer {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
