//! The judge of a history: from what the writers were told, what the store holds at the end and what each reader
//! applied, it names every broken promise of delivery. It judges what happened to real servers as well as what happened
//! in a simulation.

use crate::clock::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What happened while something went wrong.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The events whose append a store acknowledged to a writer.
    pub acknowledged: Vec<Written>,
    /// What the store holds of each run.
    pub logs: BTreeMap<String, Log>,
    /// What each reader applied.
    pub readers: Vec<Reader>,
    /// What was counted: at most so much of it is right.
    pub counted: Vec<Counted>,
    /// The runs that a failover took with it, by its own account: their readers have to be told so.
    pub gone: BTreeSet<String>,
    /// The longest that a log may stand still before its run has ended.
    pub patience: Duration,
    /// From when on a log may be expected to move, since 1970: what stood still before has stood still since then.
    pub calm_from: Duration,
}

/// An event's name and what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// The run.
    pub run: String,
    /// The life of its log.
    pub epoch: String,
    /// Its number.
    pub seq: u64,
    /// The whole envelope, with its keys in order.
    pub envelope: String,
}

impl Written {
    /// A recorded event; `None` for a volatile one, which has no place in the log.
    ///
    /// # Panics
    /// For what is no envelope.
    #[must_use]
    pub fn read(envelope: &Value) -> Option<Self> {
        let text = |key: &str| envelope[key].as_str().unwrap().to_owned();
        Some(Self {
            run: text("run"),
            epoch: text("epoch"),
            seq: envelope["seq"].as_u64()?,
            envelope: envelope.to_string(),
        })
    }

    fn is_terminal(&self) -> bool {
        let envelope: Value = serde_json::from_str(&self.envelope).unwrap();
        ["run_completed", "run_failed", "run_cancelled"].iter().any(|end| envelope["type"] == **end)
    }

    fn at(&self) -> Duration {
        let envelope: Value = serde_json::from_str(&self.envelope).unwrap();
        let at = serde_json::from_value::<Timestamp>(envelope["at"].clone());
        Duration::from_millis(u64::try_from(at.unwrap().as_millis()).unwrap())
    }
}

/// What a store holds of one run.
#[derive(Debug, Clone)]
pub struct Log {
    /// Whose run it is.
    pub owner: String,
    /// The life of the log.
    pub epoch: String,
    /// The oldest number that is kept.
    pub oldest: u64,
    /// What is kept.
    pub events: Vec<Written>,
    /// Whether the run is known to have ended, and no event is left of it.
    pub outcome_alone: bool,
}

/// What one reader of one run applied, over all of its connections.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Who reads.
    pub user: String,
    /// What is read.
    pub run: String,
    /// What was applied, in that order.
    pub applied: Vec<Applied>,
}

/// What a reader applied.
#[derive(Debug, Clone)]
pub enum Applied {
    /// The next event.
    Event(Written),
    /// What lay between could not be given.
    Reset {
        /// The life of the log from there on.
        epoch: String,
        /// The number that the next event follows.
        head: u64,
        /// Whether nothing follows.
        ended: bool,
    },
    /// It was told that there is no such run.
    Gone,
}

/// What was counted.
#[derive(Debug, Clone)]
pub struct Counted {
    /// What it is.
    pub what: String,
    /// How much of it there was.
    pub count: u64,
    /// How much of it there may be.
    pub most: u64,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the fields say where: whose, in which run, at which number, how many"
)]
pub enum Violation {
    /// A reader applied what is not in the log.
    Invented { run: String, seq: u64 },
    /// A reader applied an event that does not follow the one before it, without a reset.
    OutOfOrder { run: String, after: u64, seq: u64 },
    /// A reader went on in another life of the log without a reset.
    OtherLife { run: String, seq: u64 },
    /// A reader was left without the end.
    Unfinished { run: String, after: u64 },
    /// A reader applied something after the end.
    AfterTheEnd { run: String },
    /// A reader saw a run of somebody else.
    Stranger { user: String, run: String },
    /// An acknowledged event is not in the log, which is in the same life.
    Lost { run: String, seq: u64 },
    /// A log has a hole, or a number twice.
    Broken { run: String, seq: u64 },
    /// A log has not exactly one end, as its last event.
    Ends { run: String, count: usize },
    /// A log stood still for longer than a lost node may go unnoticed.
    Stalled { run: String, after: u64 },
    /// There was more of something than there may be.
    TooMany { what: String, count: u64 },
}

/// What readers got of what they were owed, event by event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were written.
    pub written: usize,
    /// Events that a reader never got and that no reset covered, and acknowledged ones that are not in the log.
    pub lost: usize,
    /// Of the former, those in a place where nothing told the reader that it had missed something.
    pub silently: usize,
    /// Events that a reader applied again.
    pub doubled: usize,
    /// Events that a reader applied after a later one.
    pub misordered: usize,
    /// How often a reader was told to start afresh.
    pub resets: usize,
    /// Runs without an end.
    pub endless: usize,
}

impl History {
    /// Counts what readers got.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let endless = self.logs.values().filter(|log| !log.events.iter().any(Written::is_terminal));
        let mut tally = Tally {
            written: self.acknowledged.len(),
            lost: self.lost().len(),
            endless: endless.count(),
            ..Tally::default()
        };
        for reader in &self.readers {
            let head = self.logs.get(&reader.run).and_then(|log| log.events.last());
            tally.count(&reader.applied, head.map_or(0, |last| last.seq));
        }
        tally
    }

    /// Every broken promise.
    ///
    /// # Panics
    /// For a record of what is no envelope.
    #[must_use]
    pub fn judge(&self) -> Vec<Violation> {
        let logs = self.logs.iter().flat_map(|(run, log)| self.judge_log(run, log));
        let readers = self.readers.iter().flat_map(|reader| self.judge_reader(reader));
        let counted = self.counted.iter().filter(|counted| counted.count > counted.most);
        let too_many = counted.map(|c| Violation::TooMany { what: c.what.clone(), count: c.count });
        logs.chain(self.lost()).chain(readers).chain(too_many).collect()
    }

    fn judge_log(&self, run: &str, log: &Log) -> Vec<Violation> {
        let mut found = Vec::new();
        let run = || run.to_owned();
        for (event, seq) in log.events.iter().zip(log.oldest..) {
            if event.seq != seq || event.epoch != log.epoch || event.run != run() {
                found.push(Violation::Broken { run: run(), seq });
                break;
            }
        }
        for pair in log.events.windows(2) {
            let since = pair[0].at().max(self.calm_from);
            if pair[1].at().saturating_sub(since) > self.patience {
                found.push(Violation::Stalled { run: run(), after: pair[0].seq });
            }
        }
        let count = log.events.iter().filter(|event| event.is_terminal()).count();
        let ends = count == 1 && log.events.last().is_some_and(Written::is_terminal);
        if !(ends || log.outcome_alone && log.events.is_empty()) {
            found.push(Violation::Ends { run: run(), count });
        }
        found
    }

    fn lost(&self) -> Vec<Violation> {
        let held: BTreeSet<&Written> = self.logs.values().flat_map(|log| &log.events).collect();
        let kept = |written: &Written| match self.logs.get(&written.run) {
            Some(log) => {
                let trimmed = written.seq < log.oldest;
                log.epoch != written.epoch || trimmed || held.contains(written)
            }
            None => self.gone.contains(&written.run),
        };
        let lost = self.acknowledged.iter().filter(|written| !kept(written));
        lost.map(|w| Violation::Lost { run: w.run.clone(), seq: w.seq }).collect()
    }

    fn judge_reader(&self, reader: &Reader) -> Vec<Violation> {
        let run = || reader.run.clone();
        let Some(log) = self.logs.get(&reader.run) else {
            let told = matches!(reader.applied.last(), Some(Applied::Gone));
            // Who had read to the end before has nothing more to be told.
            let ended = match reader.applied.last() {
                Some(Applied::Event(last)) => last.is_terminal(),
                Some(Applied::Reset { ended, .. }) => *ended,
                Some(Applied::Gone) | None => false,
            };
            if self.gone.contains(&reader.run) && (told || ended) {
                return Vec::new();
            }
            return vec![Violation::Invented { run: run(), seq: 0 }];
        };
        if log.owner != reader.user {
            return vec![Violation::Stranger { user: reader.user.clone(), run: run() }];
        }
        let mut found = Vec::new();
        let (mut life, mut last, mut ended) = (None::<&String>, 0, false);
        for applied in &reader.applied {
            if ended {
                found.push(Violation::AfterTheEnd { run: run() });
                break;
            }
            match applied {
                Applied::Reset { epoch, head, ended: with_end } => {
                    (life, last, ended) = (Some(epoch), *head, *with_end);
                }
                // What is in the log cannot be gone.
                Applied::Gone => break,
                Applied::Event(event) => {
                    let seq = event.seq;
                    if life.is_some_and(|life| *life != event.epoch) {
                        found.push(Violation::OtherLife { run: run(), seq });
                    } else if seq != last + 1 {
                        found.push(Violation::OutOfOrder { run: run(), after: last, seq });
                    }
                    let in_log = event.epoch != log.epoch
                        || seq < log.oldest
                        || log.events.get((seq - log.oldest) as usize) == Some(event);
                    if !in_log {
                        found.push(Violation::Invented { run: run(), seq });
                    }
                    (life, last, ended) = (Some(&event.epoch), seq, event.is_terminal());
                }
            }
        }
        if !ended {
            found.push(Violation::Unfinished { run: run(), after: last });
        }
        found
    }
}

impl Tally {
    /// Adds what one reader applied of a log with this head.
    fn count(&mut self, applied: &[Applied], head: u64) {
        let mut seen = BTreeSet::new();
        // What is missing, and whether the reader was told in that place.
        let mut missing = BTreeMap::new();
        let (mut last, mut told) = (0, false);
        for applied in applied {
            match applied {
                Applied::Reset { head, .. } => {
                    self.resets += 1;
                    (last, told) = (last.max(*head), true);
                    missing.retain(|seq, _| seq > head);
                }
                Applied::Gone => told = true,
                Applied::Event(event) if !seen.insert(event.seq) => self.doubled += 1,
                Applied::Event(event) if event.seq <= last => {
                    self.misordered += 1;
                    missing.remove(&event.seq);
                }
                Applied::Event(event) => {
                    missing.extend((last + 1..event.seq).map(|seq| (seq, told)));
                    (last, told) = (event.seq, false);
                }
            }
        }
        missing.extend((last + 1..=head).map(|seq| (seq, told)));
        self.lost += missing.len();
        self.silently += missing.values().filter(|told| !**told).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(seq: u64, kind: &str) -> Written {
        let second = if seq < 10 { format!("0{seq}") } else { seq.to_string() };
        let at = format!("2026-01-01T00:00:{second}.000Z");
        let envelope = json!({"run": "r", "epoch": "e", "seq": seq, "at": at, "type": kind});
        Written::read(&envelope).unwrap()
    }

    /// A history in which nothing is wrong: six events, one reader from the start and one who was reset.
    fn sound() -> History {
        let mut events: Vec<_> = (1..=5).map(|seq| event(seq, "agent_thinking")).collect();
        events.push(event(6, "run_completed"));
        let reader = |applied| Reader { user: "ada".into(), run: "r".into(), applied };
        let whole = events.iter().cloned().map(Applied::Event).collect();
        let reset = Applied::Reset { epoch: "e".into(), head: 4, ended: false };
        let late =
            std::iter::once(reset).chain(events[4..].iter().cloned().map(Applied::Event)).collect();
        let log = Log {
            owner: "ada".into(),
            epoch: "e".into(),
            oldest: 1,
            events: events.clone(),
            outcome_alone: false,
        };
        History {
            acknowledged: events,
            logs: BTreeMap::from([("r".to_owned(), log)]),
            readers: vec![reader(whole), reader(late)],
            counted: vec![Counted { what: "connections left".into(), count: 0, most: 0 }],
            patience: Duration::from_secs(2),
            ..History::default()
        }
    }

    fn log(history: &mut History) -> &mut Log {
        history.logs.get_mut("r").unwrap()
    }

    fn run() -> String {
        "r".to_owned()
    }

    #[test]
    fn a_sound_history_passes() {
        assert_eq!(sound().judge(), []);
    }

    #[test]
    fn every_kind_of_violation_that_is_planted_is_found() {
        type Plant = fn(&mut History);
        let planted: [(Plant, Violation); 17] = [
            (
                |h| h.readers[0].applied[2] = Applied::Event(event(3, "agent_started")),
                Violation::Invented { run: run(), seq: 3 },
            ),
            (
                |h| drop(h.readers[0].applied.remove(2)),
                Violation::OutOfOrder { run: run(), after: 2, seq: 4 },
            ),
            (
                |h| h.readers[0].applied.insert(3, Applied::Event(event(3, "agent_thinking"))),
                Violation::OutOfOrder { run: run(), after: 3, seq: 3 },
            ),
            (
                |h| h.readers[0].applied.swap(1, 2),
                Violation::OutOfOrder { run: run(), after: 1, seq: 3 },
            ),
            (
                |h| {
                    let other = Written { epoch: "f".into(), ..event(4, "agent_thinking") };
                    h.readers[0].applied[3] = Applied::Event(other);
                },
                Violation::OtherLife { run: run(), seq: 4 },
            ),
            (|h| drop(h.readers[0].applied.pop()), Violation::Unfinished { run: run(), after: 5 }),
            (|h| h.readers[1].applied.clear(), Violation::Unfinished { run: run(), after: 0 }),
            (
                |h| {
                    h.readers[0].applied.truncate(3);
                    h.readers[0].applied.push(Applied::Gone);
                },
                Violation::Unfinished { run: run(), after: 3 },
            ),
            (
                |h| {
                    h.logs.clear();
                    h.gone.insert(run());
                    h.readers[0].applied.truncate(3);
                },
                Violation::Invented { run: run(), seq: 0 },
            ),
            (
                |h| h.readers[0].applied.push(Applied::Event(event(7, "agent_thinking"))),
                Violation::AfterTheEnd { run: run() },
            ),
            (
                |h| h.readers[1].user = "eve".into(),
                Violation::Stranger { user: "eve".into(), run: run() },
            ),
            (
                |h| h.acknowledged.push(event(7, "agent_thinking")),
                Violation::Lost { run: run(), seq: 7 },
            ),
            (
                |h| h.acknowledged[1] = event(2, "agent_started"),
                Violation::Lost { run: run(), seq: 2 },
            ),
            (|h| log(h).events[1].seq = 1, Violation::Broken { run: run(), seq: 2 }),
            (
                |h| log(h).events.push(event(7, "run_failed")),
                Violation::Ends { run: run(), count: 2 },
            ),
            (
                |h| {
                    log(h).events.pop();
                    log(h).events.push(event(9, "run_completed"));
                },
                Violation::Stalled { run: run(), after: 5 },
            ),
            (
                |h| h.counted[0].count = 1,
                Violation::TooMany { what: "connections left".into(), count: 1 },
            ),
        ];
        for (number, (plant, expected)) in planted.into_iter().enumerate() {
            let mut history = sound();
            plant(&mut history);
            let found = history.judge();
            assert!(found.contains(&expected), "{number}: {expected:?} is not in {found:?}");
        }
    }

    #[test]
    fn what_readers_missed_is_counted() {
        let mut history = sound();
        let counted = history.tally();
        assert_eq!(counted, Tally { written: 6, resets: 1, ..Tally::default() });
        // 2 comes after 3, 4 twice, and 5 and 6 not at all; the other one is told that it misses 1, and also misses 3
        // and 6; and the 6 that was acknowledged is not in the log.
        let got = |seqs: &[u64]| -> Vec<_> {
            seqs.iter().map(|seq| Applied::Event(event(*seq, "agent_thinking"))).collect()
        };
        history.readers[0].applied = got(&[1, 3, 2, 4, 4]);
        let told = Applied::Reset { epoch: "e".into(), head: 0, ended: false };
        history.readers[1].applied = [vec![told], got(&[2, 4, 5])].concat();
        log(&mut history).events[5] = event(6, "agent_thinking");
        let counted = history.tally();
        assert_eq!((counted.lost, counted.silently), (2 + 3 + 1, 2 + 2));
        assert_eq!((counted.misordered, counted.doubled), (1, 1));
        assert_eq!((counted.resets, counted.endless), (1, 1));
    }

    #[test]
    fn what_was_lost_with_another_life_or_by_trimming_is_no_violation() {
        let mut history = sound();
        log(&mut history).oldest = 4;
        log(&mut history).events.drain(..3);
        assert_eq!(history.judge(), []);
        let before = Written { epoch: "d".into(), ..event(9, "agent_thinking") };
        history.acknowledged.push(before);
        assert_eq!(history.judge(), []);
        // Of one that is gone as a whole it has to be known that it has ended.
        let mut gone = sound();
        gone.readers.clear();
        (log(&mut gone).oldest, log(&mut gone).events) = (7, Vec::new());
        assert_eq!(gone.judge(), [Violation::Ends { run: run(), count: 0 }]);
        log(&mut gone).outcome_alone = true;
        assert_eq!(gone.judge(), []);
    }

    #[test]
    fn what_a_failover_took_with_it_is_no_violation_once_its_readers_are_told() {
        let mut history = sound();
        history.logs.clear();
        history.gone.insert(run());
        history.readers[1].applied = vec![Applied::Gone];
        assert_eq!(history.judge(), []);
        history.gone.clear();
        assert!(history.judge().contains(&Violation::Lost { run: run(), seq: 1 }));
    }

    #[test]
    fn silence_counts_from_when_the_log_can_move_again() {
        let mut history = sound();
        log(&mut history).events[5] = event(9, "run_completed");
        let moment = event(8, "").at();
        history.calm_from = moment;
        let stalled = Violation::Stalled { run: run(), after: 5 };
        assert!(!history.judge().contains(&stalled));
        history.calm_from = Duration::ZERO;
        assert!(history.judge().contains(&stalled));
    }
}
