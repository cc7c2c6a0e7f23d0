//! A relay that understands the frames which it passes on: it drops, doubles and changes them, and closes connections
//! as the server would, on command.

use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

/// What is done with a frame of the server's.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Drop,
    Double,
    Cut,
    /// These fields over the frame's own.
    Merge(Map<String, Value>),
}

/// What is done with an upgrade.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refuse {
    Status(u16),
    Close(u16),
}

#[derive(Debug, Clone)]
enum Command {
    /// 1006 cuts, 1005 closes without a code.
    Close(u16),
    Say(String),
}

#[derive(Debug, Default)]
struct Rules {
    frames: Vec<(&'static str, Option<u64>, usize, Act)>,
    upgrades: Vec<(Option<&'static str>, Refuse)>,
    stripped: Vec<&'static str>,
    seen: Vec<&'static str>,
    said: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    rules: Arc<Mutex<Rules>>,
    commands: broadcast::Sender<Command>,
}

impl Relay {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rules = Arc::new(Mutex::new(Rules::default()));
        let (commands, _) = broadcast::channel(16);
        let relay = Self { address, rules: Arc::clone(&rules), commands: commands.clone() };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, to, Arc::clone(&rules), commands.clone()));
            }
        });
        relay
    }

    /// For the next `times` frames of that name, and of that number where one is given.
    pub(crate) fn frame(&self, name: &'static str, seq: Option<u64>, times: usize, act: Act) {
        self.rules.lock().frames.push((name, seq, times, act));
    }

    /// For the next upgrade, of that way where one is given.
    pub(crate) fn refuse(&self, way: Option<&'static str>, refuse: Refuse) {
        self.rules.lock().upgrades.push((way, refuse));
    }

    /// Headers to take out of upgrades, and `?` for the query.
    pub(crate) fn strip(&self, what: &[&'static str]) {
        self.rules.lock().stripped = what.to_vec();
    }

    pub(crate) fn close(&self, code: u16) {
        // Nobody may be connected.
        let _ = self.commands.send(Command::Close(code));
    }

    pub(crate) fn say(&self, text: &str) {
        let _ = self.commands.send(Command::Say(text.to_owned()));
    }

    /// The ways by which clients tried to come in.
    pub(crate) fn ways(&self) -> Vec<&'static str> {
        self.rules.lock().seen.clone()
    }

    /// What clients said, of one name.
    pub(crate) fn said(&self, name: &str) -> Vec<Value> {
        let rules = self.rules.lock();
        rules.said.iter().filter(|frame| frame["frame"] == name).cloned().collect()
    }
}

async fn pass(
    mut near: TcpStream,
    to: SocketAddr,
    rules: Arc<Mutex<Rules>>,
    commands: broadcast::Sender<Command>,
) {
    let Some(head) = head(&mut near).await else { return };
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    if !head.to_ascii_lowercase().contains("upgrade: websocket") {
        if far.write_all(head.as_bytes()).await.is_ok() {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
        return;
    }
    let way = way(&head);
    let (refuse, stripped) = {
        let mut rules = rules.lock();
        rules.seen.push(way);
        let found = rules.upgrades.iter().position(|(of, _)| of.is_none_or(|of| of == way));
        (found.map(|place| rules.upgrades.remove(place).1), rules.stripped.clone())
    };
    if let Some(Refuse::Status(status)) = refuse {
        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
        let _ = near.write_all(answer.as_bytes()).await;
        return;
    }
    // From here on the server may be gone at any time, which ends the relaying, too.
    if far.write_all(strip(&head, &stripped).as_bytes()).await.is_err() {
        return;
    }
    let Some(answer) = self::head(&mut far).await else { return };
    if near.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    if !answer.starts_with("HTTP/1.1 101") {
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        return;
    }
    let mut near = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
    if let Some(Refuse::Close(code)) = refuse {
        close(&mut near, code).await;
        return;
    }
    let far = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    relay(near, far, &rules, commands.subscribe()).await;
}

async fn relay(
    mut near: WebSocketStream<TcpStream>,
    mut far: WebSocketStream<TcpStream>,
    rules: &Mutex<Rules>,
    mut commands: broadcast::Receiver<Command>,
) {
    loop {
        tokio::select! {
            message = near.next() => match message {
                Some(Ok(message)) => {
                    if let Message::Text(text) = &message {
                        rules.lock().said.push(serde_json::from_str(text).unwrap());
                    }
                    if far.send(message).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            message = far.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let mut frame: Value = serde_json::from_str(&text).unwrap();
                    let act = act(rules, &frame);
                    let times = match act {
                        Some(Act::Drop) => 0,
                        Some(Act::Cut) => return,
                        Some(Act::Double) => 2,
                        Some(Act::Merge(fields)) => {
                            frame.as_object_mut().unwrap().extend(fields);
                            1
                        }
                        None => 1,
                    };
                    for _ in 0..times {
                        if near.send(Message::text(frame.to_string())).await.is_err() {
                            return;
                        }
                    }
                }
                Some(Ok(message)) => {
                    if near.send(message).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            command = commands.recv() => match command {
                Ok(Command::Say(text)) => {
                    if near.send(Message::text(text)).await.is_err() {
                        return;
                    }
                }
                Ok(Command::Close(code)) => return close(&mut near, code).await,
                Err(_) => return,
            },
        }
    }
}

fn act(rules: &Mutex<Rules>, frame: &Value) -> Option<Act> {
    let mut rules = rules.lock();
    let found = rules.frames.iter_mut().find(|(name, seq, times, _)| {
        *times > 0 && frame["frame"] == *name && seq.is_none_or(|seq| frame["seq"] == seq)
    })?;
    found.2 -= 1;
    Some(found.3.clone())
}

async fn close(near: &mut WebSocketStream<TcpStream>, code: u16) {
    let frame = (code != 1005).then(|| CloseFrame { code: code.into(), reason: "".into() });
    if code != 1006 && near.close(frame).await.is_ok() {
        while let Some(Ok(_)) = near.next().await {}
    }
}

fn way(head: &str) -> &'static str {
    let lower = head.to_ascii_lowercase();
    if lower.contains("\r\nauthorization:") {
        "header"
    } else if head.contains("apex.ticket.") || head.contains("apex.bearer.") {
        "subprotocol"
    } else if head.contains("?ticket=") {
        "query"
    } else {
        "hello"
    }
}

/// Up to the empty line, and no byte more.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn strip(head: &str, stripped: &[&str]) -> String {
    let kept: Vec<String> = head
        .split("\r\n")
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !stripped.contains(&name.as_str())
        })
        .map(|line| match line.split_once('?') {
            Some((path, _)) if line.starts_with("GET") && stripped.contains(&"?") => {
                format!("{path} HTTP/1.1")
            }
            _ => line.to_owned(),
        })
        .collect();
    kept.join("\r\n")
}
