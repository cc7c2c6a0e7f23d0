//! The scripts that keep a log in Redis, held against a model: an input is a list of operations, all of which go to a
//! real server in one write; then each answer has to be the model's, and the stream what the model has.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

mod model;
#[allow(dead_code, reason = "the names are for the library")]
#[path = "../../../apex-core/src/store/redis/log/script.rs"]
mod script;
mod server;

use model::{Checkpoint, Limits, Log, Model};
use server::Server;

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::start());
}

/// Operations of one input, at most.
const MOST: usize = 64;

fuzz_target!(|data: &[u8]| {
    SERVER.with_borrow_mut(|server| {
        let mut play = Play { server, model: Model::default(), expected: Vec::new(), batches: 0 };
        play.say("begin", &[b"DEL", b"{g}:s", b"{g}:e", b"{g}:c"]);
        play.clear();
        for operation in data.chunks_exact(2).take(MOST) {
            play.operate(operation[0], operation[1]);
        }
        play.compare();
    });
});

struct Play<'a> {
    server: &'a mut Server,
    model: Model,
    /// What was asked, and the answer that it has to get; `None` where any will do.
    expected: Vec<(String, Option<Vec<Vec<u8>>>)>,
    batches: u64,
}

impl Play<'_> {
    fn operate(&mut self, what: u8, how: u8) {
        let log = self.model.log.clone().unwrap_or_default();
        let little = u64::from(how);
        match what % 20 {
            0..=4 => self.append(&log, log.fence, log.head, how, false),
            5 => self.append(&log, log.fence.saturating_sub(1 + little % 2), log.head, how, false),
            6 => self.append(&log, log.fence + 1 + little % 2, log.head, how, false),
            7 => self.append(&log, log.fence, log.head + 1 + little % 3, how, false),
            8 => self.append(&log, log.fence, log.head.saturating_sub(1 + little % 3), how, false),
            9 => self.append(&log, log.fence, log.head, how, true),
            10 => {
                let other = Log { epoch: format!("other{}", how % 2), ..log.clone() };
                self.append(&other, log.fence, log.head, how, false);
            }
            11 => self.again(&log, how),
            12 => self.take(&log, (log.fence + little % 4).saturating_sub(1)),
            13 => self.plant(&log, how),
            14 => self.read(&log, little / 4, 1 + little % 40),
            15 => self.check(&log, little),
            16 => self.lose(how),
            17 => self.keep_or_restore(how),
            18 => {
                self.ask("asked", script::ASKED, &[]);
                if let Some(log) = &mut self.model.log {
                    log.asked += 1;
                }
            }
            _ => {
                let limits = [(8, 4_000), (40, 200), (3, 50), (100, 1_000_000)];
                let (events, bytes) = limits[usize::from(how) % limits.len()];
                self.model.limits = Limits { events, bytes };
            }
        }
    }

    fn append(&mut self, log: &Log, fence: u64, after: u64, how: u8, ends: bool) {
        self.batches += 1;
        let batch = format!("b{}", self.batches);
        let events: Vec<Vec<u8>> = (0..how % 5)
            .map(|place| vec![b'a' + (how.wrapping_add(place)) % 26; usize::from(how / 3) + 1])
            .collect();
        let (state, there) = (vec![b'c'; usize::from(how) + 1], log.state.len() as u64);
        let checkpoint = match how % 7 {
            0 => Some(Checkpoint::Whole(how.into(), state)),
            1 | 2 => Some(Checkpoint::More { follows: there, state }),
            3 => Some(Checkpoint::More { follows: there + u64::from(how / 7 % 2), state }),
            4 => Some(Checkpoint::Gone),
            _ => None,
        };
        self.batch(log, fence, after, &batch, events, ends, checkpoint);
    }

    /// The batch that was taken in last, whoever sends it.
    fn again(&mut self, log: &Log, how: u8) {
        let fence = log.fence + u64::from(how % 3);
        let last = log.last.clone();
        let after = log.head;
        self.batch(log, fence, after, &last, vec![b"again".to_vec()], false, None);
    }

    #[allow(clippy::too_many_arguments, reason = "the script has as many")]
    fn batch(
        &mut self,
        log: &Log,
        fence: u64,
        after: u64,
        batch: &str,
        events: Vec<Vec<u8>>,
        ends: bool,
        checkpoint: Option<Checkpoint>,
    ) {
        let limits = self.model.limits;
        let (version, state, follows) = match &checkpoint {
            Some(Checkpoint::Whole(version, state)) => {
                (version.to_string(), state.clone(), String::new())
            }
            Some(Checkpoint::More { follows, state }) => {
                ("1".to_owned(), state.clone(), follows.to_string())
            }
            Some(Checkpoint::Gone) => ("1".to_owned(), Vec::new(), String::new()),
            None => Default::default(),
        };
        let mut arguments: Vec<Vec<u8>> = [
            log.epoch.clone(),
            fence.to_string(),
            after.to_string(),
            batch.to_owned(),
            u8::from(ends).to_string(),
            limits.events.to_string(),
            limits.bytes.to_string(),
            "600000".to_owned(),
            if after % 2 == 0 { "fuzz".to_owned() } else { String::new() },
            "wake".to_owned(),
            version,
        ]
        .map(String::into_bytes)
        .to_vec();
        arguments.extend([state, follows.into_bytes()]);
        arguments.extend(events.iter().cloned());
        self.ask("append", script::APPEND, &arguments);
        let answer = self.model.append(&log.epoch, fence, after, batch, ends, &events, checkpoint);
        self.expect(answer);
    }

    fn take(&mut self, log: &Log, fence: u64) {
        let arguments = [log.epoch.clone(), fence.to_string()].map(String::into_bytes);
        self.ask("take", script::TAKE, &arguments);
        let answer = self.model.take(&log.epoch, fence);
        self.expect(answer);
    }

    fn plant(&mut self, log: &Log, how: u8) {
        let found = match how % 3 {
            0 => "nobody".to_owned(),
            1 => String::new(),
            _ => log.epoch.clone(),
        };
        let kept = u64::from(how / 3 % 4);
        let head = log.head.max(kept) + u64::from(how % 2);
        let seed = Log {
            epoch: format!("epoch{how}"),
            fence: log.fence.max(1),
            head,
            oldest: head + 1 - kept,
            events: (0..kept).map(|n| vec![b'p'; n as usize + 3]).collect(),
            ..Log::default()
        };
        let mut arguments: Vec<Vec<u8>> = [
            found.clone(),
            seed.epoch.clone(),
            seed.fence.to_string(),
            seed.head.to_string(),
            seed.oldest.to_string(),
            "0".to_owned(),
            "600000".to_owned(),
        ]
        .map(String::into_bytes)
        .to_vec();
        arguments.extend(seed.events.iter().cloned());
        self.ask("plant", script::PLANT, &arguments);
        let answer = self.model.plant(&found, seed);
        self.expect(answer);
    }

    fn read(&mut self, log: &Log, after: u64, most: u64) {
        let bytes = 300;
        let numbers = [log.fence, after, most, bytes].map(|number| number.to_string().into_bytes());
        let mut arguments = vec![log.epoch.clone().into_bytes()];
        arguments.extend(numbers);
        self.ask("read", script::READ, &arguments);
        let answer = self.model.read(&log.epoch, log.fence, after, most, bytes);
        self.expect(answer);
    }

    fn check(&mut self, log: &Log, how: u64) {
        let (fence, after) = (log.fence + how % 3, log.head + how / 3 % 2);
        let batch = if how % 5 == 0 { log.last.clone() } else { "none".to_owned() };
        let arguments = [
            log.epoch.clone(),
            fence.to_string(),
            after.to_string(),
            batch.clone(),
            "600000".into(),
        ]
        .map(String::into_bytes);
        self.ask("check", script::CHECK, &arguments);
        let answer = self.model.check(&log.epoch, fence, after, &batch);
        self.expect(answer);
    }

    /// The server forgets everything, its scripts, or which server it was.
    fn lose(&mut self, how: u8) {
        match how % 8 {
            0 => {
                self.say("lose", &[b"FLUSHALL"]);
                (self.model.log, self.model.kept) = (None, None);
            }
            1 => {
                self.say("lose", &[b"SCRIPT", b"FLUSH"]);
                for load in self.server.loads() {
                    let words: Vec<&[u8]> = load.iter().map(Vec::as_slice).collect();
                    self.say("load", &words);
                }
            }
            2..=4 => {
                self.clear();
                self.model.log = None;
            }
            _ => {
                if let Some(log) = &mut self.model.log {
                    log.moved = true;
                    self.say("move", &[b"HSET", b"{f}:s", b"i", b"another"]);
                }
            }
        }
    }

    /// A replica that lags: what it has is kept, and comes back.
    fn keep_or_restore(&mut self, how: u8) {
        let (from, to): (&[u8], &[u8]) = if how % 2 == 0 { (b"f", b"g") } else { (b"g", b"f") };
        for part in [b"s", b"e", b"c"] {
            let key = |tag: &[u8]| [b"{", tag, b"}:".as_slice(), part].concat();
            // All keys have one tag in the script's eyes; here it does not matter.
            self.say("keep", &[b"DEL", &key(to)]);
            self.say("keep", &[b"COPY", &key(from), &key(to)]);
        }
        if how % 2 == 0 {
            self.model.kept = self.model.log.clone();
        } else {
            self.model.log = self.model.kept.clone();
        }
    }

    fn clear(&mut self) {
        self.say("clear", &[b"DEL", b"{f}:s", b"{f}:e", b"{f}:c"]);
    }

    fn say(&mut self, name: &str, words: &[&[u8]]) {
        self.server.say(words);
        self.expected.push((name.to_owned(), None));
    }

    fn ask(&mut self, name: &str, source: &'static str, arguments: &[Vec<u8>]) {
        self.server.run(source, arguments);
        self.expected.push((name.to_owned(), None));
    }

    fn expect(&mut self, answer: Vec<Vec<u8>>) {
        if let Some(last) = self.expected.last_mut() {
            last.1 = Some(answer);
        }
    }

    /// Sends everything, and holds every answer and the stream itself against the model.
    fn compare(mut self) {
        self.server.say(&[b"XRANGE", b"{f}:e", b"-", b"+"]);
        let stream = self.model.log.as_ref().map_or_else(Vec::new, Log::stream);
        self.expected.push(("stream".to_owned(), Some(stream)));
        let asked: Vec<String> = self.expected.iter().map(|(name, _)| name.clone()).collect();
        let answers = self.server.answers(self.expected.len());
        for (place, ((name, expected), answer)) in
            self.expected.into_iter().zip(answers).enumerate()
        {
            if let Some(expected) = expected {
                let show = |words: &[Vec<u8>]| {
                    words
                        .iter()
                        .map(|word| String::from_utf8_lossy(word).into_owned())
                        .collect::<Vec<_>>()
                };
                assert!(
                    answer == expected,
                    "{name} at {place} of {asked:?}: {:?} is not {:?}",
                    show(&answer),
                    show(&expected)
                );
            }
        }
    }
}
