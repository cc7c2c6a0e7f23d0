//! A JSON object a line.

use super::draft::Draft;
use super::feed::{Feed, FeedError, LONGEST_RECORD};
use super::field::{Alias, Aliases, Field, fold_into};
use super::{Cut, Head, Records, Verdict};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// How deep a field that we know can lie.
const DEEPEST: usize = 6;

/// Takes a file that begins with a JSON object on one line.
pub(super) fn open(head: &Head<'_>) -> Verdict {
    let text = head.bytes.trim_ascii_start();
    match text.first() {
        Some(b'{') => {}
        Some(b'[') => {
            return Verdict::Refused(
                "a JSON array; write one object a line (`jq -c '.[]' in.json > out.jsonl`)"
                    .to_owned(),
            );
        }
        _ => return Verdict::NotMine,
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.trim_ascii() == b"{" {
        return Verdict::Refused(
            "a JSON object over several lines; write one object a line (`jq -c . in.json > out.jsonl`)".to_owned(),
        );
    }
    let mut lines = Lines { aliases: Aliases::new(), seen: Vec::new() };
    let mut draft = Draft::new();
    // The first line decides whether any field is known; a broken one is a row like any other.
    if lines.read(line, &mut draft).is_ok()
        && draft.named(Field::Input).is_none()
        && draft.named(Field::Output).is_none()
    {
        return Verdict::Refused(
            "no member holds token counts (input_tokens or prompt_tokens, output_tokens or completion_tokens, \
             also inside usage)"
                .to_owned(),
        );
    }
    Verdict::Mine(Box::new(lines))
}

#[derive(Debug)]
struct Lines {
    aliases: Aliases,
    /// Under which paths fields were found, for the report.
    seen: Vec<(Field, String)>,
}

impl Records for Lines {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn columns(&self) -> Vec<(Field, String)> {
        self.seen.clone()
    }

    fn unknown(&self) -> Vec<String> {
        Vec::new()
    }

    fn next(&mut self, feed: &mut Feed<'_>, draft: &mut Draft) -> Result<Cut, FeedError> {
        let mut looked = 0;
        loop {
            let bytes = feed.bytes();
            let rest = bytes.get(looked..).unwrap_or_default();
            let end = match memchr::memchr(b'\n', rest) {
                Some(found) => looked + found + 1,
                None if feed.ended() && bytes.is_empty() => return Ok(Cut::End { bytes: 0 }),
                None if feed.ended() => bytes.len(),
                None if bytes.len() > LONGEST_RECORD => {
                    let reason = too_long();
                    let bytes = super::skip_line(feed, b'\n')?;
                    return Ok(Cut::Bad { bytes, lines: 1, reason });
                }
                None => {
                    looked = bytes.len();
                    feed.more()?;
                    continue;
                }
            };
            if end > LONGEST_RECORD {
                let reason = too_long();
                return Ok(Cut::Bad { bytes: end, lines: 1, reason });
            }
            let line = bytes.get(..end).unwrap_or_default();
            if line.trim_ascii().is_empty() {
                return Ok(Cut::Blank { bytes: end, lines: 1 });
            }
            return Ok(match self.read(line, draft) {
                Ok(()) => Cut::Record { bytes: end, lines: 1 },
                Err(reason) => Cut::Bad { bytes: end, lines: 1, reason },
            });
        }
    }
}

impl Lines {
    fn read(&mut self, line: &[u8], draft: &mut Draft) -> Result<(), String> {
        draft.clear();
        let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
        let mut path = String::with_capacity(64);
        self.object(text, &mut path, draft, 0)?;
        for field in Field::ALL {
            let Some(alias) = draft.named(field) else {
                continue;
            };
            if self.seen.iter().any(|(seen, _)| *seen == field) {
                continue;
            }
            self.seen.push((field, alias.written().to_owned()));
        }
        Ok(())
    }

    fn object(
        &self,
        text: &str,
        path: &mut String,
        draft: &mut Draft,
        depth: usize,
    ) -> Result<(), String> {
        let mut json = serde_json::Deserializer::from_str(text);
        let mut below = Vec::new();
        let members = Members { aliases: &self.aliases, path, draft, below: &mut below };
        members
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|e| format!("is not a JSON object: {e}"))?;
        if depth < DEEPEST {
            for (name, text) in below {
                let length = path.len();
                path.push_str(&name);
                path.push('.');
                self.object(text, path, draft, depth + 1)?;
                path.truncate(length);
            }
        }
        Ok(())
    }
}

fn too_long() -> String {
    format!("is longer than {LONGEST_RECORD} bytes")
}

/// Goes through the members of one object: keeps the text of those that mean something, and the objects below which
/// something may.
struct Members<'a, 'd> {
    aliases: &'a Aliases,
    path: &'a mut String,
    draft: &'a mut Draft,
    below: &'a mut Vec<(String, &'d str)>,
}

/// What a member is for us.
enum Member {
    Leaf(Alias),
    Branch(String),
    Other,
}

impl<'d> DeserializeSeed<'d> for Members<'_, 'd> {
    type Value = ();
    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'d> Visitor<'d> for Members<'_, 'd> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'d>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) =
            map.next_key_seed(Name { aliases: self.aliases, path: self.path })?
        {
            match member {
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
                Member::Branch(name) => {
                    let value: &RawValue = map.next_value()?;
                    if value.get().starts_with('{') {
                        self.below.push((name, value.get()));
                    }
                }
                Member::Leaf(alias) => {
                    let value: &RawValue = map.next_value()?;
                    self.leaf(alias, value.get());
                }
            }
        }
        Ok(())
    }
}

impl Members<'_, '_> {
    fn leaf(&mut self, alias: Alias, value: &str) {
        if value == "null" || value == "\"\"" {
            return;
        }
        let better = self.draft.named(alias.field).is_none_or(|other| alias.rank <= other.rank);
        if !better {
            return;
        }
        match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => self.draft.push(alias, plain.as_bytes()),
            // RawValue holds valid JSON, so a string can be read; any other value stays as it is written.
            Some(_) => {
                if let Ok(text) = serde_json::from_str::<String>(value) {
                    self.draft.push(alias, text.as_bytes());
                }
            }
            None => self.draft.push(alias, value.as_bytes()),
        }
    }
}

/// Reads a member's name without keeping it.
struct Name<'a> {
    aliases: &'a Aliases,
    path: &'a mut String,
}

impl<'d> DeserializeSeed<'d> for Name<'_> {
    type Value = Member;
    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        let length = self.path.len();
        fold_into(name, self.path);
        let member = if let Some(alias) = self.aliases.leaf(self.path) {
            Member::Leaf(alias)
        } else if self.aliases.is_branch(self.path) {
            Member::Branch(self.path.get(length..).unwrap_or_default().to_owned())
        } else {
            Member::Other
        };
        self.path.truncate(length);
        Ok(member)
    }
}
