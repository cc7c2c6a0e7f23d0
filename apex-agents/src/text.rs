//! Texts of bounded size.

use std::borrow::Cow;

/// The text, cut at a character so that its JSON form is at most `most` bytes, with an ellipsis where it was cut.
pub(crate) fn clip(text: &str, most: usize) -> Cow<'_, str> {
    let mut bytes = 2;
    let mut cut = 0;
    for (at, character) in text.char_indices() {
        bytes += width(character);
        if bytes > most {
            let kept = text.get(..cut).unwrap_or_default();
            return Cow::Owned(format!("{kept}…"));
        }
        if bytes + '…'.len_utf8() <= most {
            cut = at + character.len_utf8();
        }
    }
    Cow::Borrowed(text)
}

/// How many bytes a character takes in a JSON string.
fn width(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        control if control < ' ' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_clipped_text_fits_and_a_fitting_text_stays(text in "(\\PC|[\\x00-\\x1f\"\\\\]){0,60}", most in 5_usize..80) {
            let clipped = clip(&text, most);
            let size = |text: &str| serde_json::to_string(text).unwrap().len();
            prop_assert!(size(&clipped) <= most, "{clipped:?} takes {}", size(&clipped));
            if size(&text) <= most {
                prop_assert_eq!(&*clipped, &*text);
            }
        }
    }
}
