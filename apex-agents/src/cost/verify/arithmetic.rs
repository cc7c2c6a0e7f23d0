//! What has to hold inside a report, whatever the records say.

use crate::cost::report::{Report, Saving, Totals};
use apex_core::money::Usd;

/// What does not hold.
pub(super) fn faults(report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    let mut demand = |holds: bool, fault: String| faults.extend((!holds).then_some(fault));
    for source in &report.sources {
        demand(
            source.rows == source.imported + source.rejected_rows,
            format!(
                "sources: {} rows of {} are not imported plus rejected",
                source.rows, source.file
            ),
        );
    }
    let imported: u64 = report.sources.iter().map(|s| s.imported).sum();
    demand(
        imported == report.totals.requests,
        format!("totals.requests: {} but {imported} rows were imported", report.totals.requests),
    );
    let lists: [(&str, Vec<&Totals>); 3] = [
        ("by_model", report.by_model.iter().map(|row| &row.totals).collect()),
        ("by_user", report.by_user.iter().map(|row| &row.totals).collect()),
        ("by_day", report.by_day.iter().map(|row| &row.totals).collect()),
    ];
    for (name, rows) in lists {
        // No source may name users.
        let absent = name == "by_user" && rows.is_empty();
        demand(
            absent || sum(&rows) == report.totals,
            format!("{name}: its rows do not add up to the totals"),
        );
    }
    let mut left = report.waterfall.start_usd;
    let mut counted = Saving::default();
    for step in &report.waterfall.steps {
        let Saving { low, expected, high } = step.saving_usd;
        demand(
            Usd::ZERO <= low && low <= expected && expected <= high,
            format!("waterfall: {} does not save low <= expected <= high", step.lever),
        );
        if step.in_headline {
            left = left - expected;
            counted = Saving {
                low: counted.low + low,
                expected: counted.expected + expected,
                high: counted.high + high,
            };
        }
        demand(
            step.left_usd == left,
            format!("waterfall: {} leaves ${} and not ${left}", step.lever, step.left_usd),
        );
    }
    demand(
        report.waterfall.end_usd == left,
        "waterfall: its end is not what its steps leave".to_owned(),
    );
    demand(
        report.headline.saving_usd == counted,
        "headline: it is not the sum of the waterfall".to_owned(),
    );
    faults
}

fn sum(rows: &[&Totals]) -> Totals {
    let mut sum = Totals::default();
    let together = |a: Option<Usd>, b: Option<Usd>| match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    for row in rows {
        sum = Totals {
            requests: sum.requests.saturating_add(row.requests),
            input_tokens: sum.input_tokens.saturating_add(row.input_tokens),
            cached_tokens: sum.cached_tokens.saturating_add(row.cached_tokens),
            output_tokens: sum.output_tokens.saturating_add(row.output_tokens),
            recorded_cost_usd: together(sum.recorded_cost_usd, row.recorded_cost_usd),
            priced_cost_usd: together(sum.priced_cost_usd, row.priced_cost_usd),
            unpriced_requests: sum.unpriced_requests.saturating_add(row.unpriced_requests),
        };
    }
    sum
}
