//! From a file's bytes to usage records: streamed, bounded, and nothing dropped in silence.
//!
//! A file is taken for what it contains, not for what it is called. Every record is imported or refused with its line
//! and the reason, so `rows = imported + rejected`. What counts as what is described in `docs/guide/usage-format.md`.

mod csv;
mod draft;
mod feed;
mod field;
mod inspect;
mod jsonl;
pub(in crate::cost) mod key;
mod seen;
mod time;

pub use inspect::{Column, Inspection, MissingColumn, inspect};

pub(in crate::cost) use draft::Decoded;
pub(in crate::cost) use seen::Copies;

use super::report::{Rejection, Source};
use apex_core::error::{Error, Kind, Result};
use draft::Draft;
use feed::{Feed, FeedError};
use field::Field;
use std::io::Read;

/// The kinds of file that are known, each by a function that looks at a file's beginning. A new one is a file in
/// this folder and a line here; the first that takes or refuses a file decides.
const FORMATS: &[fn(&Head<'_>) -> Verdict] = &[not_text, jsonl::open, csv::open];

/// How many rejections are kept with their reason.
pub const REJECTIONS_KEPT: usize = 1_000;

/// How much of a file is looked at to know its format.
const HEAD: usize = 64 << 10;

/// How far reading a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read of the file as it is stored.
    pub bytes: u64,
    /// Rows seen, imported or not.
    pub rows: u64,
}

/// The beginning of a file.
struct Head<'a> {
    bytes: &'a [u8],
    /// Whether this is all of it.
    whole: bool,
}

/// What a format says of a file.
enum Verdict {
    NotMine,
    Mine(Box<dyn Records>),
    Refused(String),
}

/// Cuts records from bytes.
trait Records: Send + std::fmt::Debug {
    /// The format's name in a report.
    fn name(&self) -> &'static str;
    /// Which field stands under which name, as far as is known.
    fn columns(&self) -> Vec<(Field, String)>;
    /// The names that mean nothing here.
    fn unknown(&self) -> Vec<String>;
    /// Finds the next record at the front of the feed and notes where its texts stand.
    fn next(&mut self, feed: &mut Feed<'_>, draft: &mut Draft) -> Result<Cut, FeedError>;
}

/// What stands at the front of a feed.
enum Cut {
    /// A record of so many bytes and lines.
    Record { bytes: usize, lines: u64 },
    /// So many bytes and lines that are no record, and why.
    Bad { bytes: usize, lines: u64, reason: String },
    /// Nothing that counts.
    Blank { bytes: usize, lines: u64 },
    /// The end of the file.
    End { bytes: usize },
}

/// Reads one file's records in their order.
pub(in crate::cost) struct Import<'a> {
    feed: Feed<'a>,
    records: Option<Box<dyn Records>>,
    draft: Draft,
    /// The line at which the next record starts.
    line: u64,
    /// The bytes of the record handed out last, which are still needed.
    pending: usize,
    rows: u64,
    refused: Option<Rejection>,
}

/// A row of a file.
#[derive(Debug)]
pub(in crate::cost) struct RowOf<'a> {
    /// The line at which it starts.
    pub(in crate::cost) line: u64,
    /// Its record, or why there is none.
    pub(in crate::cost) record: std::result::Result<Decoded<'a>, String>,
}

impl<'a> Import<'a> {
    /// Opens a file. What cannot be read at all is refused with a reason, which is not an error: see
    /// [`Import::describe`].
    ///
    /// # Errors
    /// The reader failed.
    pub(in crate::cost) fn open(reader: impl Read + Send + 'a) -> Result<Self> {
        let mut import = Self {
            feed: Feed::open(reader).map_err(source_failed)?,
            records: None,
            draft: Draft::new(),
            line: 1,
            pending: 0,
            rows: 0,
            refused: None,
        };
        match import.feed.at_least(HEAD) {
            Ok(()) => {}
            Err(FeedError::Source(e)) => return Err(source_failed(e)),
            Err(FeedError::File(reason)) => import.refuse(reason),
        }
        if import.feed.bytes().starts_with(b"\xef\xbb\xbf") {
            import.feed.take(3);
        }
        let head = Head { bytes: import.feed.bytes(), whole: import.feed.ended() };
        match FORMATS
            .iter()
            .map(|open| open(&head))
            .find(|verdict| !matches!(verdict, Verdict::NotMine))
        {
            Some(Verdict::Mine(records)) => import.records = Some(records),
            Some(Verdict::Refused(reason)) => import.refuse(reason),
            Some(Verdict::NotMine) | None => {
                import.refuse("is in no format that is known".to_owned())
            }
        }
        Ok(import)
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// The reader failed.
    #[inline]
    pub(in crate::cost) fn next(&mut self) -> Result<Option<RowOf<'_>>> {
        self.feed.take(std::mem::take(&mut self.pending));
        let Some(records) = &mut self.records else {
            return Ok(None);
        };
        loop {
            match records.next(&mut self.feed, &mut self.draft) {
                Ok(Cut::Blank { bytes, lines }) => {
                    self.feed.take(bytes);
                    self.line += lines;
                }
                Ok(Cut::End { bytes }) => {
                    self.feed.take(bytes);
                    return Ok(None);
                }
                Ok(Cut::Bad { bytes, lines, reason }) => {
                    let line = self.line;
                    self.feed.take(bytes);
                    self.line += lines;
                    self.rows += 1;
                    return Ok(Some(RowOf { line, record: Err(reason) }));
                }
                Ok(Cut::Record { bytes, lines }) => {
                    let line = self.line;
                    self.pending = bytes;
                    self.line += lines;
                    self.rows += 1;
                    let record =
                        self.draft.decode(self.feed.bytes().get(..bytes).unwrap_or_default());
                    return Ok(Some(RowOf { line, record }));
                }
                Err(FeedError::Source(e)) => return Err(source_failed(e)),
                // What was whole before the damage counts; the rest is refused, not lost in silence.
                Err(FeedError::File(reason)) if self.refused.is_none() => {
                    self.refused = Some(Rejection { line: self.line, reason });
                }
                Err(FeedError::File(_)) => return Ok(None),
            }
        }
    }

    /// How far it has come.
    pub(in crate::cost) fn progress(&self) -> Progress {
        Progress { bytes: self.feed.stored_bytes(), rows: self.rows }
    }

    /// The file as a report describes it; the imported and rejected rows are the caller's to count.
    pub(in crate::cost) fn describe(&self, file: &str) -> Source {
        let columns = self.records.as_ref().map(|r| r.columns()).unwrap_or_default();
        Source {
            file: file.to_owned(),
            format: self.format(),
            // How far a refused file was read depends on its reader, and means nothing.
            bytes: if self.refused.is_some() { 0 } else { self.feed.stored_bytes() },
            rows: self.rows,
            imported: 0,
            rejected_rows: 0,
            rejected: Vec::new(),
            refused: self.refused.clone(),
            columns: columns
                .iter()
                .map(|(field, name)| format!("{}={name}", field.name()))
                .collect(),
        }
    }

    fn format(&self) -> String {
        let name = self.records.as_ref().map_or("unknown", |r| r.name());
        format!("{name}{}", if self.feed.compressed() { "+gzip" } else { "" })
    }

    fn refuse(&mut self, reason: String) {
        // The first reason is nearest to the cause.
        self.refused.get_or_insert(Rejection { line: 1, reason });
    }
}

/// Reads a whole file as an import would and keeps nothing: its rows, and how many of them are usage records.
///
/// # Errors
/// The reader failed.
pub fn check(reader: impl Read + Send) -> Result<(u64, u64)> {
    let mut import = Import::open(reader)?;
    let mut usable = 0;
    while let Some(row) = import.next()? {
        usable += u64::from(row.record.is_ok());
    }
    Ok((import.rows, usable))
}

fn source_failed(error: std::io::Error) -> Error {
    Error::new(
        Kind::Storage,
        "usage.import",
        "the file could not be read to its end; try again, nothing of it was kept",
    )
    .with_source(error)
}

/// Refuses what is not text, by name where its beginning tells.
fn not_text(head: &Head<'_>) -> Verdict {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"PK\x03\x04", "a zip archive or an Excel workbook; save the table as CSV"),
        (b"PAR1", "a Parquet file; write it as CSV or JSON lines"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it, or use gzip"),
        (b"BZh", "compressed with bzip2; decompress it, or use gzip"),
        (b"\xfd7zXZ", "compressed with xz; decompress it, or use gzip"),
        (b"\x1f\x8b", "gzip inside gzip; decompress it once"),
        (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
        (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
        (b"%PDF", "a PDF document; export the records as CSV"),
        (b"SQLite format 3", "a SQLite database; export the table as CSV"),
    ];
    let found = MAGIC.iter().find(|(magic, _)| head.bytes.starts_with(magic));
    if let Some((_, what)) = found {
        return Verdict::Refused(format!("is {what}"));
    }
    if head.bytes.trim_ascii().is_empty() {
        return Verdict::Refused(
            if head.whole { "the file is empty" } else { "the file begins with blanks only" }
                .to_owned(),
        );
    }
    let line = head.bytes.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default();
    if line.iter().any(|b| *b < 0x20 && *b != b'\t') {
        return Verdict::Refused("is not text".to_owned());
    }
    Verdict::NotMine
}

/// Passes over the rest of a line, however long. The bytes at the front of the feed that still belong to it.
fn skip_line(feed: &mut Feed<'_>, newline: u8) -> std::result::Result<usize, FeedError> {
    loop {
        if let Some(end) = memchr::memchr(newline, feed.bytes()) {
            return Ok(end + 1);
        }
        if feed.ended() {
            return Ok(feed.bytes().len());
        }
        feed.take(feed.bytes().len());
        feed.more()?;
    }
}
