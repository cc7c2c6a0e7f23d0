//! Running the examples as a user does, and checking what they leave behind.

use netra_apex::core::config::{DatabaseUrl, Environment};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An example's executable; cargo builds the examples with the tests, beside them.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let example = profile.join("examples").join(name);
    assert!(
        example.exists(),
        "{} is missing: build it with `cargo build --example {name}`",
        example.display()
    );
    example
}

/// The golden path with its report and events in `folder`, and `arguments`. Where `APEX_DATABASE_URL` and
/// `APEX_REDIS_URL` are set it keeps everything there, under a name of its own for each folder.
pub(crate) fn golden_path(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(example("golden_path"));
    command
        .current_dir(folder)
        .env("APEX_DATABASE_SCHEMA", schema(folder))
        .env("APEX_REDIS_PREFIX", schema(folder))
        .args(["--report", "report", "--events", "events.jsonl"])
        .args(arguments);
    command
}

/// The server database that the tests are told to use, if they are.
pub(crate) fn server() -> Option<DatabaseUrl> {
    let url = std::env::var("APEX_DATABASE_URL").ok()?;
    Some(url.parse().unwrap())
}

/// The name of a folder's own schema.
pub(crate) fn schema(folder: &Path) -> String {
    let name = folder.file_name().unwrap().to_str().unwrap().to_lowercase();
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    format!("whole_{}_{}", std::process::id(), letters.collect::<String>())
}

/// A builder with the database of a folder: a schema of the server's, where there is one, or the file `apex.db`.
pub(crate) fn builder(folder: &Path) -> netra_apex::Builder {
    let file = || DatabaseUrl::sqlite(folder.join("apex.db").to_str().unwrap());
    let builder = netra_apex::Apex::builder()
        .environment(Environment::Development)
        .database(server().unwrap_or_else(file))
        .schema(schema(folder).parse().unwrap());
    match std::env::var("APEX_REDIS_URL") {
        Ok(url) => builder.redis(url.parse().unwrap(), schema(folder)),
        Err(_) => builder,
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails with all that a process printed unless it ended well.
pub(crate) fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The whole lines of an events file; a process that was killed may have left half a line at the end.
pub(crate) fn events(path: &Path) -> Vec<Value> {
    let Ok(bytes) = std::fs::read(path) else {
        return Vec::new();
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    bytes[..whole]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// A folder with the real usage files, or a visible note that the test cannot run.
pub(crate) fn data(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("APEX_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = root.join(file);
    if path.exists() {
        return path.canonicalize().ok();
    }
    println!("skipped: {file} is not here; name its folder in APEX_TEST_DATA");
    None
}

/// Checks the promises that a run's recorded events make: numbers without holes, `run_started` first, each step
/// with a thought and in order, each call with its end, exactly one terminal event and nothing after it.
pub(crate) fn assert_whole_run(events: &[Value]) {
    let recorded: Vec<&Value> = events.iter().filter(|event| event.get("seq").is_some()).collect();
    for (place, event) in recorded.iter().enumerate() {
        assert_eq!(event["seq"], place as u64 + 1, "a hole before {event}");
        assert_eq!(event["epoch"], recorded[0]["epoch"]);
        assert_eq!(event["run"], recorded[0]["run"]);
    }
    assert_eq!(recorded[0]["type"], "run_started");
    let (mut open_steps, mut open_calls) =
        (std::collections::HashMap::new(), std::collections::HashSet::new());
    let mut terminals = 0;
    for event in &recorded {
        assert_eq!(terminals, 0, "after the end: {event}");
        let data = &event["data"];
        let (step, call) = (data["step"].as_str(), data["call"].as_str());
        match event["type"].as_str().unwrap() {
            "agent_started" => assert!(open_steps.insert(step.unwrap(), 0).is_none(), "{event}"),
            "agent_thinking" => *open_steps.get_mut(step.unwrap()).unwrap() += 1,
            "tool_executing" => {
                assert!(open_steps.contains_key(step.unwrap()), "{event}");
                assert!(open_calls.insert(call.unwrap()), "{event}");
            }
            "tool_completed" => assert!(open_calls.remove(call.unwrap()), "{event}"),
            "agent_completed" => {
                let thoughts = open_steps.remove(step.unwrap());
                assert!(thoughts.is_some_and(|thoughts| thoughts > 0), "{event}");
            }
            "run_completed" | "run_failed" | "run_cancelled" => terminals += 1,
            _ => {}
        }
    }
    assert_eq!(terminals, 1, "{:?}", recorded.last());
    assert!(open_steps.is_empty() && open_calls.is_empty(), "{open_steps:?} {open_calls:?}");
}
