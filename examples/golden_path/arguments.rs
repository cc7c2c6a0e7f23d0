//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: golden_path [--usage FILE]... [--ask TEXT] [--report DIR] [--events FILE] [--config FILE] [--db FILE]
                   [--model MODEL]

  --usage FILE   a file of usage records, CSV or JSON lines; may be repeated; without it, a small sample
  --ask TEXT     the question; without it, where the money goes and what could be saved
  --report DIR   where report.json, report.md and report.html go; without it, apex-report
  --events FILE  writes each event as a line of JSON
  --config FILE  a configuration; the environment (APEX_DATABASE_URL=postgres://… and the like) holds over it
  --db FILE      keeps everything in this SQLite database; without it, in the configured one, or in one that is
                 removed at the end
  --model MODEL  a model for routing and wording: openai:NAME, anthropic:NAME, gemini:NAME, or compatible:URL:NAME for a
                 server that speaks chat completions, such as compatible:http://localhost:11434/v1:llama3.2; without it,
                 rules. Its key comes from APEX_MODELS_OPENAI_API_KEY (or ANTHROPIC, GEMINI, COMPATIBLE), better from
                 the file that the same name with _FILE at its end tells. Build with the provider's feature.";

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
    pub(crate) model: Option<Model>,
}

/// A model as the command line names it.
#[derive(Debug, PartialEq)]
pub(crate) struct Model {
    /// The entry of the chain, `provider:model`.
    pub(crate) entry: String,
    /// The address of a server of one's own.
    pub(crate) base_url: Option<String>,
}

impl Model {
    /// As the variables that say it.
    pub(crate) fn said(&self) -> Vec<(OsString, OsString)> {
        let mut said = vec![("APEX_MODELS_CHAIN".into(), self.entry.clone().into())];
        if let Some(url) = &self.base_url {
            said.push(("APEX_MODELS_COMPATIBLE_BASE_URL".into(), url.clone().into()));
        }
        said
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("compatible:") else {
            return Ok(Self { entry: text.to_owned(), base_url: None });
        };
        // The address may have a port, and the model a colon: the path stands between them.
        let path = rest.find("://").and_then(|at| Some(at + 3 + rest.get(at + 3..)?.find('/')?));
        let end = path.and_then(|at| Some(at + rest.get(at..)?.find(':')?));
        match end.map(|end| rest.split_at(end)) {
            Some((url, model)) => {
                Ok(Self { entry: format!("compatible{model}"), base_url: Some(url.to_owned()) })
            }
            None => Err(format!(
                "--model {text}: write compatible:URL:NAME with the URL's path, such as \
                 compatible:http://localhost:11434/v1:llama3.2"
            )),
        }
    }
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
            model: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Ok(None);
            }
            let known = ["--usage", "--ask", "--report", "--events", "--config", "--db", "--model"];
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
                "--model" => arguments.model = Some(Model::parse(&value)?),
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
