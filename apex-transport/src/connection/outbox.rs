use super::Outgoing;
use crate::protocol::CloseCode;
use apex_core::event::{Event, Recorded};
use apex_core::id::RunId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// How far back a volatile event looks for one that it can be merged with.
const LOOK_BACK: usize = 32;

/// For how many the room is kept while nothing waits.
const KEPT: usize = 4;

/// What the reason of a close may be at most, in bytes (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// What waits to be sent to one client. It takes in whatever must be sent; whoever fills it asks [`Outbox::is_full`]
/// before making more. Volatile events are merged while they wait.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Waiting>,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Waiting {
    since: Duration,
    item: Item,
}

#[derive(Debug)]
enum Item {
    Frame(Bytes),
    /// An encoded envelope, to be wrapped when it is sent; shared with the log and with other readers.
    Recorded(RunId, Recorded),
    Volatile(RunId, Recorded),
    Ping,
    Close(CloseCode, String),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(json) => json.len(),
            Self::Recorded(_, event) | Self::Volatile(_, event) => event.json.len(),
            Self::Ping | Self::Close(..) => 0,
        }
    }
}

impl Outbox {
    pub(super) fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, limit }
    }

    pub(super) fn frame(&mut self, json: Bytes, now: Duration) {
        self.push(Item::Frame(json), now);
    }

    pub(super) fn recorded(&mut self, run: RunId, event: Recorded, now: Duration) {
        self.push(Item::Recorded(run, event), now);
    }

    /// Queues a volatile event: merged with one of its kind that still waits, dropped when the client is far behind.
    pub(super) fn volatile(&mut self, run: RunId, event: Recorded, now: Duration) {
        if self.queue.is_empty() {
            return self.push(Item::Volatile(run, event), now);
        }
        if self.bytes > self.limit / 2 {
            return;
        }
        let waiting = self.queue.iter_mut().rev().take(LOOK_BACK);
        for Waiting { item, .. } in waiting {
            match item {
                // What was recorded since must not be overtaken.
                Item::Recorded(of, _) if *of == run => break,
                Item::Volatile(of, earlier) if *of == run => {
                    if let Some(merged) = merge(earlier, &event) {
                        self.bytes = self.bytes - earlier.json.len() + merged.json.len();
                        *earlier = merged;
                        return;
                    }
                }
                _ => {}
            }
        }
        self.push(Item::Volatile(run, event), now);
    }

    pub(super) fn ping(&mut self, now: Duration) {
        self.push(Item::Ping, now);
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str, now: Duration) {
        let mut reason = reason.to_owned();
        while reason.len() > MAX_REASON {
            reason.pop();
        }
        self.push(Item::Close(code, reason), now);
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        let item = self.queue.pop_front()?.item;
        self.bytes -= item.bytes();
        if self.queue.is_empty() && self.queue.capacity() > KEPT {
            // Most have nothing to send for most of the time.
            self.queue = VecDeque::new();
        }
        Some(match item {
            Item::Frame(json) => Outgoing::Text(json),
            Item::Recorded(_, event) => Outgoing::Recorded(event),
            Item::Volatile(_, event) => Outgoing::Volatile(event),
            Item::Ping => Outgoing::Ping,
            Item::Close(code, reason) => Outgoing::Close(code, reason),
        })
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether an event is next; `None` when it is empty.
    pub(super) fn begins_with_event(&self) -> Option<bool> {
        let next = self.queue.front()?;
        Some(matches!(next.item, Item::Recorded(..) | Item::Volatile(..)))
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.limit
    }

    /// Since when the oldest waits.
    pub(super) fn waiting_since(&self) -> Option<Duration> {
        self.queue.front().map(|waiting| waiting.since)
    }

    fn push(&mut self, item: Item, since: Duration) {
        self.bytes += item.bytes();
        self.queue.push_back(Waiting { since, item });
    }
}

/// One volatile event that says what two said, where that is possible: the later progress of a step, or a piece of
/// text with the piece that follows it.
fn merge(earlier: &Recorded, later: &Recorded) -> Option<Recorded> {
    let (first, mut second) = (earlier.decode().ok()?, later.decode().ok()?);
    match (first.event, &mut second.event) {
        (
            Event::Delta { step, offset, text: mut before },
            Event::Delta { step: of, offset: follows, text },
        ) if step == *of && offset + before.len() as u64 == *follows => {
            before.push_str(text);
            (*follows, *text) = (offset, before);
        }
        (Event::Progress { step, unit, .. }, Event::Progress { step: of, unit: same, .. })
            if step == *of && unit == *same => {}
        _ => return None,
    }
    Some(Recorded { seq: later.seq, ..Recorded::encode(&second).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::clock::{SystemClock, Timestamp};
    use apex_core::event::Envelope;
    use apex_core::id::{Epoch, StepId, ThreadId};

    const NOW: Duration = Duration::ZERO;

    fn shown(run: RunId, event: Event) -> Recorded {
        Recorded::encode(&Envelope {
            v: 1,
            run,
            thread: ThreadId::new(&SystemClock),
            parent: None,
            epoch: Epoch::new(&SystemClock),
            seq: None,
            at: Timestamp::from_millis(0),
            event,
        })
        .unwrap()
    }

    fn delta(run: RunId, offset: u64, text: &str) -> Recorded {
        let text = text.to_owned();
        shown(run, Event::Delta { step: StepId(1), offset, text })
    }

    fn progress(run: RunId, done: u64) -> Recorded {
        shown(run, Event::Progress { step: StepId(1), done, total: None, unit: "rows".into() })
    }

    fn raw(json: Bytes) -> Recorded {
        Recorded { seq: 1, terminal: false, json }
    }

    fn texts(outbox: &mut Outbox) -> Vec<serde_json::Value> {
        std::iter::from_fn(|| outbox.pop())
            .map(|out| match out {
                Outgoing::Recorded(event) | Outgoing::Volatile(event) => {
                    serde_json::from_slice(&event.json).unwrap()
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn volatile_events_that_wait_are_merged_and_what_is_recorded_is_not_overtaken() {
        let (run, other) = (RunId::new(&SystemClock), RunId::new(&SystemClock));
        let mut outbox = Outbox::new(1_000_000);
        outbox.volatile(run, delta(run, 0, "ab"), NOW);
        outbox.volatile(other, delta(other, 0, "x"), NOW);
        outbox.volatile(run, delta(run, 2, "cd"), NOW);
        outbox.volatile(run, progress(run, 1), NOW);
        outbox.volatile(run, progress(run, 9), NOW);
        outbox.recorded(run, raw(Bytes::from_static(b"{\"type\":\"x\"}")), NOW);
        outbox.volatile(run, progress(run, 10), NOW);
        let sent = texts(&mut outbox);
        let seen: Vec<_> = sent
            .iter()
            .map(|event| match event["type"].as_str().unwrap() {
                "delta" => event["data"]["text"].to_string(),
                "progress" => event["data"]["done"].to_string(),
                other => other.to_owned(),
            })
            .collect();
        assert_eq!(seen, ["\"abcd\"", "\"x\"", "9", "x", "10"]);
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn far_behind_volatile_events_are_dropped_and_recorded_ones_never() {
        let run = RunId::new(&SystemClock);
        let mut outbox = Outbox::new(100);
        outbox.recorded(run, raw(Bytes::from(vec![b'x'; 60])), NOW);
        outbox.volatile(run, progress(run, 1), NOW);
        assert_eq!(outbox.queue.len(), 1);
        assert!(!outbox.is_full());
        outbox.recorded(run, raw(Bytes::from(vec![b'x'; 60])), NOW);
        assert!(outbox.is_full());
        assert_eq!(outbox.queue.len(), 2);
    }

    #[test]
    fn a_gap_in_a_text_is_not_closed() {
        let run = RunId::new(&SystemClock);
        assert!(merge(&delta(run, 0, "ab"), &delta(run, 3, "c")).is_none());
    }

    #[test]
    fn the_reason_of_a_close_is_cut() {
        let mut outbox = Outbox::new(100);
        outbox.close(CloseCode::Defect, &"ü".repeat(100), NOW);
        let Some(Outgoing::Close(_, reason)) = outbox.pop() else { panic!("no close") };
        assert_eq!(reason.len(), 122);
    }
}
