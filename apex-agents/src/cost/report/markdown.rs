//! The report as Markdown, and as a few lines for a terminal.

use super::html::{effort, lever_name};
use super::words::{count, dollars, dollars_or, markdown};
use super::{Advice, EvidenceLevel, Report, Severity, Totals};
use std::fmt::Write;

/// How many rows a table shows; all of them stand in `report.json`.
const ROWS_SHOWN: usize = 30;

impl Report {
    /// The report as Markdown. All text of users is escaped.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut md = format!(
            "# LLM spending report\n\n{} · {}\n\n",
            self.period_text(),
            markdown(&self.files_text())
        );
        let saving = self.headline.saving_usd;
        let _ = writeln!(
            md,
            "- Recorded cost: **{}** for {} requests ({} tokens in, {} out)\n\
             - Cost at list price: **{}** ({} requests have no price and are left out)\n\
             - Likely saving: **{}** ({} to {})\n",
            dollars_or(self.totals.recorded_cost_usd, "not recorded"),
            count(self.totals.requests),
            count(self.totals.input_tokens),
            count(self.totals.output_tokens),
            dollars_or(self.totals.priced_cost_usd, "unpriced"),
            count(self.totals.unpriced_requests),
            dollars(saving.expected),
            dollars(saving.low),
            dollars(saving.high),
        );
        md.push_str("## What you must know\n\n");
        for finding in &self.findings {
            let _ = writeln!(
                md,
                "- **{}: {}.** {}",
                severity(finding.severity),
                markdown(&finding.title),
                markdown(&finding.evidence)
            );
            for example in &finding.examples {
                let _ = writeln!(
                    md,
                    "  - {}, line {}: {}",
                    markdown(&example.file),
                    example.line,
                    markdown(&example.note)
                );
            }
        }
        self.savings_markdown(&mut md);
        md.push_str("\n## Plan\n\n");
        for action in &self.actions {
            let saving = action
                .saving_usd
                .map_or_else(String::new, |s| format!(" Expected saving: {}.", dollars(s)));
            let _ = writeln!(
                md,
                "{}. **{}**\n   - Where: {}\n   - Effort: {}.{saving}\n   - Risk: {}\n   - Roll back: {}\n   - Verify: {}",
                action.order,
                markdown(&action.what),
                markdown(&action.place),
                effort(action.effort),
                markdown(&action.risk),
                markdown(&action.roll_back),
                markdown(&action.verify),
            );
        }
        let models: Vec<_> =
            self.by_model.iter().map(|row| (row.model.as_str(), &row.totals)).collect();
        table(&mut md, "By model", "Model", &models);
        let users: Vec<_> =
            self.by_user.iter().map(|row| (row.user.as_str(), &row.totals)).collect();
        table(&mut md, "By user", "User", &users);
        let days: Vec<_> = self.by_day.iter().map(|row| (row.day.as_str(), &row.totals)).collect();
        table(&mut md, "By day (UTC)", "Day", &days);
        self.sources_markdown(&mut md);
        let _ = writeln!(
            md,
            "\nPrices: catalogue {} (SHA-256 `{}`). Amounts are rounded here and exact in report.json.",
            markdown(&self.catalogue.version),
            self.catalogue.sha256
        );
        md
    }

    fn savings_markdown(&self, md: &mut String) {
        md.push_str(
            "\n## What could be saved\n\nEach lever is applied to what those before it left.\n\n",
        );
        md.push_str(
            "| Lever | Low | Expected | High | Counts | Left |\n|---|---:|---:|---:|---|---:|\n",
        );
        for step in &self.waterfall.steps {
            let _ = writeln!(
                md,
                "| {} | {} | {} | {} | {} | {} |",
                markdown(lever_name(&step.lever)),
                dollars(step.saving_usd.low),
                dollars(step.saving_usd.expected),
                dollars(step.saving_usd.high),
                if step.in_headline { "yes" } else { "no" },
                dollars(step.left_usd),
            );
        }
        for r in &self.recommendations {
            let level = match r.evidence_level {
                EvidenceLevel::Measured => "measured",
                EvidenceLevel::Estimated => "estimated",
                EvidenceLevel::Ceiling => "ceiling",
            };
            let _ = writeln!(
                md,
                "\n### {}: {}\n\n{}\n\n- Scope: {}\n- Evidence ({level}): {}\n- Risk: {}\n- Verify: {}",
                advice(r.advice),
                markdown(lever_name(&r.lever)),
                markdown(&r.title),
                markdown(&r.scope),
                markdown(&r.evidence),
                markdown(&r.risk),
                markdown(&r.verify),
            );
        }
    }

    fn sources_markdown(&self, md: &mut String) {
        md.push_str("\n## Sources\n\n| File | Format | Rows | Imported | Rejected |\n|---|---|---:|---:|---:|\n");
        for source in &self.sources {
            let _ = writeln!(
                md,
                "| {} | {} | {} | {} | {} |",
                markdown(&source.file),
                markdown(&source.format),
                count(source.rows),
                count(source.imported),
                count(source.rejected_rows)
            );
        }
        md.push('\n');
        for source in &self.sources {
            let refused = source.refused.iter().map(|r| (r, "the file was refused here: "));
            for (rejection, what) in
                refused.chain(source.rejected.iter().map(|r| (r, ""))).take(ROWS_SHOWN)
            {
                let (file, reason) = (markdown(&source.file), markdown(&rejection.reason));
                let _ = writeln!(md, "- {file}, line {}: {what}{reason}", rejection.line);
            }
        }
    }

    /// The report in a few lines of plain text, for a terminal.
    #[must_use]
    pub fn summary(&self) -> String {
        let saving = self.headline.saving_usd;
        let mut text = format!(
            "{} requests, {} · recorded {} · at list price {}{}\n",
            count(self.totals.requests),
            self.period_text(),
            dollars_or(self.totals.recorded_cost_usd, "nothing"),
            dollars_or(self.totals.priced_cost_usd, "unpriced"),
            match self.totals.unpriced_requests {
                0 => String::new(),
                some => format!(" ({} requests unpriced)", count(some)),
            },
        );
        let _ = writeln!(
            text,
            "likely saving {} ({} to {})",
            dollars(saving.expected),
            dollars(saving.low),
            dollars(saving.high)
        );
        for finding in self.findings.iter().filter(|f| f.severity != Severity::Info).take(6) {
            let _ = writeln!(
                text,
                "{}: {}",
                severity(finding.severity).to_lowercase(),
                plain(&finding.title)
            );
        }
        for action in self.actions.iter().take(5) {
            let _ = writeln!(text, "{}. {}", action.order, plain(&action.what));
        }
        text
    }
}

fn table(md: &mut String, title: &str, key: &str, rows: &[(&str, &Totals)]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        md,
        "\n## {title}\n\n| {key} | Requests | Tokens in | Tokens out | Recorded | List price | Unpriced |\n\
         |---|---:|---:|---:|---:|---:|---:|"
    );
    for (name, totals) in rows.iter().take(ROWS_SHOWN) {
        let _ = writeln!(
            md,
            "| {} | {} | {} | {} | {} | {} | {} |",
            markdown(name),
            count(totals.requests),
            count(totals.input_tokens),
            count(totals.output_tokens),
            dollars_or(totals.recorded_cost_usd, "–"),
            dollars_or(totals.priced_cost_usd, "unpriced"),
            count(totals.unpriced_requests)
        );
    }
    if rows.len() > ROWS_SHOWN {
        let _ =
            writeln!(md, "\n{} more are in report.json.", count((rows.len() - ROWS_SHOWN) as u64));
    }
}

/// Foreign text in a terminal: without what could move the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "Critical",
        Severity::Warning => "Warning",
        Severity::Info => "Note",
    }
}

fn advice(advice: Advice) -> &'static str {
    match advice {
        Advice::Do => "Do",
        Advice::Try => "Try",
        Advice::DoNot => "Do not",
    }
}
