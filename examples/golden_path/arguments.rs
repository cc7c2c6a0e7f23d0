//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: golden_path [--usage FILE]... [--ask TEXT] [--report DIR] [--events FILE] [--config FILE] [--db FILE]

  --usage FILE   a file of usage records, CSV or JSON lines; may be repeated; without it, a small sample
  --ask TEXT     the question; without it, where the money goes and what could be saved
  --report DIR   where report.json, report.md and report.html go; without it, apex-report
  --events FILE  writes each event as a line of JSON
  --config FILE  a configuration; the environment (APEX_DATABASE_URL=postgres://… and the like) holds over it
  --db FILE      keeps everything in this SQLite database; without it, in the configured one, or in one that is
                 removed at the end";

const QUESTION: &str = "Where does our LLM money go, and what could we save?";

/// What the user wants.
#[derive(Debug, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) usage: Vec<PathBuf>,
    pub(crate) ask: String,
    pub(crate) report: PathBuf,
    pub(crate) events: Option<PathBuf>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) database: Option<PathBuf>,
}

impl Arguments {
    /// Reads the command line; `None` asks for help.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = Self {
            usage: Vec::new(),
            ask: QUESTION.to_owned(),
            report: PathBuf::from("apex-report"),
            events: None,
            config: None,
            database: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Ok(None);
            }
            let known = ["--usage", "--ask", "--report", "--events", "--config", "--db"];
            if !known.contains(&word.as_str()) {
                return Err(format!("{word} is not an option\n\n{USAGE}"));
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"))?;
            match word.as_str() {
                "--usage" => arguments.usage.push(readable(value)?),
                "--ask" => arguments.ask = value,
                "--report" => arguments.report = value.into(),
                "--events" => arguments.events = Some(value.into()),
                "--config" => arguments.config = Some(value.into()),
                _ => arguments.database = Some(value.into()),
            }
        }
        Ok(Some(arguments))
    }
}

/// The path of a file that can be opened: a mistake here should not cost a run.
fn readable(path: String) -> Result<PathBuf, String> {
    let is_file =
        std::fs::File::open(&path).and_then(|file| file.metadata()).map(|about| about.is_file());
    match is_file {
        Ok(true) => Ok(path.into()),
        Ok(false) => {
            Err(format!("--usage {path}: this is not a file; name a CSV or JSON-lines file"))
        }
        Err(error) => Err(format!("--usage {path}: {error}")),
    }
}
