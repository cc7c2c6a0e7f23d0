//! A run's events as server-sent events (WHATWG HTML, section 9.2): the same conversation as over a WebSocket, of which
//! only what follows one run is shown. One task owns it; the answer's body takes what it hands over.

use crate::connection::{Input, Outgoing};
use crate::driver::Driver;
use crate::protocol::{FrameId, ResetFrame, ServerFrame};
use apex_core::event::Recorded;
use apex_core::id::{ConnectionId, Epoch, RunId};
use apex_core::run::Position;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::json;
use tokio::sync::mpsc;

/// About how many bytes are handed over at a time.
const PIECE: usize = 16 * 1024;

/// After how many milliseconds a client that was cut off comes back.
const COME_BACK_MS: u64 = 1_000;

/// What a proxy must not hold back for longer than a heartbeat.
const HEARTBEAT: &[u8] = b":\n\n";

/// Follows a run from a position in a task of its own; what comes is the body of the answer. The task ends with the
/// body, with the run, and when nobody takes what it has.
pub(crate) fn follow(
    mut driver: Driver,
    connection: ConnectionId,
    run: RunId,
    position: Position,
) -> mpsc::Receiver<Bytes> {
    let subscribe = json!({
        "frame": "subscribe", "id": 1, "run": run, "epoch": position.epoch, "after": position.after,
    });
    driver.receive(Input::Text(&subscribe.to_string()));
    let (sender, receiver) = mpsc::channel(1);
    let shown = Shown { connection, epoch: position.epoch, last: position.after, over: false };
    tokio::spawn(pump(driver, shown, sender));
    receiver
}

async fn pump(mut driver: Driver, mut shown: Shown, body: mpsc::Sender<Bytes>) {
    if body.send(format!("retry: {COME_BACK_MS}\n\n").into()).await.is_err() {
        return;
    }
    loop {
        let piece = shown.next_piece(&mut driver);
        if piece.is_empty() {
            if shown.over {
                return;
            }
            tokio::select! {
                () = body.closed() => return,
                () = std::future::poll_fn(|cx| driver.poll_progress(cx)) => continue,
            }
        }
        // While nobody takes it the conversation goes on: it finds its client slow, and ends.
        tokio::select! {
            taken = body.send(piece.freeze()) => if taken.is_err() { return },
            () = given_up(&mut driver) => return,
        }
        // Only one direction is seen: what is taken is the sign of life.
        driver.receive(Input::Alive);
    }
}

async fn given_up(driver: &mut Driver) {
    while !driver.is_over() {
        std::future::poll_fn(|cx| driver.poll_progress(cx)).await;
    }
}

/// What of a conversation was written.
struct Shown {
    connection: ConnectionId,
    epoch: Option<Epoch>,
    last: u64,
    /// Nothing follows.
    over: bool,
}

impl Shown {
    /// As text what there is to be sent.
    fn next_piece(&mut self, driver: &mut Driver) -> BytesMut {
        let mut piece = BytesMut::new();
        while !self.over
            && piece.len() < PIECE
            && let Some(outgoing) = driver.next_outgoing()
        {
            match outgoing {
                Outgoing::Recorded(event) => self.recorded(&event, &mut piece),
                Outgoing::Volatile(event) => data(&event.json, &mut piece),
                Outgoing::Ping => piece.put_slice(HEARTBEAT),
                Outgoing::Text(json) => self.frame(&json, &mut piece),
                Outgoing::Close(..) => self.over = true,
            }
        }
        piece
    }

    fn recorded(&mut self, event: &Recorded, piece: &mut BytesMut) {
        self.position(event.seq, piece);
        data(&event.json, piece);
        self.over = event.terminal;
    }

    /// Of the frames, what someone who only listens has to know. An error ends the answer: the client comes back, and
    /// is told by a status if it cannot.
    fn frame(&mut self, json: &Bytes, piece: &mut BytesMut) {
        match serde_json::from_slice(json) {
            Ok(ServerFrame::Subscribed(subscribed)) => {
                self.epoch = Some(subscribed.epoch);
                let ended = subscribed.state.is_some_and(|state| state.is_terminal());
                self.over = ended && self.last >= subscribed.head;
            }
            Ok(ServerFrame::Reset(reset)) => self.reset(reset, piece),
            Ok(ServerFrame::Draining(draining)) => {
                let share = self.connection.as_bytes().last().copied().map_or(0, u64::from);
                let wait = draining.after_ms + draining.jitter_ms * share / 256;
                piece.put_slice(format!("retry: {wait}\n\n").as_bytes());
            }
            Ok(ServerFrame::Error(_)) => self.over = true,
            _ => {}
        }
    }

    fn reset(&mut self, reset: ResetFrame, piece: &mut BytesMut) {
        self.epoch = Some(reset.epoch);
        self.over = reset.snapshot.as_ref().is_some_and(|snapshot| snapshot.state.is_terminal());
        piece.put_slice(b"event: reset\n");
        self.position(reset.head, piece);
        let reset = ResetFrame { id: None::<FrameId>, ..reset };
        // Only maps with keys that are no strings can fail, and no reset has one.
        data(&serde_json::to_vec(&reset).unwrap_or_default(), piece);
    }

    fn position(&mut self, seq: u64, piece: &mut BytesMut) {
        self.last = seq;
        if let Some(epoch) = self.epoch {
            piece.put_slice(format!("id: {epoch}:{seq}\n").as_bytes());
        }
    }
}

/// One line of data: JSON has no line breaks of its own.
fn data(json: &[u8], piece: &mut BytesMut) {
    piece.reserve(json.len() + 8);
    piece.put_slice(b"data: ");
    piece.put_slice(json);
    piece.put_slice(b"\n\n");
}
