//! What servers and networks do wrong, byte by byte.

use crate::server::{
    KEY, Server, Step, chat_answer, chat_text, quick, response, stream, stream_head,
};
use apex_agents::model::{
    FaultReason, Format, HttpOptions, HttpProvider, ModelEvent, ModelFault, ModelProvider,
    ModelRequest,
};
use apex_core::clock::SystemClock;
use apex_core::config::Secret;
use apex_core::error::{Error, Kind};
use apex_core::trace::{TraceBridge, TraceParent, bridged};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// The text that came, and what ended it.
async fn ask(provider: &HttpProvider) -> (String, Option<Error>) {
    let mut text = String::new();
    let mut stream = match provider.stream("gpt-4o", &ModelRequest::user("hi")).await {
        Ok(stream) => stream,
        Err(error) => return (text, Some(error)),
    };
    while let Some(event) = stream.next().await {
        match event {
            Ok(ModelEvent::Text(piece)) => text += &piece,
            Ok(_) => {}
            Err(error) => return (text, Some(error)),
        }
    }
    (text, None)
}

fn reason(error: &Error) -> FaultReason {
    ModelFault::of(error).unwrap_or_else(|| panic!("{error:?}")).reason
}

async fn fault_of(format: Format, answer: Vec<Step>) -> (String, FaultReason) {
    fault_within(format, answer, quick()).await
}

async fn fault_within(
    format: Format,
    answer: Vec<Step>,
    options: HttpOptions,
) -> (String, FaultReason) {
    let server = Server::new([answer]).await;
    let (text, error) = ask(&server.provider_with(format, options)).await;
    (text, reason(&error.unwrap()))
}

#[tokio::test]
async fn a_whole_answer_comes_whole_and_its_connection_serves_the_next() {
    let server = Server::new([stream(&chat_answer("Hello"))]).await;
    let provider = server.provider(Format::OpenAiChat);
    for _ in 0..3 {
        let stream = provider.stream("gpt-4o", &ModelRequest::user("hi")).await.unwrap();
        let response = stream.whole().await.unwrap();
        assert_eq!(response.text(), "Hello");
        assert_eq!(response.request.as_deref(), Some("req_7"));
        assert_eq!(response.usage.unwrap().tokens.input, 1_000);
    }
    assert_eq!(server.connections(), 1);
}

/// The place in a trace where the test is.
#[derive(Debug)]
struct Here(TraceParent);

impl TraceBridge for Here {
    fn adopt(&self, _: &tracing::Span, _: TraceParent) {}
    fn place_of(&self, _: &tracing::Span) -> Option<TraceParent> {
        Some(self.0)
    }
}

#[tokio::test]
async fn a_provider_is_told_of_the_trace_that_it_is_asked_in_and_of_no_other() {
    let server = Server::new([stream(&chat_answer("Hello"))]).await;
    let provider = server.provider(Format::OpenAiChat);
    let place = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let bridge: Arc<dyn TraceBridge> = Arc::new(Here(place.parse().unwrap()));
    for bridge in [Some(bridge), None] {
        let work = async { provider.stream("gpt-4o", &ModelRequest::user("hi")).await.unwrap() };
        bridged(bridge, work).await.whole().await.unwrap();
    }
    let [within, without] = server.requests().try_into().unwrap();
    assert!(within.contains(&format!("traceparent: {place}\r\n")), "{within}");
    assert!(!without.contains("traceparent"), "{without}");
}

#[tokio::test]
async fn streams_that_break_are_errors_after_what_came() {
    let head = || stream_head();
    let text = |text: &str| Step::Bytes(chat_text(text).into());
    let cut = Step::Bytes(b"data: {\"choices\":[{\"delta\":{\"content\":\"wor".to_vec());
    let bad = Step::Bytes(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n".to_vec());
    let long =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n";
    let short = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 90\r\n\r\n";
    for (what, answer, shown, expected) in [
        (
            "cut in a token",
            vec![head(), text("Hello "), cut, Step::Close],
            "Hello ",
            FaultReason::Broken,
        ),
        (
            "too long a length",
            vec![Step::Bytes(long.to_vec()), text("Hello "), Step::Close],
            "Hello ",
            FaultReason::Broken,
        ),
        (
            "too short a length",
            vec![Step::Bytes(short.to_vec()), text("Hello "), text("you"), Step::Close],
            "Hello ",
            FaultReason::Broken,
        ),
        ("not UTF-8", vec![head(), text("Hello "), bad], "Hello ", FaultReason::Malformed),
        (
            "not JSON",
            vec![head(), Step::Bytes(b"data: <html>\n\n".to_vec())],
            "",
            FaultReason::Malformed,
        ),
        ("nothing at all", vec![Step::Close], "", FaultReason::Broken),
        ("no end", vec![head(), text("Hello "), Step::Close], "Hello ", FaultReason::Broken),
    ] {
        let (came, reason) = fault_of(Format::OpenAiChat, answer).await;
        assert_eq!((came.as_str(), reason), (shown, expected), "{what}");
    }
}

#[tokio::test]
async fn an_error_may_come_after_200() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let (_, reason) = fault_of(Format::Anthropic, stream(error)).await;
    assert_eq!(reason, FaultReason::Overloaded);
    let body = r#"{"error":{"message":"busy","code":503}}"#;
    let json = response("200 OK", "content-type: application/json\r\n", body);
    assert_eq!(fault_of(Format::OpenAiChat, json).await.1, FaultReason::Overloaded);
}

#[tokio::test]
async fn silence_is_found_out_however_busy_it_looks() {
    let pings = "event: ping\ndata: {\"type\": \"ping\"}\n\n".as_bytes().to_vec();
    let ping = [Step::Bytes(pings), Step::Wait(Duration::from_millis(50))];
    let pings = || ping.iter().cloned().cycle().take(60);
    let drip = chat_text("a slow drip").into_bytes();
    let drip = drip
        .iter()
        .flat_map(|byte| [Step::Bytes(vec![*byte]), Step::Wait(Duration::from_millis(20))]);
    let hang = Step::Wait(Duration::from_secs(10));
    let head = || std::iter::once(stream_head());
    let hello = || std::iter::once(Step::Bytes(chat_text("Hello").into()));
    let impatient = HttpOptions {
        first_token: Duration::from_millis(800),
        between_tokens: Duration::from_millis(800),
        ..quick()
    };
    let cases = [
        ("no response", Format::OpenAiChat, vec![hang.clone()], ""),
        ("no token", Format::OpenAiChat, head().chain([hang.clone()]).collect(), ""),
        (
            "no next token",
            Format::OpenAiChat,
            head().chain(hello()).chain([hang]).collect(),
            "Hello",
        ),
        ("pings only", Format::Anthropic, head().chain(pings()).collect(), ""),
        ("slow drip", Format::OpenAiChat, head().chain(hello()).chain(drip).collect(), "Hello"),
    ];
    // At once, or the waits would add up.
    let ends = cases.map(|(what, format, answer, shown)| {
        let impatient = impatient.clone();
        async move {
            let (came, reason) = fault_within(format, answer, impatient).await;
            assert_eq!((came.as_str(), reason), (shown, FaultReason::TimedOut), "{what}");
        }
    });
    futures_util::future::join_all(ends).await;
}

#[tokio::test]
async fn who_accepts_and_then_says_nothing_was_never_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = HttpOptions {
        base_url: Some(format!("https://{}/v1", listener.local_addr().unwrap())),
        connect: Duration::from_millis(300),
        ..quick()
    };
    let (_, error) = ask(&provider(options)).await;
    let error = error.unwrap();
    assert_eq!(reason(&error), FaultReason::TimedOut);
    assert!(error.to_string().contains("while connecting"), "{error}");
    drop(listener);
}

#[tokio::test]
async fn a_gigabyte_is_not_kept() {
    let events = chat_text(&"x".repeat(1 << 20)).into_bytes();
    let line = vec![b'x'; 1 << 20];
    for endless in [events, line] {
        let mut server = Server::new([vec![stream_head(), Step::Endless(endless)]]).await;
        let (text, error) = ask(&server.provider(Format::OpenAiChat)).await;
        assert_eq!(reason(&error.unwrap()), FaultReason::Malformed);
        assert!(text.len() <= 16 << 20);
        server.closed.recv().await.unwrap();
    }
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    let spaces = Step::Endless(vec![b' '; 1 << 20]);
    let mut server = Server::new([vec![Step::Bytes(head), spaces]]).await;
    let provider = server.provider(Format::OpenAiChat);
    let error = provider.complete("gpt-4o", &ModelRequest::user("hi")).await.unwrap_err();
    assert_eq!(reason(&error), FaultReason::Malformed);
    server.closed.recv().await.unwrap();
}

#[tokio::test]
async fn statuses_say_what_helps() {
    let plain = "content-type: application/json\r\n";
    let later = "content-type: application/json\r\nretry-after: 7\r\n";
    let sooner = "content-type: application/json\r\nretry-after-ms: 250\r\nretry-after: 1\r\n";
    let error = r#"{"error":{"message":"m"}}"#;
    let quota = r#"{"error":{"message":"m","code":"insufficient_quota"}}"#;
    for (status, headers, body, expected, kind, wait) in [
        ("401 Unauthorized", plain, error, FaultReason::Key, Kind::Config, None),
        ("403 Forbidden", plain, error, FaultReason::Key, Kind::Config, None),
        ("404 Not Found", plain, error, FaultReason::UnknownModel, Kind::Config, None),
        ("429 Too Many", plain, error, FaultReason::RateLimited, Kind::RateLimited, None),
        ("429 Too Many", later, error, FaultReason::RateLimited, Kind::RateLimited, Some(7_000)),
        ("429 Too Many", sooner, error, FaultReason::RateLimited, Kind::RateLimited, Some(250)),
        ("429 Too Many", plain, quota, FaultReason::Quota, Kind::BudgetExhausted, None),
        ("500 Oops", plain, "<html>", FaultReason::Failed, Kind::Unavailable, None),
        ("529 Overloaded", plain, "", FaultReason::Overloaded, Kind::Unavailable, None),
    ] {
        let server = Server::new([response(status, headers, body)]).await;
        let (_, failed) = ask(&server.provider(Format::OpenAiChat)).await;
        let failed = failed.unwrap();
        assert_eq!((reason(&failed), failed.kind()), (expected, kind), "{status} {body}");
        assert_eq!(failed.retry_after().map(|wait| wait.as_millis()), wait, "{status}");
        assert!(!failed.to_string().contains('\n'));
    }
}

#[tokio::test]
async fn nobody_there_and_no_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = Server::new([stream(&chat_answer("never"))]).await;
    let at = |url: String| HttpOptions { base_url: Some(url), ..quick() };
    let (_, error) =
        ask(&server.provider_with(Format::OpenAiChat, at(format!("http://{address}")))).await;
    assert_eq!(reason(&error.unwrap()), FaultReason::Unreachable);

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", plain.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = plain.accept().await.unwrap();
        let mut hello = [0; 64];
        let _ = socket.read(&mut hello).await;
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let (_, error) = ask(&server.provider_with(Format::OpenAiChat, at(url))).await;
    assert_eq!(reason(&error.unwrap()), FaultReason::Unreachable);
    assert_eq!(server.connections(), 0);
}

/// What accepts TLS for `localhost`, and the authority (PEM) that vouches for it.
fn localhost() -> (TlsAcceptor, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certified.cert.pem())
}

async fn answer(io: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) {
    let mut request = [0; 4_096];
    let _ = io.read(&mut request).await;
    let body = chat_answer(text);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let _ = io.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = io.shutdown().await;
}

fn provider(options: HttpOptions) -> HttpProvider {
    HttpProvider::openai_chat(Secret::new(KEY.to_owned()), options, Arc::new(SystemClock)).unwrap()
}

#[tokio::test]
async fn an_authority_of_the_hosts_own_is_trusted_when_it_is_named() {
    let (acceptor, authority) = localhost();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(mut tls) = acceptor.accept(socket).await {
                answer(&mut tls, "sealed").await;
            }
        }
    });
    let at = |roots: &str| HttpOptions {
        base_url: Some(url.clone()),
        roots: roots.as_bytes().to_vec(),
        ..quick()
    };
    let (_, error) = ask(&provider(at(""))).await;
    assert_eq!(reason(&error.unwrap()), FaultReason::Unreachable);
    let (text, error) = ask(&provider(at(&authority))).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(text, "sealed");
}

#[tokio::test]
async fn a_proxy_may_be_reached_by_tls_and_sees_nothing_of_what_it_passes_on() {
    let (acceptor, authority) = localhost();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("https://me:pass@localhost:{}", listener.local_addr().unwrap().port());
    let (saw, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut tunnel) = acceptor.accept(socket).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tunnel.read_u8().await.unwrap());
            }
            saw.send(String::from_utf8(head).unwrap()).unwrap();
            tunnel.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            // The host behind the tunnel speaks TLS of its own.
            let mut host = acceptor.accept(tunnel).await.unwrap();
            answer(&mut host, "sealed twice").await;
        }
    });
    let at = |roots: &str| HttpOptions {
        base_url: Some("https://localhost:4433/v1".to_owned()),
        proxy: Some(proxy.clone()),
        roots: roots.as_bytes().to_vec(),
        ..quick()
    };
    let (_, error) = ask(&provider(at(""))).await;
    assert_eq!(reason(&error.unwrap()), FaultReason::Unreachable);
    assert!(seen.try_recv().is_err(), "nothing is said to a proxy that nobody vouches for");
    let (text, error) = ask(&provider(at(&authority))).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(text, "sealed twice");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("CONNECT localhost:4433 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic bWU6cGFzcw=="), "{head}");
    assert!(!head.contains(KEY), "{head}");
}

#[tokio::test]
async fn a_key_goes_nowhere_else() {
    let elsewhere = Server::new([stream(&chat_answer("stolen"))]).await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let headers = format!("location: {}/v1/chat/completions\r\n", elsewhere.url);
        let server = Server::new([response(status, &headers, "")]).await;
        let (_, error) = ask(&server.provider(Format::OpenAiChat)).await;
        assert_eq!(reason(&error.unwrap()), FaultReason::Redirected);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_key_is_not_shown() {
    let echo = format!(r#"{{"error":{{"message":"bad header: Bearer {KEY}"}}}}"#);
    let server =
        Server::new([response("400 Bad", "content-type: application/json\r\n", &echo)]).await;
    let options =
        HttpOptions { headers: vec![("x-team".to_owned(), "team-secret".to_owned())], ..quick() };
    let provider = server.provider_with(Format::OpenAiChat, options);
    let (_, error) = ask(&provider).await;
    let error = error.unwrap();
    for shown in [format!("{error}"), format!("{error:?}"), format!("{provider:?}")] {
        assert!(!shown.contains(KEY) && !shown.contains("team-secret"), "{shown}");
    }
    let request = server.requests().remove(0);
    assert!(
        request.contains("authorization: Bearer sk-test")
            && request.contains("x-team: team-secret")
    );
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let text = Step::Bytes(chat_text("Hello").into());
    let forever = vec![
        stream_head(),
        text,
        Step::Wait(Duration::from_millis(20)),
        Step::Endless(b": ping\n\n".to_vec()),
    ];
    let mut server = Server::new([forever]).await;
    let provider = server.provider(Format::OpenAiChat);
    let mut stream = provider.stream("gpt-4o", &ModelRequest::user("hi")).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), ModelEvent::Text("Hello".to_owned()));
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), server.closed.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn each_provider_is_asked_at_its_own_place_with_its_own_header() {
    for (format, model, path, header) in [
        (
            Format::OpenAiChat,
            "gpt-4o",
            "POST /v1/chat/completions HTTP",
            "authorization: Bearer sk-test",
        ),
        (
            Format::OpenAiResponses,
            "gpt-5",
            "POST /v1/responses HTTP",
            "authorization: Bearer sk-test",
        ),
        (Format::Anthropic, "claude-sonnet-4-5", "POST /v1/messages HTTP", "x-api-key: sk-test"),
        (
            Format::Gemini,
            "gemini-2.5-pro",
            "POST /v1/models/gemini-2.5-pro:streamGenerateContent?alt=sse HTTP",
            "x-goog-api-key: sk-test",
        ),
    ] {
        let server = Server::new([response("500 Oops", "", "")]).await;
        let _ = server.provider(format).stream(model, &ModelRequest::user("hi")).await;
        let request = server.requests().remove(0);
        assert!(request.starts_with(path), "{request}");
        assert!(request.contains(header), "{request}");
        assert!(request.contains("host: 127.0.0.1:"), "{request}");
    }
    let server = Server::new([response("500 Oops", "", "")]).await;
    let bad = server.provider(Format::Gemini);
    let error = bad.complete("../../evil?x=", &ModelRequest::user("hi")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_proxy_opens_a_tunnel() {
    // A server whose first answer opens the tunnel is proxy and host at once.
    let tunnel = vec![Step::Bytes(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
    let server = Server::new([tunnel, stream(&chat_answer("Hello"))]).await;
    let host = server.url.trim_start_matches("http://");
    let options = HttpOptions {
        base_url: Some("http://models.example/v1".to_owned()),
        proxy: Some(format!("http://me:pass@{host}")),
        ..quick()
    };
    let provider = server.provider_with(Format::OpenAiChat, options);
    let (text, error) = ask(&provider).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(text, "Hello");
    let requests = server.requests();
    assert!(requests[0].starts_with("CONNECT models.example:80 HTTP/1.1\r\n"));
    assert!(requests[0].contains("Proxy-Authorization: Basic bWU6cGFzcw=="));
    assert!(!requests[0].contains(KEY));
    assert!(requests[1].contains("host: models.example\r\n"));
    let denied = Server::new([response("407 Proxy Authentication Required", "", "")]).await;
    let options = HttpOptions {
        base_url: Some("http://models.example/v1".to_owned()),
        proxy: Some(denied.url.clone()),
        ..quick()
    };
    let (_, error) = ask(&denied.provider_with(Format::OpenAiChat, options)).await;
    let error = error.unwrap();
    assert_eq!(reason(&error), FaultReason::Unreachable);
    assert!(error.to_string().contains("407"), "{error}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    let make = |options: HttpOptions, key: &str| {
        let key = Some(Secret::new(key.to_owned()));
        HttpProvider::compatible(
            "local",
            "http://localhost:11434/v1",
            key,
            options,
            Arc::new(SystemClock),
        )
    };
    let at = |url: &str| HttpOptions { base_url: Some(url.to_owned()), ..quick() };
    make(quick(), KEY).unwrap();
    for url in ["", "localhost", "ftp://x/", "http://u:p@x/", "http://x/?key=1"] {
        assert_eq!(make(at(url), KEY).unwrap_err().kind(), Kind::Config, "{url:?}");
    }
    let error = make(quick(), "sk-with-newline\n").unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(!format!("{error:?}").contains("sk-with"));
    let proxy = HttpOptions { proxy: Some("socks5://me:secret@x".to_owned()), ..quick() };
    assert!(!format!("{:?}", make(proxy, KEY).unwrap_err()).contains("secret"));
    let roots = HttpOptions {
        base_url: Some("https://localhost/v1".to_owned()),
        roots: b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec(),
        ..quick()
    };
    assert_eq!(make(roots, KEY).unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn imitators_are_asked_by_the_names_that_they_know() {
    let server = Server::new([response("500 Oops", "", "")]).await;
    let url = format!("{}/v1", server.url);
    for (name, limit) in [("openai", "\"max_completion_tokens\":9"), ("ollama", "\"max_tokens\":9")]
    {
        let clock = Arc::new(SystemClock);
        let provider = HttpProvider::compatible(name, &url, None, quick(), clock).unwrap();
        let request = ModelRequest { max_output_tokens: Some(9), ..ModelRequest::user("hi") };
        provider.complete("m", &request).await.unwrap_err();
        let request = server.requests().pop().unwrap();
        assert!(request.contains(limit), "{request}");
        assert!(!request.contains("authorization"), "there is no key");
    }
}
