//! An agent and a tool of the host's own beside those of Apex: what the chat remembers of its user.

use netra_apex::prelude::*;
use serde_json::json;

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// Keeps what the user wants remembered, tells it, and forgets it once the user has approved that.
pub(crate) fn agent() -> impl Agent {
    agent_fn("notes", "Keeps what you want remembered, tells it, and forgets it.", |ask, run| {
        let work = async move |Request { text, .. }: Request, run: Context| {
            if text.to_lowercase().contains("forget everything") {
                return forget(&run).await;
            }
            match text.split_once("emember that ") {
                Some((_, what)) => keep(what, &run).await,
                None => tell(&run).await,
            }
        };
        work(ask, run)
    })
    .triggers(["remember that", "what do you remember", "forget everything"])
}

async fn keep(what: &str, run: &Context) -> Result<String> {
    run.remember(&format!("note-{}", run.run()), what).await?;
    Ok("I keep that. Ask me what I remember, or to forget everything.".to_owned())
}

async fn tell(run: &Context) -> Result<String> {
    let notes = run.recall().await?;
    if notes.is_empty() {
        return Ok("I remember nothing about you.".to_owned());
    }
    Ok(notes.iter().map(|note| format!("> {}\n\n", note.text.replace('\n', " "))).collect())
}

async fn forget(run: &Context) -> Result<String> {
    match run.call::<usize>("forget_everything", json!({})).await {
        Ok(1) => Ok("One note is forgotten.".to_owned()),
        Ok(notes) => Ok(format!("{notes} notes are forgotten.")),
        Err(error) if error.kind() == Kind::Denied => Ok("Nothing is forgotten.".to_owned()),
        Err(error) => Err(error),
    }
}

/// Drops all notes about the user: each call waits for the user to approve it.
pub(crate) fn forget_everything() -> impl Tool {
    let work = |_: Nothing, call: ToolContext| async move {
        let notes = call.recall().await?;
        for note in &notes {
            call.forget(&note.name).await?;
        }
        Ok(notes.len())
    };
    tool_fn("forget_everything", "Drops all notes about the user.", work)
        .effect(Effect::Idempotent)
        .needs_approval(|_| true)
}
