//! Server-sent events (WHATWG HTML, section 9.2): the same conversation as over a WebSocket, of which only what follows
//! one run is shown. One task owns it; the answer's body takes what it hands over.

mod plain;

pub(crate) use plain::Plain;

use crate::connection::{Input, Outgoing};
use crate::driver::Driver;
use crate::protocol::{HEARTBEAT, write_retry};
use apex_core::id::RunId;
use apex_core::run::Position;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::json;
use tokio::sync::mpsc;

/// About how many bytes are handed over at a time.
const PIECE: usize = 16 * 1024;

/// After how many milliseconds a client that was cut off comes back.
const COME_BACK_MS: u64 = 1_000;

/// What of a conversation is written, and how.
pub(crate) trait Script: Send + 'static {
    /// Writes what is to be sent.
    fn write(&mut self, outgoing: Outgoing, piece: &mut BytesMut);

    /// Whether nothing follows.
    fn is_over(&self) -> bool;
}

/// Follows a run from a position in a task of its own; what comes is the body of the answer. The task ends with the
/// body, with the script, and when nobody takes what it has.
pub(crate) fn follow(
    mut driver: Driver,
    run: RunId,
    position: Position,
    script: impl Script,
) -> mpsc::Receiver<Bytes> {
    let subscribe = json!({
        "frame": "subscribe", "id": 1, "run": run, "epoch": position.epoch, "after": position.after,
    });
    driver.receive(Input::Text(&subscribe.to_string()));
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(pump(driver, script, sender));
    receiver
}

async fn pump(mut driver: Driver, mut script: impl Script, body: mpsc::Sender<Bytes>) {
    let mut first = BytesMut::new();
    write_retry(COME_BACK_MS, &mut first);
    if body.send(first.freeze()).await.is_err() {
        return;
    }
    loop {
        let piece = next_piece(&mut driver, &mut script);
        if piece.is_empty() {
            if script.is_over() {
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

fn next_piece(driver: &mut Driver, script: &mut impl Script) -> BytesMut {
    let mut piece = BytesMut::new();
    while !script.is_over()
        && piece.len() < PIECE
        && let Some(outgoing) = driver.next_outgoing()
    {
        match outgoing {
            Outgoing::Ping => piece.put_slice(HEARTBEAT),
            other => script.write(other, &mut piece),
        }
    }
    piece
}
