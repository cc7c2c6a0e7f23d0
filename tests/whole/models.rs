//! The golden path with a model: a good one, a wrong key, no key, and the mock of others.

use crate::support::{assert_success, assert_whole_run, events, golden_path, text};
use netra_apex::ApexConfig;
use netra_apex::core::config::Loader;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};

const KEY: &str = "sk-whole-0123456789";

/// A server on loopback that speaks chat completions; what it was asked, as JSON.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// Answers with a status and a body.
    fn new(answer: impl Fn(&Value) -> (&'static str, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        // One connection after the other: the provider keeps one.
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let _ = serve(socket.unwrap(), &seen, &answer);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    socket: TcpStream,
    asked: &Mutex<Vec<Value>>,
    answer: &impl Fn(&Value) -> (&'static str, Value),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut socket = socket;
    loop {
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if let Some(value) = line.strip_prefix("authorization: ") {
                key = value.trim().to_owned();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        body["key"] = key.into();
        asked.lock().unwrap().push(body.clone());
        let (status, answer) = answer(&body);
        let answer = answer.to_string();
        let length = answer.len();
        write!(
            socket,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
        )?;
    }
}

fn says(content: &str) -> (&'static str, Value) {
    let message = json!({"role": "assistant", "content": content});
    let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    ("200 OK", json!({"id": "c", "model": "gpt-4o", "choices": [choice], "usage": usage}))
}

/// Plans, sorts and words well.
fn good(body: &Value) -> (&'static str, Value) {
    let system = body["messages"][0]["content"].as_str().unwrap();
    if system.starts_with("You plan") {
        return says("triage, data_helper, optimizer, validation, actions, reporter");
    }
    if system.starts_with("You sort") {
        return says("savings");
    }
    let data: Value =
        serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
    let given = data["placeholders"].as_array().unwrap();
    let required = given.iter().filter(|given| given["required"] == true);
    let sentences: Vec<_> = required
        .map(|given| format!("Of note: {}.", given["placeholder"].as_str().unwrap()))
        .collect();
    says(&sentences.join(" "))
}

fn run(folder: &std::path::Path, model: &str, variables: &[(&str, &str)], ask: &str) -> Output {
    let mut command = golden_path(folder, &["--model", model, "--ask", ask]);
    command.env_remove("APEX_TEST_AIMOCK").envs(variables.iter().copied());
    command.output().unwrap()
}

#[test]
fn a_model_words_the_answer_and_its_key_comes_from_a_file() {
    let server = Server::new(good);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let model = format!("compatible:{}:llama3.2:3b", server.url);
    let file = [("APEX_MODELS_COMPATIBLE_API_KEY_FILE", key.to_str().unwrap())];
    let output = run(folder.path(), &model, &file, "Where can we save?");
    assert_success(&output);
    let shown = text(&output.stdout);
    assert!(shown.contains("Of note: a recorded cost of $"), "{shown}");
    assert!(shown.contains("compatible:llama3.2:3b answered 1 of 1"), "{shown}");
    assert!(!shown.lines().any(|line| line.starts_with("note: ")), "{shown}");
    for asked in server.asked() {
        assert_eq!(asked["key"], format!("Bearer {KEY}"));
        assert_eq!(asked["model"], "llama3.2:3b");
    }
    let events = events(&folder.path().join("events.jsonl"));
    assert_whole_run(&events);
    let end = &events.last().unwrap()["data"];
    assert_eq!(end["usage"]["input_tokens"], 5_000);
    assert_eq!(
        end["usage"]["cost_usd"],
        Value::Null,
        "nobody knows the price of a server of one's own"
    );
    assert!(!serde_json::to_string(&events).unwrap().contains(KEY));
}

#[test]
fn a_wrong_key_costs_one_clear_line_and_the_wording() {
    for provider in ["compatible", "openai", "anthropic", "gemini"] {
        let server = Server::new(|_| {
            let error = json!({
                "type": "authentication_error",
                "status": "UNAUTHENTICATED",
                "message": format!("no {KEY}"),
            });
            ("401 Unauthorized", json!({"type": "error", "error": error}))
        });
        let name = provider.to_uppercase();
        let key = format!("APEX_MODELS_{name}_API_KEY");
        let base = format!("APEX_MODELS_{name}_BASE_URL");
        let mut variables = vec![(&*key, KEY)];
        let model = if provider == "compatible" {
            format!("compatible:{}:llama3.2", server.url)
        } else {
            variables.push((&*base, &*server.url));
            format!("{provider}:some-model")
        };
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &model, &variables, "Where can we save?");
        assert_success(&output);
        let shown = text(&output.stdout) + &text(&output.stderr);
        let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("note: ")).collect();
        assert_eq!(lines.len(), 1, "{provider}: {shown}");
        let told = "refuses the key: check that it is whole, active and allowed";
        assert!(lines[0].contains(told), "{provider}: {shown}");
        assert!(!shown.contains(KEY), "{shown}");
    }
}

#[test]
fn a_model_that_cannot_be_asked_is_said_in_one_line_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (model, says) in [
        ("openai:gpt-5", "models.openai.api_key: the chain asks openai, and its key is nowhere"),
        ("gpt-5", "\"gpt-5\" is no model"),
        ("compatible:llama3.2", "write compatible:URL:NAME"),
        ("compatible:http://localhost:11434:llama3.2", "write compatible:URL:NAME"),
    ] {
        let output = run(folder.path(), model, &[], "Where can we save?");
        assert!(!output.status.success(), "{model}");
        let told = text(&output.stderr);
        assert_eq!(told.trim_end().lines().count(), 1, "{told}");
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn every_provider_is_asked_in_its_own_format() {
    let Ok(url) = std::env::var("APEX_TEST_AIMOCK") else {
        println!("skipped: the mock of others is not there (set APEX_TEST_AIMOCK)");
        return;
    };
    let (v1, beta) = (format!("{url}/v1"), format!("{url}/v1beta"));
    for (model, variables) in [
        (format!("compatible:{v1}:gpt-4o"), vec![]),
        (
            "openai:gpt-5".to_owned(),
            vec![("APEX_MODELS_OPENAI_API_KEY", KEY), ("APEX_MODELS_OPENAI_BASE_URL", &*v1)],
        ),
        (
            "anthropic:claude-sonnet-4-5".to_owned(),
            vec![("APEX_MODELS_ANTHROPIC_API_KEY", KEY), ("APEX_MODELS_ANTHROPIC_BASE_URL", &*v1)],
        ),
        (
            "gemini:gemini-2.5-pro".to_owned(),
            vec![("APEX_MODELS_GEMINI_API_KEY", KEY), ("APEX_MODELS_GEMINI_BASE_URL", &*beta)],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &model, &variables, "hello, where can we save?");
        assert_success(&output);
        let events = events(&folder.path().join("events.jsonl"));
        assert_whole_run(&events);
        // What it says fits no question: the rules stand in, and say so, and each answer is counted.
        let data = &events.last().unwrap()["data"];
        let notes = data["degraded"].to_string();
        for told in ["plan was made by rules", "read by rules", "wording was refused"] {
            assert!(notes.contains(told), "{model}: {notes}");
        }
        let answers: u64 = events
            .iter()
            .filter(|event| event["type"] == "agent_completed")
            .flat_map(|event| event["data"]["models"].as_array().unwrap())
            .map(|model| model["answers"].as_u64().unwrap())
            .sum();
        assert_eq!(answers, 8, "{model}");
    }
}

#[test]
fn the_guides_configuration_is_one() {
    let guide = include_str!("../../docs/guide/models.md");
    let (_, tail) = guide.split_once("```toml\n[models]").unwrap();
    let (toml, _) = tail.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apex.toml");
    std::fs::write(&file, format!("environment = \"development\"\n[models]{toml}")).unwrap();
    let keys = [("APEX_MODELS_OPENAI_API_KEY", KEY), ("APEX_MODELS_ANTHROPIC_API_KEY", KEY)];
    let loaded = Loader::new().toml_file(&file).environment(keys).load::<ApexConfig>().unwrap();
    assert_eq!(loaded.value.models.chain.len(), 3);
    assert!(loaded.value.builder().is_ok());
    let report = Loader::new().toml_file(&file).load::<ApexConfig>().err().unwrap();
    let keys: Vec<&str> = report.faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["models.anthropic.api_key", "models.openai.api_key"]);
}
