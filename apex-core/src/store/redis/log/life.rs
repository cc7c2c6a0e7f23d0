//! What this process knows of logs.

use super::streams::Told;
use crate::clock::Timestamp;
use crate::event::Recorded;
use crate::id::{BatchId, Epoch, RunId};
use crate::run::checkpoint::Kept;
use crate::run::ledger::Past;
use crate::run::record::fold;
use crate::run::{Append, Checkpoint, RunLimits, Signals, Snapshot};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The runs that this process writes, and those that it reads, of which something is kept here, at most.
const KNOWN: usize = 4_096;
const SEEN: usize = 16_384;

/// The events that wait to be folded, at most.
const UNFOLDED: usize = 32;

/// The events that the database has not been told of, at most.
const UNSAVED: usize = 256;

/// How long Redis is left alone when it did not answer.
const AWAY: Duration = Duration::from_secs(1);

/// One run as its writer knows it.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) fence: u64,
    pub(super) epoch: Epoch,
    pub(super) head: u64,
    pub(super) last: Option<BatchId>,
    /// The last number that the database knows, and when it was told.
    pub(super) saved: u64,
    pub(super) saved_at: Timestamp,
    pub(super) signals: Signals,
    /// How often something had been asked when the signals were looked at; `None` when nobody has counted.
    pub(super) asked: Option<u64>,
    /// The newest checkpoint; `None` when only the database knows it.
    checkpoint: Option<Kept>,
    checkpoint_saved: bool,
    checkpoint_there: bool,
    snapshot: Snapshot,
    unfolded: Vec<Recorded>,
    unsaved: (usize, usize),
}

impl Life {
    pub(super) fn new(fence: u64, epoch: Epoch, head: u64, snapshot: Snapshot) -> Self {
        Self {
            fence,
            epoch,
            head,
            last: None,
            saved: head,
            saved_at: Timestamp::from_millis(0),
            signals: Signals::default(),
            asked: None,
            checkpoint: None,
            checkpoint_saved: true,
            checkpoint_there: false,
            snapshot,
            unfolded: Vec::new(),
            unsaved: (0, 0),
        }
    }

    /// Whether a batch may go by without a word to the database: it changes nothing but the log, the lease has been
    /// extended lately, and what the database does not know stays little, so that it is never trimmed before.
    pub(super) fn may_pass(&self, batch: &Append, now: Timestamp, limits: &RunLimits) -> bool {
        let events = self.unsaved.0 + batch.events.len();
        let bytes = self.unsaved.1 + bytes_of(batch);
        batch.transition.is_none()
            && batch.lapsed.is_empty()
            && !batch.events.is_empty()
            && !batch.events.iter().any(|event| event.terminal)
            && events <= UNSAVED.min(limits.history_events / 4)
            && bytes <= limits.history_bytes / 4
            && now.since(self.saved_at) < limits.lease / 3
    }

    /// Takes a batch in that was recorded.
    pub(super) fn take_in(&mut self, batch: &Append) {
        if self.last == Some(batch.batch) {
            return;
        }
        self.last = Some(batch.batch);
        self.head += batch.events.len() as u64;
        self.unsaved.0 += batch.events.len();
        self.unsaved.1 += bytes_of(batch);
        self.unfolded.extend(batch.events.iter().cloned());
        if self.unfolded.len() > UNFOLDED {
            self.fold();
        }
        if let Some(saved) = &batch.checkpoint {
            Kept::save(&mut self.checkpoint, saved);
            (self.checkpoint_saved, self.checkpoint_there) = (false, false);
        }
    }

    /// Takes in the newest checkpoint, as far as it is known, and whether the database has it.
    pub(super) fn knows(&mut self, newest: Option<&Checkpoint>, is_saved: bool) {
        self.checkpoint = None;
        if let Some(newest) = newest {
            Kept::save(&mut self.checkpoint, newest);
        }
        self.checkpoint_saved = is_saved;
    }

    /// Whether a batch's checkpoint follows one that only the database knows.
    pub(super) fn is_beyond(&self, batch: &Append) -> bool {
        batch.checkpoint.as_ref().is_some_and(|saved| !Kept::takes(self.checkpoint.as_ref(), saved))
    }

    /// What the database is told of the checkpoint with this batch, which has not been taken in: what is newer than its
    /// own.
    pub(super) fn for_database(&self, batch: &Append) -> Option<Checkpoint> {
        match (&batch.checkpoint, &self.checkpoint) {
            (None, Some(kept)) if !self.checkpoint_saved => Some(kept.whole()),
            (Some(saved), Some(kept)) if saved.goes_on && !self.checkpoint_saved => {
                let mut kept = Some(kept.clone());
                Kept::save(&mut kept, saved);
                kept.map(|kept| kept.whole())
            }
            (saved, _) => saved.clone(),
        }
    }

    /// What Redis is told of the checkpoint with this batch, which has not been taken in.
    pub(super) fn for_redis(&self, batch: &Append) -> Told {
        match (&batch.checkpoint, &self.checkpoint) {
            (Some(saved), _) if !saved.goes_on => Told::Whole(saved.clone()),
            (Some(saved), Some(kept)) if self.checkpoint_there => {
                Told::More(saved.clone(), kept.len())
            }
            (Some(saved), Some(kept)) => {
                let mut kept = Some(kept.clone());
                Kept::save(&mut kept, saved);
                kept.map_or(Told::Gone, |kept| Told::Whole(kept.whole()))
            }
            // What may be there is older.
            (_, None) => Told::Gone,
            (None, Some(kept)) if !self.checkpoint_there => Told::Whole(kept.whole()),
            (None, Some(_)) => Told::Nothing,
        }
    }

    /// The database has the newest checkpoint.
    pub(super) fn checkpoint_is_saved(&mut self) {
        self.checkpoint_saved = true;
    }

    /// Whether Redis has the newest checkpoint.
    pub(super) fn checkpoint_is_there(&mut self, there: bool) {
        self.checkpoint_there = there && self.checkpoint.is_some();
    }

    /// The database knows everything.
    pub(super) fn is_saved(&mut self, now: Timestamp) {
        self.saved = self.head;
        self.saved_at = now;
        self.unsaved = (0, 0);
    }

    /// Everything up to the head, as the database is told of it.
    pub(super) fn past(&mut self) -> Past {
        self.fold();
        Past { head: self.head, snapshot: Some(self.snapshot.clone()) }
    }

    fn fold(&mut self) {
        for event in std::mem::take(&mut self.unfolded) {
            fold(&mut self.snapshot, &event);
        }
    }
}

fn bytes_of(batch: &Append) -> usize {
    batch.events.iter().map(|event| event.json.len()).sum()
}

/// The runs that this process writes.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<HashMap<RunId, Slot>>);

/// A run, whose appends take turns.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Life>>>;

impl Lives {
    pub(super) fn slot(&self, run: RunId) -> Slot {
        let mut slots = self.0.lock();
        if slots.len() >= KNOWN
            && !slots.contains_key(&run)
            && let Some(any) = slots.keys().next().copied()
        {
            slots.remove(&any);
        }
        Arc::clone(slots.entry(run).or_default())
    }

    pub(super) fn forget(&self, run: RunId) {
        self.0.lock().remove(&run);
    }
}

/// How far this process has seen logs go.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<RunId, (Epoch, u64)>>);

impl Seen {
    /// How far a log was seen to go.
    pub(super) fn of(&self, run: RunId) -> Furthest {
        Furthest(self.0.lock().get(&run).copied())
    }

    pub(super) fn note(&self, run: RunId, epoch: Epoch, head: u64) {
        let mut seen = self.0.lock();
        if seen.len() >= SEEN
            && !seen.contains_key(&run)
            && let Some(any) = seen.keys().next().copied()
        {
            seen.remove(&any);
        }
        let known = seen.entry(run).or_insert((epoch, head));
        *known = if known.0 == epoch { (epoch, known.1.max(head)) } else { (epoch, head) };
    }

    pub(super) fn forget(&self, run: RunId) {
        self.0.lock().remove(&run);
    }
}

/// How far one life of a log was seen to go, if it was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Furthest(Option<(Epoch, u64)>);

impl Furthest {
    /// The furthest of this life; 0 where it was not seen.
    pub(super) fn head(self, epoch: Epoch) -> u64 {
        self.0.filter(|(of, _)| *of == epoch).map_or(0, |(_, head)| head)
    }
}

/// Whether Redis did not answer lately.
#[derive(Debug, Default)]
pub(super) struct Away(Mutex<Option<Instant>>);

impl Away {
    pub(super) fn is_away(&self) -> bool {
        self.0.lock().is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn note(&self) {
        *self.0.lock() = Some(Instant::now() + AWAY);
    }
}
