//! A server on loopback that answers with exactly the bytes it is told to.

use apex_agents::model::{Format, HttpOptions, HttpProvider};
use apex_core::clock::SystemClock;
use apex_core::config::Secret;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A step of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Bytes(Vec<u8>),
    Wait(Duration),
    /// The same bytes again and again, until the client goes away.
    Endless(Vec<u8>),
    Close,
}

/// What the server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    /// Head and body of each request.
    pub(crate) requests: Vec<String>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// Says when a client has closed its connection.
    pub(crate) closed: mpsc::UnboundedReceiver<()>,
}

impl Server {
    /// Answers the first request with the first answer, and so on; the last one is repeated.
    pub(crate) async fn new(answers: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let (tell, closed) = mpsc::unbounded_channel();
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                all.lock().connections += 1;
                let (all, answers, tell) = (Arc::clone(&all), Arc::clone(&answers), tell.clone());
                tokio::spawn(async move {
                    let _ = serve(socket, &all, &answers).await;
                    let _ = tell.send(());
                });
            }
        });
        Self { url, seen, closed }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().requests.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().connections
    }

    /// A provider that takes this server for its own.
    pub(crate) fn provider(&self, format: Format) -> HttpProvider {
        self.provider_with(format, quick())
    }

    pub(crate) fn provider_with(&self, format: Format, options: HttpOptions) -> HttpProvider {
        let options = HttpOptions {
            base_url: options.base_url.or_else(|| Some(format!("{}/v1", self.url))),
            ..options
        };
        let (key, clock) = (Secret::new(KEY.to_owned()), Arc::new(SystemClock));
        match format {
            Format::OpenAiChat => HttpProvider::openai_chat(key, options, clock),
            Format::OpenAiResponses => HttpProvider::openai(key, options, clock),
            Format::Anthropic => HttpProvider::anthropic(key, options, clock),
            _ => HttpProvider::gemini(key, options, clock),
        }
        .unwrap()
    }
}

pub(crate) const KEY: &str = "sk-test-0123456789";

/// Times that a busy machine keeps, and that a test which hangs does not wait for long.
pub(crate) fn quick() -> HttpOptions {
    HttpOptions {
        connect: Duration::from_secs(10),
        first_token: Duration::from_secs(10),
        between_tokens: Duration::from_secs(10),
        whole: Duration::from_secs(20),
        ..HttpOptions::default()
    }
}

async fn serve(
    mut socket: TcpStream,
    seen: &Mutex<Seen>,
    answers: &Mutex<VecDeque<Vec<Step>>>,
) -> std::io::Result<()> {
    loop {
        let request = read_request(&mut socket).await?;
        seen.lock().requests.push(request);
        let answer = {
            let mut answers = answers.lock();
            if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
        };
        for step in answer {
            match step {
                Step::Bytes(bytes) => socket.write_all(&bytes).await?,
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Endless(bytes) => loop {
                    socket.write_all(&bytes).await?;
                },
                Step::Close => return Ok(()),
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        bytes.push(socket.read_u8().await?);
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(head + std::str::from_utf8(&body).unwrap())
}

/// A response with a body of a known length.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![Step::Bytes(
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into(),
    )]
}

/// The head of a stream, whose end is the connection's.
pub(crate) fn stream_head() -> Step {
    Step::Bytes(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req_7\r\n\r\n"
            .to_vec(),
    )
}

/// A whole stream.
pub(crate) fn stream(body: &str) -> Vec<Step> {
    response("200 OK", "content-type: text/event-stream\r\nx-request-id: req_7\r\n", body)
}

/// A piece of text in the chat format.
pub(crate) fn chat_text(text: &str) -> String {
    let chunk = serde_json::json!({"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": text}}]});
    format!("data: {chunk}\n\n")
}

/// A whole answer in the chat format.
pub(crate) fn chat_answer(text: &str) -> String {
    let end = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100}}"#;
    format!("{}{end}\n\n{usage}\n\ndata: [DONE]\n\n", chat_text(text))
}
