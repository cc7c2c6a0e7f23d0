//! The judge of connections: from what every node wrote down when it gave and took back places among a user's
//! connections, it says whether there were ever more than the limit over all nodes, whether a place was refused that was
//! free, and whether one was kept by a node that lived to give it back.

use netra_apex::core::clock::{Clock as _, SystemClock};
use netra_apex::core::limit::{Grant, LimitKey, LimitStore, Place, Rate};
use netra_apex::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the place of a connection is held whose node died.
pub(super) const LIFE: Duration = Duration::from_secs(45);

/// What a node wrote down of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    /// In milliseconds of the clock that all nodes of one machine have.
    pub(super) at: u64,
    pub(super) user: String,
    pub(super) connection: String,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// The store gave it a place.
    Opened,
    /// There was none.
    Refused,
    /// The node is about to give it back.
    Closed,
}

/// What one node wrote down.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    pub(super) noted: Vec<Noted>,
    /// When it was killed, if it was: its connections were gone then.
    pub(super) killed: Option<u64>,
}

impl Watched {
    /// What a node that has ended wrote down beside its journal; a line that a kill cut short tells nothing.
    pub(super) fn read(journal: &Path, killed: Option<u64>) -> Self {
        let text = std::fs::read_to_string(beside(journal)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let noted = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { noted, killed }
    }
}

/// A promise about connections that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Breach {
    /// A user had more connections than the limit, over all nodes.
    TooMany { user: String, count: usize },
    /// A user was refused a connection and had, in all the time that a place may stay held, fewer than the limit.
    RefusedForNothing { user: String, count: usize },
    /// A node kept the place of a connection that is gone.
    Kept { connection: String },
}

/// Every broken promise, where each user may have `most` connections.
pub(super) fn judge(nodes: &[Watched], most: usize) -> Vec<Breach> {
    let mut breaches = BTreeMap::new();
    let spans = nodes.iter().flat_map(spans).collect::<Vec<_>>();
    for (place, span) in spans.iter().enumerate() {
        if span.until.is_none() {
            let connection = span.connection.to_owned();
            breaches.insert((span.from, place), Breach::Kept { connection });
        }
        // There are most just after one was opened.
        let then = |other: &&Span<'_>| {
            other.user == span.user
                && other.from <= span.from
                && other.until.is_none_or(|until| until > span.from)
        };
        let count = spans.iter().filter(then).count();
        if count > most {
            let user = span.user.to_owned();
            breaches.insert((span.from, place), Breach::TooMany { user, count });
        }
    }
    for refused in nodes.iter().flat_map(|node| &node.noted).filter(|n| n.what == What::Refused) {
        let since = refused.at.saturating_sub(millis(LIFE));
        let held = |span: &&Span<'_>| {
            span.user == refused.user
                && span.from <= refused.at
                && span.until.is_none_or(|until| until >= since)
        };
        let count = spans.iter().filter(held).count();
        if count < most {
            let user = refused.user.clone();
            let breach = Breach::RefusedForNothing { user, count };
            breaches.insert((refused.at, usize::MAX), breach);
        }
    }
    breaches.into_values().collect()
}

/// A connection while it had a place; `until` is `None` where it was never given back.
struct Span<'a> {
    user: &'a str,
    connection: &'a str,
    from: u64,
    until: Option<u64>,
}

fn spans(node: &Watched) -> Vec<Span<'_>> {
    let of = |what: What| node.noted.iter().filter(move |noted| noted.what == what);
    let mut seen = BTreeSet::new();
    of(What::Opened)
        .filter(|opened| seen.insert(&opened.connection))
        .map(|opened| {
            let closed = of(What::Closed).find(|noted| noted.connection == opened.connection);
            let until = closed.map(|closed| closed.at).or(node.killed);
            let Noted { user, connection, at, .. } = opened;
            Span { user, connection, from: *at, until }
        })
        .collect()
}

pub(super) fn now() -> u64 {
    u64::try_from(SystemClock.now().as_millis()).unwrap()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

fn beside(journal: &Path) -> PathBuf {
    journal.with_extension("connections")
}

/// Limits that write down what becomes of connections.
#[derive(Debug)]
pub(super) struct Watching {
    limits: Arc<dyn LimitStore>,
    journal: std::fs::File,
}

impl Watching {
    /// Writes beside the journal of the node.
    pub(super) fn over(limits: Arc<dyn LimitStore>, journal: &Path) -> Self {
        Self { limits, journal: std::fs::File::create(beside(journal)).unwrap() }
    }

    fn note(&self, place: &Place, what: What) {
        let Some(user) = place.key.as_str().strip_prefix("connections:") else {
            return;
        };
        let connection = format!("{:?}", place.holder);
        let noted = Noted { at: now(), user: user.to_owned(), connection, what };
        let line = format!("{}\n", serde_json::to_string(&noted).unwrap());
        (&self.journal).write_all(line.as_bytes()).unwrap();
    }
}

#[async_trait::async_trait]
impl LimitStore for Watching {
    async fn hold(&self, place: &Place, life: Duration) -> Result<Grant> {
        let grant = self.limits.hold(place, life).await?;
        // Written down late when it begins and early when it ends: what is counted was surely there.
        self.note(place, if grant == Grant::Granted { What::Opened } else { What::Refused });
        Ok(grant)
    }

    async fn renew(&self, places: &[Place], life: Duration) -> Result<Vec<Place>> {
        self.limits.renew(places, life).await
    }

    async fn release(&self, place: &Place) -> Result<()> {
        self.note(place, What::Closed);
        self.limits.release(place).await
    }

    async fn take(&self, key: &LimitKey, rate: Rate, count: u32) -> Result<Grant> {
        self.limits.take(key, rate, count).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(at: u64, connection: &str, what: What) -> Noted {
        Noted { at, user: "ada".to_owned(), connection: connection.to_owned(), what }
    }

    /// Two nodes, a limit of two: one connection at each, a third is refused; one goes and another comes; the second
    /// node is killed, and its place is free when the lease has run out.
    fn sound() -> [Watched; 2] {
        let late = 30 + millis(LIFE);
        [
            Watched {
                noted: vec![
                    noted(1, "a", What::Opened),
                    noted(3, "c", What::Refused),
                    noted(4, "a", What::Closed),
                    noted(5, "d", What::Opened),
                    noted(20, "e", What::Refused),
                    noted(late, "f", What::Opened),
                    noted(late + 1, "d", What::Closed),
                    noted(late + 2, "f", What::Closed),
                ],
                killed: None,
            },
            Watched { noted: vec![noted(2, "b", What::Opened)], killed: Some(10) },
        ]
    }

    #[test]
    fn what_is_sound_passes() {
        assert_eq!(judge(&sound(), 2), []);
    }

    #[test]
    fn every_breach_that_is_planted_is_found() {
        type Plant = fn(&mut [Watched; 2]);
        let user = || "ada".to_owned();
        let planted: [(Plant, Breach); 5] = [
            // One more than the limit, at the other node.
            (
                |nodes| nodes[1].noted.push(noted(6, "x", What::Opened)),
                Breach::TooMany { user: user(), count: 3 },
            ),
            // A place given to the next before it was given back.
            (|nodes| nodes[0].noted[2].at = 6, Breach::TooMany { user: user(), count: 3 }),
            (
                |nodes| nodes[0].noted[1].at = 0,
                Breach::RefusedForNothing { user: user(), count: 0 },
            ),
            // The place of the killed node's connection is still held when its lease has run out.
            (
                |nodes| nodes[0].noted[4].at = 11 + millis(LIFE),
                Breach::RefusedForNothing { user: user(), count: 1 },
            ),
            (|nodes| drop(nodes[0].noted.pop()), Breach::Kept { connection: "f".to_owned() }),
        ];
        for (number, (plant, expected)) in planted.into_iter().enumerate() {
            let mut nodes = sound();
            plant(&mut nodes);
            let found = judge(&nodes, 2);
            assert!(found.contains(&expected), "{number}: {expected:?} is not in {found:?}");
        }
    }
}
