use crate::protocol::{EventFrame, InboxFrame, ResetFrame, Since, Subscribed};
use apex_core::id::Epoch;
use apex_core::run::Position;

/// Something that happened in a run that is followed.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The next event, or a volatile one in between.
    Event(Box<EventFrame>),
    /// What lies between cannot be given; this is where the run stands, and what follows comes after it.
    Reset(Box<ResetFrame>),
}

impl Update {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Event(event) => event.is_terminal(),
            Self::Reset(reset) => {
                reset.snapshot.as_ref().is_some_and(|snapshot| snapshot.state.is_terminal())
            }
        }
    }
}

/// Something that happened among the user's runs.
#[derive(Debug, Clone, PartialEq)]
pub enum InboxUpdate {
    /// The next entry.
    Entry(Box<InboxFrame>),
    /// Earlier entries are no longer kept; what follows comes after it.
    Reset(Box<ResetFrame>),
}

/// What goes to a reader, of a run or of the inbox.
#[derive(Debug)]
pub(super) enum Item {
    Update(Update),
    Entry(Box<InboxFrame>),
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one.
    Apply,
    /// It was applied before.
    Drop,
    /// Something is missing before it: subscribe again from the position.
    Again,
}

/// How far a run has been applied: the filter that turns "at least once" into "once and in order".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Applied {
    epoch: Option<Epoch>,
    last: u64,
}

impl Applied {
    pub(super) fn from(position: Position) -> Self {
        Self { epoch: position.epoch, last: position.after }
    }

    /// From where to subscribe again.
    pub(super) fn since(&self) -> Since {
        Since { epoch: self.epoch, after: self.epoch.map(|_| self.last) }
    }

    /// Takes note of the answer to a subscription that has no epoch yet.
    pub(super) fn subscribed(&mut self, subscribed: &Subscribed) {
        self.epoch.get_or_insert(subscribed.epoch);
    }

    /// Goes on at a reset.
    pub(super) fn reset(&mut self, reset: &ResetFrame) {
        *self = Self { epoch: Some(reset.epoch), last: reset.head };
    }

    /// What to do with an event; [`Applied::apply`] takes note of one that was applied.
    pub(super) fn judge(&self, epoch: Epoch, seq: Option<u64>) -> Verdict {
        if self.epoch.is_some_and(|known| known != epoch) {
            return Verdict::Again;
        }
        match seq {
            None => Verdict::Apply,
            Some(seq) if seq <= self.last => Verdict::Drop,
            Some(seq) if seq == self.last + 1 => Verdict::Apply,
            Some(_) => Verdict::Again,
        }
    }

    /// Takes note of an event that was applied.
    pub(super) fn apply(&mut self, epoch: Epoch, seq: Option<u64>) {
        if let Some(seq) = seq {
            *self = Self { epoch: Some(epoch), last: seq };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::clock::SystemClock;
    use proptest::prelude::*;

    #[test]
    fn another_epoch_without_a_reset_means_subscribe_again() {
        let (one, other) = (Epoch::new(&SystemClock), Epoch::new(&SystemClock));
        let applied = Applied::from(Position { epoch: Some(one), after: 3 });
        assert_eq!(applied.judge(other, Some(4)), Verdict::Again);
        assert_eq!(applied.judge(one, Some(4)), Verdict::Apply);
        assert_eq!(applied.judge(one, None), Verdict::Apply);
    }

    proptest! {
        /// However pieces of a log arrive (again, from an earlier place, with a hole), what is applied is the log.
        #[test]
        fn any_arrival_applies_each_number_once_and_in_order(
            pieces in prop::collection::vec((0_u64..30, 1_u64..10), 1..60)
        ) {
            let epoch = Epoch::new(&SystemClock);
            let mut applied = Applied::default();
            let mut seen = Vec::new();
            for (from, count) in pieces {
                for seq in from + 1..=from + count {
                    match applied.judge(epoch, Some(seq)) {
                        Verdict::Apply => {
                            applied.apply(epoch, Some(seq));
                            seen.push(seq);
                        }
                        Verdict::Drop => prop_assert!(seq <= seen.len() as u64),
                        Verdict::Again => {
                            let since = applied.since().position().unwrap();
                            prop_assert_eq!(since.after, seen.len() as u64);
                            break;
                        }
                    }
                }
            }
            let expected: Vec<u64> = (1..=seen.len() as u64).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
