//! Holds a model's wording against the figures that it may use.

use super::figure::{About, Figure};

/// The longest wording, in bytes, before the figures are in it.
const LONGEST: usize = 4_000;

/// Words for numbers and for what changes the meaning of the figure beside it, between spaces. English ones: a number
/// in the words of another language is not recognised, but no figure of the report is near it either.
const NUMBERS: &str = "\
    zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
    seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds \
    thousand thousands million millions billion billions trillion trillions lakh crore dozen dozens half \
    halves halve halved third thirds quarter quarters fourth fifth fifths sixth seventh eighth ninth tenth \
    tenths hundredth thousandth double doubled doubles twice thrice triple tripled triples quadruple \
    quadrupled tenfold hundredfold percent percentage percents pct bps dollar dollars usd euro euros eur gbp \
    yen pound pounds cent cents pence rupee rupees franc francs";

/// How words begin that speak of savings and of costs.
const SAVINGS: &[&str] = &["sav", "cheaper", "reduc", "cut", "less"];
const COSTS: &[&str] = &["cost", "spen", "spent", "paid", "pay", "bill", "price", "expens"];

/// The wording with its figures in it, or everything that is wrong with it, in sentences that its author can work
/// with.
pub(in crate::agents) fn worded(text: &str, figures: &[Figure]) -> Result<String, Vec<String>> {
    let text = text.trim();
    let mut faults = Vec::new();
    if text.is_empty() || text.len() > LONGEST {
        return Err(vec![format!("The wording is empty or longer than {LONGEST} bytes.")]);
    }
    let pieces = pieces(text, figures, &mut faults);
    characters(&pieces, &mut faults);
    words(&pieces, &mut faults);
    claims(&pieces, &mut faults);
    for figure in figures.iter().filter(|figure| figure.required) {
        let is_it = |piece: &Piece<'_>| matches!(piece, Piece::Figure(f) if f.name == figure.name);
        if !pieces.iter().any(is_it) {
            faults.push(format!("{{{{{}}}}} is required and missing.", figure.name));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(pieces
        .into_iter()
        .map(|piece| match piece {
            Piece::Words(words) => words,
            Piece::Figure(figure) => figure.text.as_str(),
        })
        .collect())
}

#[derive(Clone, Copy)]
enum Piece<'a> {
    Words(&'a str),
    Figure(&'a Figure),
}

/// The text, cut at its placeholders.
fn pieces<'a>(text: &'a str, figures: &'a [Figure], faults: &mut Vec<String>) -> Vec<Piece<'a>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((words, tail)) = rest.split_once("{{") {
        pieces.push(Piece::Words(words));
        let Some((name, tail)) = tail.split_once("}}") else {
            faults.push("A placeholder has no end.".to_owned());
            return pieces;
        };
        match figures.iter().find(|figure| figure.name == name.trim()) {
            Some(figure) => pieces.push(Piece::Figure(figure)),
            // What a model calls a placeholder may hold anything; it is not repeated.
            None => faults.push("There is a placeholder that is not in the list.".to_owned()),
        }
        rest = tail;
    }
    pieces.push(Piece::Words(rest));
    pieces
}

/// No figures, signs and marks of the model's own: not in any script, and not beside a placeholder.
fn characters(pieces: &[Piece<'_>], faults: &mut Vec<String>) {
    let words = || {
        pieces.iter().filter_map(|piece| match piece {
            Piece::Words(words) => Some(*words),
            Piece::Figure(_) => None,
        })
    };
    let any = |is_it: fn(char) -> bool| words().any(|words| words.contains(is_it));
    if any(char::is_numeric) {
        faults.push("There are digits outside the placeholders.".to_owned());
    }
    if any(is_unit) {
        faults.push("There is a currency or percent sign of its own.".to_owned());
    }
    if any(|c| matches!(c, '{' | '}' | '<' | '>' | '`' | '|') || is_hidden(c) || is_styled(c))
        || words()
            .any(|words| words.contains("](") || words.contains("://") || words.contains("!["))
    {
        faults.push(
            "There are links, HTML, code, tables, braces, invisible or styled characters."
                .to_owned(),
        );
    }
    for (at, piece) in pieces.iter().enumerate() {
        if !matches!(piece, Piece::Figure(_)) {
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| pieces.get(at));
        let joined = match (before, pieces.get(at + 1)) {
            (Some(Piece::Figure(_)), _) => true,
            (Some(Piece::Words(before)), _) if at > 1 && before.is_empty() => true,
            (Some(Piece::Words(before)), after) => {
                let after = match after {
                    Some(Piece::Words(after)) => after.chars().next(),
                    _ => None,
                };
                before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || is_sign(c))
                    || after.is_some_and(|c| c.is_alphanumeric() || c == '^')
            }
            _ => false,
        };
        if joined {
            faults.push(
                "A placeholder stands right beside a letter, a sign or another one.".to_owned(),
            );
            return;
        }
    }
}

fn is_unit(c: char) -> bool {
    matches!(
        c,
        '%' | '‰'
            | '‱'
            | '٪'
            | '％'
            | '﹪'
            | '$'
            | '¢'
            | '£'
            | '¤'
            | '¥'
            | '֏'
            | '؋'
            | '৲'
            | '৳'
            | '૱'
            | '௹'
            | '฿'
            | '៛'
            | '\u{20a0}'
            ..='\u{20cf}' | '﷼' | '﹩' | '＄' | '￠' | '￡' | '￥' | '￦'
        // Numerals that are letters to Unicode, in daily use for amounts.
        | '万' | '萬' | '億' | '亿' | '兆' | '〇' | '零'
        // Pictures of numbers.
        | '🔟' | '💯'
    )
}

fn is_sign(c: char) -> bool {
    matches!(c, '-' | '−' | '–' | '+' | '±' | '~' | '≈' | '×' | '÷' | '/' | '^' | '.' | ',')
}

/// Characters that change how others are read and are not seen themselves.
fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{ad}' | '\u{e0000}'..='\u{e007f}')
}

/// Letters in other shapes, in which no word is known.
fn is_styled(c: char) -> bool {
    matches!(c, 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | 'Ⓐ'..='ⓩ' | '\u{1d400}'..='\u{1d7ff}')
}

/// No numbers in words or in capitals that are Roman numerals.
fn words(pieces: &[Piece<'_>], faults: &mut Vec<String>) {
    let is_number = |word: &str| {
        (word.len() > 1 && word.chars().all(|c| "IVXLCDM".contains(c)))
            || NUMBERS.split(' ').any(|number| number.eq_ignore_ascii_case(word))
    };
    let found = pieces.iter().any(|piece| match piece {
        Piece::Words(words) => split(words).any(is_number),
        Piece::Figure(_) => false,
    });
    if found {
        faults.push("There are numbers, fractions or units in words.".to_owned());
    }
}

/// A sentence that speaks of savings and holds figures holds one of a saving; one that speaks of costs, one of a
/// cost: so that no figure is passed off as another.
fn claims(pieces: &[Piece<'_>], faults: &mut Vec<String>) {
    let (mut said, mut held) = (Vec::new(), Vec::new());
    let mut judge = |said: &mut Vec<String>, held: &mut Vec<About>| {
        let speaks =
            |of: &[&str]| said.iter().any(|word| of.iter().any(|stem| word.starts_with(stem)));
        let holds = |about| held.contains(&about);
        let money = holds(About::Cost) || holds(About::Saving);
        let (savings, costs) = (speaks(SAVINGS), speaks(COSTS));
        if (money && savings && !holds(About::Saving))
            || (money && costs && !savings && !holds(About::Cost))
        {
            faults.push("A sentence gives a cost for a saving, or a saving for a cost.".to_owned());
        }
        said.clear();
        held.clear();
    };
    for piece in pieces {
        match piece {
            Piece::Figure(figure) => held.push(figure.about),
            Piece::Words(words) => {
                let mut sentences =
                    words.split_inclusive(['.', '!', '?', ';', '\n', '。']).peekable();
                while let Some(sentence) = sentences.next() {
                    said.extend(tokens(sentence));
                    let ended = sentence.ends_with(['.', '!', '?', ';', '\n', '。']);
                    if ended || sentences.peek().is_some() {
                        judge(&mut said, &mut held);
                    }
                }
            }
        }
    }
    judge(&mut said, &mut held);
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty())
}

fn tokens(text: &str) -> impl Iterator<Item = String> {
    split(text).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn figures() -> Vec<Figure> {
        let figure = |name: &str, text: &str, about, required| Figure {
            name: name.into(),
            means: String::new(),
            text: text.into(),
            about,
            required,
        };
        vec![
            figure("recorded_cost", "a recorded cost of $10,182.70", About::Cost, true),
            figure("saving", "a possible saving of $3.20", About::Saving, true),
            figure("requests", "5,522 requests", About::Use, false),
        ]
    }

    const GOOD: &str = "The records hold {{requests}} with {{recorded_cost}}. There is {{saving}}.";

    #[test]
    fn a_wording_by_placeholders_gets_its_figures() {
        let told = worded(GOOD, &figures()).unwrap();
        assert_eq!(
            told,
            "The records hold 5,522 requests with a recorded cost of $10,182.70. There is a possible saving of $3.20."
        );
        worded("**{{ recorded_cost }}**, et {{saving}}: voilà, c'est tout.", &figures()).unwrap();
    }

    #[test]
    fn every_kind_of_lie_is_refused() {
        for lie in [
            // Figures of its own, in several scripts and forms.
            "You spent 12 dollars.",
            "You spent ١٢.",
            "You spent १२.",
            "You spent １２.",
            "You spent 𝟏𝟐.",
            "You spent Ⅻ.",
            "You spent XII of them.",
            "That is 1.2e6 of it.",
            "That is 1.2×10⁶ of it.",
            "That is 5–10 of it.",
            "That is ⅓ of it.",
            "That is ₁₂ of it.",
            "That is ㊂ of them.",
            "That is 5️⃣ of them.",
            "That is 🔟 of them.",
            "That is a fifth of it.",
            "It has HALVED since.",
            "It comes to Zero.",
            "It comes to ｔｗｅｎｔｙ.",
            "It comes to 𝐭𝐰𝐞𝐧𝐭𝐲.",
            "You spent ½ of it.",
            "You saved x² of it.",
            "That is ⑫ of them.",
            "That is 五万 of them.",
            "That is twelve of them.",
            "That is HALF of it.",
            "That is ninety-nine of them.",
            "About a million of them.",
            // Units of its own.
            "This is € of it.",
            "This is % of it.",
            "This is \u{20bf} of it.",
            "This is ٪ of it.",
            "This is ％ of it.",
            "This is £ of it.",
            "This is ￥ of it.",
            "All of it in euros.",
            "Not a dollar more.",
            "A large per cent of it.",
            // Beside a placeholder.
            "You have -{{requests}}.",
            "You have {{requests}}k.",
            "You have {{requests}}{{requests}}.",
            "You have 1{{requests}}.",
            "You have .{{requests}}.",
            "You have ~{{requests}}.",
            "You have {{requests}}–{{requests}}.",
            "You have {{requests}}^{{requests}}.",
            "You have {{requests}}².",
            // Figures in the place of others.
            "You could save {{recorded_cost}}.",
            "Your costs were {{saving}}.",
            "Reduce it, and {{recorded_cost}} is gone.",
            // Placeholders that are none.
            "You spent {{total_2026}}.",
            "You spent {{cost}}.",
            "You spent {{recorded_cost.",
            "You spent {recorded_cost}.",
            // What a page would act on.
            "See [this](http://evil.example).",
            "See https://evil.example.",
            "![x](y)",
            "<b>x</b>",
            "zero\u{200b}width",
            "turned \u{202e}round",
        ] {
            let text = format!("{GOOD} {lie}");
            assert!(worded(&text, &figures()).is_err(), "{lie}");
        }
        let missing = worded("There is {{saving}}.", &figures()).unwrap_err();
        assert_eq!(missing, ["{{recorded_cost}} is required and missing."]);
        assert!(worded("", &figures()).is_err());
        assert!(worded(&GOOD.repeat(100), &figures()).is_err());
    }

    proptest! {
        /// Whatever a model writes: every digit of what is shown is of a computed figure.
        #[test]
        fn no_digit_of_the_models_is_ever_shown(
            pieces in proptest::collection::vec(prop_oneof![
                "\\PC{0,8}",
                Just("{{recorded_cost}}".to_owned()),
                Just("{{saving}}".to_owned()),
                Just(" and ".to_owned()),
            ], 0..12)
        ) {
            if let Ok(told) = worded(&pieces.concat(), &figures()) {
                let mut left = told;
                for figure in figures() {
                    left = left.replace(&figure.text, "");
                }
                prop_assert!(!left.contains(char::is_numeric), "{left}");
            }
        }
    }
}
