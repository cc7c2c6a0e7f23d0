//! A client of each transport, behind one face.

use crate::support::listener::{Listener, uuid};
use crate::support::socket::Socket;
use crate::support::{Wire, bearer, host};
use apex_core::auth::{Entry, Way};
use apex_core::clock::Clock as _;
use apex_transport::pipe::{FramePipe, Sent};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(20);

/// How a conversation is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    WebSocket,
    ServerSentEvents,
    InProcess,
    HostSocket,
}

impl Transport {
    pub(super) const ALL: [Self; 4] =
        [Self::WebSocket, Self::ServerSentEvents, Self::InProcess, Self::HostSocket];
}

/// What a client sees.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Update {
    /// A recorded event.
    Event(Value),
    /// A volatile one.
    Live(Value),
    Reset(Value),
    /// By its code.
    Refused(String),
    /// The node shuts down.
    Draining,
    /// Nothing follows; why is known where there are close codes.
    Over(Option<u16>),
}

impl Update {
    fn of_frame(frame: Value) -> Option<Self> {
        Some(match frame["frame"].as_str().unwrap() {
            "event" => Self::of_event(frame),
            "reset" => Self::Reset(frame),
            "error" => Self::Refused(frame["code"].as_str().unwrap().to_owned()),
            "draining" => Self::Draining,
            _ => return None,
        })
    }

    fn of_event(event: Value) -> Self {
        if event["seq"].is_null() { Self::Live(event) } else { Self::Event(event) }
    }
}

/// A client that is in; or, of server-sent events, one that is about to listen.
pub(super) enum Client<'a> {
    Socket(Box<Socket>),
    Pipe(FramePipe, u64),
    Events { wire: &'a Wire, token: String, listener: Option<Listener>, refused: Option<String> },
}

impl<'a> Client<'a> {
    /// Comes in.
    ///
    /// # Errors
    /// The code of the refusal.
    pub(super) async fn enter(
        wire: &'a Wire,
        transport: Transport,
        token: &str,
    ) -> Result<Self, String> {
        let auth = bearer(token);
        let headers = [("authorization", auth.as_str())];
        let address = match transport {
            Transport::WebSocket => wire.address,
            Transport::HostSocket => host::start(wire.service.clone()).await,
            Transport::ServerSentEvents => {
                let token = token.to_owned();
                return Ok(Self::Events { wire, token, listener: None, refused: None });
            }
            Transport::InProcess => {
                let expires_at = wire.clock.now().plus(Duration::from_secs(3_600));
                let principal = wire.principal(token).await;
                let entry = Entry { principal, way: Way::Own, expires_at };
                let pipe = wire.service.in_process(entry).await;
                let mut pipe = pipe.map_err(|error| error.code().to_owned())?;
                let Some(Sent::Text(welcome)) = pipe.next().await else { panic!("no welcome") };
                let welcome: Value = serde_json::from_slice(&welcome).unwrap();
                assert_eq!(welcome["frame"], "welcome");
                return Ok(Self::Pipe(pipe, 0));
            }
        };
        let opened = Socket::open(address, "/ws", &headers).await;
        let mut socket =
            opened.map_err(|refusal| refusal.body["code"].as_str().unwrap().to_owned())?;
        assert_eq!(socket.frame().await["frame"], "welcome");
        Ok(Self::Socket(Box::new(socket)))
    }

    /// Starts a run and follows it from its beginning; the run.
    pub(super) async fn start(&mut self, text: &str) -> String {
        let message = json!({"frame": "message", "request_id": uuid(), "text": text});
        if let Self::Events { wire, token, .. } = self {
            let auth = bearer(token);
            let headers = [("authorization", auth.as_str())];
            let answer = wire.post("/messages", &headers, &message.to_string()).await;
            assert_eq!(answer.status, 202, "{}", answer.text());
            let run = answer.json()["run"].as_str().unwrap().to_owned();
            self.follow(&run, None).await;
            return run;
        }
        self.say(message).await;
        loop {
            let frame = self.frame().await.expect("no answer");
            if frame["frame"] == "accepted" {
                return frame["run"].as_str().unwrap().to_owned();
            }
            assert_ne!(frame["frame"], "error", "{frame}");
        }
    }

    /// Asks to follow a run after what it has of it.
    pub(super) async fn follow(&mut self, run: &str, after: Option<(&str, u64)>) {
        if let Self::Events { wire, token, listener, refused } = self {
            let auth = bearer(token);
            let last = after.map(|(epoch, seq)| format!("{epoch}:{seq}"));
            let mut headers = vec![("authorization", auth.as_str())];
            headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
            let path = format!("/runs/{run}/events");
            let opened = Listener::open(wire, &path, &headers).await;
            if opened.status < 300 {
                *listener = Some(opened);
            } else {
                *refused = Some(opened.refusal().await);
            }
            return;
        }
        let subscribe = match after {
            Some((epoch, seq)) => {
                json!({"frame": "subscribe", "run": run, "epoch": epoch, "after": seq})
            }
            None => json!({"frame": "subscribe", "run": run}),
        };
        self.say(subscribe).await;
    }

    /// Cancels a run.
    pub(super) async fn cancel(&mut self, run: &str) {
        if let Self::Events { wire, token, refused, .. } = self {
            let auth = bearer(token);
            let headers = [("authorization", auth.as_str())];
            let answer = wire.post(&format!("/runs/{run}/cancel"), &headers, "").await;
            if answer.status != 202 {
                *refused = Some(answer.code());
            }
            return;
        }
        self.say(json!({"frame": "cancel", "run": run})).await;
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> Update {
        loop {
            if let Self::Events { listener, refused, .. } = self {
                if let Some(code) = refused.take() {
                    return Update::Refused(code);
                }
                let Some(listening) = listener else { return Update::Over(None) };
                let Some(event) = listening.next().await else {
                    *listener = None;
                    return Update::Over(None);
                };
                match (event.data, event.name.as_deref(), event.retry) {
                    (Some(reset), Some("reset"), _) => return Update::Reset(reset),
                    (Some(event), ..) => return Update::of_event(event),
                    // The first one is the usual time after which a listener comes back.
                    (None, _, Some(wait)) if wait != 1_000 => return Update::Draining,
                    _ => continue,
                }
            }
            match self.frame().await {
                Ok(frame) => {
                    if let Some(update) = Update::of_frame(frame) {
                        return update;
                    }
                }
                Err(code) => return Update::Over(code),
            }
        }
    }

    async fn say(&mut self, mut frame: Value) {
        match self {
            Self::Socket(socket) => drop(socket.say(frame).await),
            Self::Pipe(pipe, last) => {
                *last += 1;
                frame["id"] = (*last).into();
                assert!(pipe.text(frame.to_string()).await, "over");
            }
            Self::Events { .. } => panic!("who listens says nothing"),
        }
    }

    /// The next frame, or with which code it is over.
    async fn frame(&mut self) -> Result<Value, Option<u16>> {
        match self {
            Self::Socket(socket) => match socket.message().await {
                Some(Message::Text(text)) => Ok(serde_json::from_str(&text).unwrap()),
                Some(Message::Close(Some(close))) => Err(Some(close.code.into())),
                _ => Err(None),
            },
            Self::Pipe(pipe, _) => loop {
                let next = tokio::time::timeout(PATIENCE, pipe.next());
                match next.await.expect("nothing came") {
                    Some(Sent::Text(json)) => return Ok(serde_json::from_slice(&json).unwrap()),
                    Some(Sent::Close(code, _)) => return Err(Some(code)),
                    Some(Sent::Ping) => {}
                    None => return Err(None),
                }
            },
            Self::Events { .. } => panic!("a listener sees events"),
        }
    }

    /// The recorded events of the run up to its end.
    pub(super) async fn rest(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Update::Event(event) => {
                    let kind = event["type"].as_str().unwrap();
                    let last = ["run_completed", "run_failed", "run_cancelled"].contains(&kind);
                    events.push(event);
                    if last {
                        return events;
                    }
                }
                Update::Live(_) => {}
                other => panic!("{other:?} after {} events", events.len()),
            }
        }
    }
}
