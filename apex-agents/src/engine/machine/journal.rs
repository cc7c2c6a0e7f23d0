use crate::context::Came;
use crate::failure::Failure;
use crate::stored::Stored;
use apex_core::clock::Timestamp;
use apex_core::id::{ApprovalId, CallId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What an agent asked for, in order, and what came of it. When the agent is run again it is answered from here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    /// The places of those that changed since the journal was saved.
    #[serde(skip)]
    changed: BTreeSet<usize>,
}

/// What is not saved yet makes no difference.
impl PartialEq for Journal {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Call {
        tool: String,
        /// The digest of the arguments, hexadecimal; the arguments may hold secrets.
        digest: String,
        /// Whether it was made, or was about to be.
        #[serde(default = "made")]
        begun: bool,
        /// The decision that it needs before it is made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approval: Option<Approval>,
        /// What came of it; `None` while it is under way, or when its node was lost under way.
        result: Option<Result<Stored, Failure>>,
    },
    Now(Timestamp),
    Random(u64),
    /// A question to a model, by the digest of the request.
    Model {
        digest: String,
        /// What came of it; `None` while it is under way, or when its node was lost under way.
        came: Option<Came>,
    },
}

/// A decision that a call needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approval {
    pub(crate) approval: ApprovalId,
    /// The call that it is about; its digest says with which arguments.
    pub(crate) call: CallId,
    pub(crate) expires_at: Timestamp,
    pub(crate) approved: bool,
}

/// A call of a run that was saved before calls could wait: it had been made.
fn made() -> bool {
    true
}

/// What the journal knows of an effect that an agent asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Known<'a> {
    /// It is new, and has been entered.
    New,
    /// It was asked for before.
    Before(&'a Entry),
    /// Something else was asked for in its place.
    Other(String),
}

impl Journal {
    /// Looks the effect up in its place; enters it when the journal ends before.
    pub(crate) fn ask(&mut self, place: usize, asked: Entry) -> Known<'_> {
        if place >= self.entries.len() {
            self.changed.insert(self.entries.len());
            self.entries.push(asked);
            return Known::New;
        }
        match self.entries.get(place) {
            Some(before) if before.is_like(&asked) => Known::Before(before),
            Some(before) => Known::Other(format!(
                "the agent is not deterministic: effect {} was {} and is now {}; it must take time, randomness and \
                 everything from outside from its context",
                place + 1,
                before.named(),
                asked.named(),
            )),
            None => Known::New,
        }
    }

    /// Enters what came of a call.
    pub(crate) fn complete(&mut self, place: usize, came: Result<Stored, Failure>) {
        if let Some(Entry::Call { result, .. }) = self.change(place) {
            *result = Some(came);
        }
    }

    /// Enters that a call is made now.
    pub(crate) fn begin(&mut self, place: usize) {
        if let Some(Entry::Call { begun, .. }) = self.change(place) {
            *begun = true;
        }
    }

    /// Enters the decision that a call needs.
    pub(crate) fn request(&mut self, place: usize, needed: Approval) {
        if let Some(Entry::Call { approval, .. }) = self.change(place) {
            *approval = Some(needed);
        }
    }

    /// Whether the call in this place was made, and the decision that it needs.
    pub(crate) fn called(&self, place: usize) -> (bool, Option<&Approval>) {
        match self.entries.get(place) {
            Some(Entry::Call { begun, approval, .. }) => (*begun, approval.as_ref()),
            _ => (false, None),
        }
    }

    /// The decisions that are still to be made: the place of the call, its tool, and the decision.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (usize, &str, &Approval)> {
        self.entries.iter().enumerate().filter_map(|(place, entry)| match entry {
            Entry::Call { tool, approval: Some(approval), result: None, .. }
                if !approval.approved =>
            {
                Some((place, tool.as_str(), approval))
            }
            _ => None,
        })
    }

    /// Enters that a call was approved.
    pub(crate) fn approve(&mut self, place: usize) {
        if let Some(Entry::Call { approval: Some(approval), .. }) = self.change(place) {
            approval.approved = true;
        }
    }

    /// How many effects it holds.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Enters what came of a question to a model.
    pub(crate) fn answer(&mut self, place: usize, what: Came) {
        if let Some(Entry::Model { came, .. }) = self.change(place) {
            *came = Some(what);
        }
    }

    fn change(&mut self, place: usize) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(place)?;
        self.changed.insert(place);
        Some(entry)
    }

    /// All of them.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All of them, to be read in.
    pub(crate) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// What changed since it was saved.
    pub(crate) fn changes(&self) -> Vec<(usize, Entry)> {
        let changed = self.changed.iter();
        changed.filter_map(|place| Some((*place, self.entries.get(*place)?.clone()))).collect()
    }

    /// It is saved as it is now.
    pub(crate) fn saved(&mut self) {
        self.changed.clear();
    }

    /// Enters saved changes, after which it holds `len` effects; `None` where they do not fit.
    pub(crate) fn enter(&mut self, len: usize, entries: Vec<(usize, Entry)>) -> Option<()> {
        self.entries.truncate(len);
        for (place, entry) in entries {
            if place == self.entries.len() {
                self.entries.push(entry);
            } else {
                *self.entries.get_mut(place)? = entry;
            }
        }
        (self.entries.len() == len).then_some(())
    }
}

impl Entry {
    /// A new call.
    pub(crate) fn call(tool: String, digest: String) -> Self {
        Self::Call { tool, digest, begun: false, approval: None, result: None }
    }

    /// A new question to a model.
    pub(crate) fn model(digest: String) -> Self {
        Self::Model { digest, came: None }
    }

    /// Whether this is the effect that is asked for.
    pub(crate) fn is_like(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Call { tool, digest, .. }, Self::Call { tool: t, digest: d, .. }) => {
                tool == t && digest == d
            }
            (Self::Model { digest, .. }, Self::Model { digest: d, .. }) => digest == d,
            (Self::Now(_), Self::Now(_)) | (Self::Random(_), Self::Random(_)) => true,
            _ => false,
        }
    }

    /// Whether it is of the same kind, and for a call, the same call.
    pub(crate) fn is_alike(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Model { .. }, Self::Model { .. }) => true,
            _ => self.is_like(asked),
        }
    }

    /// In words.
    pub(crate) fn named(&self) -> String {
        match self {
            Self::Call { tool, digest, .. } => {
                let digest = digest.get(..8).unwrap_or(digest);
                format!("a call of {tool} (arguments {digest})")
            }
            Self::Model { digest, .. } => {
                format!("a question to a model ({})", digest.get(..8).unwrap_or(digest))
            }
            Self::Now(_) => "a look at the clock".to_owned(),
            Self::Random(_) => "a random number".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(tool: &str, digest: &str) -> Entry {
        Entry::call(tool.into(), digest.into())
    }

    #[test]
    fn what_was_asked_is_known_and_the_first_difference_is_named() {
        let mut journal = Journal::default();
        assert_eq!(journal.ask(0, Entry::Random(7)), Known::New);
        assert_eq!(journal.ask(1, call("a", "00")), Known::New);
        journal.complete(1, Ok(Stored::Inline(json!(1))));

        assert_eq!(journal.ask(0, Entry::Random(9)), Known::Before(&Entry::Random(7)));
        let Known::Before(Entry::Call { result, .. }) = journal.ask(1, call("a", "00")) else {
            panic!("the call is not known");
        };
        assert_eq!(*result, Some(Ok(Stored::Inline(json!(1)))));
        for other in [call("b", "00"), call("a", "01"), Entry::Random(1)] {
            let Known::Other(told) = journal.ask(1, other) else {
                panic!("a difference was not seen");
            };
            assert!(told.contains("effect 2 was a call of a (arguments 00)"), "{told}");
        }
    }
}
