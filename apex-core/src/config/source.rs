//! Where values come from, and reading each source without trusting it: bounded, and every way in which it can be
//! bad is a row of the report.

use super::Secret;
use super::report::{Fault, FaultCode};
use crate::error::Error;
use serde_json::{Map, Value};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

/// The largest configuration file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The largest file that holds a secret, and the longest value of an environment variable, in bytes.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// The entries of a secrets folder that are looked at.
pub(super) const MAX_SECRETS: usize = 4_096;

/// The host's own place for secrets, such as a vault; it has the last word.
///
/// It is asked on the thread that loads, once for each secret field: a source behind a network fetches before it is
/// handed over, or the host loads on a thread that may block.
pub trait SecretSource: fmt::Debug + Send + Sync {
    /// A name for reports, such as `vault`.
    fn name(&self) -> &str;

    /// The secret for a field's dotted key, if this source has one.
    ///
    /// # Errors
    /// It could not be asked. The message goes into the report, so it must not contain a secret.
    fn secret(&self, key: &str) -> Result<Option<Secret<String>>, Error>;
}

/// Where a value came from. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The field's own default.
    Default,
    /// The host's default for this program.
    Preset,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A file in the secrets folder.
    SecretsFolder(PathBuf),
    /// The file that a `…_FILE` variable names.
    SecretFile {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// The host's secret source, by its name.
    SecretSource(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset => f.write_str("host"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::SecretsFolder(path) => write!(f, "{}", path.display()),
            Self::SecretFile { variable, path } => write!(f, "{variable} -> {}", path.display()),
            Self::SecretSource(name) => write!(f, "secret source {name}"),
        }
    }
}

/// A TOML file as values with their lines.
#[derive(Debug)]
pub(super) enum Entry {
    Table(Vec<(String, usize, Entry)>),
    Value(Value),
}

/// The members of a table that a host hands over, where no lines are.
pub(super) fn members(table: Map<String, Value>) -> Vec<(String, usize, Entry)> {
    let entry = |value| match value {
        Value::Object(table) => Entry::Table(members(table)),
        other => Entry::Value(other),
    };
    table.into_iter().map(|(name, value)| (name, 0, entry(value))).collect()
}

/// Reads a configuration file.
pub(super) fn read_toml(path: &Path) -> Result<Entry, Vec<Fault>> {
    let name = path.display().to_string();
    let text = read_text(path, MAX_FILE_BYTES).map_err(|bad| vec![bad.fault(&name, &name)])?;
    let (table, errors) = DeTable::parse_recoverable(&text);
    if errors.is_empty() {
        return Ok(entry(&text, table.get_ref()));
    }
    let fault = |error: toml::de::Error| Fault {
        key: name.clone(),
        source: format!("{name}:{}", error.span().map_or(1, |span| line(&text, span.start))),
        // The parser's own words may quote the line, which may hold a secret.
        problem: "the file is not TOML from here on".to_owned(),
        advice: "look for a missing quote, a key that is there twice or a table that is open"
            .to_owned(),
        code: FaultCode::Syntax,
    };
    let mut faults: Vec<Fault> = errors.into_iter().map(fault).collect();
    faults.sort();
    faults.dedup();
    Err(faults)
}

fn entry(text: &str, table: &DeTable<'_>) -> Entry {
    let member =
        |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
            let below = match value.get_ref() {
                DeValue::Table(table) => entry(text, table),
                other => Entry::Value(json(other)),
            };
            (key.get_ref().to_string(), line(text, key.span().start), below)
        };
    Entry::Table(table.iter().map(member).collect())
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let read = i128::from_str_radix(number.as_str(), number.radix()).ok();
            let exact = read.and_then(|n| {
                i64::try_from(n)
                    .map(Value::from)
                    .or_else(|_| u64::try_from(n).map(Value::from))
                    .ok()
            });
            // What no 64 bits hold is left as text, which no whole number field takes.
            exact.unwrap_or_else(|| Value::String(number.as_str().to_owned()))
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(at) => Value::String(at.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref())).collect())
        }
        DeValue::Table(table) => {
            let members =
                table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

/// The line of a byte offset, from 1.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Reads a secret's file: one line end at its end is taken off, for every editor and `echo` adds one.
pub(super) fn read_secret(
    path: &Path,
    any_mode: bool,
) -> Result<(Zeroizing<String>, Option<Bad>), Bad> {
    let mut text = read_text(path, MAX_SECRET_BYTES)?;
    let length = text
        .strip_suffix('\n')
        .map_or(text.len(), |rest| rest.strip_suffix('\r').unwrap_or(rest).len());
    text.truncate(length);
    if text.is_empty() {
        return Err(Bad {
            code: FaultCode::Missing,
            problem: "the file is empty".to_owned(),
            advice: "write the secret into it".to_owned(),
        });
    }
    let open = (!any_mode && open_to_others(path)).then(|| Bad {
        code: FaultCode::SecretMode,
        problem: "the file can be read or written by other users of the machine".to_owned(),
        advice: "chmod 600 it; where a container platform sets the mode, let the host call `any_secret_mode`".to_owned(),
    });
    Ok((text, open))
}

/// Whether others than a file's owner may read or write it, where the platform tells.
#[cfg(unix)]
#[must_use]
pub fn open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Whether others than a file's owner may read or write it, where the platform tells.
#[cfg(not(unix))]
#[must_use]
pub fn open_to_others(_: &Path) -> bool {
    false
}

/// Why a file was not taken.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) code: FaultCode,
    pub(super) problem: String,
    pub(super) advice: String,
}

impl Bad {
    fn unreadable(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { code: FaultCode::Unreadable, problem: problem.into(), advice: advice.into() }
    }

    pub(super) fn fault(self, key: &str, source: &str) -> Fault {
        Fault {
            key: key.to_owned(),
            source: source.to_owned(),
            problem: self.problem,
            advice: self.advice,
            code: self.code,
        }
    }
}

/// Reads at most `limit` bytes of a regular file as UTF-8.
fn read_text(path: &Path, limit: u64) -> Result<Zeroizing<String>, Bad> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Bad::unreadable("there is no such file", "check the path, or make the file")
        }
        std::io::ErrorKind::PermissionDenied => Bad::unreadable(
            "this user may not read the file",
            "change its owner or mode, or run as its owner",
        ),
        _ => Bad::unreadable(
            format!("the file cannot be read: {error}"),
            "check the disk and the path",
        ),
    };
    let meta = std::fs::metadata(path).map_err(failed)?;
    // Asked before opening, for opening a pipe would wait for its writer.
    if !meta.is_file() {
        let what = if meta.is_dir() { "it is a directory" } else { "it is not a regular file" };
        return Err(Bad::unreadable(what, "name the file itself"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        let problem = format!("the file is larger than {} KiB", limit / 1024);
        return Err(Bad::unreadable(problem, "check that the path names the right file"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let problem = format!("the file is not UTF-8 at byte {}", error.valid_up_to());
        Bad::unreadable(problem, "save it as UTF-8")
    })?;
    // A byte-order mark is an editor's, not the author's.
    Ok(Zeroizing::new(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()))
}
