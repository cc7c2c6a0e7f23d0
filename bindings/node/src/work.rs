//! What a function of the host's asks and tells while it is called.

use crate::bridge::Reply;
use crate::{read, write};
use apex_bindings::{AgentWork, Call, Error, Kind, Result, ToolWork};
use serde::Deserialize;
use serde_json::Value;

/// The most of a file that a tool is handed at once.
const MOST_OF_A_FILE: u64 = 64 * 1024 * 1024;

#[derive(Deserialize)]
struct Note {
    note: String,
}

#[derive(Deserialize)]
struct ToolCall {
    tool: String,
    arguments: Value,
}

#[derive(Deserialize)]
struct Question {
    question: Value,
    show: bool,
}

#[derive(Deserialize)]
struct Goal {
    goal: String,
    without: Vec<String>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Remembered {
    name: String,
    text: String,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct NewArtifact {
    name: String,
    media_type: String,
}

#[derive(Deserialize)]
struct Progress {
    done: u64,
    total: Option<u64>,
    unit: String,
}

/// Does what `op` names for the call.
pub(crate) async fn answer(
    call: &Call,
    op: &str,
    args: &str,
    bytes: Vec<Vec<u8>>,
) -> Result<Reply> {
    match call {
        Call::Agent(work) => of_agent(work, op, args).await,
        Call::Tool(work) => of_tool(work, op, args, bytes).await,
        Call::Plain => Err(unknown(op)),
    }
}

async fn of_agent(work: &AgentWork, op: &str, args: &str) -> Result<Reply> {
    Ok(match op {
        "think" => {
            work.think(read::<Note>(args, op)?.note).await?;
            Reply::nothing()
        }
        "degraded" => {
            work.degraded(read::<Note>(args, op)?.note).await?;
            Reply::nothing()
        }
        "call" => {
            let ToolCall { tool, arguments } = read(args, op)?;
            Reply::text(write(&work.call(tool, arguments).await?)?)
        }
        "now" => Reply::text(work.now().await?.to_string()),
        // A float has 53 bits for it.
        "random" => {
            Reply::text(((work.random().await? >> 11) as f64 / (1u64 << 53) as f64).to_string())
        }
        "ask" => {
            let Question { question, show } = read(args, op)?;
            Reply::text(write(&work.ask(question, show).await?)?)
        }
        "plan" => {
            let Goal { goal, without } = read(args, op)?;
            let without: Vec<_> = without.iter().map(String::as_str).collect();
            Reply::text(write(&work.plan(&goal, &without)?)?)
        }
        _ => return Err(unknown(op)),
    })
}

async fn of_tool(work: &ToolWork, op: &str, args: &str, bytes: Vec<Vec<u8>>) -> Result<Reply> {
    Ok(match op {
        "file" => Reply::text(write(&work.file(&read::<Id>(args, op)?.id).await?)?),
        "read_file" => {
            Reply::bytes(work.read_file(&read::<Id>(args, op)?.id, MOST_OF_A_FILE).await?)
        }
        "artifact" => Reply::bytes(work.artifact(&read::<Id>(args, op)?.id).await?),
        "put_artifact" => {
            let NewArtifact { name, media_type } = read(args, op)?;
            let content = bytes.into_iter().next().unwrap_or_default();
            Reply::text(write(&work.put_artifact(&name, &media_type, content).await?)?)
        }
        "remember" => {
            let Remembered { name, text } = read(args, op)?;
            work.remember(&name, &text).await?;
            Reply::nothing()
        }
        "recall" => Reply::text(write(&work.recall().await?)?),
        "forget" => {
            work.forget(&read::<Name>(args, op)?.name).await?;
            Reply::nothing()
        }
        _ => return Err(unknown(op)),
    })
}

/// Takes in what the function says, which needs no answer.
pub(crate) fn tell(call: &Call, op: &str, args: &str) {
    let progress = || read::<Progress>(args, op);
    match (call, op) {
        (Call::Agent(work), "progress") => {
            if let Ok(Progress { done, total, unit }) = progress() {
                work.progress(done, total, &unit);
            }
        }
        (Call::Tool(work), "progress") => {
            if let Ok(Progress { done, total, unit }) = progress() {
                work.progress(done, total, &unit);
            }
        }
        (Call::Tool(work), "summarise") => {
            if let Ok(Note { note }) = read(args, op) {
                work.summarise(note);
            }
        }
        _ => {}
    }
}

fn unknown(op: &str) -> Error {
    Error::new(Kind::BadRequest, "host.work", format!("there is no {op} here"))
}
