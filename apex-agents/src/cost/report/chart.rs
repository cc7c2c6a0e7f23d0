//! Charts as SVG: no script, no font, no colour of their own; a style sheet around them gives the colours.
//!
//! Each has a title and a description for those who do not see it, and stands beside a table with the same figures.

use super::words::{dollars, html};
use apex_core::money::Usd;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const LABEL: f64 = 250.0;
const ROW: f64 = 30.0;

/// A bar of a chart.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) amount: Usd,
    /// The style class.
    pub(super) class: &'static str,
    /// Where a floating bar begins; zero for one that stands on the axis.
    pub(super) from: Usd,
    /// What stands beside it in the place of its amount.
    pub(super) note: Option<String>,
}

impl Bar {
    /// A bar on the axis.
    pub(super) fn new(label: impl Into<String>, amount: Usd) -> Self {
        Self { label: label.into(), amount, class: "bar", from: Usd::ZERO, note: None }
    }
}

/// Upright bars side by side, for a series in time.
pub(super) fn columns(id: &str, title: &str, description: &str, bars: &[Bar]) -> String {
    const HEIGHT: f64 = 240.0;
    const TOP: f64 = 20.0;
    const BASE: f64 = 200.0;
    const LEFT: f64 = 70.0;
    let most = bars.iter().map(|b| b.amount).max().unwrap_or_default();
    let mut svg = open(id, title, description, HEIGHT);
    for (share, amount) in [(1.0, most), (0.5, most.ratio(1, 2)), (0.0, Usd::ZERO)] {
        let y = BASE - (BASE - TOP) * share;
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{WIDTH}" y2="{y:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            y + 4.0,
            html(&dollars(amount)),
        );
    }
    let step = (WIDTH - LEFT) / count(bars.len().max(1));
    let every = bars.len().div_ceil(6).max(1);
    for (number, bar) in bars.iter().enumerate() {
        let height = (BASE - TOP) * part(bar.amount, most);
        let x = LEFT + step * count(number);
        let _ = write!(
            svg,
            r#"<rect class="{}" x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}"><title>{}: {}</title></rect>"#,
            bar.class,
            x + step * 0.1,
            BASE - height,
            step * 0.8,
            html(&bar.label),
            html(&dollars(bar.amount)),
        );
        if number % every == 0 {
            let _ = write!(
                svg,
                r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                (x + step / 2.0).clamp(LEFT + 30.0, WIDTH - 34.0),
                BASE + 22.0,
                html(&bar.label),
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// Lying bars one below the other, with their amounts, for a ranking or a waterfall.
pub(super) fn rows(id: &str, title: &str, description: &str, bars: &[Bar]) -> String {
    const AMOUNT: f64 = 100.0;
    let most = bars.iter().map(|b| b.from + b.amount).max().unwrap_or_default();
    let room = WIDTH - LABEL - AMOUNT;
    let mut svg = open(id, title, description, ROW * count(bars.len()) + 8.0);
    for (number, bar) in bars.iter().enumerate() {
        let y = ROW * count(number) + 4.0;
        let x = LABEL + room * part(bar.from, most);
        // A bar that is there is seen, however small.
        let width =
            (room * part(bar.amount, most)).max(if bar.amount.is_zero() { 0.0 } else { 1.5 });
        let _ = write!(
            svg,
            r#"<text class="name" x="{:.1}" y="{:.1}" text-anchor="end">{}</text><rect class="{}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}" rx="2"/><text class="tick" x="{:.1}" y="{:.1}">{}</text>"#,
            LABEL - 10.0,
            y + 17.0,
            html(&clipped(&bar.label, 32)),
            bar.class,
            ROW - 8.0,
            x + width + 8.0,
            y + 17.0,
            html(bar.note.as_deref().unwrap_or(&dollars(bar.amount))),
        );
    }
    svg.push_str("</svg>");
    svg
}

fn open(id: &str, title: &str, description: &str, height: f64) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{}</title><desc id="{id}-desc">{}</desc>"#,
        html(title),
        html(description),
    )
}

/// The end of a long name tells more than its beginning: providers come first.
fn clipped(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let end: String = text.chars().skip(length - most + 1).collect();
    format!("…{end}")
}

fn part(amount: Usd, whole: Usd) -> f64 {
    if whole <= Usd::ZERO { 0.0 } else { (amount.to_f64() / whole.to_f64()).clamp(0.0, 1.0) }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_have_words_and_escape_names() {
        let bars = [Bar::new("<script>", "3".parse().unwrap()), Bar::new("b", Usd::ZERO)];
        for svg in [
            columns("x", "T & T", "D", &bars),
            rows("x", "T & T", "D", &bars),
            columns("x", "T & T", "D", &[]),
        ] {
            assert!(
                svg.contains("<title id=\"x-title\">T &amp; T</title>")
                    && svg.contains("<desc id=\"x-desc\">D</desc>")
            );
            assert!(!svg.contains("<script>") && !svg.contains("NaN") && svg.ends_with("</svg>"));
        }
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(clipped("openrouter/anthropic/claude", 12), "…opic/claude");
        assert_eq!(clipped("gpt-4o", 12), "gpt-4o");
    }
}
