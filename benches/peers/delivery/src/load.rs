//! Clients of every contender, which count and check what they get.

use crate::Outcome;
use crate::steps::{Steps, tell};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// How many connections are made at a time.
const AT_ONCE: usize = 128;

/// How long a connection may take from the first byte to the last answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose clients they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Apex,
    Raw,
    Ws,
    SocketIo,
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Ok(match word {
            "apex" => Self::Apex,
            "raw" => Self::Raw,
            "ws" => Self::Ws,
            "socketio" => Self::SocketIo,
            _ => return Err(format!("no contender is called {word}")),
        })
    }
}

/// What all clients share.
#[derive(Debug)]
struct Crowd {
    kind: Kind,
    port: u16,
    run: String,
    epoch: String,
    tokens: Vec<String>,
    runs: Vec<String>,
    room: Semaphore,
    received: AtomicU64,
    /// Connections that are ready.
    ready: AtomicU64,
    /// Events that did not follow the one before, and connections that ended by themselves.
    faults: AtomicU64,
    /// From when those who are connected are to follow the run; `None` as long as they are to wait.
    follow: watch::Sender<Option<u64>>,
}

/// One connection.
#[derive(Debug)]
struct Client {
    task: JoinHandle<()>,
    last: Arc<AtomicU64>,
    leave: oneshot::Sender<()>,
}

/// Carries out orders until there are no more.
pub(crate) async fn run(kind: Kind, port: u16) -> Outcome<()> {
    let mut steps = Steps::new();
    let Some(about) = steps.next().await? else { return Ok(()) };
    let mut about = about.into_iter();
    let mut word = || about.next().unwrap_or_default();
    let (run, epoch) = (word(), word());
    let mut crowd = Arc::new(Crowd {
        kind,
        port,
        run,
        epoch,
        tokens: about.collect(),
        runs: Vec::new(),
        room: Semaphore::new(AT_ONCE),
        received: AtomicU64::new(0),
        ready: AtomicU64::new(0),
        faults: AtomicU64::new(0),
        follow: watch::channel(None).0,
    });
    let mut clients: Vec<Client> = Vec::new();
    let mut churned = 0;
    tell(&json!({ "ready": true }))?;
    while let Some(step) = steps.next().await? {
        let words: Vec<&str> = step.iter().map(String::as_str).collect();
        match words[..] {
            // So many more connections, which follow the run after an event, or wait for `follow`.
            ["connect", count, after] => {
                let after = after.parse().ok();
                crowd.follow.send_replace(after);
                for _ in 0..count.parse()? {
                    clients.push(Client::start(&crowd, clients.len(), after.unwrap_or(0)));
                }
                crowd.wait(&crowd.ready, clients.len() as u64, PATIENCE).await;
                tell(&crowd.told())?;
            }
            ["follow", after] => {
                crowd.follow.send_replace(Some(after.parse()?));
                tell(&crowd.told())?;
            }
            // The runs that the clients follow, a hundred each, in the place of the one.
            ["runs", ..] => {
                let runs = step[1..].to_vec();
                let crowd = Arc::get_mut(&mut crowd).ok_or("clients are connected")?;
                crowd.runs = runs;
                tell(&json!({ "ready": true }))?;
            }
            ["wait", count, seconds] => {
                let patience = Duration::from_secs(seconds.parse()?);
                crowd.wait(&crowd.received, count.parse()?, patience).await;
                tell(&crowd.told())?;
            }
            ["reset"] => {
                crowd.received.store(0, Ordering::SeqCst);
                tell(&crowd.told())?;
            }
            // So many leave and come back in a second, for so many seconds.
            ["churn", rate, seconds] => {
                let count: u64 = rate.parse::<u64>()? * seconds.parse::<u64>()?;
                churn(&crowd, &mut clients, rate.parse()?, churned..churned + count).await;
                churned += count;
                tell(&crowd.told())?;
            }
            ["leave"] => {
                for client in clients.drain(..) {
                    client.task.abort();
                    let _ = client.task.await;
                }
                crowd.ready.store(0, Ordering::SeqCst);
                tell(&crowd.told())?;
            }
            _ => return Err(format!("an unknown order: {step:?}").into()),
        }
    }
    Ok(())
}

async fn churn(crowd: &Arc<Crowd>, clients: &mut [Client], rate: u64, numbers: Range<u64>) {
    let mut ticks = interval(Duration::from_micros(1_000_000 / rate));
    // Every place in turn; a number that has no divisor in common with how many there are.
    let step = 7_919;
    for number in numbers {
        ticks.tick().await;
        let count = clients.len() as u64;
        let place = usize::try_from(number * step % count).unwrap_or_default();
        let after = clients[place].last.load(Ordering::SeqCst);
        let fresh = Client::start(crowd, place, after);
        let old = std::mem::replace(&mut clients[place], fresh);
        if number % 2 == 0 {
            // Without a word: the socket is reset.
            old.task.abort();
        } else {
            let _ = old.leave.send(());
        }
    }
}

impl Crowd {
    fn told(&self) -> serde_json::Value {
        json!({
            "received": self.received.load(Ordering::SeqCst),
            "ready": self.ready.load(Ordering::SeqCst),
            "faults": self.faults.load(Ordering::SeqCst),
        })
    }

    async fn wait(&self, counter: &AtomicU64, count: u64, patience: Duration) {
        let by = Instant::now() + patience;
        while counter.load(Ordering::SeqCst) < count && Instant::now() < by {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

type Socket = WebSocketStream<TcpStream>;

impl Client {
    fn start(crowd: &Arc<Crowd>, place: usize, after: u64) -> Self {
        let last = Arc::new(AtomicU64::new(after));
        let (leave, left) = oneshot::channel();
        let one = One { crowd: Arc::clone(crowd), place, last: Arc::clone(&last) };
        let task = tokio::spawn(async move {
            let counted = Arc::clone(&one.crowd);
            if one.converse(left).await.is_err() {
                counted.faults.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { task, last, leave }
    }
}

/// One connection's conversation.
struct One {
    crowd: Arc<Crowd>,
    place: usize,
    last: Arc<AtomicU64>,
}

impl One {
    async fn converse(self, mut left: oneshot::Receiver<()>) -> Outcome<()> {
        let mut socket = {
            let _turn = self.crowd.room.acquire().await?;
            timeout(PATIENCE, self.connect()).await??
        };
        self.crowd.ready.fetch_add(1, Ordering::SeqCst);
        let many = !self.crowd.runs.is_empty();
        let mut follow = self.crowd.follow.subscribe();
        let waits = self.crowd.kind == Kind::Apex && follow.borrow_and_update().is_none();
        if waits {
            let after = *follow.wait_for(Option::is_some).await?;
            let after = after.unwrap_or_default();
            self.last.store(after, Ordering::SeqCst);
            socket.send(self.subscribe(&self.crowd.run, after)).await?;
        }
        loop {
            let message = tokio::select! {
                message = socket.next() => message.ok_or("the server is gone")??,
                _ = &mut left => {
                    socket.close(None).await?;
                    while let Some(Ok(_)) = socket.next().await {}
                    return Ok(());
                }
            };
            let Message::Text(text) = &message else { continue };
            if text.as_str() == "2" {
                socket.send(Message::text("3")).await?;
            }
            let Some(seq) = seq(text) else { continue };
            let before = self.last.swap(seq, Ordering::SeqCst);
            if !many && before != 0 && seq != before + 1 {
                self.crowd.faults.fetch_add(1, Ordering::SeqCst);
            }
            self.crowd.received.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Opens a connection and everything that it takes to get events.
    async fn connect(&self) -> Outcome<Socket> {
        let crowd = &self.crowd;
        let path = match crowd.kind {
            Kind::SocketIo => "/socket.io/?EIO=4&transport=websocket",
            _ => "/ws",
        };
        let url = format!("ws://127.0.0.1:{}{path}", crowd.port);
        let mut request = url.into_client_request()?;
        let token = crowd.tokens.get(self.place % crowd.tokens.len().max(1));
        if let (Kind::Apex, Some(token)) = (crowd.kind, token) {
            let value = format!("Bearer {token}").parse()?;
            request.headers_mut().insert("authorization", value);
        }
        let stream = TcpStream::connect(("127.0.0.1", crowd.port)).await?;
        stream.set_nodelay(true)?;
        // A socket that closes in order would keep its port for a minute.
        stream.set_zero_linger()?;
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
        let (mut socket, _) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        match crowd.kind {
            Kind::Raw | Kind::Ws => hear(&mut socket, "welcome").await?,
            Kind::SocketIo => {
                hear(&mut socket, "0{").await?;
                let token = token.map(String::as_str).unwrap_or_default();
                let hello = format!("40{}", json!({ "token": token }));
                socket.send(Message::text(hello)).await?;
                hear(&mut socket, "40").await?;
            }
            Kind::Apex => {
                hear(&mut socket, "welcome").await?;
                self.subscribe_all(&mut socket).await?;
            }
        }
        Ok(socket)
    }

    async fn subscribe_all(&self, socket: &mut Socket) -> Outcome<()> {
        let crowd = &self.crowd;
        if crowd.follow.borrow().is_none() {
            return Ok(());
        }
        let after = self.last.load(Ordering::SeqCst);
        if crowd.runs.is_empty() {
            socket.send(self.subscribe(&crowd.run, after)).await?;
            return hear(socket, "subscribed").await;
        }
        let mine = crowd.runs.iter().skip(100 * self.place).take(100);
        for run in mine.clone() {
            socket.feed(self.subscribe(run, 0)).await?;
        }
        socket.flush().await?;
        // What has happened in the first ones comes before the answers about the last ones.
        let mut answers = mine.count();
        while answers > 0 {
            match socket.next().await.ok_or("the server is gone")?? {
                Message::Text(text) if text.contains("subscribed") => answers -= 1,
                Message::Text(text) if seq(&text).is_some() => {
                    crowd.received.fetch_add(1, Ordering::SeqCst);
                }
                other => return Err(format!("{other} where an answer was due").into()),
            }
        }
        Ok(())
    }

    fn subscribe(&self, run: &str, after: u64) -> Message {
        let mut frame = json!({ "frame": "subscribe", "id": 1, "run": run, "after": after });
        if self.crowd.runs.is_empty() && after > 0 {
            frame["epoch"] = json!(self.crowd.epoch);
        }
        Message::text(frame.to_string())
    }
}

/// The next message, which has to contain a word.
async fn hear(socket: &mut Socket, word: &str) -> Outcome<()> {
    loop {
        match socket.next().await.ok_or("the server is gone")?? {
            Message::Text(text) if text.contains(word) => return Ok(()),
            Message::Text(text) => return Err(format!("{text} where {word} was due").into()),
            _ => {}
        }
    }
}

/// The number of an event; `None` for anything else.
fn seq(text: &str) -> Option<u64> {
    let is_event = text.starts_with(r#"{"frame":"event""#) || text.starts_with("42[");
    let rest = is_event.then(|| text.split_once(r#""seq":"#))??.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
