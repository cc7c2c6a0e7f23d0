//! A record as text under its fields, and its decoding into figures.

use super::field::{Alias, FIELDS, Field, Style};
use super::time;
use apex_core::clock::Timestamp;
use apex_core::money::{Usd, UsdError};
use apex_core::usage::UsageStatus;

/// The longest name of a model, user and so on, in bytes.
const LONGEST_TEXT: usize = 512;

/// More tokens or dollars in one request than these are a fault of the file.
const MOST_TOKENS: u64 = 10_000_000_000;
const MOST_DOLLARS: i128 = 1_000_000_000 * 10_i128.pow(24);

/// Where the text of each field of one record stands.
#[derive(Debug)]
pub(super) struct Draft {
    spans: [(usize, usize); FIELDS],
    /// Text that does not stand as it is in the file: unescaped, or joined.
    pub(super) scratch: Vec<u8>,
    /// Whether the spans are meant in `scratch`.
    pub(super) scratched: bool,
    aliases: [Option<Alias>; FIELDS],
    /// The day of the record before, which most often is this one's too.
    days: time::Days,
}

/// A record, decoded. Its texts still stand in the file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cost) struct Decoded<'a> {
    pub(in crate::cost) at: Option<Timestamp>,
    pub(in crate::cost) request: Option<&'a [u8]>,
    pub(in crate::cost) user: Option<&'a str>,
    pub(in crate::cost) session: Option<&'a [u8]>,
    pub(in crate::cost) provider: Option<&'a str>,
    pub(in crate::cost) model: &'a str,
    pub(in crate::cost) tier: Option<&'a str>,
    pub(in crate::cost) content: Option<&'a [u8]>,
    pub(in crate::cost) status: UsageStatus,
    pub(in crate::cost) batch: bool,
    /// All tokens sent, cached and cache-writing ones included.
    pub(in crate::cost) input: u64,
    pub(in crate::cost) cached: u64,
    pub(in crate::cost) cache_write: u64,
    /// All tokens received, reasoning included.
    pub(in crate::cost) output: u64,
    pub(in crate::cost) reasoning: u64,
    pub(in crate::cost) recorded: Option<Usd>,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self {
            spans: [(0, 0); FIELDS],
            scratch: Vec::new(),
            scratched: false,
            aliases: [None; FIELDS],
            days: time::Days::default(),
        }
    }

    /// Forgets the texts, and under which names they stood.
    pub(super) fn clear(&mut self) {
        self.spans = [(0, 0); FIELDS];
        self.aliases = [None; FIELDS];
        self.scratch.clear();
        self.scratched = false;
    }

    /// A new record of a table begins: its columns stay the same, and each of them will be set.
    #[inline]
    pub(super) fn renew(&mut self) {
        self.scratch.clear();
        self.scratched = false;
    }

    /// Says under which name a field stands in every record.
    pub(super) fn name(&mut self, alias: Alias) {
        if let Some(slot) = self.aliases.get_mut(alias.field as usize) {
            *slot = Some(alias);
        }
    }

    /// Under which name a field stands.
    pub(super) fn named(&self, field: Field) -> Option<Alias> {
        self.aliases.get(field as usize).copied().flatten()
    }

    /// Sets the place of a field's text.
    #[inline]
    pub(super) fn set(&mut self, field: Field, start: usize, end: usize) {
        if let Some(slot) = self.spans.get_mut(field as usize) {
            *slot = (start, end);
        }
    }

    /// Sets a field's text, given apart from the file's bytes.
    pub(super) fn push(&mut self, alias: Alias, text: &[u8]) {
        let start = self.scratch.len();
        self.scratch.extend_from_slice(text);
        self.scratched = true;
        self.set(alias.field, start, self.scratch.len());
        self.name(alias);
    }

    #[inline]
    fn raw<'a>(&self, field: Field, base: &Base<'a>) -> &'a [u8] {
        let (start, end) = self.spans.get(field as usize).copied().unwrap_or_default();
        if start == end {
            return b"";
        }
        base.bytes.get(start..end).unwrap_or_default().trim_ascii()
    }

    /// A name: text without control characters.
    #[inline]
    fn name_of<'a>(&self, field: Field, base: &Base<'a>) -> Result<Option<&'a str>, String> {
        let bytes = self.raw(field, base);
        if bytes.is_empty() {
            return Ok(None);
        }
        match std::str::from_utf8(bytes) {
            Ok(name) if base.plain && bytes.len() <= LONGEST_TEXT => {
                Ok((field == Field::Model || !is_nothing(bytes)).then_some(name))
            }
            _ => text(field, bytes),
        }
    }

    /// Decodes the record whose bytes are `record`.
    ///
    /// # Errors
    /// Why it is no usage record.
    #[inline]
    pub(super) fn decode<'a>(&'a self, record: &'a [u8]) -> Result<Decoded<'a>, String> {
        let base = Base::new(if self.scratched { &self.scratch } else { record });
        let raw = |field| self.raw(field, &base);
        let name = |field| self.name_of(field, &base);
        let number = |field| tokens(field, raw(field));
        if let Some(requests) = number(Field::Requests)?.filter(|requests| *requests > 1) {
            return Err(format!(
                "sums up {requests} requests; export each request as a row of its own"
            ));
        }
        let (input, output) = (number(Field::Input)?, number(Field::Output)?);
        let status = status(raw(Field::Status), raw(Field::Fault));
        if input.is_none() && output.is_none() && status != UsageStatus::Error {
            return Err("has no token counts".to_owned());
        }
        let (mut input, mut output) = (input.unwrap_or(0), output.unwrap_or(0));
        let cached = number(Field::Cached)?.unwrap_or(0);
        let cache_write = number(Field::CacheWrite)?.unwrap_or(0);
        let reasoning = number(Field::Reasoning)?.unwrap_or(0);
        if self.cache_is_apart() {
            input += cached + cache_write;
        }
        if self.style(Field::Reasoning) == Some(Style::Apart) {
            output += reasoning;
        }
        if cached.saturating_add(cache_write) > input {
            return Err(format!(
                "has {cached} cached and {cache_write} cache-writing tokens but only {input} input tokens"
            ));
        }
        if reasoning > output {
            return Err(format!(
                "has {reasoning} reasoning tokens but only {output} output tokens"
            ));
        }
        let tier = name(Field::Tier)?;
        Ok(Decoded {
            at: moment(&self.days, raw(Field::Time))?,
            request: some(raw(Field::Request)),
            user: name(Field::User)?,
            session: some(raw(Field::Session)),
            provider: name(Field::Provider)?,
            model: name(Field::Model)?.unwrap_or_default(),
            content: some(raw(Field::Content)),
            status,
            batch: flag(raw(Field::Batch))?
                || tier.is_some_and(|t| t.eq_ignore_ascii_case("batch")),
            tier,
            input,
            cached,
            cache_write,
            output,
            reasoning,
            recorded: money(raw(Field::Cost))?,
        })
    }

    fn style(&self, field: Field) -> Option<Style> {
        self.named(field).map(|alias| alias.style)
    }

    /// Whether the input is given without the cached tokens.
    fn cache_is_apart(&self) -> bool {
        match self.style(Field::Input) {
            Some(Style::Apart) => true,
            Some(Style::Bare) => [Field::Cached, Field::CacheWrite]
                .into_iter()
                .any(|field| self.style(field) == Some(Style::Apart)),
            _ => false,
        }
    }
}

/// The bytes in which a record's texts stand.
struct Base<'a> {
    bytes: &'a [u8],
    /// Whether there is no control character in them, so that none of the parts has to be searched for one.
    plain: bool,
}

impl<'a> Base<'a> {
    #[inline]
    fn new(bytes: &'a [u8]) -> Self {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Looking at all of a short text is faster than stopping at the first.
        let control =
            line.iter().fold(false, |found, byte| found | (*byte < 0x20) | (*byte == 0x7f));
        Self { bytes, plain: !control }
    }
}

/// Whether a text means that there is nothing.
fn is_nothing(text: &[u8]) -> bool {
    match text.len() {
        0 => true,
        3..=4 => [b"null".as_slice(), b"none", b"nan"]
            .iter()
            .any(|nothing| text.eq_ignore_ascii_case(nothing)),
        _ => false,
    }
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[inline]
fn tokens(field: Field, text: &[u8]) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (mut value, mut digits) = (0_u64, text.len() < 11);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        digits &= digit < 10;
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    if digits { Ok(Some(value)) } else { loose_tokens(field, text) }
}

/// A count that is not written as plain digits.
#[cold]
fn loose_tokens(field: Field, text: &[u8]) -> Result<Option<u64>, String> {
    if is_nothing(text) {
        return Ok(None);
    }
    // Tables that once held a gap write whole numbers as 12.0.
    let refuse = |why: &str| Err(format!("{} {} {why}", field.name(), shown(text)));
    match Usd::parse(text) {
        Ok(value) if value < Usd::ZERO => refuse("is negative"),
        Ok(value) => match u64::try_from(value.units() / 10_i128.pow(24)) {
            Ok(whole) if value.units() % 10_i128.pow(24) != 0 || whole > MOST_TOKENS => {
                refuse("is not a plausible number of tokens")
            }
            Ok(whole) => Ok(Some(whole)),
            Err(_) => refuse("is not a plausible number of tokens"),
        },
        Err(UsdError::NotANumber) => refuse("is not a number"),
        Err(_) => refuse("is not a plausible number of tokens"),
    }
}

fn money(text: &[u8]) -> Result<Option<Usd>, String> {
    if is_nothing(text) {
        return Ok(None);
    }
    let refuse = |why: &str| Err(format!("{} {} {why}", Field::Cost.name(), shown(text)));
    match Usd::parse_lossy(text.strip_prefix(b"$").unwrap_or(text)) {
        Ok(value) if value < Usd::ZERO => refuse("is negative"),
        Ok(value) if value.units() > MOST_DOLLARS => refuse("is implausible for one request"),
        Ok(value) => Ok(Some(value)),
        Err(UsdError::NotANumber) => refuse("is not an amount"),
        Err(_) => refuse("is implausible for one request"),
    }
}

fn moment(days: &time::Days, text: &[u8]) -> Result<Option<Timestamp>, String> {
    if is_nothing(text) {
        return Ok(None);
    }
    match time::parse(text, days) {
        Ok(at) => Ok(Some(at)),
        Err(why) => Err(format!("{} {} {why}", Field::Time.name(), shown(text))),
    }
}

fn flag(text: &[u8]) -> Result<bool, String> {
    if is_nothing(text) {
        return Ok(false);
    }
    let is_one_of = |words: &[&[u8]]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(&[b"false", b"0", b"no", b"f", b"n"]) {
        Ok(false)
    } else if is_one_of(&[b"true", b"1", b"yes", b"t", b"y", b"batch"]) {
        Ok(true)
    } else {
        Err(format!("batch {} is neither true nor false", shown(text)))
    }
}

/// A text that is only ever compared with others, so that its bytes need not mean anything.
fn some(text: &[u8]) -> Option<&[u8]> {
    (!is_nothing(text)).then_some(text)
}

/// A text without control characters, from a record that may hold some.
#[cold]
fn text(field: Field, text: &[u8]) -> Result<Option<&str>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > LONGEST_TEXT {
        return Err(format!(
            "{} {} is longer than {LONGEST_TEXT} bytes",
            field.name(),
            shown(text)
        ));
    }
    if text.iter().any(u8::is_ascii_control) {
        return Err(format!("{} {} has a control character in it", field.name(), shown(text)));
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok((!is_nothing(text.as_bytes()) || field == Field::Model).then_some(text)),
        Err(_) => Err(format!("{} {} is not UTF-8", field.name(), shown(text))),
    }
}

fn status(text: &[u8], fault: &[u8]) -> UsageStatus {
    let quiet = is_nothing(fault)
        || fault == b"{}"
        || fault == b"0"
        || fault.eq_ignore_ascii_case(b"false");
    if !quiet {
        return UsageStatus::Error;
    }
    if is_nothing(text) {
        return UsageStatus::Unknown;
    }
    if let [class @ b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] = text {
        return if *class < b'4' { UsageStatus::Ok } else { UsageStatus::Error };
    }
    const FAILED: [&[u8]; 8] = [
        b"error",
        b"failed",
        b"failure",
        b"fail",
        b"timeout",
        b"exception",
        b"cancelled",
        b"aborted",
    ];
    const WORKED: [&[u8]; 7] =
        [b"ok", b"success", b"succeeded", b"completed", b"default", b"info", b"debug"];
    if FAILED.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        UsageStatus::Error
    } else if WORKED.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        UsageStatus::Ok
    } else {
        UsageStatus::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(field: Field, style: Style) -> Alias {
        Alias { field, style, rank: 0 }
    }

    fn draft(parts: &[(Field, Style, &str)]) -> Draft {
        let mut draft = Draft::new();
        for (field, style, text) in parts {
            draft.push(alias(*field, *style), text.as_bytes());
        }
        draft
    }

    fn refused(field: Field, text: &str) -> String {
        let base = [(Field::Input, Style::Within, "5"), (Field::Output, Style::Within, "5")];
        let mut parts: Vec<_> = base.into_iter().filter(|(f, ..)| *f != field).collect();
        parts.push((field, Style::Within, text));
        draft(&parts).decode(b"").unwrap_err()
    }

    #[test]
    fn counts_are_brought_to_one_meaning() {
        use Field::{CacheWrite, Cached, Input, Output, Reasoning};
        let anthropic = draft(&[
            (Input, Style::Bare, "10"),
            (Cached, Style::Apart, "100"),
            (CacheWrite, Style::Apart, "1000"),
            (Output, Style::Within, "7"),
        ]);
        assert_eq!(anthropic.decode(b"").unwrap().input, 1_110);
        let openai = draft(&[
            (Input, Style::Bare, "100"),
            (Cached, Style::Within, "60"),
            (Output, Style::Within, "7"),
        ]);
        assert_eq!(openai.decode(b"").unwrap().input, 100);
        let gemini = draft(&[
            (Input, Style::Within, "1"),
            (Output, Style::Within, "5"),
            (Reasoning, Style::Apart, "20"),
        ]);
        let gemini = gemini.decode(b"").unwrap();
        assert_eq!((gemini.output, gemini.reasoning), (25, 20));
    }

    #[test]
    fn faults_say_what_is_wrong() {
        for (field, text, expected) in [
            (Field::Input, "-5", "input_tokens \"-5\" is negative"),
            (Field::Input, "lots", "input_tokens \"lots\" is not a number"),
            (Field::Output, "1.5", "not a plausible number"),
            (Field::Output, "99999999999", "not a plausible number"),
            (Field::Cached, "6", "6 cached and 0 cache-writing tokens but only 5 input"),
            (Field::Reasoning, "6", "6 reasoning tokens but only 5 output"),
            (Field::Cost, "-0.5", "is negative"),
            (Field::Cost, "free", "is not an amount"),
            (Field::Cost, "2e9", "implausible"),
            (Field::Time, "1970-01-01", "implausible time 1970-01-01T00:00:00.000Z"),
            (Field::Batch, "maybe", "neither true nor false"),
            (Field::User, "a\u{0}b", "control character"),
        ] {
            let reason = refused(field, text);
            assert!(reason.contains(expected), "{reason}");
        }
        assert!(refused(Field::Model, &"m".repeat(600)).contains("longer than 512"));
        assert!(draft(&[]).decode(b"").unwrap_err().contains("no token counts"));
    }

    #[test]
    fn gaps_and_loose_numbers_are_understood() {
        let loose = draft(&[
            (Field::Input, Style::Within, " 12.0 "),
            (Field::Output, Style::Within, "NaN"),
            (Field::Cost, Style::Within, "$0.25"),
            (Field::User, Style::Within, "null"),
        ]);
        let record = loose.decode(b"").unwrap();
        assert_eq!((record.input, record.output, record.user), (12, 0, None));
        assert_eq!(record.recorded, Some("0.25".parse().unwrap()));
    }

    #[test]
    fn status_is_read_from_words_codes_and_errors() {
        for (text, fault, expected) in [
            ("success", "", UsageStatus::Ok),
            ("200", "", UsageStatus::Ok),
            ("429", "", UsageStatus::Error),
            ("Failure", "", UsageStatus::Error),
            ("DEFAULT", "null", UsageStatus::Ok),
            ("", "overloaded_error", UsageStatus::Error),
            ("odd", "", UsageStatus::Unknown),
        ] {
            assert_eq!(status(text.as_bytes(), fault.as_bytes()), expected, "{text} {fault}");
        }
    }
}
