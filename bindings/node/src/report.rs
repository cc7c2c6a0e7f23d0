//! Usage files into reports, and lines of the log.

use crate::bridge::Reply;
use crate::handle::{Handle, Held};
use crate::operations::unknown;
use crate::{read, write};
use apex_bindings::{Content, Error, Record, Report, Result, analyse as analysed, look};
use serde::Deserialize;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Deserialize)]
struct Files {
    files: Vec<File>,
    contract: Option<String>,
    /// Whether only their beginning is looked at.
    look: bool,
}

/// A file of the disk's by its path, or the next bytes that came along by their name.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum File {
    Path(PathBuf),
    Name(String),
}

/// Tells work on another thread that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Analyses usage files, or looks at them.
pub(crate) async fn analyse(
    args: &str,
    bytes: Vec<Vec<u8>>,
    handle: impl Fn(Held) -> Handle,
) -> Result<Reply> {
    let Files { files, contract, look: only_look } = read(args, "analyse")?;
    let mut bytes = bytes.into_iter();
    let contents: Vec<Content> = files
        .into_iter()
        .map(|file| match file {
            File::Path(path) => Content::Path(path),
            File::Name(name) => Content::Bytes(name, bytes.next().unwrap_or_default().into()),
        })
        .collect();
    let wanted = Arc::new(AtomicBool::new(true));
    let waiting = Waiting(Arc::clone(&wanted));
    let work = move || -> Result<(String, Option<Report>)> {
        if only_look {
            let looks = contents.iter().map(look).collect::<Result<Vec<_>>>()?;
            return Ok((write(&looks)?, None));
        }
        let contract = contract.as_deref().map(str::as_bytes);
        let report =
            analysed(&contents, contract, &mut |_| match wanted.load(Ordering::Relaxed) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })?;
        Ok((report.to_json(), Some(report)))
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::internal("host.analyse", "the analysis ended by itself").with_source(error)
    })?;
    drop(waiting);
    Ok(match done? {
        (json, Some(report)) => Reply::handle(json, handle(Held::Report(Box::new(report)))),
        (json, None) => Reply::text(json),
    })
}

/// A report in one of its forms.
pub(crate) fn render(report: &Report, op: &str) -> Result<Reply> {
    Ok(Reply::text(match op {
        "markdown" => report.to_markdown(),
        "html" => report.to_html(),
        "summary" => report.summary(),
        _ => return Err(unknown(op)),
    }))
}

/// A line of the log, as JSON.
pub(crate) fn log_line(record: &Record) -> String {
    json!({
        "level": record.level,
        "target": record.target,
        "message": record.message,
        "fields": record.fields,
        "dropped": record.dropped,
    })
    .to_string()
}
