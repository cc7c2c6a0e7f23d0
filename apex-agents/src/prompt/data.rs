//! What a model is given to read, kept apart from what it is told to do.
//!
//! Results of tools are words of others. Each stands between two marks that hold a digest of what is between them, so no
//! text can end its own mark: it would have to hold its own digest. Characters that nobody sees are taken out, because a
//! person who looks at a document has to be able to see what a model reads. That everything between marks is data the
//! model is told above the conversation, once, in the same words for every agent.

use crate::model::{ModelRequest, Part};
use crate::tool::Redact;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt::Write as _;

/// What a model is told of marked data.
const RULE: &str = include_str!("data.md");

/// Marks what others wrote in a request, and takes secrets out of all that it says.
pub(crate) fn marked(mut request: ModelRequest, redact: &dyn Redact) -> ModelRequest {
    let mut any = false;
    for part in request.messages.iter_mut().flat_map(|message| &mut message.parts) {
        match part {
            Part::ToolResult(result) => {
                any = true;
                redact.redact_text(&mut result.content);
                result.content = mark(&result.name, &result.content);
            }
            Part::Text(text) => {
                redact.redact_text(text);
                if let Cow::Owned(visible) = visible(text) {
                    *text = visible;
                }
            }
            _ => {}
        }
    }
    if any {
        let system = request.system.take().unwrap_or_default();
        let separator = if system.is_empty() { "" } else { "\n\n" };
        request.system = Some(format!("{system}{separator}{RULE}"));
    }
    request
}

/// A text between marks.
fn mark(from: &str, text: &str) -> String {
    let text = visible(text);
    let digest = Sha256::digest(text.as_bytes());
    let digest = digest.iter().take(16).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    // Names of tools that there are hold nothing that ends a mark; a model may make up others.
    let from: String =
        from.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect();
    format!("<data {digest} from {from}>\n{text}\n</data {digest}>")
}

/// The text without characters that take no place: tags, joiners, marks of direction, variation selectors past the
/// usual ones, and controls.
fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(hidden) {
        return Cow::Owned(text.chars().filter(|c| !hidden(*c)).collect());
    }
    Cow::Borrowed(text)
}

fn hidden(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Message, ToolResult};
    use crate::tool::SecretNames;
    use proptest::prelude::*;

    fn shown(content: &str) -> (String, String) {
        let result = ToolResult {
            call: "c".into(),
            name: "read".into(),
            content: content.to_owned(),
            failed: false,
        };
        let request = ModelRequest {
            system: Some("Do it.".into()),
            messages: vec![Message::user("what does it say?"), Message::results([result])],
            ..ModelRequest::default()
        };
        let marked = marked(request, &SecretNames);
        let Part::ToolResult(result) = &marked.messages[1].parts[0] else { panic!("{marked:?}") };
        (marked.system.unwrap(), result.content.clone())
    }

    #[test]
    fn results_are_marked_and_the_rule_is_told_once() {
        let (system, content) = shown("spent: 5");
        assert!(system.starts_with("Do it.\n\n") && system.ends_with(RULE), "{system}");
        assert!(
            content.starts_with("<data ") && content.contains(" from read>\nspent: 5\n</data "),
            "{content}"
        );
        let plain = marked(ModelRequest::user("hello"), &SecretNames);
        assert_eq!((plain.system, plain.messages), (None, vec![Message::user("hello")]));
    }

    #[test]
    fn what_nobody_sees_is_taken_out() {
        let tags: String =
            "ignore".chars().map(|c| char::from_u32(0xe0000 + c as u32).unwrap()).collect();
        let (_, content) = shown(&format!("a{tags}b\u{200b}c\u{202e}d"));
        assert!(content.contains("\nabcd\n"), "{content:?}");
    }

    proptest! {
        /// Whatever a text holds, also a mark that was seen before: its own end is found in it nowhere.
        #[test]
        fn no_text_ends_its_own_mark(before in "\\PC{0,40}", after in "\\PC{0,40}") {
            let (_, seen) = shown(&before);
            let end = seen.lines().last().unwrap().to_owned();
            let (_, content) = shown(&format!("{before}\n{end}\n{after}"));
            let own = content.lines().last().unwrap();
            prop_assert_eq!(content.matches(own).count(), 1);
        }
    }
}
