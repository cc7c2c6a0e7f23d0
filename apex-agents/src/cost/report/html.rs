//! The report as one page: no script, nothing loaded, readable without colours, on a phone, in the dark and by ear.

use super::chart::{self, Bar};
use super::facts::NO_DAY;
use super::words::{count, dollars, dollars_or, html};
use super::{
    Advice, Effort, EvidenceLevel, Finding, Recommendation, Report, Saving, Severity, Source,
    Totals,
};
use apex_core::money::Usd;
use std::fmt::Write;

/// How many rows a table shows; all of them stand in `report.json`.
const ROWS_SHOWN: usize = 50;
const STYLE: &str = include_str!("style.css");

impl Report {
    /// The report as a self-contained HTML page. All text of users is escaped.
    #[must_use]
    pub fn to_html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>LLM spending report, {period}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>LLM spending report</h1>\n<p>{period} · {files}</p>\n</header>\n<main>\n",
            period = html(&self.period_text()),
            files = html(&self.files_text()),
        );
        self.cards(&mut page);
        self.findings_section(&mut page);
        self.savings_section(&mut page);
        self.plan_section(&mut page);
        self.spend_section(&mut page);
        self.sources_section(&mut page);
        let _ = write!(
            page,
            "</main>\n<footer>\n<p>Prices: catalogue {} (SHA-256 <code>{}</code>). Every figure is computed from the \
             records and exact in report.json; here amounts are rounded.</p>\n</footer>\n</body>\n</html>\n",
            html(&self.catalogue.version),
            html(&self.catalogue.sha256),
        );
        page
    }

    /// The period in words.
    pub(super) fn period_text(&self) -> String {
        let day =
            |at: apex_core::clock::Timestamp| at.to_string().chars().take(10).collect::<String>();
        match (self.period.from, self.period.to) {
            (Some(from), Some(to)) => format!("{} to {}", day(from), day(to)),
            _ => "no dates recorded".to_owned(),
        }
    }

    /// The files in words.
    pub(super) fn files_text(&self) -> String {
        match self.sources.as_slice() {
            [one] => one.file.clone(),
            many => format!("{} files", many.len()),
        }
    }

    fn cards(&self, page: &mut String) {
        let saving = self.headline.saving_usd;
        page.push_str("<section aria-labelledby=\"sum\">\n<h2 id=\"sum\">In short</h2>\n<dl class=\"cards\">\n");
        let requests = format!(
            "{} requests, {} tokens in, {} out",
            count(self.totals.requests),
            count(self.totals.input_tokens),
            count(self.totals.output_tokens)
        );
        let unpriced = match self.totals.unpriced_requests {
            0 => "every request has a price".to_owned(),
            some => format!("{} requests have no price and are left out", count(some)),
        };
        let range = format!(
            "{} to {}, outside it ceilings that nobody has shown",
            dollars(saving.low),
            dollars(saving.high)
        );
        for (name, value, note) in [
            ("Recorded cost", dollars_or(self.totals.recorded_cost_usd, "not recorded"), requests),
            ("Cost at list price", dollars_or(self.totals.priced_cost_usd, "unpriced"), unpriced),
            ("Likely saving", dollars(saving.expected), range),
        ] {
            let _ = writeln!(
                page,
                "<div><dt>{name}</dt><dd><strong>{}</strong><span>{}</span></dd></div>",
                html(&value),
                html(&note)
            );
        }
        page.push_str("</dl>\n</section>\n");
    }

    fn findings_section(&self, page: &mut String) {
        page.push_str(
            "<section aria-labelledby=\"findings\">\n<h2 id=\"findings\">What you must know</h2>\n",
        );
        if self.findings.is_empty() {
            page.push_str("<p>Nothing remarkable was found in the records.</p>\n");
        }
        for finding in &self.findings {
            one_finding(page, finding);
        }
        page.push_str("</section>\n");
    }

    fn savings_section(&self, page: &mut String) {
        page.push_str(
            "<section aria-labelledby=\"savings\">\n<h2 id=\"savings\">What could be saved</h2>\n",
        );
        let mut bars = vec![Bar {
            class: "bar whole",
            ..Bar::new("Cost at list price", self.waterfall.start_usd)
        }];
        for step in &self.waterfall.steps {
            let name = lever_name(&step.lever);
            bars.push(if step.in_headline {
                Bar {
                    class: "bar saved",
                    from: step.left_usd,
                    ..Bar::new(name, step.saving_usd.expected)
                }
            } else {
                Bar {
                    note: Some(format!(
                        "does not count (at most {})",
                        dollars(step.saving_usd.high)
                    )),
                    ..Bar::new(name, Usd::ZERO)
                }
            });
        }
        bars.push(Bar { class: "bar whole", ..Bar::new("Left", self.waterfall.end_usd) });
        let description = format!(
            "From {} at list price the counted savings leave {}. The table below has the same figures.",
            dollars(self.waterfall.start_usd),
            dollars(self.waterfall.end_usd)
        );
        figure(
            page,
            "Savings waterfall",
            &chart::rows("waterfall", "Savings waterfall", &description, &bars),
        );
        table_start(
            page,
            "Savings, each of what the ones before it left",
            &["Lever", "Low", "Expected", "High", "Counts", "Left"],
        );
        for step in &self.waterfall.steps {
            let Saving { low, expected, high } = step.saving_usd;
            cells(
                page,
                &[
                    lever_name(&step.lever),
                    &dollars(low),
                    &dollars(expected),
                    &dollars(high),
                    if step.in_headline { "yes" } else { "no" },
                    &dollars(step.left_usd),
                ],
            );
        }
        table_end(page);
        for recommendation in &self.recommendations {
            one_recommendation(page, recommendation);
        }
        page.push_str("</section>\n");
    }

    fn plan_section(&self, page: &mut String) {
        page.push_str("<section aria-labelledby=\"plan\">\n<h2 id=\"plan\">Plan</h2>\n");
        if self.actions.is_empty() {
            page.push_str("<p>There is nothing to do.</p>\n");
        } else {
            page.push_str("<ol class=\"plan\">\n");
        }
        for action in &self.actions {
            let saving = action
                .saving_usd
                .map_or_else(String::new, |s| format!(" Expected saving: {}.", dollars(s)));
            let _ = writeln!(
                page,
                "<li><p><strong>{}</strong></p><dl><dt>Where</dt><dd>{}</dd><dt>Effort</dt><dd>{}.{}</dd><dt>Risk</dt><dd>{}</dd>\
                 <dt>Roll back</dt><dd>{}</dd><dt>Verify</dt><dd>{}</dd></dl></li>",
                html(&action.what),
                html(&action.place),
                effort(action.effort),
                html(&saving),
                html(&action.risk),
                html(&action.roll_back),
                html(&action.verify),
            );
        }
        page.push_str(if self.actions.is_empty() { "</section>\n" } else { "</ol>\n</section>\n" });
    }

    fn spend_section(&self, page: &mut String) {
        page.push_str(
            "<section aria-labelledby=\"spend\">\n<h2 id=\"spend\">Where the money went</h2>\n",
        );
        let (unit, bars) = self.time_bars();
        let title = format!("Cost at list price by {unit}");
        let description = format!(
            "{} bars, one for each {unit}. The table of days below has the same figures.",
            bars.len()
        );
        if !bars.is_empty() {
            figure(page, &title, &chart::columns("days", &title, &description, &bars));
        }
        let days =
            self.by_day.iter().map(|row| (row.day.as_str(), &row.totals)).collect::<Vec<_>>();
        page.push_str("<details><summary>All days as a table</summary>\n");
        totals_table(page, "By day (UTC)", "Day", &days, days.len());
        page.push_str("</details>\n");
        let models: Vec<_> =
            self.by_model.iter().map(|row| (row.model.as_str(), &row.totals)).collect();
        let bars: Vec<Bar> = models
            .iter()
            .filter_map(|(name, totals)| Some(Bar::new(*name, totals.priced_cost_usd?)))
            .take(12)
            .collect();
        if !bars.is_empty() {
            let title = "Cost at list price by model";
            let description =
                format!("The {} dearest models. The table below has the same figures.", bars.len());
            figure(page, title, &chart::rows("models", title, &description, &bars));
        }
        totals_table(page, "By model", "Model", &models, ROWS_SHOWN);
        if !self.by_user.is_empty() {
            let users: Vec<_> =
                self.by_user.iter().map(|row| (row.user.as_str(), &row.totals)).collect();
            totals_table(page, "By user", "User", &users, ROWS_SHOWN);
        }
        page.push_str("</section>\n");
    }

    /// The days as bars; months where there are too many to tell them apart.
    fn time_bars(&self) -> (&'static str, Vec<Bar>) {
        const MOST_DAYS: usize = 366;
        let dated = || self.by_day.iter().filter(|row| row.day != NO_DAY);
        let (unit, length) = if dated().count() > MOST_DAYS { ("month", 7) } else { ("day", 10) };
        let mut bars: Vec<Bar> = Vec::new();
        for row in dated() {
            let label = row.day.get(..length).unwrap_or(&row.day);
            let amount = row.totals.priced_cost_usd.unwrap_or(Usd::ZERO);
            match bars.last_mut() {
                Some(bar) if bar.label == label => bar.amount += amount,
                _ => bars.push(Bar::new(label, amount)),
            }
        }
        (unit, bars)
    }

    fn sources_section(&self, page: &mut String) {
        page.push_str("<section aria-labelledby=\"sources\">\n<h2 id=\"sources\">Sources</h2>\n");
        table_start(page, "Files", &["File", "Format", "Rows", "Imported", "Rejected"]);
        for source in &self.sources {
            cells(
                page,
                &[
                    &source.file,
                    &source.format,
                    &count(source.rows),
                    &count(source.imported),
                    &count(source.rejected_rows),
                ],
            );
        }
        table_end(page);
        for source in &self.sources {
            one_source(page, source);
        }
        page.push_str("</section>\n");
    }
}

fn one_finding(page: &mut String, finding: &Finding) {
    let (class, word) = match finding.severity {
        Severity::Critical => ("critical", "Critical"),
        Severity::Warning => ("warning", "Warning"),
        Severity::Info => ("info", "Note"),
    };
    let _ = writeln!(
        page,
        "<article class=\"{class}\">\n<h3><span class=\"tag\">{word}</span> {}</h3>\n<p>{}</p>",
        html(&finding.title),
        html(&finding.evidence)
    );
    if !finding.examples.is_empty() {
        page.push_str("<ul>\n");
        for example in &finding.examples {
            let _ = writeln!(
                page,
                "<li>{}, line {}: {}</li>",
                html(&example.file),
                example.line,
                html(&example.note)
            );
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</article>\n");
}

fn one_recommendation(page: &mut String, recommendation: &Recommendation) {
    let (class, word) = match recommendation.advice {
        Advice::Do => ("do", "Do"),
        Advice::Try => ("try", "Try"),
        Advice::DoNot => ("dont", "Do not"),
    };
    let Saving { low, expected, high } = recommendation.saving_usd;
    let level = match recommendation.evidence_level {
        EvidenceLevel::Measured => "measured in the records",
        EvidenceLevel::Estimated => "estimated by a stated rule",
        EvidenceLevel::Ceiling => "a ceiling without evidence of quality",
    };
    let _ = writeln!(
        page,
        "<article class=\"{class}\">\n<h3><span class=\"tag\">{word}</span> {}</h3>\n<p>{} expected ({} to {}), {level}.</p>\n\
         <dl><dt>Scope</dt><dd>{}</dd><dt>Evidence</dt><dd>{}</dd><dt>Risk</dt><dd>{}</dd><dt>Verify</dt><dd>{}</dd></dl>\n</article>",
        html(&recommendation.title),
        dollars(expected),
        dollars(low),
        dollars(high),
        html(&recommendation.scope),
        html(&recommendation.evidence),
        html(&recommendation.risk),
        html(&recommendation.verify),
    );
}

fn one_source(page: &mut String, source: &Source) {
    if let Some(refused) = &source.refused {
        let _ = writeln!(
            page,
            "<p>{} was refused at line {}: {}</p>",
            html(&source.file),
            refused.line,
            html(&refused.reason)
        );
    }
    if source.rejected.is_empty() {
        return;
    }
    let _ =
        writeln!(page, "<details><summary>Rejected rows of {}</summary>\n<ul>", html(&source.file));
    for rejection in source.rejected.iter().take(ROWS_SHOWN) {
        let _ = writeln!(page, "<li>Line {}: {}</li>", rejection.line, html(&rejection.reason));
    }
    let more = source.rejected_rows.saturating_sub(ROWS_SHOWN as u64);
    if more > 0 {
        let _ = writeln!(page, "<li>and {} more</li>", count(more));
    }
    page.push_str("</ul></details>\n");
}

fn totals_table(
    page: &mut String,
    caption: &str,
    key: &str,
    rows: &[(&str, &Totals)],
    shown: usize,
) {
    table_start(
        page,
        caption,
        &[key, "Requests", "Tokens in", "Tokens out", "Recorded", "List price", "Unpriced"],
    );
    for (name, totals) in rows.iter().take(shown) {
        cells(
            page,
            &[
                name,
                &count(totals.requests),
                &count(totals.input_tokens),
                &count(totals.output_tokens),
                &dollars_or(totals.recorded_cost_usd, "–"),
                &dollars_or(totals.priced_cost_usd, "unpriced"),
                &count(totals.unpriced_requests),
            ],
        );
    }
    table_end(page);
    if rows.len() > shown {
        let _ = writeln!(
            page,
            "<p>{} more are in report.json.</p>",
            count((rows.len() - shown) as u64)
        );
    }
}

fn figure(page: &mut String, title: &str, svg: &str) {
    let _ = writeln!(
        page,
        "<figure><figcaption>{}</figcaption><div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{} (chart)\">{svg}</div></figure>",
        html(title),
        html(title)
    );
}

fn table_start(page: &mut String, caption: &str, heads: &[&str]) {
    let _ = write!(
        page,
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{} (table)\"><table><caption>{}</caption><thead><tr>",
        html(caption),
        html(caption)
    );
    for head in heads {
        let _ = write!(page, "<th scope=\"col\">{}</th>", html(head));
    }
    page.push_str("</tr></thead><tbody>\n");
}

fn cells(page: &mut String, cells: &[&str]) {
    page.push_str("<tr>");
    for (number, cell) in cells.iter().enumerate() {
        let _ = match number {
            0 => write!(page, "<th scope=\"row\">{}</th>", html(cell)),
            _ => write!(page, "<td>{}</td>", html(cell)),
        };
    }
    page.push_str("</tr>\n");
}

fn table_end(page: &mut String) {
    page.push_str("</tbody></table></div>\n");
}

/// A lever's name for people.
pub(super) fn lever_name(lever: &str) -> &str {
    match lever {
        "failed_calls" => "Failed and empty calls",
        "exact_repeats" => "Exact repeats",
        "batch" => "Batch interface",
        "cheaper_model" => "Cheaper model",
        other => other,
    }
}

/// An effort in a word.
pub(super) fn effort(effort: Effort) -> &'static str {
    match effort {
        Effort::Small => "Small (hours)",
        Effort::Medium => "Medium (days)",
        Effort::Large => "Large (weeks)",
    }
}
