//! Holds an answer against the passages that it cites.

/// A piece of a text that an answer may rest on.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub(in crate::agents) struct Passage {
    /// Where it stands, in words.
    pub(in crate::agents) place: String,
    /// The text, as it stands there.
    pub(in crate::agents) text: String,
}

/// The longest answer, in bytes.
const LONGEST: usize = 6_000;
/// How many of a sentence's longer words, in tenths, have to stand in what it cites.
const SHARE: usize = 5;

/// What is wrong with an answer, in sentences that its author can work with: a sentence without a citation, a citation
/// of a passage that is not there, quoted words or a figure that are in none of the passages cited, or a sentence most
/// of whose words are in none of them.
pub(super) fn faults(answer: &str, passages: &[Passage]) -> Vec<String> {
    let answer = answer.trim();
    if answer.is_empty() || answer.len() > LONGEST {
        return vec![format!("The answer is empty or longer than {LONGEST} bytes.")];
    }
    let mut faults = Vec::new();
    for sentence in sentences(answer) {
        let (said, cited) = split(&sentence);
        if !said.chars().any(char::is_alphabetic) {
            if cited.is_empty() {
                continue;
            }
            faults.push("A citation stands by itself.".to_owned());
            continue;
        }
        let shown: String = said.trim().chars().take(60).collect();
        let mut texts = Vec::new();
        for number in &cited {
            match number.checked_sub(1).and_then(|at| passages.get(at)) {
                Some(passage) => texts.push(plain(&passage.text)),
                None => faults.push(format!("There is no passage [{number}].")),
            }
        }
        if cited.is_empty() {
            faults.push(format!("No passage is cited for: {shown}"));
        }
        if texts.is_empty() {
            continue;
        }
        let within = |part: &str| texts.iter().any(|text| text.contains(part));
        for quote in quotes(&said) {
            if !within(&plain(&quote)) {
                faults.push(format!("What is quoted is not in the passage: {shown}"));
            }
        }
        if figures(&said)
            .iter()
            .any(|figure| !texts.iter().any(|text| figures(text).contains(figure)))
        {
            faults.push(format!("A figure is not in the passage: {shown}"));
        }
        let plain_said = plain(&said);
        let words: Vec<&str> = words(&plain_said).filter(|word| word.chars().count() > 3).collect();
        let there = words.iter().filter(|word| {
            texts.iter().any(|text| crate::agents::citing::words(text).any(|known| known == **word))
        });
        if there.count() * 10 < words.len() * SHARE {
            faults.push(format!("The passage does not say this: {shown}"));
        }
    }
    faults
}

/// The sentences, each with the citations in it. A line ends one, too.
fn sentences(text: &str) -> Vec<String> {
    let mut sentences = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if let Some(last) = sentences.last_mut() {
            last.push(c);
        }
        let ends = match c {
            '\n' => true,
            '.' | '!' | '?' => characters.peek().is_none_or(|next| next.is_whitespace()),
            _ => false,
        };
        if ends {
            sentences.push(String::new());
        }
    }
    sentences.retain(|sentence| !sentence.trim().is_empty());
    sentences
}

/// A sentence without its citations, and these.
fn split(sentence: &str) -> (String, Vec<usize>) {
    let (mut said, mut cited, mut rest) = (String::new(), Vec::new(), sentence);
    while let Some((before, after)) = rest.split_once('[') {
        said.push_str(before);
        match after.split_once(']').and_then(|(number, tail)| Some((number.parse().ok()?, tail))) {
            Some((number, tail)) => {
                cited.push(number);
                rest = tail;
            }
            None => {
                said.push('[');
                rest = after;
            }
        }
    }
    said.push_str(rest);
    (said, cited)
}

/// What stands in double quotes.
fn quotes(text: &str) -> Vec<String> {
    let text = text.replace(['\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}', '\u{bb}'], "\"");
    let parts: Vec<&str> = text.split('"').collect();
    parts.into_iter().skip(1).step_by(2).map(str::to_owned).collect()
}

/// The text in lower case, with single blanks.
fn plain(text: &str) -> String {
    let quoted = text.replace(['\u{201c}', '\u{201d}'], "\"");
    quoted.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Numbers, with their points and commas.
fn figures(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_numeric() || matches!(c, '.' | ',')))
        .map(|figure| figure.trim_matches(['.', ',']).to_owned())
        .filter(|figure| !figure.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passages() -> Vec<Passage> {
        [
            "Caching saves 5.3% with a lifetime of five minutes.",
            "Batches are answered within 24 hours.",
        ]
        .map(|text| Passage { place: "a.md".into(), text: text.into() })
        .to_vec()
    }

    #[test]
    fn what_the_passages_say_may_be_said() {
        for good in [
            "Caching saves 5.3% with a five minutes lifetime [1].",
            "Batches are answered within 24 hours [2]. Caching \u{201c}saves 5.3%\u{201d} [1]!",
            "- Batches are answered [2]\n- Caching saves [1]\n",
        ] {
            assert_eq!(faults(good, &passages()), [""; 0], "{good}");
        }
    }

    #[test]
    fn every_kind_of_wrong_citation_is_refused() {
        for wrong in [
            "",
            "Caching saves 5.3%.",
            "Caching saves 5.3% [3].",
            "Caching saves 5.3% [0].",
            "Caching saves 53% [1].",
            "Caching saves 24% [1].",
            "Caching \"always helps\" [1].",
            "Batches are answered within 24 hours [1].",
            "Switch every workload to another vendor immediately [2].",
            "Caching saves 5.3% [1]. And nobody should ever pay more.",
            "[1]",
            "Caching saves ٥٣ [1].",
        ] {
            assert!(!faults(wrong, &passages()).is_empty(), "{wrong}");
        }
        assert!(!faults("Caching saves [1].", &[]).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_written_no_figure_passes_that_is_in_no_passage(
            text in "(\\PC|Caching saves |[0-9.]{1,4}|\\[1\\]|\\[2\\]|\\. ){0,12}"
        ) {
            if faults(&text, &passages()).is_empty() {
                for sentence in sentences(&text) {
                    let (said, _) = split(&sentence);
                    if !said.chars().any(char::is_alphabetic) { continue; }
                    let known: Vec<String> = passages().iter().flat_map(|p| figures(&p.text)).collect();
                    for figure in figures(&said) {
                        prop_assert!(known.contains(&figure), "{figure} in {said}");
                    }
                }
            }
        }
    }
}
