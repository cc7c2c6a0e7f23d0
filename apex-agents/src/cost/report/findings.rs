//! What the reader must know about the records, in words.

use super::facts::{Facts, NO_DAY, Notes, OTHER_MODELS, OTHER_USERS, OUTLIER_RATIO};
use super::words::{count, counted, dollars, percent};
use super::{Example, Finding, Severity};
use apex_core::money::Usd;
use std::cmp::Reverse;

/// Fewer days than this have no ordinary day to compare with.
const DAYS_FOR_SPIKES: usize = 14;

/// All findings, the gravest first, and among equals the dearest.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [
        outliers, refused, rejected, copies, twins, free, unpriced, compared, spikes, undated,
        missing, limits,
    ]
    .iter()
    .filter_map(|finding| finding(facts))
    .collect();
    findings.sort_by_key(|f| (f.severity, Reverse(f.amount_usd)));
    findings
}

fn finding(kind: &str, severity: Severity, title: String, evidence: String) -> Finding {
    Finding {
        kind: kind.to_owned(),
        severity,
        title,
        evidence,
        requests: 0,
        amount_usd: None,
        examples: Vec::new(),
    }
}

/// Whether `part` is more than a hundredth of `whole`, `hundredths` times.
fn exceeds(part: Usd, whole: Usd, hundredths: u64) -> bool {
    part.checked_mul(100) > whole.checked_mul(hundredths)
}

fn outliers(facts: &Facts) -> Option<Finding> {
    let notes = &facts.notes;
    let worst = notes.outlier_rows.first()?;
    let excess = notes.outlier_recorded - notes.outlier_priced;
    let recorded = facts.totals.recorded_cost_usd.unwrap_or(Usd::ZERO);
    let severity =
        if exceeds(excess, recorded, 10) { Severity::Critical } else { Severity::Warning };
    let title = format!(
        "{} recorded with a cost far beyond the price: {} for {} tokens of {} that cost about {}",
        if notes.outliers == 1 {
            "One request is".to_owned()
        } else {
            format!("{} requests are", count(notes.outliers))
        },
        dollars(worst.recorded),
        count(worst.tokens),
        worst.model,
        dollars(worst.priced),
    );
    let evidence = format!(
        "{} of the recorded {} stand on {} with a recorded cost of {} that at list price {} {}; a record \
         counts as such from {OUTLIER_RATIO} times its price on. Totals of recorded costs include it; savings do not, \
         they are computed from prices.",
        percent(excess, recorded),
        dollars(recorded),
        if notes.outliers == 1 {
            "one record".to_owned()
        } else {
            format!("{} records", notes.outliers)
        },
        dollars(notes.outlier_recorded),
        if notes.outliers == 1 { "is" } else { "are" },
        dollars(notes.outlier_priced),
    );
    Some(Finding {
        requests: notes.outliers,
        amount_usd: Some(excess),
        examples: notes
            .outlier_rows
            .iter()
            .map(|row| Example {
                file: row.file.clone(),
                line: row.line,
                note: format!(
                    "{}: recorded ${} for {} tokens, priced ${}",
                    row.model, row.recorded, row.tokens, row.priced
                ),
            })
            .collect(),
        ..finding("cost_outlier", severity, title, evidence)
    })
}

fn refused(facts: &Facts) -> Option<Finding> {
    let refused = || facts.sources.iter().filter_map(|s| Some((s, s.refused.as_ref()?)));
    let count = refused().count();
    (count > 0).then(|| Finding {
        examples: refused()
            .map(|(source, why)| Example {
                file: source.file.clone(),
                line: why.line,
                note: why.reason.clone(),
            })
            .collect(),
        ..finding(
            "file_refused",
            Severity::Critical,
            format!(
                "{} of {} could not be read, or not to the end",
                count,
                counted(facts.sources.len() as u64, "file", "files")
            ),
            "What is behind the line named is not in this report.".to_owned(),
        )
    })
}

fn rejected(facts: &Facts) -> Option<Finding> {
    let (rows, rejected) = facts
        .sources
        .iter()
        .fold((0, 0), |(rows, rejected), s| (rows + s.rows, rejected + s.rejected_rows));
    let faulty = rejected - facts.notes.copies;
    (faulty > 0).then(|| Finding {
        requests: faulty,
        examples: facts
            .sources
            .iter()
            .flat_map(|s| s.rejected.iter().map(move |r| (s, r)))
            .filter(|(_, r)| !r.reason.starts_with(COPY))
            .take(super::facts::EXAMPLES)
            .map(|(source, r)| Example { file: source.file.clone(), line: r.line, note: r.reason.clone() })
            .collect(),
        ..finding(
            "rows_rejected",
            Severity::Warning,
            format!("{} of {} rows are no usage records and were left out", count(faulty), count(rows)),
            "Each is listed with its line and reason under the file's rejected rows (the first thousand of a file)."
                .to_owned(),
        )
    })
}

/// How the reason of a rejected copy begins.
pub(in crate::cost) const COPY: &str = "is a copy of ";

fn copies(facts: &Facts) -> Option<Finding> {
    let notes = &facts.notes;
    (notes.copies > 0).then(|| Finding {
        requests: notes.copies,
        examples: notes.copy_rows.clone(),
        ..finding(
            "duplicate_rows",
            Severity::Warning,
            counted(notes.copies, "row is a copy of an earlier one and was left out", "rows are copies of earlier ones and were left out"),
            "They have the same request id and the same figures as an earlier row: the export wrote them twice."
                .to_owned(),
        )
    })
}

fn twins(facts: &Facts) -> Option<Finding> {
    let notes = &facts.notes;
    (notes.twins > 0).then(|| Finding {
        requests: notes.twins,
        examples: notes.twin_rows.clone(),
        ..finding(
            "identical_rows",
            Severity::Warning,
            counted(notes.twins, "row equals an earlier one in every column, and is counted", "rows equal earlier ones in every column, and are counted"),
            "Without request ids nobody can tell a row that was exported twice from two equal requests. Export the \
             request id to be sure."
                .to_owned(),
        )
    })
}

fn free(facts: &Facts) -> Option<Finding> {
    let notes = &facts.notes;
    (notes.free > 0).then(|| Finding {
        requests: notes.free,
        amount_usd: (notes.free_priced > 0).then_some(notes.free_worth),
        ..finding(
            "recorded_as_free",
            if notes.free_worth > Usd::ZERO { Severity::Warning } else { Severity::Info },
            counted(notes.free, "request is recorded with a cost of $0", "requests are recorded with a cost of $0"),
            format!(
                "{} of them have a price; at list price they cost {}. A free tier is one reason, a tool that did not \
                 know the price another.",
                count(notes.free_priced),
                dollars(notes.free_worth)
            ),
        )
    })
}

fn unpriced(facts: &Facts) -> Option<Finding> {
    let unpriced = facts.totals.unpriced_requests;
    if unpriced == 0 {
        return None;
    }
    let reasons: Vec<String> = facts
        .notes
        .unpriced
        .iter()
        .map(|(reason, (requests, tokens))| {
            format!("{requests} requests ({tokens} tokens): {reason}")
        })
        .collect();
    let mut models: Vec<_> =
        facts.by_model.iter().filter(|m| m.totals.unpriced_requests > 0).collect();
    models.sort_by(|a, b| {
        b.totals
            .unpriced_requests
            .cmp(&a.totals.unpriced_requests)
            .then_with(|| a.model.cmp(&b.model))
    });
    let named: Vec<String> = models
        .iter()
        .take(8)
        .map(|m| format!("{} ({})", m.model, m.totals.unpriced_requests))
        .collect();
    let more = models.len().saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let many = unpriced.saturating_mul(20) > facts.totals.requests;
    Some(Finding {
        requests: unpriced,
        ..finding(
            "unpriced",
            if many { Severity::Warning } else { Severity::Info },
            format!(
                "{} of {} requests have no price and are in no priced sum",
                count(unpriced),
                count(facts.totals.requests)
            ),
            format!("{}. Models: {}{more}.", reasons.join("; "), named.join(", ")),
        )
    })
}

fn compared(facts: &Facts) -> Option<Finding> {
    let Notes { compared, compared_recorded, compared_priced, .. } = facts.notes;
    if compared == 0 {
        return None;
    }
    let difference = compared_recorded - compared_priced;
    let far = exceeds(difference.abs(), compared_priced, 5);
    let near = !exceeds(difference.abs().ratio(10, 1), compared_priced, 1);
    let title = if near {
        "Recorded costs agree with list prices, to less than a thousandth".to_owned()
    } else {
        format!(
            "Recorded costs are {} ({}) {} than list prices",
            dollars(difference.abs()),
            percent(difference.abs(), compared_priced),
            if difference < Usd::ZERO { "lower" } else { "higher" }
        )
    };
    Some(Finding {
        requests: compared,
        amount_usd: Some(difference),
        ..finding(
            "recorded_against_priced",
            if far { Severity::Warning } else { Severity::Info },
            title,
            format!(
                "{} requests have both a cost above zero and a price: recorded {}, priced {}. Cached input that the records do not tell, discounts and rounding are the usual \
                 reasons.",
                count(compared),
                dollars(compared_recorded),
                dollars(compared_priced)
            ),
        )
    })
}

/// Days far above the ordinary one: more than six scaled median deviations, three times the median and a dollar.
fn spikes(facts: &Facts) -> Option<Finding> {
    let mut days: Vec<(Usd, &str)> = facts
        .by_day
        .iter()
        .filter(|day| day.day != NO_DAY)
        .filter_map(|day| Some((day.totals.priced_cost_usd?, day.day.as_str())))
        .collect();
    if days.len() < DAYS_FOR_SPIKES {
        return None;
    }
    days.sort();
    let middle = |sorted: &[Usd]| sorted.get(sorted.len() / 2).copied().unwrap_or(Usd::ZERO);
    let spend: Vec<Usd> = days.iter().map(|(spend, _)| *spend).collect();
    let median = middle(&spend);
    let mut deviations: Vec<Usd> = spend.iter().map(|s| (*s - median).abs()).collect();
    deviations.sort();
    let spread = middle(&deviations).ratio(14_826, 10_000);
    let dollar = Usd::from_units(10_i128.pow(24));
    let limit = (median + spread.ratio(6, 1)).max(median.ratio(3, 1)).max(median + dollar);
    let found: Vec<_> = days.iter().rev().filter(|(spend, _)| *spend > limit).collect();
    let excess: Usd = found.iter().map(|(spend, _)| *spend - median).sum();
    let (top, day) = found.first()?;
    Some(Finding {
        amount_usd: Some(excess),
        ..finding(
            "spend_spike",
            Severity::Info,
            format!(
                "{} far more than an ordinary day, most of all {day} with {}",
                counted(found.len() as u64, "day cost", "days cost"),
                dollars(*top)
            ),
            format!(
                "The median of {} days is {}, its median deviation {}; above {} are: {}.",
                days.len(),
                dollars(median),
                dollars(middle(&deviations)),
                dollars(limit),
                found
                    .iter()
                    .take(8)
                    .map(|(s, d)| format!("{d} ({})", dollars(*s)))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        )
    })
}

fn undated(facts: &Facts) -> Option<Finding> {
    let count = facts.notes.undated;
    (count > 0).then(|| Finding {
        requests: count,
        ..finding(
            "undated",
            Severity::Info,
            counted(count, "request has no time", "requests have no time"),
            "They are priced only where the price never changed, and stand under the day `unknown`.".to_owned(),
        )
    })
}

fn missing(facts: &Facts) -> Option<Finding> {
    const WANTED: [(&str, &str); 5] = [
        ("model", "nothing can be priced"),
        ("timestamp", "prices of the day and spend by day are unknown"),
        ("user", "spend by user is unknown"),
        ("cached_tokens", "cached input is priced in full"),
        ("cost_usd", "nothing can be compared with what was billed"),
    ];
    let gaps: Vec<String> = facts
        .sources
        .iter()
        .filter(|source| source.imported > 0)
        .flat_map(|source| {
            WANTED
                .iter()
                .filter(|(field, _)| {
                    !source.columns.iter().any(|c| c.split('=').next() == Some(*field))
                })
                .map(|(field, effect)| format!("{} has no {field}: {effect}", source.file))
        })
        .collect();
    (!gaps.is_empty()).then(|| {
        let shown: Vec<_> = gaps.iter().take(12).map(String::as_str).collect();
        finding(
            "missing_columns",
            Severity::Info,
            "Columns are missing that would make the report surer".to_owned(),
            format!("{}.", shown.join("; ")),
        )
    })
}

fn limits(facts: &Facts) -> Option<Finding> {
    let users = facts.by_user.iter().find(|u| u.user == OTHER_USERS).map(|u| u.totals.requests);
    let models = facts.by_model.iter().find(|m| m.model == OTHER_MODELS).map(|m| m.totals.requests);
    let mut parts = Vec::new();
    if let Some(requests) = users {
        parts.push(format!(
            "{requests} requests of users beyond the limit stand under {OTHER_USERS}"
        ));
    }
    if let Some(requests) = models {
        parts.push(format!(
            "{requests} requests of models beyond the limit stand under {OTHER_MODELS}"
        ));
    }
    if facts.notes.forgot {
        parts.push("of copies a million rows apart one in a thousand is not recognised".to_owned());
    }
    (!parts.is_empty()).then(|| {
        finding(
            "limits_reached",
            Severity::Info,
            "The files have more variety than is kept apart; all sums are still whole".to_owned(),
            format!("{}.", parts.join("; ")),
        )
    })
}
