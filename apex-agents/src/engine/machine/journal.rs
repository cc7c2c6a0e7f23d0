use crate::context::Came;
use crate::failure::Failure;
use crate::stored::Stored;
use apex_core::clock::Timestamp;
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

    /// Enters what came of a question to a model.
    pub(crate) fn answer(&mut self, place: usize, what: Came) {
        if let Some(Entry::Model { came, .. }) = self.0.get_mut(place) {
            *came = Some(what);
        }
    }
}

impl Entry {
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
        Entry::Call { tool: tool.into(), digest: digest.into(), result: None }
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
