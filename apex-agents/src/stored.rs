use apex_core::error::{Error, Result};
use apex_core::event::Payload;
use apex_core::file::{ArtifactInfo, ArtifactStore};
use apex_core::id::RunId;
use apex_core::principal::Principal;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest value, in bytes of JSON, that checkpoints and events hold themselves.
const INLINE: usize = 4 * 1024;

/// A value that an agent or a tool made: small ones as they are, larger ones as an artifact of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stored {
    Inline(Value),
    Artifact(Payload),
}

impl Stored {
    /// Keeps a value; a large one under `name` among the run's artifacts.
    pub(crate) async fn keep(
        artifacts: &dyn ArtifactStore,
        principal: &Principal,
        run: RunId,
        name: &str,
        value: Value,
    ) -> Result<Self> {
        let json = serde_json::to_vec(&value).map_err(|error| {
            Error::internal("stored.keep", "a value could not be encoded").with_source(error)
        })?;
        if json.len() <= INLINE {
            return Ok(Self::Inline(value));
        }
        let info =
            artifacts.put(principal, run, name, "application/json", Bytes::from(json)).await?;
        Ok(Self::Artifact(payload(info)))
    }

    /// The value again.
    pub(crate) async fn load(
        self,
        artifacts: &dyn ArtifactStore,
        principal: &Principal,
    ) -> Result<Value> {
        let payload = match self {
            Self::Inline(value) => return Ok(value),
            Self::Artifact(payload) => payload,
        };
        let (_, json) = artifacts.read(principal, payload.artifact).await?;
        serde_json::from_slice(&json).map_err(|error| {
            Error::internal("stored.load", "a kept value is damaged")
                .with("artifact", payload.artifact)
                .with_source(error)
        })
    }

    /// Reads the value in, if it is kept elsewhere.
    pub(crate) async fn take_in(
        &mut self,
        artifacts: &dyn ArtifactStore,
        principal: &Principal,
    ) -> Result<()> {
        let value = self.clone().load(artifacts, principal).await?;
        *self = Self::Inline(value);
        Ok(())
    }

    /// As events show it: the value, or where to fetch it.
    pub(crate) fn shown(&self) -> Value {
        match self {
            Self::Inline(value) => value.clone(),
            Self::Artifact(payload) => serde_json::json!(payload),
        }
    }
}

/// The reference to an artifact.
pub(crate) fn payload(info: ArtifactInfo) -> Payload {
    Payload { artifact: info.artifact, name: info.name, bytes: info.bytes, sha256: info.sha256 }
}
