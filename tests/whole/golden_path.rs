use crate::support::{assert_success, assert_whole_run, data, events, golden_path, json, text};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

fn run(folder: &Path, arguments: &[&str]) -> (Output, Value) {
    let output = golden_path(folder, arguments).output().unwrap();
    assert_success(&output);
    assert_whole_run(&events(&folder.join("events.jsonl")));
    (output, json(&folder.join("report/report.json")))
}

fn findings(report: &Value) -> &Vec<Value> {
    report["findings"].as_array().unwrap()
}

#[test]
fn without_arguments_it_shows_every_kind_of_event_and_a_report_on_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let (output, report) = run(folder.path(), &[]);
    let shown = text(&output.stdout);
    for kind in
        ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"]
    {
        assert!(shown.contains(kind), "{kind} is not shown in\n{shown}");
    }
    for agent in
        ["supervisor", "triage", "data_helper", "optimizer", "validation", "actions", "reporter"]
    {
        assert!(shown.contains(agent), "{agent} is not shown");
    }
    assert_eq!(report["schema"], "apex.report/1");
    assert!(
        !findings(&report).is_empty() && !report["recommendations"].as_array().unwrap().is_empty()
    );
    let html = std::fs::read_to_string(folder.path().join("report/report.html")).unwrap();
    assert!(
        html.contains("<svg")
            && !html.contains("<script")
            && !html.contains("http://")
            && !html.contains("src=")
    );
    assert!(
        std::fs::read_to_string(folder.path().join("report/report.md")).unwrap().starts_with("# ")
    );
}

#[test]
fn the_aider_file_gives_its_known_answers() {
    let Some(file) = data("requests/aider.csv") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (output, report) = run(folder.path(), &["--usage", file.to_str().unwrap()]);
    let totals = &report["totals"];
    assert_eq!(totals["requests"], 5_522);
    assert_eq!(totals["input_tokens"], 72_967_539);
    assert_eq!(totals["output_tokens"], 2_955_782);
    assert_eq!(totals["recorded_cost_usd"], "10182.700052085997717666516");
    assert_eq!(report["sources"][0]["rows"], 5_522);
    assert_eq!(report["sources"][0]["imported"], 5_522);
    assert_eq!(report["by_model"].as_array().unwrap().len(), 108);
    assert_eq!(report["by_user"].as_array().unwrap().len(), 6);
    let first = findings(&report)[0].to_string();
    assert!(first.contains("9990.01") || first.contains("9,990.01"), "{first}");
    assert!(text(&output.stdout).contains("9,990.01"));
}

#[test]
fn the_tau2_file_is_priced_to_the_last_digit() {
    let Some(file) = data("requests/tau2_airline_gpt4o.jsonl") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_, report) = run(folder.path(), &["--usage", file.to_str().unwrap()]);
    let totals = &report["totals"];
    assert_eq!(totals["requests"], 333);
    assert_eq!(totals["input_tokens"], 319_716);
    assert_eq!(totals["output_tokens"], 8_144);
    assert_eq!(totals["priced_cost_usd"], "0.73177");
    assert_eq!(totals["unpriced_requests"], 0);
}

#[test]
fn a_question_without_data_ends_helpfully() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.csv"), "colour,shape\nred,round\n").unwrap();
    let output = golden_path(folder.path(), &["--usage", "notes.csv"]).output().unwrap();
    assert_success(&output);
    let events = events(&folder.path().join("events.jsonl"));
    assert_whole_run(&events);
    let result = &events.last().unwrap()["data"]["result"];
    assert_eq!(result["status"], "insufficient_data");
    let answer = result["text"].as_str().unwrap();
    for source in ["OpenAI", "Anthropic", "Gemini", "LiteLLM", "Langfuse"] {
        assert!(answer.contains(source), "{source} is not named in\n{answer}");
    }
}

#[test]
fn what_cannot_be_read_is_said_with_line_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "timestamp,model,input_tokens,output_tokens,cost_usd\n\
        2026-05-01T00:00:00Z,gpt-4o,100,20,0.00045\n\
        2026-05-01T00:00:01Z,gpt-4o,-5,20,0.00045\n\
        2026-05-01T00:00:02Z,gpt-4o,many,20,0.00045\n\
        2026-05-01T00:00:03Z,gpt-4o,100,20,0.00045\n";
    std::fs::write(folder.path().join("usage.csv"), rows).unwrap();
    let (_, report) = run(folder.path(), &["--usage", "usage.csv"]);
    let source = &report["sources"][0];
    assert_eq!((&source["rows"], &source["imported"]), (&Value::from(4), &Value::from(2)));
    let lines: Vec<_> = source["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [3, 4]);
}

#[test]
fn a_careless_command_line_gets_one_clear_line_and_no_run() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, says) in [
        (vec!["--usage"], "--usage"),
        (vec!["--usage", "missing.csv"], "missing.csv"),
        (vec!["--nonsense"], "--nonsense"),
        (vec!["--usage", "."], "."),
    ] {
        let output = golden_path(folder.path(), &arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text(&output.stderr).contains(says), "{arguments:?}: {}", text(&output.stderr));
    }
}
