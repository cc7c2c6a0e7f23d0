//! The golden path: from a question and a usage file to a computed savings report, over the real wire.
//!
//! It starts Apex in this process on a loopback port and is then its client like any other: it logs in, uploads the
//! files, buys a ticket, connects over a WebSocket, sends the message, and prints each event as it comes.

mod arguments;
#[path = "../shared/settings.rs"]
mod settings;
mod show;

use arguments::{Arguments, Model, USAGE};
use netra_apex::core::auth::{Presented, Way};
use netra_apex::core::clock::SystemClock;
use netra_apex::core::event::{Event, RunStatus};
use netra_apex::prelude::*;
use netra_apex::transport::client::{Api, Client, ClientOptions, Update};
use show::Show;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The development login's name.
const USER: &str = "golden-path";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("golden_path: {problem}");
            return ExitCode::from(2);
        }
    };
    match golden_path(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("golden_path: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the run completed.
async fn golden_path(arguments: &Arguments) -> Result<bool> {
    let folder = tempfile::tempdir().map_err(|error| local("a temporary folder", error))?;
    let otherwise = folder.path().join("apex.db");
    let said = arguments.model.as_ref().map(Model::said).unwrap_or_default();
    let settings = settings::load(
        arguments.config.as_deref(),
        arguments.database.as_deref(),
        &otherwise,
        said,
    )
    .map_err(|report| {
        let lines: Vec<_> = report
            .faults
            .iter()
            .map(|fault| format!("{}: {}; {}", fault.key, fault.problem, fault.advice))
            .collect();
        Error::new(Kind::Config, "golden_path.settings", lines.join("\n"))
    })?;
    let apex = settings.builder()?.build().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|error| local("a loopback port", error))?;
    let address = listener.local_addr().map_err(|error| local("a loopback port", error))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn({
        let apex = apex.clone();
        async move { apex.serve(listener, async { drop(stopped.await) }).await }
    });

    let completed = ask(arguments, &format!("http://{address}")).await;
    finish_earlier_runs(&apex).await?;
    drop(stop);
    server.await.map_err(|error| Error::internal("golden_path.server", error.to_string()))??;
    apex.drain(Duration::from_secs(5)).await;
    completed
}

/// Asks as a client; whether the run completed.
async fn ask(arguments: &Arguments, url: &str) -> Result<bool> {
    let mut show = Show::new();
    show.line(&format!("Apex listens on {url}"));
    let api = Api::new(url)?.log_in(USER).await?;
    let files = upload(arguments, &api, &mut show).await?;
    let client = Client::connect(ClientOptions::new(api.clone(), Arc::new(SystemClock))).await?;
    show.line(&format!("connected with a ticket by {:?}", client.way().await?).to_lowercase());
    show.line(&format!("you ask: {}\n", arguments.ask));

    let mut events = arguments.events.as_deref().map(EventsFile::create).transpose()?;
    let (accepted, mut updates) = client.ask(&arguments.ask, None, files).await?;
    let mut end = None;
    while let Some(update) = updates.next().await {
        match update? {
            Update::Event(frame) => {
                if let Some(events) = &mut events
                    && frame.seq.is_some()
                {
                    events.line(&frame)?;
                }
                if let Some(envelope) = frame.envelope() {
                    show.event(&envelope);
                    end = envelope.event.is_terminal().then_some(envelope.event);
                }
            }
            Update::Reset(_) => show.line("(a part of the history is no longer kept)"),
        }
    }
    let Some(Event::RunCompleted { result, degraded, .. }) = end else {
        return Ok(false);
    };
    show.line(&format!("\n{}", result.text));
    for note in degraded {
        show.line(&format!("note: {note}"));
    }
    if result.status == RunStatus::Answered && !result.artifacts.is_empty() {
        save_report(&api, accepted.run, &arguments.report).await?;
        show.line(&format!("\nreport: {}", arguments.report.join("report.html").display()));
    }
    Ok(true)
}

/// Uploads the files, or the sample where there are none.
async fn upload(arguments: &Arguments, api: &Api, show: &mut Show) -> Result<Vec<FileId>> {
    let mut files = Vec::new();
    if arguments.usage.is_empty() {
        let sample = netra_apex::agents::cost::sample::csv();
        let length = Some(sample.len() as u64);
        let file = api.upload("sample.csv", length, std::io::Cursor::new(sample), |_| {}).await?;
        show.line(&format!("no --usage: using a sample of our own, {} bytes", file.bytes));
        files.push(file.file);
    }
    for path in &arguments.usage {
        let problem = |error| local(&path.display().to_string(), error);
        let content = tokio::fs::File::open(path).await.map_err(problem)?;
        let length = content.metadata().await.map_err(problem)?.len();
        let name = path.file_name().map_or_else(|| "usage".into(), |name| name.to_string_lossy());
        let file = api.upload(&name, Some(length), content, show::upload_progress(length)).await?;
        show.line(&format!("uploaded {}, {} bytes", file.name, file.bytes));
        files.push(file.file);
    }
    Ok(files)
}

async fn save_report(api: &Api, run: RunId, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| local(&folder.display().to_string(), error))?;
    for name in ["report.json", "report.md", "report.html"] {
        let content = api.report(run, name).await?;
        let path = folder.join(name);
        std::fs::write(&path, content)
            .map_err(|error| local(&path.display().to_string(), error))?;
    }
    Ok(())
}

/// Waits for runs that an earlier process on the same database left behind: Apex resumes them by itself.
async fn finish_earlier_runs(apex: &Apex) -> Result<()> {
    let owner = apex.auth().development_login(USER, &Presented::by(Way::Own)).await?.principal;
    let mut after = 0;
    loop {
        let inbox = apex.stores().runs.inbox(&owner, after, 1_000).await?;
        let Some(last) = inbox.entries.last() else {
            return Ok(());
        };
        after = last.seq;
        for entry in &inbox.entries {
            if apex.stores().runs.view(&owner, entry.run).await?.state.is_terminal() {
                continue;
            }
            println!("run {} of an earlier time goes on", entry.run);
            let mut following = apex.follow(&owner, entry.run).await?;
            while following.next().await?.is_some() {}
        }
    }
}

/// Where events go as lines of JSON.
struct EventsFile(std::fs::File);

impl EventsFile {
    fn create(path: &Path) -> Result<Self> {
        std::fs::File::create(path)
            .map(Self)
            .map_err(|error| local(&path.display().to_string(), error))
    }

    fn line(&mut self, event: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        self.0.write_all(&line).map_err(|error| local("--events", error))
    }
}

fn local(what: &str, error: std::io::Error) -> Error {
    Error::new(Kind::Storage, "golden_path.local", what).with_source(error)
}
