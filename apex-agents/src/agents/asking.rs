use crate::context::Context;
use crate::model::{Message, ModelRequest, ModelResponse};
use apex_core::error::{Kind, Result};
use serde_json::Value;

/// The most tokens of an answer, reasoning included.
const MOST_TOKENS: u32 = 4_000;

/// What came of asking a model for something that the team can also do without.
pub(crate) enum Asked {
    /// Its answer.
    Answer(Box<ModelResponse>),
    /// There is no model.
    NoModel,
    /// No model answered, and why.
    Failed(String),
}

/// A request with instructions and, apart from them, data: what users wrote stands in a JSON value, out of which no
/// text can break.
pub(crate) fn request(instructions: &str, data: &Value) -> ModelRequest {
    ModelRequest {
        system: Some(instructions.to_owned()),
        messages: vec![Message::user(data.to_string())],
        max_output_tokens: Some(MOST_TOKENS),
        ..ModelRequest::default()
    }
}

/// What the run's result says of models that did not answer: in the same words whoever asked, so that it says it once.
pub(crate) fn unanswered(why: &str) -> String {
    format!(
        "The models did not answer: {why}. What they were asked for was done by rules; every figure is computed \
         either way."
    )
}

/// Asks the models, if there are any.
pub(crate) async fn ask(run: &Context, request: ModelRequest) -> Result<Asked> {
    match run.model().try_ask(request).await {
        Ok(Some(answer)) => Ok(Asked::Answer(Box::new(answer))),
        Ok(None) => Ok(Asked::NoModel),
        // The step itself has ended.
        Err(error) if error.kind() == Kind::Cancelled => Err(error),
        Err(error) => Ok(Asked::Failed(error.report().message)),
    }
}
