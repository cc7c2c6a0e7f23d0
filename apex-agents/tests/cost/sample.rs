//! The sample's planted faults are found, and what they are worth.

use super::verified;
use apex_agents::cost::report::{Advice, Recommendation, Report};
use apex_agents::cost::sample;
use apex_core::money::Usd;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn lever<'a>(report: &'a Report, name: &str) -> &'a Recommendation {
    report.recommendations.iter().find(|r| r.lever == name).unwrap()
}

#[test]
fn everything_planted_is_found_with_its_amount() {
    let report = verified(sample::NAME, &sample::csv());
    let source = &report.sources[0];
    let requests = sample::DAYS * sample::DAILY * 3
        + sample::FAILED
        + sample::REPEATS
        + 1
        + sample::BURST
        + sample::UNPRICED
        + 1;
    assert_eq!((source.imported, source.rejected_rows, source.rows), (requests, 4, requests + 4));
    let reasons: Vec<_> = source.rejected.iter().map(|r| r.reason.as_str()).collect();
    assert!(reasons[0].starts_with("is a copy of line "), "{reasons:?}");
    assert!(reasons[1].contains("\"-40\" is negative"), "{reasons:?}");
    assert!(reasons[2].contains("\"many\" is not a number"), "{reasons:?}");
    assert!(reasons[3].contains("implausible time 1970-01-01"), "{reasons:?}");

    let kinds: Vec<_> = report.findings.iter().map(|f| f.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "cost_outlier",
            "rows_rejected",
            "duplicate_rows",
            "spend_spike",
            "recorded_against_priced",
            "unpriced"
        ]
    );
    assert_eq!(report.findings[0].amount_usd, Some(usd(sample::ABSURD_COST) - usd("0.00305")));
    assert_eq!(report.totals.unpriced_requests, sample::UNPRICED);
    // Apart from the absurd row the sample records its prices exactly.
    let compared = report.findings.iter().find(|f| f.kind == "recorded_against_priced").unwrap();
    assert_eq!(compared.amount_usd, Some(Usd::ZERO));

    let failed = lever(&report, "failed_calls");
    assert_eq!((failed.advice, failed.requests), (Advice::Do, sample::FAILED));
    assert_eq!(failed.saving_usd.low, usd("0.012").checked_mul(sample::FAILED).unwrap());
    let repeats = lever(&report, "exact_repeats");
    assert_eq!((repeats.advice, repeats.requests), (Advice::Do, sample::REPEATS));
    assert_eq!(repeats.saving_usd.expected, usd("0.0014").checked_mul(sample::REPEATS).unwrap());
    // From the 50th request of the burst on, at half the price.
    let batch = lever(&report, "batch");
    assert_eq!((batch.advice, batch.requests), (Advice::Try, sample::BURST - 49));
    assert_eq!(batch.saving_usd.expected, usd("0.0035").checked_mul(sample::BURST - 49).unwrap());

    let expected =
        failed.saving_usd.expected + repeats.saving_usd.expected + batch.saving_usd.expected;
    assert_eq!(report.headline.saving_usd.expected, expected);
    assert_eq!(report.waterfall.end_usd, report.totals.priced_cost_usd.unwrap() - expected);
    assert_eq!(report.actions[0].order, 1);
    assert!(report.actions[0].what.starts_with("Correct or explain"));
}

#[test]
fn the_forms_for_people_hold_the_figures_and_load_nothing() {
    let report = verified(sample::NAME, &sample::csv());
    let (html, markdown, summary) = (report.to_html(), report.to_markdown(), report.summary());
    for form in [&html, &markdown, &summary] {
        assert!(form.contains("$250.00") && form.contains("far beyond the price"), "{form}");
    }
    for chart in ["Savings waterfall", "Cost at list price by day", "Cost at list price by model"] {
        assert!(html.contains(chart), "{chart}");
    }
    for forbidden in ["<script", "src=", "href=", "@import", "url("] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let json: Report = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json, report);
}

#[test]
fn names_cannot_break_out_of_the_page() {
    let csv = "model,user,input_tokens,output_tokens\n\"<script>alert(1)</script>|x\",\"\"\"><img onerror=a>\",10,5\n";
    let report = verified("<b>.csv", csv.as_bytes());
    let html = report.to_html();
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>"));
    assert!(html.contains("&lt;script&gt;alert(1)"));
    assert!(report.to_markdown().contains("\\<script\\>alert(1)\\</script\\>\\|x"));
}
