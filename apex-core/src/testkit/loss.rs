//! Whether a store keeps its word when things break: what writers were told, held against what is there.

use crate::error::{Outcome, Result};
use std::collections::{BTreeMap, HashMap};

/// What a writer was told of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Nothing: it, or its process, ended before the answer.
    Nothing,
    Applied,
    NotApplied,
    Unknown,
}

impl Told {
    fn by<T>(answer: &Result<T>) -> Self {
        match answer.as_ref().map_err(|error| error.outcome()) {
            Ok(_) | Err(Outcome::Applied) => Self::Applied,
            Err(Outcome::NotApplied) => Self::NotApplied,
            Err(Outcome::Unknown) => Self::Unknown,
        }
    }
}

/// The writes of a test, each by a key of its own. A writer says what it intends, sends it, and says what it was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Writes(BTreeMap<String, Told>);

/// What a check has counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Writes that were acknowledged, and are there.
    pub applied: u64,
    /// Writes that were refused, and are not there.
    pub not_applied: u64,
    /// Writes of which nobody knew, and that are there.
    pub unknown_there: u64,
    /// Writes of which nobody knew, and that are not there.
    pub unknown_absent: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            applied: self.applied + other.applied,
            not_applied: self.not_applied + other.not_applied,
            unknown_there: self.unknown_there + other.unknown_there,
            unknown_absent: self.unknown_absent + other.unknown_absent,
        }
    }
}

impl Writes {
    /// A write is about to be sent.
    pub fn intend(&mut self, key: &str) {
        self.0.insert(key.to_owned(), Told::Nothing);
    }

    /// What its writer was told.
    pub fn told<T>(&mut self, key: &str, answer: &Result<T>) {
        self.0.insert(key.to_owned(), Told::by(answer));
    }

    /// What a writer in another process has said of its writes, a line each: `intends: KEY`, and `applied: KEY`,
    /// `refused: KEY` or `unknown: KEY`. A line that a kill cut off says nothing, nor does any other.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut writes = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (told, key) = match line.split_once(": ") {
                Some(("intends", key)) => (Told::Nothing, key),
                Some(("applied", key)) => (Told::Applied, key),
                Some(("refused", key)) => (Told::NotApplied, key),
                Some(("unknown", key)) => (Told::Unknown, key),
                _ => continue,
            };
            writes.0.insert(key.to_owned(), told);
        }
        writes
    }

    /// Takes in those of another writer.
    pub fn join(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Whether it is one of these.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The writes of which nobody knows whether they took effect.
    #[must_use]
    pub fn undecided(&self) -> Vec<String> {
        let open = |told: &Told| matches!(told, Told::Nothing | Told::Unknown);
        self.0.iter().filter(|(_, told)| open(told)).map(|(key, _)| key.clone()).collect()
    }

    /// Holds them against how often each is there.
    ///
    /// # Errors
    /// Every broken promise: an acknowledged write that is not there exactly once, a refused one that is, one of
    /// which nobody knows that is there twice, and one that nobody sent.
    pub fn check(&self, there: &HashMap<String, u64>) -> Result<Tally, Vec<String>> {
        let (mut tally, mut broken) = (Tally::default(), Vec::new());
        for (key, told) in &self.0 {
            let times = there.get(key).copied().unwrap_or(0);
            match (told, times) {
                (Told::Applied, 1) => tally.applied += 1,
                (Told::NotApplied, 0) => tally.not_applied += 1,
                (Told::Unknown | Told::Nothing, 0) => tally.unknown_absent += 1,
                (Told::Unknown | Told::Nothing, 1) => tally.unknown_there += 1,
                _ => broken.push(format!("{key}: told {told:?}, is there {times} times")),
            }
        }
        let strange = there.keys().filter(|key| !self.0.contains_key(*key));
        broken.extend(strange.map(|key| format!("{key}: is there and was never sent")));
        if broken.is_empty() { Ok(tally) } else { Err(broken) }
    }
}

/// Processes that write until they are killed: this test binary, started again.
#[cfg(test)]
pub(crate) mod killed {
    use super::*;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// Starts the test of that full name again with the variable `told` set, kills the process so long after it said
    /// `begun`, and gives what its writers were told until then.
    pub(crate) fn run(test: &str, told: (&str, &str), after: Duration) -> Writes {
        let itself = Command::new(std::env::current_exe().unwrap());
        run_by(itself, test, told, after)
    }

    /// The same for this test binary as `command` starts it.
    pub(crate) fn run_by(
        mut command: Command,
        test: &str,
        (variable, value): (&str, &str),
        after: Duration,
    ) -> Writes {
        let mut child = command
            .args(["--exact", "--nocapture", test])
            .env(variable, value)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("begun\n") && lines.read_line(&mut text).unwrap() > 0 {}
        // Any moment; nothing is waited for.
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
        lines.read_to_string(&mut text).unwrap();
        Writes::read(&text)
    }

    /// Says a line by one system call, so that a kill cuts at most the last one.
    pub(crate) fn say(line: &str) {
        std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Says what is written, writes it, and says what came of it.
    pub(crate) async fn write(key: &str, write: impl Future<Output = Result<()>>) {
        say(&format!("intends: {key}"));
        let told = match Told::by(&write.await) {
            Told::Applied => "applied",
            Told::NotApplied => "refused",
            Told::Unknown | Told::Nothing => "unknown",
        };
        say(&format!("{told}: {key}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn each_broken_promise_is_found() {
        let error = |outcome| Err::<(), _>(Error::internal("test", "x").with_outcome(outcome));
        let mut writes = Writes::default();
        writes.intend("nothing");
        writes.told("applied", &Ok(()));
        writes.told("not applied", &error(Outcome::NotApplied));
        writes.told("unknown", &error(Outcome::Unknown));
        assert_eq!(writes.undecided(), ["nothing", "unknown"]);
        let said = "intends: nothing\nintends: applied\nrefused: not applied\nunknown: unknown\n\
                    applied: applied\ntest result: ok\nintends: cut off";
        assert_eq!(Writes::read(said), writes);
        let there = |counts: &[(&str, u64)]| {
            counts.iter().map(|(key, times)| ((*key).to_owned(), *times)).collect()
        };
        let kept = writes.check(&there(&[("applied", 1), ("nothing", 1)])).unwrap();
        assert_eq!(kept, Tally { applied: 1, not_applied: 1, unknown_there: 1, unknown_absent: 1 });
        for broken in [
            there(&[]),
            there(&[("applied", 2)]),
            there(&[("applied", 1), ("not applied", 1)]),
            there(&[("applied", 1), ("unknown", 2)]),
            there(&[("applied", 1), ("stranger", 1)]),
        ] {
            assert_eq!(writes.check(&broken).unwrap_err().len(), 1);
        }
    }
}
