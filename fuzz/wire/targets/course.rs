//! Any course of a conversation: frames of any kind and any text, answers good and bad in any order, pages, resets and
//! breaks of what is followed, time that passes, a client that reads or does not. Whatever happens, each frame has at
//! most one answer, and exactly one while the conversation goes on; nothing follows the close; nothing is told before the
//! welcome; a stream is sent without a hole, or up to a reset; what waits is bounded; no deadline lies in the past.

#![no_main]

#[path = "feed.rs"]
mod feed;

use apex_core::auth::{Entry, Way};
use apex_core::clock::Timestamp;
use apex_core::error::{Error, Kind};
use apex_core::event::{Envelope, Event, Recorded};
use apex_core::id::{ConnectionId, Epoch, RunId, StepId, ThreadId, UserId};
use apex_core::principal::{Principal, Scope, Scopes};
use apex_core::run::{
    Accepted, Delivery, InboxDelivery, InboxEntry, ResetReason, RunState, Snapshot,
};
use apex_transport::TransportConfig;
use apex_transport::connection::{
    Action, Brought, Connection, Input, Moment, Opened, Outgoing, Stream, StreamKey, Terms,
};
use apex_transport::protocol::{CloseCode, Draining, decode, event_frame};
use feed::Feed;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What may wait for the client, and how large events are: less than in earnest, for speed.
const OUTBOUND: usize = 4 * 1024;
const EVENT: usize = 64;

/// The most events that may wait: the bound, and what one delivery more brings.
const MOST_WAITING: usize = OUTBOUND / EVENT + PAGE as usize + 1;
const PAGE: u8 = 16;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let feed = &mut Feed::new(bytes);
    let mut world = World::new(feed.below(3));
    while !feed.is_empty() {
        world.happen(feed);
    }
    world.settle();
});

/// What the world has not answered yet.
enum Pending {
    Asked(Action),
    Opening(StreamKey),
}

/// A stream as the world brings it.
struct Brings {
    stream: Stream,
    /// The last number that it brought.
    last: u64,
    open: bool,
}

struct World {
    connection: Connection,
    now: Duration,
    user: UserId,
    pending: Vec<Pending>,
    brings: HashMap<StreamKey, Brings>,
    said: u64,
    /// How often each frame was answered.
    answers: HashMap<u64, usize>,
    /// From where each frame asked to follow something.
    from: HashMap<u64, u64>,
    /// Frames after whose answer an error may come, about what followed.
    followed_by: HashSet<u64>,
    /// What the client has of each run.
    applied: HashMap<String, u64>,
    waiting: usize,
    welcomed: bool,
    closed: bool,
}

impl World {
    fn new(way: u8) -> Self {
        let user = UserId::from_bytes([1; 16]);
        let entry = (way > 0).then(|| entry(user, way == 1));
        let mut config = TransportConfig::default();
        config.connection.outbound_bytes = OUTBOUND;
        let connection = Connection::new(
            ConnectionId::from_bytes([2; 16]),
            Arc::new(Terms::from(&config)),
            entry,
            moment(Duration::ZERO),
        );
        Self {
            connection,
            now: Duration::ZERO,
            user,
            pending: Vec::new(),
            brings: HashMap::new(),
            said: 0,
            answers: HashMap::new(),
            from: HashMap::new(),
            followed_by: HashSet::new(),
            applied: HashMap::new(),
            waiting: 0,
            welcomed: false,
            closed: false,
        }
    }

    fn happen(&mut self, feed: &mut Feed<'_>) {
        match feed.below(16) {
            0..=4 => self.say(feed),
            5..=7 => self.answer(feed),
            8..=10 => self.bring(feed),
            11 | 12 => {
                for _ in 0..feed.below(16) {
                    self.send();
                }
            }
            13 => {
                self.now += Duration::from_millis(u64::from(feed.byte()) * 40);
                self.handle(Input::Tick);
                let deadline = self.connection.deadline(moment(self.now));
                assert!(deadline.is_none_or(|due| due > self.now), "{deadline:?} at {:?}", self.now);
            }
            14 => self.handle(Input::Alive),
            _ => match feed.below(4) {
                0 => self.handle(Input::Drain(Draining { after_ms: 1_000, jitter_ms: 0 })),
                1 if self.connection.entry().is_some() => self.handle(Input::Revoked),
                2 => {
                    let code = CloseCode::ALL[usize::from(feed.byte()) % CloseCode::ALL.len()];
                    self.handle(Input::Unreadable(code));
                }
                _ => self.handle(Input::Tick),
            },
        }
        assert!(self.connection.streams() <= 5);
        assert!(self.waiting <= MOST_WAITING, "{} events wait", self.waiting);
    }

    fn handle(&mut self, input: Input<'_>) {
        self.connection.handle(input, moment(self.now));
        while self.connection.next_failure().is_some() {}
        while let Some(action) = self.connection.next_action() {
            match action {
                Action::Follow(key, _, stream, position) => {
                    let last = position.after;
                    self.brings.insert(key, Brings { stream, last, open: false });
                    self.pending.push(Pending::Opening(key));
                }
                Action::Leave(key) => {
                    // Its answer may be on its way, and is of no interest.
                    self.brings.remove(&key);
                }
                other => self.pending.push(Pending::Asked(other)),
            }
        }
    }

    fn say(&mut self, feed: &mut Feed<'_>) {
        if !self.connection.may_read() {
            return;
        }
        let (run, epoch) = (RunId::from_bytes([feed.below(4); 16]), epoch(feed.below(2)));
        let kind = feed.below(12);
        if kind == 11 {
            let text = feed.text();
            let id = decode(&text).map_or_else(|bad| bad.id, |frame| Some(frame.id));
            // What happens to have an id is one of the frames below, and is answered.
            return if id.is_none() { self.handle(Input::Text(&text)) };
        }
        self.said += 1;
        let mut frame = match kind {
            0 => json!({"frame": "hello", "ticket": "t"}),
            1 => json!({"frame": "message", "request_id": run, "text": feed.text()}),
            2 => json!({"frame": "subscribe", "run": run}),
            3 => {
                let after = feed.byte();
                self.from.insert(self.said, u64::from(after));
                json!({"frame": "subscribe", "run": run, "epoch": epoch, "after": after})
            }
            4 => json!({"frame": "inbox"}),
            5 => json!({"frame": "unsubscribe", "run": run}),
            6 => json!({"frame": "cancel", "run": run}),
            7 => json!({"frame": "stop", "run": run, "step": "s1"}),
            8 => json!({"frame": "decide", "run": run, "approval": run, "digest": "d", "decision": "deny"}),
            9 => json!({"frame": "ping", "n": feed.number()}),
            _ => json!({"frame": feed.text()}),
        };
        frame["id"] = self.said.into();
        if !self.connection.is_closing() {
            self.answers.insert(self.said, 0);
        }
        self.handle(Input::Text(&frame.to_string()));
    }

    fn answer(&mut self, feed: &mut Feed<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let pending = self.pending.swap_remove(usize::from(feed.byte()) % self.pending.len());
        let good = feed.below(4) > 0;
        let kinds = [Kind::NotFound, Kind::Internal, Kind::Unavailable, Kind::Conflict];
        let refused = Error::new(kinds[usize::from(feed.below(4))], "fuzz", "no");
        let action = match pending {
            Pending::Asked(action) => action,
            Pending::Opening(key) => {
                return self.open(key, good.then_some(()).ok_or(refused), feed);
            }
        };
        match action {
            Action::Authenticate(id, _) => {
                let user = if feed.below(8) == 0 { UserId::from_bytes([9; 16]) } else { self.user };
                let entered = if good { Ok(entry(user, feed.flag())) } else { Err(refused) };
                self.handle(Input::Entered(id, entered));
            }
            Action::Start(id, _, message) => {
                let started = Accepted {
                    request_id: message.request_id,
                    thread: ThreadId::from_bytes([1; 16]),
                    run: RunId::from_bytes(*message.request_id.as_bytes()),
                };
                self.handle(Input::Started(id, if good { Ok(started) } else { Err(refused) }));
            }
            Action::Cancel(id, ..) | Action::Stop(id, ..) | Action::Decide(id, ..) => {
                self.handle(Input::Done(id, if good { Ok(()) } else { Err(refused) }));
            }
            Action::Follow(..) | Action::Leave(_) => {}
        }
    }

    fn open(&mut self, key: StreamKey, opening: Result<(), Error>, feed: &mut Feed<'_>) {
        let recovered = feed.flag();
        if let Some(brings) = self.brings.get_mut(&key) {
            brings.open = opening.is_ok();
        }
        let opened = opening.map(|()| Opened {
            epoch: epoch(0),
            head: 9,
            oldest: 1,
            recovered,
            state: Some(RunState::Running),
        });
        let failed = opened.is_err();
        self.handle(Input::Opened(key, opened));
        if failed {
            self.brings.remove(&key);
        } else if !recovered && self.brings.contains_key(&key) {
            self.reset(key, feed);
        }
    }

    fn reset(&mut self, key: StreamKey, feed: &mut Feed<'_>) {
        let Some(brings) = self.brings.get_mut(&key) else {
            return;
        };
        let (epoch, head) = (epoch(feed.below(2)), u64::from(feed.byte()));
        brings.last = head;
        let reason = if feed.flag() { ResetReason::Trimmed } else { ResetReason::Epoch };
        let brought = match brings.stream {
            Stream::Run(_) => {
                let snapshot =
                    Box::new(Snapshot { state: RunState::Running, ..Snapshot::new() });
                Brought::Run(Delivery::Reset { reason, epoch, head, snapshot })
            }
            Stream::Inbox => Brought::Inbox(InboxDelivery::Reset { reason, epoch, head }),
        };
        self.handle(Input::Brought(key, brought));
    }

    fn bring(&mut self, feed: &mut Feed<'_>) {
        if !self.connection.may_deliver() {
            return;
        }
        let mut open: Vec<StreamKey> =
            self.brings.iter().filter(|(_, brings)| brings.open).map(|(key, _)| *key).collect();
        open.sort();
        let Some(key) = open.get(usize::from(feed.byte()) % open.len().max(1)).copied() else {
            return;
        };
        match feed.below(8) {
            0 => return self.reset(key, feed),
            1 => {
                let error = Error::new(Kind::Unavailable, "fuzz", "gone");
                self.handle(Input::Brought(key, Brought::Broken(error)));
                drop(self.brings.remove(&key));
                return;
            }
            _ => {}
        }
        let count = u64::from(feed.below(PAGE)) + 1;
        // Now and then with a hole, which must close the connection rather than be sent.
        let hole = u64::from(feed.below(32) == 31);
        let Some(brings) = self.brings.get_mut(&key) else {
            return;
        };
        let numbers = brings.last + 1 + hole..=brings.last + hole + count;
        brings.last += hole + count;
        let brought = match brings.stream {
            Stream::Run(run) => match feed.below(8) {
                0 => {
                    self.brings.remove(&key);
                    Brought::Run(Delivery::End(RunState::Completed))
                }
                1 => {
                    brings.last -= hole + count;
                    Brought::Run(Delivery::Live(delta(run, feed.number() % 8)))
                }
                _ => Brought::Run(Delivery::Events(numbers.map(|seq| thought(run, seq)).collect())),
            },
            Stream::Inbox => Brought::Inbox(InboxDelivery::Entries(numbers.map(entry_at).collect())),
        };
        let events = match &brought {
            Brought::Run(Delivery::Events(events)) => events.len(),
            _ => 0,
        };
        if !self.connection.is_closing() && hole == 0 {
            self.waiting += events;
        }
        self.handle(Input::Brought(key, brought));
    }

    fn send(&mut self) {
        let Some(outgoing) = self.connection.next_outgoing() else {
            self.waiting = 0;
            return;
        };
        assert!(!self.closed, "after the close: {outgoing:?}");
        match outgoing {
            Outgoing::Ping => {}
            Outgoing::Close(_, reason) => {
                assert!(reason.len() <= 123 && self.connection.is_closing());
                self.closed = true;
            }
            Outgoing::Volatile(event) => {
                let event: Value = serde_json::from_slice(&event_frame(&event.json)).unwrap();
                assert_eq!((event.get("seq"), &event["frame"]), (None, &json!("event")));
            }
            Outgoing::Recorded(event) => {
                self.waiting = self.waiting.saturating_sub(1);
                let event: Value = serde_json::from_slice(&event_frame(&event.json)).unwrap();
                self.apply(&event["run"], event["seq"].as_u64().unwrap());
            }
            Outgoing::Text(json) => self.take(&serde_json::from_slice(&json).unwrap()),
        }
    }

    /// What comes is what follows.
    fn apply(&mut self, stream: &Value, seq: u64) {
        let last = self.applied.get_mut(&stream.to_string());
        let last = last.unwrap_or_else(|| panic!("{stream} was never followed"));
        assert_eq!(seq, *last + 1, "{stream}");
        *last = seq;
    }

    fn take(&mut self, frame: &Value) {
        let name = frame["frame"].as_str().unwrap();
        self.welcomed |= name == "welcome";
        assert!(self.welcomed || ["error", "draining"].contains(&name), "too early: {frame}");
        match name {
            "reset" => {
                let head = frame["head"].as_u64().unwrap();
                self.applied.insert(frame["run"].to_string(), head);
            }
            "inbox" => self.apply(&Value::Null, frame["seq"].as_u64().unwrap()),
            "accepted" | "subscribed" => {
                let from = frame["id"].as_u64().and_then(|id| self.from.get(&id));
                self.applied.insert(frame["run"].to_string(), from.copied().unwrap_or(0));
            }
            _ => {}
        }
        let Some(id) = frame["id"].as_u64() else {
            return;
        };
        if name == "error" && self.followed_by.contains(&id) {
            return;
        }
        if ["accepted", "subscribed", "reset"].contains(&name) {
            self.followed_by.insert(id);
        }
        let answers = self.answers.get_mut(&id).unwrap_or_else(|| panic!("nobody asked: {frame}"));
        *answers += 1;
        assert_eq!(*answers, 1, "{frame}");
    }

    /// Answers and sends all that is open: then nothing is left without an answer.
    fn settle(&mut self) {
        let nothing = &mut Feed::new(&[]);
        while !self.pending.is_empty() || self.connection.has_outgoing() {
            self.answer(nothing);
            self.send();
        }
        let unanswered = self.answers.iter().filter(|(_, answers)| **answers == 0).count();
        assert!(unanswered == 0 || self.connection.is_closing(), "{unanswered} without an answer");
        assert!(!self.connection.is_closing() || self.closed || self.connection.is_over());
    }
}

fn moment(elapsed: Duration) -> Moment {
    Moment { elapsed, at: Timestamp::from_millis(1_763_805_600_000).plus(elapsed) }
}

/// Of somebody who may do everything, or only look.
fn entry(user: UserId, all: bool) -> Entry {
    let scopes = if all { Scopes::USER } else { Scopes::NONE.with(Scope::Read) };
    Entry {
        principal: Principal::vouched(user, scopes),
        way: Way::Hello,
        expires_at: moment(Duration::from_secs(120)).at,
    }
}

fn epoch(n: u8) -> Epoch {
    Epoch::from_bytes([n + 7; 16])
}

fn thought(run: RunId, seq: u64) -> Recorded {
    Recorded {
        seq,
        terminal: false,
        json: format!(r#"{{"run":"{run}","seq":{seq},"x":"{}"}}"#, "x".repeat(EVENT)).into(),
    }
}

fn delta(run: RunId, offset: u64) -> Recorded {
    Recorded::encode(&Envelope {
        v: 1,
        run,
        thread: ThreadId::from_bytes([1; 16]),
        parent: None,
        epoch: epoch(0),
        seq: None,
        at: Timestamp::from_millis(0),
        event: Event::Delta { step: StepId(1), offset, text: "x".to_owned() },
    })
    .unwrap()
}

fn entry_at(seq: u64) -> InboxEntry {
    InboxEntry {
        seq,
        run: RunId::from_bytes([1; 16]),
        thread: ThreadId::from_bytes([1; 16]),
        state: RunState::Running,
        at: Timestamp::from_millis(0),
    }
}
