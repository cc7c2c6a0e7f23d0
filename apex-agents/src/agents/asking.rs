//! Asking models: the one loop of asking, making the calls that are wanted, checking what comes, saying what is wrong
//! with it, and asking once more.

use crate::context::Context;
use crate::model::{
    Message, ModelRequest, ModelResponse, Part, ToolCall, ToolChoice, ToolResult, ToolSpec,
};
use crate::text::clip;
use apex_core::error::{Error, Kind, Result};
use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The most tokens of an answer, reasoning included.
const MOST_TOKENS: u32 = 4_000;

/// How often an answer may be given: once, and once more where the first cannot be used.
const ATTEMPTS: usize = 2;

/// How many calls a model may want at once, and how much of a result it is shown, in bytes.
const MOST_CALLS: usize = 12;
const LONGEST_RESULT: usize = 16 * 1024;

/// What came of asking a model for something that the team can also do without.
pub(crate) enum Asked {
    /// Its answer.
    Answer(Box<ModelResponse>),
    /// There is no model.
    NoModel,
    /// No model answered, and why.
    Failed(String),
}

/// What came of asking for something that is checked.
pub(crate) enum Checked<T> {
    /// An answer that passed.
    Accepted(T),
    /// There is no model.
    NoModel,
    /// No model answered, and why.
    Failed(String),
    /// Each answer was refused; the faults of the last.
    Refused(Vec<String>),
}

/// What is done with answers: whether one is accepted, and what is said of one that is not.
pub(crate) struct Terms<A, S> {
    /// Takes the text of an answer, or says what is wrong with it.
    pub(crate) accept: A,
    /// What the user is told of an answer that was not accepted, if anything.
    pub(crate) thought: S,
    /// What the model is to do about it, in a sentence.
    pub(crate) again: &'static str,
}

/// A model that may call tools before it answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turns {
    /// How often it may; after that it has to answer.
    pub(crate) most: u32,
    /// Whether the user sees its words as they come.
    pub(crate) shown: bool,
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
    put(run, request, false).await
}

async fn put(run: &Context, request: ModelRequest, shown: bool) -> Result<Asked> {
    match run.model().try_ask(request, shown).await {
        Ok(Some(answer)) => Ok(Asked::Answer(Box::new(answer))),
        Ok(None) => Ok(Asked::NoModel),
        // The step itself has ended.
        Err(error) if error.kind() == Kind::Cancelled => Err(error),
        Err(error) => Ok(Asked::Failed(error.report().message)),
    }
}

/// Asks for an answer that is checked; the model has one chance to put right what was wrong. It may call the tools
/// that the request names: they are called side by side or in order, as their effects allow, and it gets their results
/// in the order in which it asked.
pub(crate) async fn checked<T>(
    run: &Context,
    mut request: ModelRequest,
    turns: Turns,
    terms: Terms<
        impl Fn(&str) -> std::result::Result<T, Vec<String>>,
        impl Fn(&[String]) -> Option<String>,
    >,
) -> Result<Checked<T>> {
    let (mut called, mut answered) = (0, 0);
    loop {
        if called == turns.most && !request.tools.is_empty() {
            request.tool_choice = ToolChoice::None;
        }
        let answer = match put(run, request.clone(), turns.shown).await? {
            Asked::NoModel => return Ok(Checked::NoModel),
            Asked::Failed(why) => return Ok(Checked::Failed(why)),
            Asked::Answer(answer) => answer,
        };
        if called < turns.most && answer.tool_calls().next().is_some() {
            called += 1;
            let calls = answer.tool_calls().enumerate();
            let results = calls.map(|(place, wanted)| call(run, &request.tools, place, wanted));
            let results = try_join_all(results).await?;
            request.messages.extend([answer.into_message(), Message::results(results)]);
            continue;
        }
        let faults = match (terms.accept)(&answer.text()) {
            Ok(value) => return Ok(Checked::Accepted(value)),
            Err(faults) => faults,
        };
        if let Some(thought) = (terms.thought)(&faults) {
            run.think(thought).await?;
        }
        answered += 1;
        if answered == ATTEMPTS {
            return Ok(Checked::Refused(faults));
        }
        let told = format!("This cannot be used:\n- {}\n{}", faults.join("\n- "), terms.again);
        request.messages.extend(spoken(*answer));
        request.messages.push(Message::user(told));
    }
}

/// An answer as a message without its calls, if it says anything: nobody makes them, and providers refuse a call
/// without a result.
fn spoken(answer: ModelResponse) -> Option<Message> {
    let mut message = answer.into_message();
    message.parts.retain(|part| !matches!(part, Part::ToolCall(_)));
    (!message.parts.is_empty()).then_some(message)
}

/// Makes a call that a model wants. What goes wrong with it the model is told.
async fn call(
    run: &Context,
    tools: &[ToolSpec],
    place: usize,
    wanted: &ToolCall,
) -> Result<ToolResult> {
    let told = |content: &str, failed| ToolResult {
        call: wanted.id.clone(),
        name: wanted.name.clone(),
        content: clip(content, LONGEST_RESULT).into_owned(),
        failed,
    };
    if !tools.iter().any(|tool| tool.name == wanted.name) {
        let known: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        return Ok(told(&format!("There is no such tool; there are: {}.", known.join(", ")), true));
    }
    if place >= MOST_CALLS {
        return Ok(told(&format!("At most {MOST_CALLS} calls are made at once."), true));
    }
    let made = match wanted.arguments() {
        Ok(arguments) => run.call::<Value>(&wanted.name, arguments).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(Value::String(text)) => Ok(told(&text, false)),
        Ok(value) => Ok(told(&value.to_string(), false)),
        // The step itself has ended.
        Err(error) if error.kind() == Kind::Cancelled && run.is_cancelled() => Err(error),
        Err(error) => Ok(told(&failed(&error), true)),
    }
}

fn failed(error: &Error) -> String {
    format!("{}: {}", error.code(), error.report().message)
}

/// What was accepted; `None` where rules are to do it, and the run's result says why, where there is a model.
pub(crate) async fn or_rules<T>(
    run: &Context,
    checked: Checked<T>,
    refused: impl FnOnce(usize, &[String]) -> String,
) -> Result<Option<T>> {
    let note = match checked {
        Checked::Accepted(value) => return Ok(Some(value)),
        Checked::NoModel => return Ok(None),
        Checked::Failed(why) => unanswered(&why),
        Checked::Refused(faults) => refused(ATTEMPTS, &faults),
    };
    run.degraded(note).await?;
    Ok(None)
}

/// Asks a model for a value as JSON, which is checked; `None` where rules are to do it.
pub(crate) async fn fill<T: DeserializeOwned>(
    run: &Context,
    instructions: &str,
    data: &Value,
    fault: impl Fn(&T) -> Option<String>,
) -> Result<Option<T>> {
    let terms = Terms {
        accept: |text: &str| {
            let value: T = parsed(text).map_err(|fault| vec![fault])?;
            fault(&value).map_or(Ok(value), |fault| Err(vec![fault]))
        },
        thought: |_: &[String]| None,
        again: "Answer again with the JSON object alone.",
    };
    let checked = checked(run, request(instructions, data), Turns::default(), terms).await?;
    or_rules(run, checked, |times, faults| {
        let faults = faults.join(" ");
        format!(
            "The question was read by rules: what a model made of it was refused {times} times, because {faults}."
        )
    })
    .await
}

/// The JSON value that an answer is, with or without a fence around it; or what is wrong with it.
pub(crate) fn parsed<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    let text = text.trim();
    let inside = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    let text = inside.map_or(text, |inside| inside.trim_end().trim_end_matches("```"));
    // What serde says of a value may hold it, which nobody has checked yet.
    serde_json::from_str(text).map_err(|error| {
        format!(
            "it is no JSON object of the schema (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}
