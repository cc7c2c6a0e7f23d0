//! Any course of events, in any order, at any time.

use super::*;
use proptest::prelude::*;

/// One thing that may happen to a connection.
#[derive(Debug, Clone)]
enum Happening {
    Say(u8),
    Nonsense(String),
    Wait(u16),
    Answer(bool),
    Bring(u8),
    Send(u8),
    Drain,
    Revoke,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => any::<u8>().prop_map(Happening::Say),
        1 => "\\PC{0,40}".prop_map(Happening::Nonsense),
        3 => (0_u16..3_000).prop_map(Happening::Wait),
        8 => any::<bool>().prop_map(Happening::Answer),
        4 => any::<u8>().prop_map(Happening::Bring),
        6 => any::<u8>().prop_map(Happening::Send),
        1 => Just(Happening::Drain),
        1 => Just(Happening::Revoke),
    ]
}

/// A world around one connection: it answers what is asked, in any order and at any time.
struct World {
    connection: Connection,
    now: f64,
    user: Entry,
    pending: Vec<Action>,
    open: Vec<(StreamKey, u64)>,
    said: u64,
    answers: std::collections::HashMap<u64, usize>,
    accepted: std::collections::HashSet<u64>,
    last_seq: std::collections::HashMap<u64, u64>,
    closed: bool,
}

impl World {
    fn new() -> Self {
        Self {
            connection: connection_with(None),
            now: 0.0,
            user: entry(Scopes::USER),
            pending: Vec::new(),
            open: Vec::new(),
            said: 0,
            answers: Default::default(),
            accepted: Default::default(),
            last_seq: Default::default(),
            closed: false,
        }
    }

    fn run(n: u8) -> RunId {
        RunId::from_bytes([n % 4; 16])
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Say(n) => {
                self.said += 1;
                let (id, run) = (self.said, Self::run(n));
                let frame = match n % 8 {
                    0 => json!({"frame": "hello", "id": id, "ticket": "t"}),
                    1 => json!({"frame": "message", "id": id, "request_id": run, "text": "x"}),
                    2 => json!({"frame": "subscribe", "id": id, "run": run}),
                    3 => json!({"frame": "inbox", "id": id}),
                    4 => json!({"frame": "unsubscribe", "id": id, "run": run}),
                    5 => json!({"frame": "cancel", "id": id, "run": run}),
                    6 => json!({"frame": "ping", "id": id, "n": 1}),
                    _ => json!({"frame": "nothing", "id": id}),
                };
                if self.connection.may_read() && !self.connection.is_closing() {
                    say(&mut self.connection, frame, self.now);
                    self.answers.insert(id, 0);
                }
            }
            Happening::Nonsense(text) => {
                if self.connection.may_read() {
                    self.connection.handle(Input::Text(&text), at(self.now));
                }
            }
            Happening::Wait(ms) => {
                self.now += f64::from(ms) / 1_000.0;
                self.connection.handle(Input::Tick, at(self.now));
                let deadline = self.connection.deadline(at(self.now));
                assert!(deadline.is_none_or(|due| due > at(self.now).elapsed));
            }
            Happening::Answer(good) => self.answer(good),
            Happening::Bring(n) => self.bring(n),
            Happening::Send(n) => {
                for _ in 0..n % 8 {
                    self.send();
                }
            }
            Happening::Drain => {
                let draining = Draining { after_ms: 1_000, jitter_ms: 0 };
                self.connection.handle(Input::Drain(draining), at(self.now));
            }
            Happening::Revoke => {
                // Only somebody who is known can be logged out.
                if self.connection.entry().is_some() {
                    self.connection.handle(Input::Revoked, at(self.now));
                }
            }
        }
        self.pending.extend(actions(&mut self.connection));
        assert!(self.connection.streams() <= 100);
    }

    fn answer(&mut self, good: bool) {
        if self.pending.is_empty() {
            return;
        }
        let refused = || Error::new(Kind::NotFound, "test", "no");
        let answer = match self.pending.remove(0) {
            Action::Authenticate(id, _) if good => Input::Entered(id, Ok(self.user.clone())),
            Action::Authenticate(id, _) => Input::Entered(id, Err(refused())),
            Action::Start(id, _, message) if good => Input::Started(
                id,
                Ok(Accepted {
                    request_id: message.request_id,
                    thread: ThreadId::from_bytes([1; 16]),
                    run: RunId::from_bytes(*message.request_id.as_bytes()),
                }),
            ),
            Action::Start(id, ..) => Input::Started(id, Err(refused())),
            Action::Follow(key, ..) if good => {
                self.open.push((key, 0));
                Input::Opened(key, Ok(opened(true)))
            }
            Action::Follow(key, ..) => Input::Opened(key, Err(refused())),
            Action::Leave(key) => {
                self.open.retain(|(open, _)| *open != key);
                return;
            }
            Action::Cancel(id, ..) | Action::Stop(id, ..) | Action::Decide(id, ..) => {
                Input::Done(id, if good { Ok(()) } else { Err(refused()) })
            }
        };
        self.connection.handle(answer, at(self.now));
    }

    fn bring(&mut self, n: u8) {
        if self.open.is_empty() || !self.connection.may_deliver() {
            return;
        }
        let place = usize::from(n) % self.open.len();
        let (key, last) = &mut self.open[place];
        let is_inbox = self
            .connection
            .streams
            .get_mut(*key)
            .is_none_or(|followed| followed.stream == Stream::Inbox);
        if is_inbox {
            return;
        }
        *last += 1;
        let event = Recorded {
            json: Bytes::from(format!(r#"{{"seq":{last},"key":{}}}"#, key.0)),
            ..recorded(*last)
        };
        let brought = Brought::Run(Delivery::Events(vec![event]));
        self.connection.handle(Input::Brought(*key, brought), at(self.now));
    }

    fn send(&mut self) {
        let Some(outgoing) = self.connection.next_outgoing() else {
            return;
        };
        assert!(!self.closed, "after the close: {outgoing:?}");
        match outgoing {
            Outgoing::Ping => {}
            Outgoing::Close(..) => self.closed = true,
            Outgoing::Recorded(event) | Outgoing::Volatile(event) => {
                let event: Value = serde_json::from_slice(&event.json).unwrap();
                let last = self.last_seq.entry(event["key"].as_u64().unwrap()).or_insert(0);
                assert_eq!(event["seq"].as_u64(), Some(*last + 1));
                *last += 1;
            }
            Outgoing::Text(json) => {
                let frame: Value = serde_json::from_slice(&json).unwrap();
                if let Some(id) = frame["id"].as_u64()
                    && !(frame["frame"] == "error" && self.accepted.contains(&id))
                {
                    if frame["frame"] == "accepted" {
                        // From here an error under this id is about what followed.
                        self.accepted.insert(id);
                    }
                    *self.answers.entry(id).or_insert(0) += 1;
                }
                if self.connection.entry().is_none() {
                    assert!(
                        frame["frame"] == "error" || frame["frame"] == "draining",
                        "before the welcome: {frame}"
                    );
                }
            }
        }
    }

    /// Answers and sends all that is open.
    fn settle(&mut self) {
        while !self.pending.is_empty() || self.connection.has_outgoing() {
            self.answer(true);
            self.pending.extend(actions(&mut self.connection));
            self.send();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: each frame has exactly one answer unless the connection is closed, nothing
    /// follows the close, each stream is sent without a hole, nothing is told before the welcome, and no deadline lies
    /// in the past.
    #[test]
    fn any_course_of_events_keeps_the_promises(
        happenings in prop::collection::vec(happening(), 0..120)
    ) {
        let mut world = World::new();
        for happening in happenings {
            world.happen(happening);
        }
        world.settle();
        for (id, answers) in &world.answers {
            if world.connection.is_closing() {
                prop_assert!(*answers <= 1, "frame {id} has {answers} answers");
            } else {
                prop_assert_eq!(*answers, 1, "frame {}", id);
            }
        }
    }
}
