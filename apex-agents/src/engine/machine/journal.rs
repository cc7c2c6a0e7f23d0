use crate::context::Came;
use crate::failure::Failure;
use crate::stored::Stored;
use apex_core::clock::Timestamp;
use apex_core::id::{ApprovalId, CallId};
use serde::{Deserialize, Serialize};

/// What an agent asked for, in order, and what came of it. When the agent is run again it is answered from here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Journal(Vec<Entry>);

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
        if place >= self.0.len() {
            self.0.push(asked);
            return Known::New;
        }
        match self.0.get(place) {
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
        if let Some(Entry::Call { result, .. }) = self.0.get_mut(place) {
            *result = Some(came);
        }
    }

    /// Enters that a call is made now.
    pub(crate) fn begin(&mut self, place: usize) {
        if let Some(Entry::Call { begun, .. }) = self.0.get_mut(place) {
            *begun = true;
        }
    }

    /// Enters the decision that a call needs.
    pub(crate) fn request(&mut self, place: usize, needed: Approval) {
        if let Some(Entry::Call { approval, .. }) = self.0.get_mut(place) {
            *approval = Some(needed);
        }
    }

    /// Whether the call in this place was made, and the decision that it needs.
    pub(crate) fn called(&self, place: usize) -> (bool, Option<&Approval>) {
        match self.0.get(place) {
            Some(Entry::Call { begun, approval, .. }) => (*begun, approval.as_ref()),
            _ => (false, None),
        }
    }

    /// The decisions that are still to be made: the place of the call, its tool, and the decision.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (usize, &str, &Approval)> {
        self.0.iter().enumerate().filter_map(|(place, entry)| match entry {
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
        if let Some(Entry::Call { approval: Some(approval), .. }) = self.0.get_mut(place) {
            approval.approved = true;
        }
    }

    /// How many effects it holds.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Enters what came of a question to a model.
    pub(crate) fn answer(&mut self, place: usize, what: Came) {
        if let Some(Entry::Model { came, .. }) = self.0.get_mut(place) {
            *came = Some(what);
        }
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

    fn is_like(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Call { tool, digest, .. }, Self::Call { tool: t, digest: d, .. }) => {
                tool == t && digest == d
            }
            (Self::Model { digest, .. }, Self::Model { digest: d, .. }) => digest == d,
            (Self::Now(_), Self::Now(_)) | (Self::Random(_), Self::Random(_)) => true,
            _ => false,
        }
    }

    fn named(&self) -> String {
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
