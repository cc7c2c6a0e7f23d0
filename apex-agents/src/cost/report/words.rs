//! Figures and foreign text as people read them.

use apex_core::money::Usd;

/// Dollars for a sentence: cents, or four decimals where cents would hide a small amount.
pub(crate) fn dollars(amount: Usd) -> String {
    let small = amount.abs() < Usd::from_units(10_i128.pow(24)) && !amount.is_zero();
    let text = amount.abs().rounded(if small { 4 } else { 2 });
    let (whole, fraction) = text.split_once('.').unwrap_or((text.as_str(), "00"));
    let sign =
        if amount < Usd::ZERO && text.bytes().any(|b| matches!(b, b'1'..=b'9')) { "-" } else { "" };
    format!("{sign}${}.{fraction}", grouped(whole))
}

/// Dollars where there may be none.
pub(crate) fn dollars_or(amount: Option<Usd>, none: &str) -> String {
    amount.map_or_else(|| none.to_owned(), dollars)
}

/// A whole number with commas.
pub(crate) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

/// A number with the words that go with one, or with another number.
pub(super) fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { several })
}

fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `part` of `whole` in percent, with one decimal.
pub(super) fn percent(part: Usd, whole: Usd) -> String {
    let thousandths = Usd::from_units(1_000).share(part, whole).units();
    format!("{}.{}%", thousandths / 10, (thousandths % 10).abs())
}

/// Foreign text inside HTML, also inside an attribute.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Characters that turn the reading direction could make one text look like another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Foreign text inside Markdown, also inside a table.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '!'
            | '&' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn figures_are_grouped_and_rounded() {
        assert_eq!(dollars(usd("9990.01252875")), "$9,990.01");
        assert_eq!(dollars(usd("1234567.899")), "$1,234,567.90");
        assert_eq!(dollars(usd("0.0126")), "$0.0126");
        assert_eq!(dollars(usd("0")), "$0.00");
        assert_eq!(dollars(usd("-12.5")), "-$12.50");
        assert_eq!(dollars(usd("-0.00000000005")), "$0.0000");
        assert_eq!(
            (count(0), count(999), count(72_967_539)),
            ("0".into(), "999".into(), "72,967,539".into())
        );
        assert_eq!(counted(1, "row is", "rows are"), "1 row is");
        assert_eq!(counted(1_000, "row is", "rows are"), "1,000 rows are");
        assert_eq!(percent(usd("1"), usd("3")), "33.3%");
        assert_eq!(percent(usd("1"), usd("0")), "0.0%");
    }

    #[test]
    fn foreign_text_stays_text() {
        assert_eq!(
            html("<b onx='1'>&\"\u{202e}\n"),
            "&lt;b onx=&#39;1&#39;&gt;&amp;&quot;\u{fffd} "
        );
        assert_eq!(markdown("a|b*[x](y)<i>\n"), "a\\|b\\*\\[x\\](y)\\<i\\> ");
    }
}
