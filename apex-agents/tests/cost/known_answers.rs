//! Real records, whose answers are known to the last digit.

use super::{CATALOGUE, data, verified};
use apex_agents::cost::price::{Route, Tokens};
use apex_agents::cost::report::{Advice, Severity};
use apex_core::money::Usd;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

#[test]
fn the_aider_log() {
    let Some(bytes) = data("requests/aider.csv") else {
        return;
    };
    let report = verified("aider.csv", &bytes);
    let source = &report.sources[0];
    assert_eq!(
        (source.format.as_str(), source.rows, source.imported, source.rejected_rows),
        ("csv", 5_522, 5_522, 0)
    );
    let totals = report.totals;
    assert_eq!(
        (totals.requests, totals.input_tokens, totals.output_tokens),
        (5_522, 72_967_539, 2_955_782)
    );
    assert_eq!(totals.recorded_cost_usd, Some(usd("10182.700052085997717666516")));
    assert_eq!(totals.priced_cost_usd, Some(usd("207.814896935")));
    // Asked under every suffix of a name, genai-prices finds a price for 4,850 rows. Ours are 57 fewer on purpose: the
    // 53 of deepseek-r1 at Fireworks and 2 of claude-3-5-haiku at OpenRouter would get the maker's price for another
    // host's work, and 2 of models called `:free` have no rate in the catalogue.
    assert_eq!(totals.unpriced_requests, 5_522 - 4_793);
    assert_eq!((report.by_model.len(), report.by_user.len()), (108, 6));
    assert_eq!(report.period.from.unwrap().to_string(), "2024-08-13T14:40:43.000Z");
    assert_eq!(report.period.to.unwrap().to_string(), "2026-04-25T04:20:34.000Z");
    let first = &report.findings[0];
    assert_eq!(
        (first.kind.as_str(), first.severity, first.requests),
        ("cost_outlier", Severity::Critical, 1)
    );
    assert!(first.title.contains("$9,990.01 for 10,033 tokens"), "{}", first.title);
    assert!(first.title.ends_with("cost about $0.0126"), "{}", first.title);
    assert_eq!(first.examples[0].line, 4_967);
    let free = report.findings.iter().find(|f| f.kind == "recorded_as_free").unwrap();
    assert_eq!(free.requests, 1_103);
    let o3 = report.by_model.iter().find(|m| m.model == "o3").unwrap();
    assert_eq!(o3.totals.recorded_cost_usd, Some(usd("19.785680000000001232")));
    assert_eq!(
        o3.totals.priced_cost_usd,
        Some(usd("20.018")),
        "at the prices of their day, not today's $4.06"
    );
    let ceiling = report.recommendations.iter().find(|r| r.lever == "cheaper_model").unwrap();
    assert_eq!(ceiling.saving_usd.expected, Usd::ZERO, "no quality evidence, no headline");
    assert!(ceiling.saving_usd.high > usd("100"));
    assert!(report.headline.saving_usd.high < usd("10"));
    let batch = report.recommendations.iter().find(|r| r.lever == "batch").unwrap();
    assert_eq!(batch.advice, Advice::DoNot, "one person at a keyboard cannot wait a day");
}

#[test]
fn the_tau2_calls() {
    let Some(bytes) = data("requests/tau2_airline_gpt4o.jsonl") else {
        return;
    };
    let report = verified("tau2.jsonl", &bytes);
    let totals = report.totals;
    assert_eq!(
        (totals.requests, totals.input_tokens, totals.cached_tokens, totals.output_tokens),
        (333, 319_716, 119_168, 8_144)
    );
    assert_eq!(totals.priced_cost_usd, Some(usd("0.73177")));
    assert_eq!(totals.unpriced_requests, 0);
    let batch = report.recommendations.iter().find(|r| r.lever == "batch").unwrap();
    assert_eq!(batch.advice, Advice::DoNot, "turns of conversations cannot wait a day");
}

#[test]
fn the_tau2_calls_row_by_row() {
    let Some(bytes) = data("requests/tau2_airline_gpt4o.jsonl") else {
        return;
    };
    let schedule = CATALOGUE.schedule(&Route {
        model: "gpt-4o-2024-08-06",
        tier: Some("default"),
        ..Route::default()
    });
    let (mut rows, mut without_cache) = (0, Usd::ZERO);
    for line in String::from_utf8(bytes).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let usage = &row["usage"];
        let tokens = Tokens {
            input: usage["prompt_tokens"].as_u64().unwrap(),
            cached: usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(),
            output: usage["completion_tokens"].as_u64().unwrap(),
            ..Tokens::default()
        };
        let at = format!("{}Z", row["timestamp"].as_str().unwrap()).parse().unwrap();
        let rates = schedule.quote(Some(at)).rates.clone().unwrap();
        // The record is a binary double: 16 digits of it mean something.
        let recorded: Usd = row["cost"].to_string().parse().unwrap();
        assert_eq!(
            rates.cost(&tokens).unwrap().to_string(),
            recorded.rounded(12).trim_end_matches('0'),
            "{line}"
        );
        without_cache += rates.cost(&Tokens { cached: 0, ..tokens }).unwrap();
        rows += 1;
    }
    assert_eq!(rows, 333);
    assert_eq!(without_cache, usd("0.88073"));
}
