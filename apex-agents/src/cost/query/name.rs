//! Names in a filter, and whether a record's name is meant by one.

/// Whether a model of this name is meant by the term.
pub(super) fn is_model(term: &str, model: &str) -> bool {
    let (term, model) = (plain(term), plain(model));
    if let Some(start) = term.strip_suffix('*') {
        return model.starts_with(start) || last(&model).starts_with(start);
    }
    if !term.contains(|c: char| c.is_ascii_digit()) {
        return model.contains(&term);
    }
    [model.as_str(), last(&model)].into_iter().any(|name| {
        name.strip_prefix(term.as_str()).is_some_and(|rest| rest.is_empty() || is_version(rest))
    })
}

/// Whether two names are the same but for case and blanks around them.
pub(super) fn is_same(term: &str, name: &str) -> bool {
    term.trim().eq_ignore_ascii_case(name.trim())
}

/// The name in lower case, with points and at signs as dashes: sources write `3.5` and `3-5`.
fn plain(name: &str) -> String {
    name.trim()
        .chars()
        .map(|c| if matches!(c, '.' | '@' | ' ') { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

fn last(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, last)| last)
}

/// What follows a model's name where it is a version of the same: a date, `latest` or `preview`.
fn is_version(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix('-') else {
        return false;
    };
    let digits = rest.bytes().filter(u8::is_ascii_digit).count();
    let is_date = digits >= 4 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    is_date || matches!(rest, "latest" | "preview")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_means_a_model_and_its_versions_or_a_family() {
        for (term, model) in [
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o", "GPT-4o-2024-08-06"),
            ("gpt-4", "gpt-4-0613"),
            ("gpt-4o", "openrouter/openai/gpt-4o"),
            ("claude", "anthropic/claude-3.5-sonnet"),
            ("sonnet", "claude-sonnet-4-5"),
            ("claude-3-5-sonnet", "anthropic/claude-3.5-sonnet"),
            ("claude-3.5-sonnet", "claude-3-5-sonnet-20241022"),
            ("gpt-4*", "gpt-4-turbo"),
        ] {
            assert!(is_model(term, model), "{term} {model}");
        }
        for (term, model) in [
            ("gpt-4o", "gpt-4o-mini"),
            ("gpt-4", "gpt-4.1"),
            ("gpt-4", "gpt-4-turbo"),
            ("o3", "o3-mini"),
            ("claude", "gpt-4o"),
        ] {
            assert!(!is_model(term, model), "{term} {model}");
        }
    }
}
