//! What can be asked of an Apex, by name.

use crate::bridge::{Bridge, Reply, Said};
use crate::handle::{Handle, Held, wrong};
use crate::{build, read, report, wire, write};
use apex_bindings::{Ask, Error, Host, Kind, Principal, Problem, Result, Runtime};
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A request of JavaScript's.
pub(crate) struct Asked {
    pub(crate) op: String,
    pub(crate) held: Option<Arc<Held>>,
    pub(crate) with: Option<Arc<Held>>,
    pub(crate) args: String,
    pub(crate) bytes: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct OfRun {
    run: String,
}

#[derive(Deserialize)]
struct Follow {
    run: String,
    after: u64,
    epoch: Option<String>,
}

#[derive(Deserialize)]
struct Stop {
    run: String,
    step: String,
}

#[derive(Deserialize)]
struct Decide {
    run: String,
    approval: String,
    digest: String,
    decision: String,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    shared: bool,
    cursor: Option<String>,
    most: usize,
}

#[derive(Deserialize)]
struct Messages {
    thread: String,
    cursor: Option<String>,
    most: usize,
}

#[derive(Deserialize)]
struct OfThread {
    thread: String,
}

#[derive(Deserialize)]
struct Upload {
    name: String,
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct File {
    file: String,
    #[serde(default)]
    most: u64,
}

#[derive(Deserialize)]
struct OfArtifact {
    artifact: String,
}

#[derive(Deserialize)]
struct OfUsage {
    run: Option<String>,
    by: String,
}

#[derive(Deserialize)]
struct Address {
    address: Option<String>,
}

#[derive(Deserialize)]
struct Drain {
    within_ms: u64,
}

/// Does what is asked.
pub(crate) async fn answer(
    asked: Asked,
    bridge: &Arc<Bridge>,
    runtime: &Arc<Runtime>,
) -> std::result::Result<Reply, Problem> {
    let handle = |held| Handle::new(held, runtime);
    match (asked.held.as_deref(), asked.op.as_str()) {
        (None, "build") => {
            let host = build::build(&asked.args, bridge).await?;
            Ok(Reply::handle("", handle(Held::Host(Box::new(host)))))
        }
        (None, "analyse") => Ok(report::analyse(&asked.args, asked.bytes, handle).await?),
        (None, "sample") => Ok(Reply::bytes(apex_bindings::sample::csv())),
        (Some(Held::Report(report)), op) => Ok(report::render(report, op)?),
        (Some(Held::Events(events)), "next") => match events.next_many().await? {
            Some(batch) => Ok(Reply::text(text(batch.json)?)),
            None => Ok(Reply::nothing()),
        },
        (Some(Held::Serving(serving)), "stop") => {
            serving.stop().await?;
            Ok(Reply::nothing())
        }
        (Some(Held::Host(host)), "respond") => {
            Ok(wire::respond(host, asked.with.as_deref(), &asked.args, handle).await?)
        }
        (Some(Held::Host(host)), "knock") => Ok(wire::knock(host, &asked.args, handle).await?),
        (Some(Held::Host(host)), op) => match asked.with.as_deref() {
            Some(Held::User(user)) => {
                Ok(of_user(host, user, op, &asked.args, asked.bytes, handle, bridge).await?)
            }
            None => Ok(of_host(host, op, &asked.args, handle).await?),
            Some(_) => Err(wrong().into()),
        },
        (Some(held), op) => Ok(wire::carry(held, op, asked.args, asked.bytes).await?),
        (None, op) => Err(unknown(op).into()),
    }
}

/// What needs no user.
async fn of_host(
    host: &Host,
    op: &str,
    args: &str,
    handle: impl Fn(Held) -> Handle,
) -> Result<Reply> {
    Ok(match op {
        "user" => {
            let user = host.user(&read::<Name>(args, op)?.name).await?;
            Reply::handle(user.user().to_string(), handle(Held::User(user)))
        }
        "health" => Reply::text(write(&host.health().await?)?),
        "serve" => {
            let address = read::<Address>(args, op)?.address;
            let serving = host.serve(address.as_deref()).await?;
            Reply::handle(serving.address().to_string(), handle(Held::Serving(serving)))
        }
        "drain" => {
            let within = Duration::from_millis(read::<Drain>(args, op)?.within_ms);
            Reply::flag(host.drain(within).await)
        }
        _ => return Err(unknown(op)),
    })
}

/// What is done in a user's name.
async fn of_user(
    host: &Host,
    user: &Principal,
    op: &str,
    args: &str,
    bytes: Vec<Vec<u8>>,
    handle: impl Fn(Held) -> Handle,
    bridge: &Arc<Bridge>,
) -> Result<Reply> {
    let json = match op {
        "start" => start(host, user, read(args, op)?, bridge).await?,
        "result" => host.result(user, &read::<OfRun>(args, op)?.run).await?,
        "follow" => {
            let Follow { run, after, epoch } = read(args, op)?;
            let events = host.follow(user, &run, after, epoch.as_deref()).await?;
            return Ok(Reply::handle("", handle(Held::Events(Box::new(events)))));
        }
        "run" => host.run(user, &read::<OfRun>(args, op)?.run).await?,
        "cancel" => {
            host.cancel(user, &read::<OfRun>(args, op)?.run).await?;
            return Ok(Reply::nothing());
        }
        "stop" => {
            let Stop { run, step } = read(args, op)?;
            host.stop(user, &run, &step).await?;
            return Ok(Reply::nothing());
        }
        "decide" => {
            let Decide { run, approval, digest, decision } = read(args, op)?;
            host.decide(user, &run, &approval, &digest, &decision).await?;
            return Ok(Reply::nothing());
        }
        "threads" => {
            let Page { shared, cursor, most } = read(args, op)?;
            host.threads(user, shared, cursor.as_deref(), most).await?
        }
        "messages" => {
            let Messages { thread, cursor, most } = read(args, op)?;
            host.messages(user, &thread, cursor.as_deref(), most).await?
        }
        "forget" => {
            host.forget(user, &read::<OfThread>(args, op)?.thread).await?;
            return Ok(Reply::nothing());
        }
        "upload" => {
            let Upload { name, path } = read(args, op)?;
            match path {
                Some(path) => host.upload_path(user, &name, path).await?,
                None => {
                    let content = bytes.into_iter().next().unwrap_or_default();
                    host.upload(user, &name, content).await?
                }
            }
        }
        "files" => host.files(user).await?,
        "file" => {
            let File { file, most } = read(args, op)?;
            return Ok(Reply::bytes(host.file(user, &file, most).await?));
        }
        "delete_file" => {
            host.delete_file(user, &read::<File>(args, op)?.file).await?;
            return Ok(Reply::nothing());
        }
        "artifacts" => host.artifacts(user, &read::<OfRun>(args, op)?.run).await?,
        "artifact" => {
            let artifact = read::<OfArtifact>(args, op)?.artifact;
            return Ok(Reply::bytes(host.artifact(user, &artifact).await?));
        }
        "usage" => {
            let OfUsage { run, by } = read(args, op)?;
            host.usage(user, run.as_deref(), &by).await?
        }
        "ticket" => host.ticket(user).await?,
        _ => return Err(unknown(op)),
    };
    Ok(Reply::text(write(&json)?))
}

/// Starts a run, and tells JavaScript when it calls nothing any more.
async fn start(host: &Host, user: &Principal, ask: Ask, bridge: &Arc<Bridge>) -> Result<Value> {
    let kept = ask.request.clone().map(|request| Scope { bridge: Arc::clone(bridge), request });
    host.start(user, ask, kept).await
}

/// What was around JavaScript when it said a message.
struct Scope {
    bridge: Arc<Bridge>,
    request: String,
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.bridge.say(Said::Past(std::mem::take(&mut self.request)));
    }
}

/// JSON of ours, as text.
pub(crate) fn text(json: Vec<u8>) -> Result<String> {
    String::from_utf8(json).map_err(|error| {
        Error::internal("host.request", "an answer is no UTF-8").with_source(error)
    })
}

pub(crate) fn unknown(op: &str) -> Error {
    Error::new(Kind::BadRequest, "host.request", format!("there is no {op} here"))
}
