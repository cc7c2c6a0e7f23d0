use super::translate::Interrupt;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Decision;
use apex_core::id::{FileId, RequestId, RunId};
use serde::Deserialize;
use serde_json::Value;

const OPERATION: &str = "ag_ui.run";

/// The longest `threadId` and `runId`.
const MAX_ID: usize = 256;

/// What a front end asks: AG-UI's `RunAgentInput`, as far as it means something here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunAgentInput {
    pub(crate) thread_id: String,
    pub(crate) run_id: String,
    messages: Vec<InputMessage>,
    #[serde(default)]
    resume: Option<Vec<ResumeEntry>>,
    #[serde(default)]
    forwarded_props: Option<ForwardedProps>,
}

#[derive(Debug, Deserialize)]
struct InputMessage {
    id: String,
    role: String,
    #[serde(default)]
    content: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResumeEntry {
    interrupt_id: String,
    status: ResumeStatus,
    #[serde(default)]
    payload: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ResumeStatus {
    Resolved,
    Cancelled,
}

#[derive(Debug, Default, Deserialize)]
struct ForwardedProps {
    /// Files that were uploaded before.
    #[serde(default)]
    attachments: Vec<FileId>,
}

/// What it comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A message of the user's.
    Message { text: String, attachments: Vec<FileId> },
    /// Decisions about what one run waits for.
    Decisions(Vec<Decided>),
}

/// The decision of one interrupt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) interrupt: Interrupt,
    pub(crate) decision: Decision,
}

impl RunAgentInput {
    /// What is asked.
    ///
    /// # Errors
    /// `bad_request` says what this service cannot make sense of.
    pub(crate) fn asked(&self) -> Result<Asked> {
        if self.thread_id.len() > MAX_ID || self.run_id.len() > MAX_ID || self.run_id.is_empty() {
            return Err(wrong(format!("`threadId` and `runId` have 1 to {MAX_ID} bytes")));
        }
        match self.resume.as_deref() {
            Some(entries @ [_, ..]) => decisions(entries).map(Asked::Decisions),
            _ => self.message(),
        }
    }

    /// The id of the message: the same run asked for again is the same message.
    pub(crate) fn request(&self) -> RequestId {
        self.run_id.parse().unwrap_or_else(|_| {
            RequestId::derived(&[self.thread_id.as_bytes(), self.run_id.as_bytes()])
        })
    }

    /// What may be answers of earlier runs, the latest first.
    pub(crate) fn earlier_runs(&self) -> impl Iterator<Item = RunId> {
        let answers = self.messages.iter().rev().filter(|message| message.role == "assistant");
        answers.filter_map(|message| message.id.parse().ok())
    }

    fn message(&self) -> Result<Asked> {
        let last = self.messages.last().filter(|message| message.role == "user");
        let content = last.and_then(|message| message.content.as_ref());
        let content = content.ok_or_else(|| wrong("the last message must be the user's"))?;
        let attachments = self
            .forwarded_props
            .as_ref()
            .map(|props| props.attachments.clone())
            .unwrap_or_default();
        Ok(Asked::Message { text: text(content)?, attachments })
    }
}

fn text(content: &Value) -> Result<String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let parts = parts.iter().map(|part| match (part.get("type"), part.get("text")) {
                (Some(kind), Some(Value::String(text))) if kind == "text" => Ok(text.as_str()),
                _ => Err(wrong(
                    "a message has parts of text only; upload files by `POST /files`, and name them in \
                     `forwardedProps.attachments`",
                )),
            });
            Ok(parts.collect::<Result<Vec<_>>>()?.join("\n"))
        }
        _ => Err(wrong("the user's message has no content")),
    }
}

fn decisions(entries: &[ResumeEntry]) -> Result<Vec<Decided>> {
    let decided: Vec<Decided> = entries.iter().map(ResumeEntry::decided).collect::<Result<_>>()?;
    let runs = decided.iter().map(|decided| decided.interrupt.run);
    if runs.clone().zip(runs.skip(1)).any(|(one, other)| one != other) {
        return Err(wrong("`resume` is about interrupts of one run"));
    }
    Ok(decided)
}

impl ResumeEntry {
    fn decided(&self) -> Result<Decided> {
        let interrupt = Interrupt::parse(&self.interrupt_id)
            .ok_or_else(|| wrong("an `interruptId` is not one that this service gave out"))?;
        let said = self.payload.as_ref().and_then(|payload| payload.get("decision"));
        let decision = match (self.status, said.and_then(Value::as_str)) {
            (ResumeStatus::Cancelled, _) | (_, Some("deny")) => Decision::Deny,
            (ResumeStatus::Resolved, Some("approve")) => Decision::Approve,
            _ => {
                return Err(wrong(
                    "a resolved interrupt has the payload {\"decision\": \"approve\"} or \"deny\"",
                ));
            }
        };
        Ok(Decided { interrupt, decision })
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::BadRequest, OPERATION, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn input(change: impl FnOnce(&mut Value)) -> RunAgentInput {
        let mut input = json!({
            "threadId": "t", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {},
            "messages": [{"id": "1", "role": "user", "content": "hello"}],
        });
        change(&mut input);
        serde_json::from_value(input).unwrap()
    }

    #[test]
    fn the_last_message_is_asked_and_its_parts_are_joined() {
        let asked = |input: RunAgentInput| match input.asked().unwrap() {
            Asked::Message { text, .. } => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked(input(|_| {})), "hello");
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(asked(input(|input| input["messages"][0]["content"] = parts)), "a\nb");
    }

    #[test]
    fn what_makes_no_sense_here_is_told() {
        let told = |input: RunAgentInput| input.asked().unwrap_err().to_string();
        assert!(told(input(|input| input["messages"] = json!([]))).contains("the user's"));
        assert!(
            told(input(|input| input["messages"][0]["role"] = "assistant".into()))
                .contains("user's")
        );
        let image = json!([{"type": "image", "source": {}}]);
        assert!(
            told(input(|input| input["messages"][0]["content"] = image)).contains("POST /files")
        );
        assert!(told(input(|input| input["runId"] = "".into())).contains("runId"));
        let resume = json!([{"interruptId": "x", "status": "resolved"}]);
        assert!(told(input(|input| input["resume"] = resume)).contains("interruptId"));
    }

    #[test]
    fn the_same_run_is_the_same_request() {
        assert_eq!(input(|_| {}).request(), input(|_| {}).request());
        assert_ne!(
            input(|_| {}).request(),
            input(|input| input["threadId"] = "u".into()).request()
        );
        let id = "0190d1c2-0000-7000-8000-000000000000";
        assert_eq!(input(|input| input["runId"] = id.into()).request().to_string(), id);
    }
}
