use super::shared::Shared;
use apex_core::error::{Error, Kind, Result};
use apex_core::id::{RequestId, RunId, ThreadId};
use apex_core::principal::Principal;
use apex_core::run::{Accepted, Message, NewRun};
use apex_core::thread::{Role, ThreadMessage};
use apex_core::trace;
use sha2::{Digest, Sha256};

const OPERATION: &str = "runner.start";

/// Puts a message on record and begins its run.
pub(super) async fn start(
    shared: &Shared,
    principal: &Principal,
    message: Message,
) -> Result<Accepted> {
    check(shared, principal, &message).await?;
    let request_id = message.request_id;
    let new = NewRun {
        run: RunId::new(&*shared.clock),
        request: request_id,
        digest: digest(&message),
        thread: message.thread.unwrap_or_else(|| thread_of(principal, request_id)),
        parent: None,
        text: message.text.clone(),
        attachments: message.attachments.clone(),
        agents: shared.registry.agents.keys().cloned().collect(),
        budget: Some(shared.options.told_budget()),
        trace: trace::incoming(),
    };
    for file in &message.attachments {
        let Err(gone) = shared.stores.files.info(principal, *file).await else { continue };
        // A message that was taken once stays taken, also when a file of it was deleted since.
        let begun = shared.stores.runs.begun(principal, &new).await?.ok_or(gone)?;
        return Ok(Accepted { request_id, thread: begun.thread, run: begun.run });
    }
    let started = shared.stores.runs.start(principal, new).await?;
    tracing::info!(run = %started.run, thread = %started.thread, created = started.created, "a message is on record");
    let said = ThreadMessage {
        run: started.run,
        role: Role::User,
        text: message.text,
        attachments: message.attachments,
        at: shared.clock.now(),
    };
    // Should this fail, the run's first step is to say it again.
    shared.stores.threads.add(principal, started.thread, said).await?;
    Ok(Accepted { request_id, thread: started.thread, run: started.run })
}

/// The conversation that a message begins; the same message again begins the same one.
pub(super) fn thread_of(principal: &Principal, request: RequestId) -> ThreadId {
    ThreadId::derived(&[principal.user().as_bytes(), request.as_bytes()])
}

async fn check(shared: &Shared, principal: &Principal, message: &Message) -> Result<()> {
    let (longest, most) = (shared.options.message_bytes, shared.options.message_files);
    let size = message.text.len();
    if size > longest {
        return Err(Error::new(
            Kind::TooLarge,
            OPERATION,
            format!("a message has at most {longest} bytes; send the rest as a file"),
        )
        .with("bytes", size));
    }
    if message.attachments.len() > most {
        return Err(Error::new(
            Kind::TooLarge,
            OPERATION,
            format!("a message has at most {most} files"),
        )
        .with("files", message.attachments.len()));
    }
    if message.text.trim().is_empty() && message.attachments.is_empty() {
        return Err(Error::new(Kind::BadRequest, OPERATION, "a message needs words or a file"));
    }
    if let Some(thread) = message.thread {
        // Who may only read a conversation that is shared with them says nothing in it.
        if shared.stores.threads.thread(principal, thread).await?.owner != principal.user() {
            return Err(Error::not_found(OPERATION, "thread"));
        }
    }
    Ok(())
}

/// A digest of what the message says, to tell it from another one under the same id.
fn digest(message: &Message) -> [u8; 32] {
    let mut hash = Sha256::new();
    if let Some(thread) = message.thread {
        hash.update(b"thread");
        hash.update(thread.as_bytes());
    }
    hash.update((message.text.len() as u64).to_be_bytes());
    hash.update(&message.text);
    for file in &message.attachments {
        hash.update(file.as_bytes());
    }
    hash.finalize().into()
}
