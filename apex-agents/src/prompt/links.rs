//! Links in what users see. Where a run has read what others wrote, an answer may lead to a place that these others
//! chose, with what the run knows in its address: a picture is fetched as soon as it is shown. So only links stay that
//! the user wrote or the host allows; of any other the place stays as text.

use std::borrow::Cow;

/// The longest address that is looked at, in bytes.
const LONGEST: usize = 4 * 1024;

/// Which links may stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links<'a> {
    /// What the user wrote.
    pub(crate) asked: &'a str,
    /// What addresses may begin with, such as `https://docs.example.com/`.
    pub(crate) allowed: &'a [String],
}

impl Links<'_> {
    /// The text with no other link in it than those that may stay, and no HTML.
    pub(crate) fn only<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text.contains([':', '<', '(', '/']) && !text.contains("www.") {
            return Cow::Borrowed(text);
        }
        let text = self.without_targets(text);
        Cow::Owned(self.without_addresses(&text))
    }

    /// Takes `(target)` from behind brackets: links and pictures of Markdown.
    fn without_targets(&self, text: &str) -> String {
        let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find("](") {
            let (before, behind) = rest.split_at(at + 1);
            kept.push_str(before);
            let target = inside(behind);
            let address = target.trim_start_matches(['(', ' ', '\t', '\n', '<']);
            let end = address.find(|c: char| c.is_whitespace() || "<>)".contains(c));
            let address = end.and_then(|end| address.get(..end)).unwrap_or(address);
            if self.stays(address) {
                kept.push_str(target);
            }
            rest = behind.get(target.len()..).unwrap_or_default();
        }
        kept.push_str(rest);
        kept
    }

    /// Takes out addresses that are links as they stand, and the beginnings of HTML.
    fn without_addresses(&self, text: &str) -> String {
        let mut kept = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let boundary = !kept.ends_with(char::is_alphabetic);
            if boundary && let Some(address) = address(rest) {
                match self.stays(address) {
                    true => kept.push_str(address),
                    false => {
                        kept.push_str("[link removed");
                        if let Some(host) = host(address) {
                            kept.push_str(": ");
                            kept.push_str(&host);
                        }
                        kept.push(']');
                    }
                }
                rest = rest.get(address.len()..).unwrap_or_default();
                continue;
            }
            let next = rest.get(c.len_utf8()..).unwrap_or_default();
            let tag = c == '<'
                && next.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c));
            kept.push(if tag { '\u{2039}' } else { c });
            rest = next;
        }
        kept
    }

    fn stays(&self, address: &str) -> bool {
        let begins = |allowed: &String| {
            // `https://a.example` alone would let `https://a.example.evil` through.
            let rest = address.strip_prefix(allowed.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
        };
        !address.is_empty() && (self.allowed.iter().any(begins) || says(self.asked, address))
    }
}

/// Whether a text says an address, and not one that only begins with it or that it only begins.
fn says(text: &str, address: &str) -> bool {
    address.contains("://")
        && text.match_indices(address).any(|(at, _)| {
            let after = text.get(at + address.len()..).unwrap_or_default();
            let before = text.get(..at).unwrap_or_default();
            !before.ends_with(|c: char| c.is_alphanumeric())
                && after
                    .chars()
                    .next()
                    .is_none_or(|c| c.is_whitespace() || ".,;:!?)>]\"'".contains(c))
        })
}

/// What stands between these parentheses, and themselves; to the end where they do not close.
fn inside(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices().take(LONGEST) {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return text.get(..at + c.len_utf8()).unwrap_or(text);
        }
    }
    text
}

/// The address at the beginning of a text, if one stands there that is shown as a link.
fn address(text: &str) -> Option<&str> {
    let bare = text.strip_prefix("//").is_some_and(|rest| rest.starts_with(char::is_alphanumeric));
    let scheme = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+.-".contains(c)));
    let scheme = scheme.and_then(|end| text.get(..end)).unwrap_or(text);
    let after = text.get(scheme.len()..).unwrap_or_default();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && after.starts_with(':');
    let opens = ["://", ":\\\\", ":/"].iter().any(|sign| after.starts_with(sign));
    let lower = scheme.to_ascii_lowercase();
    let alone = ["mailto", "javascript", "data", "vbscript", "tel"].contains(&lower.as_str());
    let starts = is_scheme && (opens || (alone && after.len() > 1 && !after.starts_with(": ")));
    if !bare && !starts && !lower.starts_with("www.") {
        return None;
    }
    let end = text.find(|c: char| c.is_whitespace() || "<>\"`".contains(c)).unwrap_or(text.len());
    let whole = text.get(..end).unwrap_or(text);
    Some(whole.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '\'', '*', '_']))
        .filter(|address| !address.is_empty())
}

/// The host of an address, as text.
fn host(address: &str) -> Option<String> {
    let named = address.split_once("//").map(|(_, rest)| rest);
    let rest = named.or_else(|| address.starts_with("www.").then_some(address))?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let host = rest.get(..end)?.rsplit('@').next()?.split(':').next()?;
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    // A dot would make a link of it again.
    (plain && !host.is_empty() && host.len() <= 64).then(|| host.replace('.', " dot "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn only(text: &str) -> String {
        let allowed = ["https://docs.example.com/".to_owned()];
        let asked = "compare it with https://mine.example/page, please";
        Links { asked, allowed: &allowed }.only(text).into_owned()
    }

    #[test]
    fn links_of_the_user_and_the_host_stay() {
        for text in [
            "see https://docs.example.com/a?b=c and [this](https://docs.example.com/x)",
            "https://mine.example/page says so",
            "no link: a < b, f(x), [1] and [2][3], 10:30, C:\\folder",
        ] {
            assert_eq!(only(text), text);
        }
    }

    #[test]
    fn other_links_go_however_they_are_written() {
        for (text, kept) in [
            ("![a](https://evil.example/?k=1)", "![a]"),
            ("[a](https://evil.example/?k=(1))!", "[a]!"),
            ("[a](//evil.example/x)", "[a]"),
            ("[a]( <https://evil.example> \"t\")", "[a]"),
            ("[a](javascript:alert(1))", "[a]"),
            (
                "[1]: https://evil.example/x\n[t][1]",
                "[1]: [link removed: evil dot example]\n[t][1]",
            ),
            ("[1]: //evil.example/x", "[1]: [link removed: evil dot example]"),
            ("go to https://evil.example/?k=1.", "go to [link removed: evil dot example]."),
            ("HTTPS://EVIL.example/x", "[link removed: EVIL dot example]"),
            ("<https://evil.example>", "\u{2039}[link removed: evil dot example]>"),
            ("www.evil.example/?k=1", "[link removed: www dot evil dot example]"),
            ("mailto:a@evil.example?body=k", "[link removed]"),
            ("<img src=x>", "\u{2039}img src=x>"),
            (
                "https://docs.example.com.evil.example/",
                "[link removed: docs dot example dot com dot evil dot example]",
            ),
            ("https://mine.example/page?k=1", "[link removed: mine dot example]"),
            ("https://user@evil.example/", "[link removed: evil dot example]"),
        ] {
            assert_eq!(only(text), kept, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_has_no_link(text in "([a-z\\[\\]()<>!: ]|https://evil\\.example/|//|www\\.|javascript:){0,12}") {
            let kept = only(&text);
            prop_assert!(!kept.contains("https://") && !kept.contains("](/"), "{text} became {kept}");
            prop_assert_eq!(only(&kept), kept.clone(), "{}", text);
        }
    }
}
