//! A WebSocket client that does nothing by itself.

use super::{Wire, watch};
use apex_core::clock::SystemClock;
use apex_core::id::RequestId;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

const PATIENCE: Duration = Duration::from_secs(10);

/// What a socket may stand on.
pub(crate) trait Io: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) stream: WebSocketStream<Box<dyn Io>>,
    pub(crate) protocol: Option<String>,
    last_id: u64,
}

/// The server's HTTP answer to an upgrade.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Socket {
    pub(crate) async fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(Box::new(stream), address, path, headers).await
    }

    pub(crate) async fn over(
        stream: Box<dyn Io>,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let target = format!("ws://{address}{path}");
        let mut request = target.into_client_request().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((stream, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                Ok(Self {
                    stream,
                    protocol: protocol.map(|value| value.to_str().unwrap().to_owned()),
                    last_id: 0,
                })
            }
            Err(Error::Http(response)) => Err(Refusal {
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                body: serde_json::from_slice(response.body().as_deref().unwrap_or_default())
                    .unwrap_or_default(),
            }),
            Err(other) => panic!("{other}"),
        }
    }

    pub(crate) async fn text(&mut self, text: impl Into<String>) {
        let message = Message::text(text.into());
        self.stream.send(message).await.unwrap();
    }

    /// Sends a frame under a new id; the id.
    pub(crate) async fn say(&mut self, mut frame: Value) -> u64 {
        self.last_id += 1;
        frame["id"] = self.last_id.into();
        self.text(frame.to_string()).await;
        self.last_id
    }

    /// The next message that is no ping or pong.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        loop {
            let next =
                tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("nothing came");
            match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.message().await {
            Some(Message::Text(text)) => {
                watch::look("a frame", &text);
                serde_json::from_str(&text).unwrap()
            }
            other => panic!("no frame but {other:?}"),
        }
    }

    /// The next frame of that name; others before it are skipped.
    pub(crate) async fn expect(&mut self, name: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["frame"] == name {
                return frame;
            }
        }
    }

    /// Sends a frame and waits for its answer.
    pub(crate) async fn call(&mut self, frame: Value) -> Value {
        let id = self.say(frame).await;
        loop {
            let answer = self.frame().await;
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// Starts a run; the frame that accepts it.
    pub(crate) async fn start(&mut self, text: &str) -> Value {
        let request_id = RequestId::new(&SystemClock);
        let message = json!({"frame": "message", "request_id": request_id, "text": text});
        let accepted = self.call(message).await;
        assert_eq!(accepted["frame"], "accepted", "{accepted}");
        accepted
    }

    /// The code and reason of the close that comes; frames before it are skipped.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Some(Message::Close(Some(close))) => {
                    return (close.code.into(), close.reason.to_string());
                }
                Some(Message::Text(_)) => {}
                other => panic!("no close but {other:?}"),
            }
        }
    }

    /// The recorded events of a run up to its end.
    pub(crate) async fn events(&mut self, run: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.expect("event").await;
            if event["run"] != *run || event["seq"].is_null() {
                continue;
            }
            let kind = event["type"].as_str().unwrap().to_owned();
            events.push(event);
            if ["run_completed", "run_failed", "run_cancelled"].contains(&kind.as_str()) {
                return events;
            }
        }
    }
}

/// Fails unless the events are numbered 1, 2, 3 … within one life.
pub(crate) fn assert_whole(events: &[Value]) {
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], place as u64 + 1, "{event}");
        assert_eq!(event["epoch"], events[0]["epoch"]);
        assert_eq!(event["run"], events[0]["run"]);
    }
}

impl Wire {
    /// A connection of a user, its welcome read.
    pub(crate) async fn socket(&self, token: &str) -> Socket {
        let (mut socket, _) = self.welcomed(token).await;
        socket.last_id = 0;
        socket
    }

    /// A connection of a user and its welcome.
    pub(crate) async fn welcomed(&self, token: &str) -> (Socket, Value) {
        let bearer = super::bearer(token);
        let mut socket =
            Socket::open(self.address, "/ws", &[("authorization", &bearer)]).await.unwrap();
        let welcome = socket.frame().await;
        assert_eq!(welcome["frame"], "welcome", "{welcome}");
        (socket, welcome)
    }

    /// A connection that has not said who it is.
    pub(crate) async fn unknown(&self) -> Socket {
        Socket::open(self.address, "/ws", &[]).await.unwrap()
    }
}
