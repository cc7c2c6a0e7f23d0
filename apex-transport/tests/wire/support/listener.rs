//! Server-sent events as bytes.

use super::{Wire, bearer};
use apex_core::id::RunId;
use apex_core::run::RunView;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// One event as a browser would see it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: Option<Value>,
    pub(crate) retry: Option<u64>,
    pub(crate) comment: bool,
}

/// A listener on one route.
pub(crate) struct Listener {
    pub(crate) status: u16,
    pub(crate) head: String,
    lines: BufReader<TcpStream>,
    chunk: Vec<u8>,
}

impl Listener {
    pub(crate) async fn open(wire: &Wire, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::ask(wire, &format!("GET {path}"), headers, "").await
    }

    pub(crate) async fn ask(wire: &Wire, what: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let mut stream = TcpStream::connect(wire.address).await.unwrap();
        let mut request = format!("{what} HTTP/1.1\r\nhost: {}\r\n", wire.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).await.unwrap() > 0, "{head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_ascii_lowercase(), lines, chunk: Vec::new() }
    }

    /// The code with which the answer refuses.
    pub(crate) async fn refusal(mut self) -> String {
        let told = self.head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; told.unwrap().trim().parse().unwrap()];
        self.lines.read_exact(&mut body).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["code"].as_str().unwrap().to_owned()
    }

    /// The next event or comment; `None` at the end of the answer.
    pub(crate) async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some(end) = self.chunk.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.chunk.drain(..end + 2).collect();
                return Some(parse(&String::from_utf8(event).unwrap()));
            }
            let piece = tokio::time::timeout(PATIENCE, self.piece()).await.expect("nothing comes");
            self.chunk.extend(piece?);
        }
    }

    /// One piece of the chunked body.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        if self.lines.read_line(&mut size).await.unwrap() == 0 {
            panic!("cut off without an end");
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut piece = vec![0; size + 2];
        self.lines.read_exact(&mut piece).await.unwrap();
        assert!(!piece[..size].contains(&b'\r'), "LF only");
        piece.truncate(size);
        (size > 0).then_some(piece)
    }

    /// Everything that has a name or data, to the end.
    pub(crate) async fn rest(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(event) = self.next().await {
            if event.data.is_some() {
                seen.push(event);
            }
        }
        seen
    }
}

fn parse(event: &str) -> Seen {
    let mut seen = Seen::default();
    for line in event.lines().filter(|line| !line.is_empty()) {
        match line.split_once(": ") {
            Some(("id", id)) => seen.id = Some(id.to_owned()),
            Some(("event", name)) => seen.name = Some(name.to_owned()),
            Some(("data", data)) => seen.data = Some(serde_json::from_str(data).unwrap()),
            Some(("retry", ms)) => seen.retry = Some(ms.parse().unwrap()),
            _ if line == ":" => seen.comment = true,
            _ => panic!("what is {line:?}"),
        }
    }
    seen
}

/// Starts what `text` says; the run.
pub(crate) async fn begin(wire: &Wire, token: &str, text: &str) -> RunId {
    let body = json!({"request_id": uuid(), "text": text}).to_string();
    let answer = wire.post("/messages", &[("authorization", &bearer(token))], &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["run"].as_str().unwrap().parse().unwrap()
}

pub(crate) fn uuid() -> String {
    apex_core::id::RequestId::new(&apex_core::clock::SystemClock).to_string()
}

pub(crate) async fn ended(wire: &Wire, token: &str, run: RunId) -> RunView {
    let principal = wire.principal(token).await;
    loop {
        let view = wire.stores.runs.view(&principal, run).await.unwrap();
        if view.state.is_terminal() {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
