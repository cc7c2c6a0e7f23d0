//! Tables of text: comma, semicolon, tab or bar between the cells, `"` around those that need it.

use super::draft::Draft;
use super::feed::{Feed, FeedError, LONGEST_RECORD};
use super::field::{Alias, Aliases, Field, folded};
use super::{Cut, Head, Records, Verdict};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
const QUOTE: u8 = b'"';

/// Takes a file whose first line is a header with a name that we know.
pub(super) fn open(head: &Head<'_>) -> Verdict {
    let newline =
        if !head.bytes.contains(&b'\n') && head.bytes.contains(&b'\r') { b'\r' } else { b'\n' };
    let aliases = Aliases::new();
    let best = DELIMITERS
        .into_iter()
        .filter_map(|delimiter| Table::new(head, delimiter, newline, &aliases))
        .max_by_key(|table| (table.known(), table.names.len()));
    let Some(table) = best else {
        return Verdict::Refused("the first line is neither a header nor a JSON object".to_owned());
    };
    if table.draft_names(Field::Input).is_none() && table.draft_names(Field::Output).is_none() {
        return Verdict::Refused(format!(
            "no column holds token counts (input_tokens or prompt_tokens, output_tokens or completion_tokens); \
             the columns are {}",
            table.listed()
        ));
    }
    Verdict::Mine(Box::new(table))
}

#[derive(Debug)]
struct Table {
    delimiter: u8,
    newline: u8,
    /// The header's names, as they are written.
    names: Vec<String>,
    /// What each column means.
    columns: Vec<Option<Alias>>,
    /// The bytes and lines of the header, until it is taken.
    header: Option<(usize, u64)>,
    cells: Cells,
}

/// How a record ended.
enum Scan {
    /// At this byte, behind its newline, with this many cells.
    Whole { end: usize, cells: usize },
    /// The bytes at hand end before it.
    Short,
    /// A cell begins with a quote here: it has to be read with care.
    Quoted,
}

impl Table {
    fn new(head: &Head<'_>, delimiter: u8, newline: u8, aliases: &Aliases) -> Option<Self> {
        let mut cells = Cells::default();
        let (header, header_lines) = cells.read(head.bytes, delimiter, newline, head.whole)?;
        let names: Vec<String> = cells
            .iter()
            .map(|cell| std::str::from_utf8(cell).ok().map(|name| name.trim().to_owned()))
            .collect::<Option<_>>()?;
        if names.iter().any(|name| name.chars().any(char::is_control)) {
            return None;
        }
        let mut columns: Vec<Option<Alias>> =
            names.iter().map(|name| aliases.leaf(&folded(name))).collect();
        for field in Field::ALL {
            // Of several columns for a field the one with the best name counts; of equal ones the first.
            let of_field =
                |alias: &Option<Alias>| alias.filter(|a| a.field == field).map(|a| a.rank);
            let best = columns.iter().filter_map(of_field).min();
            let mut kept = false;
            for column in &mut columns {
                if of_field(column).is_some() {
                    if kept || of_field(column) != best {
                        *column = None;
                    } else {
                        kept = true;
                    }
                }
            }
        }
        Some(Self {
            delimiter,
            newline,
            names,
            columns,
            header: Some((header, header_lines)),
            cells,
        })
    }

    fn known(&self) -> usize {
        self.columns.iter().flatten().count()
    }

    fn draft_names(&self, field: Field) -> Option<&Alias> {
        self.columns.iter().flatten().find(|alias| alias.field == field)
    }

    fn listed(&self) -> String {
        let shown: Vec<_> =
            self.names.iter().take(20).map(|n| n.chars().take(40).collect::<String>()).collect();
        let more = if self.names.len() > shown.len() { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    }

    /// Finds the cells of a record without quoted cells, eight bytes at a time.
    #[inline]
    fn scan(&self, bytes: &[u8], draft: &mut Draft) -> Scan {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        let [delimiters, newlines, quotes] =
            [self.delimiter, self.newline, QUOTE].map(|b| ONES * u64::from(b));
        // The high bit of every byte of the word that is zero, and of no other.
        let zeros = |word: u64| !(((word & SEVEN) + SEVEN) | word | SEVEN);
        let (mut cell, mut cells, mut at) = (0, 0, 0);
        while let Some(word) = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()) {
            let word = u64::from_le_bytes(word);
            let (between, end, quote) =
                (zeros(word ^ delimiters), zeros(word ^ newlines), zeros(word ^ quotes));
            let mut marks = between | end | quote;
            while marks != 0 {
                let mark = marks & marks.wrapping_neg();
                marks ^= mark;
                let found = at + (mark.trailing_zeros() / 8) as usize;
                if mark & between != 0 {
                    self.cell(draft, cells, cell, found);
                    (cell, cells) = (found + 1, cells + 1);
                } else if mark & end != 0 {
                    self.cell(draft, cells, cell, found);
                    return Scan::Whole { end: found + 1, cells: cells + 1 };
                } else if found == cell {
                    return Scan::Quoted;
                }
            }
            at += 8;
        }
        for (found, byte) in bytes.iter().enumerate().skip(at) {
            if *byte == self.delimiter {
                self.cell(draft, cells, cell, found);
                (cell, cells) = (found + 1, cells + 1);
            } else if *byte == self.newline {
                self.cell(draft, cells, cell, found);
                return Scan::Whole { end: found + 1, cells: cells + 1 };
            } else if *byte == QUOTE && found == cell {
                return Scan::Quoted;
            }
        }
        Scan::Short
    }

    #[inline]
    fn cell(&self, draft: &mut Draft, column: usize, start: usize, end: usize) {
        if let Some(Some(alias)) = self.columns.get(column) {
            draft.set(alias.field, start, end);
        }
    }

    /// A record with this many cells: too few or too many mean that its cells have moved.
    fn cut(&self, cells: usize, bytes: usize, lines: u64) -> Cut {
        let expected = self.columns.len();
        if cells == expected {
            return Cut::Record { bytes, lines };
        }
        let reason = format!("has {cells} columns where the header has {expected}");
        Cut::Bad { bytes, lines, reason }
    }
}

impl Records for Table {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn columns(&self) -> Vec<(Field, String)> {
        let named = self.names.iter().zip(&self.columns);
        named.filter_map(|(name, alias)| Some(((*alias)?.field, name.clone()))).collect()
    }

    fn unknown(&self) -> Vec<String> {
        let named = self.names.iter().zip(&self.columns);
        named.filter(|(_, alias)| alias.is_none()).map(|(name, _)| name.clone()).collect()
    }

    fn next(&mut self, feed: &mut Feed<'_>, draft: &mut Draft) -> Result<Cut, FeedError> {
        if let Some((bytes, lines)) = self.header.take() {
            draft.clear();
            for alias in self.columns.iter().flatten() {
                draft.name(*alias);
            }
            return Ok(Cut::Blank { bytes, lines });
        }
        loop {
            draft.renew();
            let bytes = feed.bytes();
            match self.scan(bytes, draft) {
                Scan::Whole { end, .. } if end > LONGEST_RECORD => return self.skip(feed),
                Scan::Whole { end, cells } => {
                    let blank = cells == 1
                        && bytes.get(..end).is_none_or(|line| line.trim_ascii().is_empty());
                    return Ok(if blank {
                        Cut::Blank { bytes: end, lines: 1 }
                    } else {
                        self.cut(cells, end, 1)
                    });
                }
                Scan::Quoted => {
                    let taken = self.cells.read(bytes, self.delimiter, self.newline, feed.ended());
                    if let Some((end, lines)) = taken.filter(|(end, _)| *end <= LONGEST_RECORD) {
                        for (column, text) in self.columns.iter().zip(self.cells.iter()) {
                            if let Some(alias) = column {
                                draft.push(*alias, text);
                            }
                        }
                        return Ok(self.cut(self.cells.ends.len(), end, lines));
                    }
                }
                Scan::Short => {
                    if feed.ended() && bytes.len() <= LONGEST_RECORD {
                        // The last line, without a newline after it.
                        return Ok(self.last(bytes, draft));
                    }
                }
            }
            if bytes.len() > LONGEST_RECORD || feed.ended() {
                return self.skip(feed);
            }
            feed.more()?;
        }
    }
}

impl Table {
    fn last(&self, bytes: &[u8], draft: &mut Draft) -> Cut {
        if bytes.trim_ascii().is_empty() {
            return Cut::End { bytes: bytes.len() };
        }
        let (mut start, mut cells) = (0, 0);
        for cell in bytes.split(|byte| *byte == self.delimiter) {
            self.cell(draft, cells, start, start + cell.len());
            (start, cells) = (start + cell.len() + 1, cells + 1);
        }
        self.cut(cells, bytes.len(), 1)
    }

    /// Gives up on a record that does not end: only its first line, because what follows may be sound.
    fn skip(&self, feed: &mut Feed<'_>) -> Result<Cut, FeedError> {
        let bytes = feed.bytes();
        let near = bytes.get(..LONGEST_RECORD).unwrap_or(bytes);
        let line = memchr::memchr(self.newline, near).map(|end| end + 1);
        let reason = if line.is_some() || bytes.len() <= LONGEST_RECORD {
            "has a quote that never ends".to_owned()
        } else {
            format!("is longer than {LONGEST_RECORD} bytes")
        };
        let bytes = match line {
            Some(end) => end,
            None => super::skip_line(feed, self.newline)?,
        };
        Ok(Cut::Bad { bytes, lines: 1, reason })
    }
}

/// The cells of one record, unquoted.
#[derive(Debug, Default)]
struct Cells {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }

    /// Reads one record byte by byte: quotes, doubled quotes and newlines inside them. The bytes and lines that it
    /// takes, or `None` where the bytes end before it. Text behind a closing quote is kept, as most readers do.
    fn read(
        &mut self,
        bytes: &[u8],
        delimiter: u8,
        newline: u8,
        ended: bool,
    ) -> Option<(usize, u64)> {
        self.text.clear();
        self.ends.clear();
        let (mut quoted, mut fresh, mut lines) = (false, true, 0);
        let mut rest = bytes.iter().enumerate().peekable();
        while let Some((at, byte)) = rest.next() {
            lines += u64::from(*byte == newline);
            if quoted {
                if *byte != QUOTE {
                    self.text.push(*byte);
                } else if rest.next_if(|(_, next)| **next == QUOTE).is_some() {
                    self.text.push(QUOTE);
                } else {
                    quoted = false;
                }
            } else if *byte == QUOTE && fresh {
                (quoted, fresh) = (true, false);
            } else if *byte == delimiter || *byte == newline {
                self.ends.push(self.text.len());
                fresh = true;
                if *byte == newline {
                    return Some((at + 1, lines));
                }
            } else {
                self.text.push(*byte);
                fresh = false;
            }
        }
        self.ends.push(self.text.len());
        (ended && !quoted && !bytes.is_empty()).then_some((bytes.len(), lines + 1))
    }
}
