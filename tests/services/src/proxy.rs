//! A proxy before a server, which does to its connections what networks do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// Connections at once; more are not accepted until one ends.
const FLOWS: usize = 2048;
const BUFFER: usize = 16 * 1024;
/// What is kept of that which clients have sent.
const KEPT: usize = 256 * 1024;

/// What becomes of the server's replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// They arrive.
    Pass,
    /// So many bytes more arrive on each connection, and then nothing, while the connection stays open.
    DropAfter(u64),
    /// So many bytes more arrive on each connection, and then it is cut.
    CutAfter(u64),
}

/// A proxy on 127.0.0.1, on a thread of its own, so that no state of a test's runtime changes it. It ends, and cuts its
/// connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: watch::Sender<Control>,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy that passes everything to `upstream` on 127.0.0.1.
    ///
    /// # Errors
    /// No port, thread or runtime.
    pub fn start(upstream: u16) -> io::Result<Self> {
        let listener = listener()?;
        let port = listener.local_addr()?.port();
        let (control, watched) = watch::channel(Control::new(upstream));
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let accepting = accept(listener, watched, seen.clone());
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { port, control, seen, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on everything passes again: no delay, no slices, nothing frozen but what [`Self::abandon`] froze.
    pub fn pass(&self) {
        self.control.send_modify(|control| {
            *control = Control {
                upstream: control.upstream,
                abandoned: control.abandoned,
                cut: control.cut,
                half: control.half,
                serial: control.serial,
                ..Control::new(0)
            };
        });
    }

    /// Nothing passes on any connection, old or new, which stay open, until [`Self::pass`].
    pub fn freeze(&self) {
        self.control.send_modify(|control| control.frozen = true);
    }

    /// Nothing passes any more on the connections that are open now, for ever; new ones work.
    pub fn abandon(&self) {
        let flows = self.accepted();
        self.control.send_modify(|control| control.abandoned = flows);
    }

    /// Cuts the connections that are open now, both ends by RST.
    pub fn cut(&self) {
        let flows = self.accepted();
        self.control.send_modify(|control| control.cut = flows);
    }

    /// Ends the server's half of the connections that are open now: clients see the end, and can still send.
    pub fn half_close(&self) {
        let flows = self.accepted();
        self.control.send_modify(|control| control.half = flows);
    }

    /// New connections are cut at once.
    pub fn refuse(&self) {
        self.control.send_modify(|control| control.refuse = true);
    }

    /// Each piece arrives this much later, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.control.send_modify(|control| control.delay = delay);
    }

    /// Pieces arrive in slices of so many bytes.
    pub fn slice(&self, bytes: usize) {
        self.control.send_modify(|control| control.slice = bytes);
    }

    /// What becomes of the replies from now on.
    pub fn replies(&self, replies: Replies) {
        self.control.send_modify(|control| {
            control.serial += 1;
            control.replies = replies;
        });
    }

    /// The next request that contains `text` reaches the server; its reply is lost and its connection cut. Once.
    pub fn lose_reply_to(&self, text: &[u8]) {
        let trap = Trap { text: text.into(), sprung: AtomicBool::new(false) };
        self.control.send_modify(|control| control.trap = Some(Arc::new(trap)));
    }

    /// New connections go to this port.
    pub fn redirect(&self, upstream: u16) {
        self.control.send_modify(|control| control.upstream = upstream);
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// How many connections there have been.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// What clients have sent, all connections together, the first 256 KiB.
    #[must_use]
    pub fn sent(&self) -> Vec<u8> {
        self.seen.sent.lock().map(|sent| sent.clone()).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Trap {
    text: Box<[u8]>,
    sprung: AtomicBool,
}

impl Trap {
    /// Whether `bytes` are the first that it waits for.
    fn springs(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.text.len()).any(|window| window == &*self.text)
            && !self.sprung.swap(true, Ordering::SeqCst)
    }
}

#[derive(Debug, Clone)]
struct Control {
    upstream: u16,
    frozen: bool,
    /// Flows up to this number are frozen for ever, cut, half closed.
    abandoned: u64,
    cut: u64,
    half: u64,
    refuse: bool,
    delay: Duration,
    slice: usize,
    /// Counts the orders about replies, so that each begins to count bytes anew.
    serial: u64,
    replies: Replies,
    trap: Option<Arc<Trap>>,
}

impl Control {
    fn new(upstream: u16) -> Self {
        Self {
            upstream,
            frozen: false,
            abandoned: 0,
            cut: 0,
            half: 0,
            refuse: false,
            delay: Duration::ZERO,
            slice: 0,
            serial: 0,
            replies: Replies::Pass,
            trap: None,
        }
    }

    fn holds(&self, flow: u64) -> bool {
        self.frozen || self.abandoned >= flow
    }
}

#[derive(Debug, Default)]
struct Seen {
    open: AtomicUsize,
    accepted: AtomicU64,
    sent: std::sync::Mutex<Vec<u8>>,
}

/// A port below those that outgoing connections are given.
fn listener() -> io::Result<std::net::TcpListener> {
    let mut last = io::Error::other("no free port");
    for _ in 0..100 {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let port = 20_000 + u16::try_from(seed % 12_768).unwrap_or_default();
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn accept(
    listener: std::net::TcpListener,
    control: watch::Receiver<Control>,
    seen: Arc<Seen>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut flows = JoinSet::new();
    loop {
        while flows.len() >= FLOWS {
            flows.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let number = seen.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                flows.spawn(flow(client, number, control.clone(), seen.clone()));
            }
            Some(_) = flows.join_next() => {}
        }
    }
}

/// A flow ends by RST.
struct Cut;

async fn flow(
    mut client: TcpStream,
    number: u64,
    control: watch::Receiver<Control>,
    seen: Arc<Seen>,
) {
    seen.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(seen.clone());
    let (upstream, refuse) = {
        let control = control.borrow();
        (control.upstream, control.refuse)
    };
    let server = if refuse { None } else { TcpStream::connect(("127.0.0.1", upstream)).await.ok() };
    let Some(mut server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let lost = AtomicBool::new(false);
    let pump = |up| Pump { number, control: control.clone(), lost: &lost, seen: &seen, up };
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (mut up, mut down, mut cut) = (pump(true), pump(false), control.clone());
        let pumps = async {
            tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client))
        };
        tokio::select! {
            _ = cut.wait_for(|control| control.cut >= number) => true,
            ended = pumps => ended.is_err(),
        }
    };
    if cut {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Counts a flow as open while it lives.
struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One direction of a flow.
struct Pump<'f> {
    number: u64,
    control: watch::Receiver<Control>,
    /// The next reply of this flow is lost.
    lost: &'f AtomicBool,
    seen: &'f Seen,
    /// From the client to the server.
    up: bool,
}

impl Pump<'_> {
    async fn run(&mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), Cut> {
        let mut buffer = vec![0; BUFFER];
        let mut passed = (0, 0);
        loop {
            self.wait().await;
            // An order that came before this point has been seen, and does not count as a change any more.
            if self.half_closed() {
                let _ = to.shutdown().await;
                return self.discard(from).await;
            }
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                changed = self.control.changed() => {
                    changed.map_err(|_| Cut)?;
                    continue;
                }
            };
            let read = read.map_err(|_| Cut)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                let _ = to.shutdown().await;
                return Ok(());
            };
            if self.up {
                self.look(bytes);
            } else if self.lost.load(Ordering::SeqCst) {
                return Err(Cut);
            }
            self.wait().await;
            let (bytes, cut) = self.replies(bytes, &mut passed);
            self.write(&mut to, bytes).await?;
            if cut {
                return Err(Cut);
            }
        }
    }

    /// Waits while nothing passes.
    async fn wait(&mut self) {
        let number = self.number;
        let _ = self.control.wait_for(|control| !control.holds(number)).await;
    }

    fn half_closed(&self) -> bool {
        !self.up && self.control.borrow().half >= self.number
    }

    async fn discard(&self, mut from: ReadHalf<'_>) -> Result<(), Cut> {
        let mut buffer = vec![0; BUFFER];
        while from.read(&mut buffer).await.map_err(|_| Cut)? > 0 {}
        Ok(())
    }

    /// Notes what a client sends.
    fn look(&self, bytes: &[u8]) {
        if let Ok(mut sent) = self.seen.sent.lock() {
            let room = KEPT.saturating_sub(sent.len());
            sent.extend(bytes.iter().take(room));
        }
        let trap = self.control.borrow().trap.clone();
        if trap.is_some_and(|trap| trap.springs(bytes)) {
            self.lost.store(true, Ordering::SeqCst);
        }
    }

    /// The part of a reply that arrives, and whether the flow is cut after it; `passed` is the order about replies that
    /// holds, and the bytes since it.
    fn replies<'b>(&self, bytes: &'b [u8], passed: &mut (u64, u64)) -> (&'b [u8], bool) {
        let control = self.control.borrow();
        if passed.0 != control.serial {
            *passed = (control.serial, 0);
        }
        let (after, cut) = match control.replies {
            Replies::DropAfter(after) if !self.up => (after, false),
            Replies::CutAfter(after) if !self.up => (after, true),
            _ => return (bytes, false),
        };
        let room = usize::try_from(after.saturating_sub(passed.1)).unwrap_or(usize::MAX);
        let arrives = bytes.get(..room).unwrap_or(bytes);
        passed.1 += arrives.len() as u64;
        (arrives, cut && arrives.len() < bytes.len())
    }

    async fn write(&self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), Cut> {
        let (delay, slice) = {
            let control = self.control.borrow();
            (control.delay, control.slice)
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        for piece in bytes.chunks(if slice == 0 { BUFFER } else { slice }) {
            to.write_all(piece).await.map_err(|_| Cut)?;
            if slice > 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}
