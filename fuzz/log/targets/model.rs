//! A log as plainly as it can be said.

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub events: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Log {
    pub epoch: String,
    pub fence: u64,
    pub head: u64,
    pub oldest: u64,
    pub events: Vec<Vec<u8>>,
    pub last: String,
    pub ended: bool,
    pub asked: u64,
    /// The version stays when the state is gone with the end.
    pub version: Option<u64>,
    pub state: Vec<u8>,
    /// Whether the server is not the one that last knew it as a whole.
    pub moved: bool,
}

#[derive(Debug)]
pub struct Model {
    pub log: Option<Log>,
    pub kept: Option<Log>,
    pub limits: Limits,
}

impl Default for Model {
    fn default() -> Self {
        Self { log: None, kept: None, limits: Limits { events: 8, bytes: 4_000 } }
    }
}

/// What a batch says of the checkpoint.
#[derive(Debug, Clone)]
pub enum Checkpoint {
    /// It takes the place of the one that is there.
    Whole(u64, Vec<u8>),
    /// It follows one of so many bytes.
    More { follows: u64, state: Vec<u8> },
    /// None is there any more.
    Gone,
}

type Answer = Vec<Vec<u8>>;

fn words(words: &[&str]) -> Answer {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl Log {
    fn bytes(&self) -> u64 {
        self.events.iter().map(|event| event.len() as u64).sum()
    }

    /// Ids and events, as the stream has them.
    pub fn stream(&self) -> Answer {
        let mut all = Vec::new();
        for (seq, event) in (self.oldest..).zip(&self.events) {
            all.push(format!("{seq}-0").into_bytes());
            all.push(b"e".to_vec());
            all.push(event.clone());
        }
        all
    }

    fn trim(&mut self, limits: Limits) {
        let mut most = limits;
        let past = |log: &Self, most: Limits| {
            log.events.len() as u64 > most.events || log.bytes() > most.bytes
        };
        if past(self, most) {
            most.events -= most.events / 8;
            most.bytes -= most.bytes / 8;
            while self.events.len() > 1 && past(self, most) {
                self.events.remove(0);
                self.oldest += 1;
            }
        }
    }
}

impl Model {
    /// The refusal of a writer, or the log that it may write to.
    fn writable(&mut self, epoch: &str, fence: u64, batch: &str) -> Result<&mut Log, Answer> {
        let Some(log) = &mut self.log else { return Err(words(&["gone"])) };
        if log.epoch != epoch {
            return Err(words(&["epoch", &log.epoch]));
        }
        if log.last == batch {
            return Err(words(&["ok", &log.head.to_string(), &log.asked.to_string()]));
        }
        if fence != log.fence {
            return Err(words(&[if fence < log.fence { "fenced" } else { "behind" }]));
        }
        if log.ended {
            return Err(words(&["ended"]));
        }
        Ok(log)
    }

    #[allow(clippy::too_many_arguments, reason = "the script has as many")]
    pub fn append(
        &mut self,
        epoch: &str,
        fence: u64,
        after: u64,
        batch: &str,
        ends: bool,
        events: &[Vec<u8>],
        checkpoint: Option<Checkpoint>,
    ) -> Answer {
        let limits = self.limits;
        let log = match self.writable(epoch, fence, batch) {
            Ok(log) => log,
            Err(refusal) => return refusal,
        };
        if log.head != after {
            return words(&["head", &log.head.to_string()]);
        }
        if let Some(Checkpoint::More { follows, .. }) = checkpoint
            && follows != log.state.len() as u64
        {
            return words(&["short"]);
        }
        log.head += events.len() as u64;
        log.events.extend(events.iter().cloned());
        log.trim(limits);
        log.last = batch.to_owned();
        log.ended = ends;
        match checkpoint {
            _ if ends => log.state.clear(),
            None => {}
            Some(Checkpoint::Gone) => log.state.clear(),
            Some(Checkpoint::Whole(version, state)) => {
                (log.version, log.state) = (Some(version), state);
            }
            Some(Checkpoint::More { state, .. }) => log.state.extend(state),
        }
        words(&["ok", &log.head.to_string(), &log.asked.to_string()])
    }

    pub fn check(&mut self, epoch: &str, fence: u64, after: u64, batch: &str) -> Answer {
        let log = match self.writable(epoch, fence, batch) {
            Ok(log) => log,
            Err(refusal) => return refusal,
        };
        if log.head != after {
            return words(&["head", &log.head.to_string()]);
        }
        log.moved = false;
        words(&["ok", &log.head.to_string(), &log.asked.to_string()])
    }

    pub fn take(&mut self, epoch: &str, fence: u64) -> Answer {
        let Some(log) = &mut self.log else { return words(&["gone"]) };
        if log.epoch != epoch {
            return words(&["epoch", &log.epoch]);
        }
        if log.fence > fence {
            return words(&["fenced"]);
        }
        let version = log.version.map_or_else(String::new, |version| version.to_string());
        let head = log.head.to_string();
        let mut answer = words(&[if log.moved { "moved" } else { "ok" }, &head, &version]);
        answer.push(log.state.clone());
        if log.moved {
            answer.push(log.fence.to_string().into_bytes());
        } else {
            log.fence = fence;
        }
        answer
    }

    pub fn plant(&mut self, found: &str, seed: Log) -> Answer {
        let there = self.log.as_ref().map_or("", |log| &log.epoch);
        if there != found {
            return words(&["epoch", there]);
        }
        self.log = Some(seed);
        words(&["ok"])
    }

    pub fn read(&self, epoch: &str, fence: u64, after: u64, most: u64, bytes: u64) -> Answer {
        let Some(log) = &self.log else { return words(&["gone"]) };
        if log.epoch != epoch {
            return words(&["epoch", &log.epoch]);
        }
        if fence != log.fence {
            return words(&[if fence < log.fence { "fenced" } else { "behind" }]);
        }
        let ended = u8::from(log.ended).to_string();
        let mut answer = words(&["ok", &log.head.to_string(), &log.oldest.to_string(), &ended]);
        let mut read = 0;
        let rest = (log.oldest..).zip(&log.events).filter(|(seq, _)| *seq > after);
        for (place, (_, event)) in rest.take(most as usize).enumerate() {
            read += event.len() as u64;
            if read > bytes && place > 0 {
                break;
            }
            answer.push(event.clone());
        }
        answer
    }
}
