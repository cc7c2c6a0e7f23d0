//! Running the examples as a user does, and checking what they leave behind.

use netra_apex::core::config::{DatabaseUrl, Environment};
use serde_json::Value;
use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

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

/// One request with a bearer token, where one is given; the status and the JSON of the answer.
pub(crate) async fn get(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> (u16, Value) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let token = if token.is_empty() { "-" } else { token };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: apex\r\nconnection: close\r\ncontent-length: {}\r\n\
         authorization: {} {token}\r\n\r\n{body}",
        body.len(),
        if token == "-" { "None" } else { "Bearer" },
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// A small generator, so that a failing seed can be repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// One of the seed that `APEX_SEED` names, or a new one; it is printed.
    pub(crate) fn of_this_time() -> Self {
        let named = std::env::var("APEX_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = named.unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("seed {seed}: repeat with APEX_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, most: Duration) -> Duration {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Takes down our log lines, each with the fields of the spans around it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    spans: Vec<String>,
}

thread_local! {
    /// The spans that this thread is in.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Heard {
    /// What this process logs from now on: one for all tests, since a process decides once what it listens to.
    pub(crate) fn everything() -> Self {
        static HEARD: LazyLock<Heard> = LazyLock::new(|| {
            let heard = Heard::default();
            tracing::subscriber::set_global_default(heard.clone()).unwrap();
            heard
        });
        HEARD.clone()
    }

    /// Fails unless one line holds all of these.
    pub(crate) fn assert_says(&self, parts: &[&str]) {
        let heard = self.0.lock().unwrap();
        let says = heard.lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(says, "no line has {parts:?}:\n{}", heard.lines.join("\n"));
    }
}

/// Writes fields down.
struct Words(String);

impl tracing::field::Visit for Words {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, of: &tracing::Metadata<'_>) -> bool {
        of.target().starts_with("apex")
    }

    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut words = Words(String::new());
        attributes.record(&mut words);
        let mut heard = self.0.lock().unwrap();
        heard.spans.push(words.0);
        tracing::span::Id::from_u64(heard.spans.len() as u64)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        let mut heard = self.0.lock().unwrap();
        let around: String = ENTERED.with_borrow(|entered| {
            entered.iter().map(|id| heard.spans[*id as usize - 1].as_str()).collect()
        });
        heard.lines.push(around + &words.0);
    }

    fn enter(&self, span: &tracing::span::Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &tracing::span::Id) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(at) = entered.iter().rposition(|id| *id == span.into_u64()) {
                entered.remove(at);
            }
        });
    }
}
