use super::fault::{FaultReason, ModelFault};
use super::{ModelProvider, ModelRequest, ModelResponse, ModelStream};
use apex_core::error::{Error, Result};
use async_trait::async_trait;

/// No model. It answers nothing, so that whoever asks takes the way that needs none and says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offline;

#[async_trait]
impl ModelProvider for Offline {
    fn name(&self) -> &str {
        "offline"
    }

    async fn complete(&self, _model: &str, _request: &ModelRequest) -> Result<ModelResponse> {
        Err(offline())
    }

    async fn stream(&self, _model: &str, _request: &ModelRequest) -> Result<ModelStream> {
        Err(offline())
    }
}

fn offline() -> Error {
    ModelFault::new("offline", FaultReason::Offline).error("", None)
}
