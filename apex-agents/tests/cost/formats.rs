//! Exports of the tools that people use, each brought to one meaning.

use super::{go_on, verified};
use apex_agents::cost::report::Totals;
use apex_agents::cost::{Analysis, AnalysisOptions, inspect};
use apex_core::error::Kind;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

fn totals(text: &str) -> Totals {
    let report = verified("export", text.as_bytes());
    let source = &report.sources[0];
    assert_eq!(source.rejected_rows, 0, "{:?}", source.rejected);
    assert_eq!(source.refused, None);
    report.totals
}

#[test]
fn exports_mean_the_same_whatever_they_call_it() {
    let exports = [
        // LiteLLM's spend logs, as CSV.
        "request_id,call_type,spend,total_tokens,prompt_tokens,completion_tokens,startTime,endTime,model,custom_llm_provider,user,end_user,cache_hit,status,session_id,metadata\n\
         a1,acompletion,0.0105,1100,1000,100,2026-10-01 10:00:00.123,2026-10-01 10:00:02,gpt-4o,openai,u1,,False,success,s1,\"{\"\"a\"\":\"\"b,c\"\"}\"\n",
        // LiteLLM's logging payload, with the cached tokens inside.
        "{\"id\":\"a1\",\"trace_id\":\"t\",\"status\":\"success\",\"custom_llm_provider\":\"openai\",\"startTime\":1790848800.123,\"model\":\"gpt-4o\",\"response_cost\":0.0105,\"prompt_tokens\":1000,\"completion_tokens\":100,\"end_user\":\"u1\",\"metadata\":{\"usage_object\":{\"prompt_tokens_details\":{\"cached_tokens\":0}}}}\n",
        // Langfuse's observations.
        "{\"id\":\"a1\",\"trace_id\":\"t\",\"type\":\"GENERATION\",\"start_time\":\"2026-10-01T10:00:00.123Z\",\"level\":\"DEFAULT\",\"user_id\":\"u1\",\"session_id\":\"s1\",\"model\":\"gpt-4o\",\"usage_details\":{\"input\":1000,\"output\":100,\"total\":1100},\"total_cost\":0.0105}\n",
        // Helicone's requests.
        "{\"request_id\":\"a1\",\"request_created_at\":\"2026-10-01T10:00:00.123Z\",\"request_user_id\":\"u1\",\"request_model\":\"gpt-4o\",\"provider\":\"OPENAI\",\"prompt_tokens\":1000,\"completion_tokens\":100,\"response_status\":200,\"cost\":0.0105}\n",
        // OpenTelemetry's attributes of a model call.
        "{\"attributes\":{\"gen_ai.response.id\":\"a1\",\"gen_ai.request.model\":\"gpt-4o\",\"gen_ai.response.model\":\"gpt-4o\",\"gen_ai.usage.input_tokens\":1000,\"gen_ai.usage.output_tokens\":100},\"start_time\":1790848800123,\"cost_usd\":\"0.0105\",\"user\":\"u1\"}\n",
        // OpenAI's response beside a time of one's own.
        "{\"ts\":\"2026-10-01T10:00:00.123Z\",\"user\":\"u1\",\"cost\":0.0105,\"response\":{\"id\":\"a1\",\"model\":\"gpt-4o\",\"service_tier\":\"default\",\"usage\":{\"input_tokens\":1000,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":100}}}\n",
        // A German spreadsheet.
        "Timestamp;User;Model;Input Tokens;Output Tokens;Cost USD\r\n2026-10-01 10:00:00,123;u1;gpt-4o;1000;100;0.0105\r\n",
        // pandas, flattened, with a gap turned into a decimal.
        "timestamp\tuser\tmodel\tusage.prompt_tokens\tusage.completion_tokens\tcost\n2026-10-01T10:00:00.123Z\tu1\tgpt-4o\t1000.0\t100.0\t0.0105",
    ];
    for export in exports {
        let totals = totals(export);
        assert_eq!(
            (totals.input_tokens, totals.output_tokens, totals.unpriced_requests),
            (1_000, 100, 0),
            "{export}"
        );
        // 1,000 at $2.50 and 100 at $10 a million.
        assert_eq!(totals.priced_cost_usd, Some("0.0035".parse().unwrap()), "{export}");
        assert_eq!(totals.recorded_cost_usd, Some("0.0105".parse().unwrap()), "{export}");
    }
}

#[test]
fn cached_tokens_are_counted_once() {
    // Anthropic counts them beside the input, OpenAI inside it.
    let anthropic = "{\"timestamp\":\"2026-10-01T10:00:00Z\",\"requestId\":\"r\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":10,\"cache_creation_input_tokens\":1000,\"cache_read_input_tokens\":100,\"output_tokens\":7}}}\n";
    let found = totals(anthropic);
    assert_eq!((found.input_tokens, found.cached_tokens, found.output_tokens), (1_110, 100, 7));
    // 10 at $3, 1,000 at $3.75, 100 at $0.30 and 7 at $15 a million.
    assert_eq!(found.priced_cost_usd, Some("0.003915".parse().unwrap()));
    let report = "model,uncached_input_tokens,cache_read_input_tokens,output_tokens\nclaude-sonnet-4-5,10,100,7\n";
    assert_eq!(totals(report).input_tokens, 110);
    let openai = "model,input_tokens,input_cached_tokens,output_tokens\ngpt-4o,110,100,7\n";
    assert_eq!((totals(openai).input_tokens, totals(openai).cached_tokens), (110, 100));
}

#[test]
fn gzip_is_looked_through() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"model,input_tokens,output_tokens\ngpt-4o,10,5\n").unwrap();
    let bytes = gzip.finish().unwrap();
    let report = verified("usage.csv.gz", &bytes);
    assert_eq!((report.sources[0].format.as_str(), report.totals.requests), ("csv+gzip", 1));
    assert_eq!(report.sources[0].bytes, bytes.len() as u64);
}

#[test]
fn several_files_are_one_report_and_copies_are_found_across_them() {
    let row = "id-1,gpt-4o,10,5\n";
    let first = format!("request_id,model,input_tokens,output_tokens\n{row}id-2,gpt-4o,10,5\n");
    let second =
        "{\"request_id\":\"id-1\",\"model\":\"gpt-4o\",\"input_tokens\":10,\"output_tokens\":5}\n";
    let report = super::report(&[("a.csv", first.as_bytes()), ("b.jsonl", second.as_bytes())]);
    assert_eq!(report.totals.requests, 2);
    assert_eq!(report.sources[1].rejected[0].reason, "is a copy of line 2 of a.csv");
}

#[test]
fn an_inspection_says_what_is_there_and_what_is_missing() {
    let inspection =
        inspect("x", &b"model,prompt_tokens,completion_tokens,colour\ngpt-4o,10,5,red\n"[..])
            .unwrap();
    assert!(inspection.is_sufficient() && !inspection.is_complete());
    assert_eq!(inspection.columns[1].name, "prompt_tokens");
    assert_eq!(inspection.unknown_columns, ["colour"]);
    let missing: Vec<_> = inspection.missing.iter().map(|m| m.field.as_str()).collect();
    assert!(
        missing.contains(&"timestamp") && missing.contains(&"user") && !missing.contains(&"model")
    );
    let none = inspect("x", &b"name,age\nx,4\n"[..]).unwrap();
    assert!(!none.is_sufficient());
    assert!(none.refused.unwrap().reason.contains("the columns are name, age"));
    assert!(none.missing.iter().any(|m| m.required));
}

#[test]
fn a_user_can_stop_it_and_a_broken_reader_is_an_error() {
    let mut csv = b"model,input_tokens,output_tokens\n".to_vec();
    csv.extend(b"gpt-4o,10,5\n".repeat(50_000));
    let mut analysis = Analysis::new(Arc::clone(&super::CATALOGUE), AnalysisOptions::default());
    let mut rows = Vec::new();
    let stopped = analysis.add("x", csv.as_slice(), &mut |progress| {
        rows.push(progress.rows);
        if rows.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap_err().kind(), Kind::Cancelled);
    assert!(rows.is_sorted() && rows.len() == 3 && *rows.last().unwrap() < 50_000);

    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk on fire"))
        }
    }
    let half = std::io::Read::chain(csv.as_slice(), Broken);
    let mut analysis = Analysis::new(Arc::clone(&super::CATALOGUE), AnalysisOptions::default());
    let error = analysis.add("x", half, &mut go_on).unwrap_err();
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.to_string().contains("disk on fire"));
}

#[test]
fn users_and_models_beyond_the_limit_stand_under_one_name() {
    let mut csv = "model,user,input_tokens,output_tokens\n".to_owned();
    for n in 0..100 {
        csv.push_str(&format!("model-{n},user-{n},10,5\n"));
    }
    let options = AnalysisOptions { most_users: 20, most_models: 10, most_listed: 15 };
    let mut analysis = Analysis::new(Arc::clone(&super::CATALOGUE), options);
    analysis.add("x", csv.as_bytes(), &mut go_on).unwrap();
    let report = analysis.finish();
    assert!(report.by_user.len() <= 15 && report.by_model.len() <= 11);
    assert_eq!(report.by_user.iter().map(|u| u.totals.requests).sum::<u64>(), 100);
    assert_eq!(report.by_model.iter().map(|u| u.totals.requests).sum::<u64>(), 100);
    assert!(report.findings.iter().any(|f| f.kind == "limits_reached"));
    let mut verification = apex_agents::cost::Verification::with_options(
        &report,
        Arc::clone(&super::CATALOGUE),
        options,
    );
    verification.add("x", csv.as_bytes(), &mut go_on).unwrap();
    verification.finish().unwrap();
}
