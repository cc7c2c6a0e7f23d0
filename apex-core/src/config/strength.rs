use super::Secret;

/// What people leave in place, or type when asked for a key; compared without regard to case and without what is
/// neither letter nor digit.
const GUESSED: [&str; 16] = [
    "admin",
    "apex",
    "changeit",
    "changeme",
    "default",
    "dev",
    "development",
    "example",
    "letmein",
    "password",
    "replaceme",
    "secret",
    "test",
    "todo",
    "topsecret",
    "yoursecretkey",
];

/// Why a secret is too easy to guess, if it is. `least` is the number of bytes that its use asks for, such as 32 for
/// a signing key.
#[must_use]
pub fn weakness(secret: &Secret<String>, least: usize) -> Option<&'static str> {
    let text = secret.reveal();
    let plain: String =
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let stem = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    if GUESSED.contains(&plain.as_str()) || GUESSED.contains(&stem) || repeats_a_guess(&plain) {
        return Some("is a default or a word that is tried first");
    }
    if text.len() < least {
        return Some("is too short");
    }
    let distinct = text.bytes().collect::<std::collections::BTreeSet<_>>().len();
    if least >= 16 && distinct < 8 {
        return Some("consists of too few different characters");
    }
    let bytes = text.as_bytes();
    let steps =
        bytes.windows(2).filter(|pair| matches!(pair, [a, b] if a.abs_diff(*b) == 1)).count();
    if least >= 16 && steps * 2 > bytes.len() {
        return Some("is a sequence");
    }
    None
}

/// `changemechangeme…`: long enough by repeating.
fn repeats_a_guess(plain: &str) -> bool {
    GUESSED.iter().any(|guess| plain.len() > guess.len() && plain.replace(guess, "").is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weak(text: &str) -> bool {
        weakness(&Secret::new(text.to_owned()), 32).is_some()
    }

    #[test]
    fn defaults_short_and_uniform_keys_are_weak() {
        for bad in [
            "changeme",
            "Change-Me-123",
            "changemechangemechangemechangeme",
            "short",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "0101010101010101010101010101010101",
        ] {
            assert!(weak(bad), "{bad}");
        }
        assert!(!weak("9f2c61e0b7a84d35c8e1f4029b6d7a53"));
    }
}
