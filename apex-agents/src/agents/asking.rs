use crate::context::Context;
use crate::model::{Message, ModelRequest, ModelResponse};
use apex_core::error::{Kind, Result};
use serde::de::DeserializeOwned;
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

/// How often a model may fill in a value.
const ATTEMPTS: usize = 2;

/// What came of asking a model to fill in a value.
pub(crate) enum Filled<T> {
    /// A value that passed its check.
    Value(T),
    /// None: rules are to do it. The run's result says why, where there is a model.
    Rules,
}

/// Asks a model for a value as JSON, which is checked; it has one chance to put right what was wrong.
pub(crate) async fn fill<T: DeserializeOwned>(
    run: &Context,
    instructions: &str,
    data: &Value,
    fault: impl Fn(&T) -> Option<String> + Send,
) -> Result<Filled<T>> {
    let mut question = request(instructions, data);
    let mut wrong = String::new();
    for _ in 0..ATTEMPTS {
        let answer = match ask(run, question.clone()).await? {
            Asked::NoModel => return Ok(Filled::Rules),
            Asked::Failed(why) => {
                run.degraded(unanswered(&why)).await?;
                return Ok(Filled::Rules);
            }
            Asked::Answer(answer) => answer,
        };
        match filled(&answer.text(), &fault) {
            Ok(value) => return Ok(Filled::Value(value)),
            Err(why) => {
                let again =
                    format!("This cannot be used: {why}. Answer again with the JSON object alone.");
                question.messages.extend([answer.into_message(), Message::user(again)]);
                wrong = why;
            }
        }
    }
    run.degraded(format!(
        "The question was read by rules: what a model made of it was refused {ATTEMPTS} times, because {wrong}."
    ))
    .await?;
    Ok(Filled::Rules)
}

fn filled<T: DeserializeOwned>(
    text: &str,
    fault: impl Fn(&T) -> Option<String>,
) -> std::result::Result<T, String> {
    let text = text.trim();
    let inside = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    let text = inside.map_or(text, |inside| inside.trim_end().trim_end_matches("```"));
    // What serde says of a value may hold it, which nobody has checked yet.
    let value: T = serde_json::from_str(text).map_err(|error| {
        format!(
            "it is no JSON object of the schema (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    match fault(&value) {
        None => Ok(value),
        Some(fault) => Err(fault),
    }
}
