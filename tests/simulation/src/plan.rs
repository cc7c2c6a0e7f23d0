//! What goes wrong, and when, from a seed.

use apex_core::testkit::Random;
use std::time::Duration;

/// When the first fault may come, when the last one has begun, and when all are over.
const FIRST: usize = 300;
const LAST: usize = 6_000;
/// The moment from which on nothing goes wrong any more.
pub(crate) const HEALED: Duration = Duration::from_millis(7_000);

/// Something that goes wrong for a time. Nodes and users are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields say where, and each fault how much")]
pub enum Fault {
    /// What a node and a user send each other is lost.
    Cut { node: usize, user: usize },
    /// What a node sends to a user is lost, but not what the user sends.
    CutOneWay { node: usize, user: usize },
    /// What a node and a user send each other arrives when it is over.
    Hold { node: usize, user: usize },
    /// What a node and a user send each other takes this many milliseconds.
    Slow { node: usize, user: usize, millis: u64 },
    /// A node and the store do not reach each other.
    NoStore { node: usize },
    /// One in this many answers of the store to a node is lost after the call took effect.
    LostAnswers { node: usize, once_in: usize },
    /// Calls of a node to the store take up to this many milliseconds, each way.
    SlowStore { node: usize, millis: u64 },
    /// A node is not woken by the store.
    Deaf { node: usize },
    /// A node is killed, and another one started in its place when it is over.
    Crash { node: usize },
    /// The store fails over to a replica that lacks what was written while this lasts.
    Failover,
}

/// A fault and its time, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// What.
    pub fault: Fault,
    /// When it begins.
    pub from: Duration,
    /// When it is over.
    pub until: Duration,
}

/// What a seed says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: usize,
    /// How far each node's clock is from the true time, in milliseconds.
    pub skews: Vec<i64>,
    /// Whether nodes believe in a lease for ten times as long as the store does, as one would that has stood still:
    /// what they write then is to be fenced off.
    pub zombies: bool,
    /// How often each user asks.
    pub users: Vec<usize>,
    /// What goes wrong.
    pub faults: Vec<Planned>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let nodes = 2 + random.below(2);
        let users: Vec<usize> = (0..2).map(|_| 1 + random.below(3)).collect();
        let skews = (0..nodes).map(|_| random.below(801) as i64 - 400).collect();
        let zombies = random.once_in(4);
        let count = 2 + random.below(6);
        let faults = (0..count).map(|_| planned(&mut random, nodes, users.len())).collect();
        Self { nodes, skews, zombies, users, faults }
    }
}

fn planned(random: &mut Random, nodes: usize, users: usize) -> Planned {
    let (node, user) = (random.below(nodes), random.below(users));
    let fault = match random.below(13) {
        0 => Fault::Cut { node, user },
        1 => Fault::CutOneWay { node, user },
        2 => Fault::Hold { node, user },
        3 => Fault::Slow { node, user, millis: 100 + random.below(900) as u64 },
        4 | 5 => Fault::NoStore { node },
        6 => Fault::LostAnswers { node, once_in: 2 + random.below(4) },
        7 => Fault::SlowStore { node, millis: 50 + random.below(600) as u64 },
        8 => Fault::Deaf { node },
        9 | 10 => Fault::Crash { node },
        _ => Fault::Failover,
    };
    let from = FIRST + random.below(LAST - FIRST);
    let most = HEALED.as_millis() as usize - from;
    let lasts = match fault {
        // By how much the replica lags.
        Fault::Failover => 5 + random.below(700),
        _ => 100 + random.below(4_000),
    };
    let millis = |millis: usize| Duration::from_millis(millis as u64);
    Planned { fault, from: millis(from), until: millis(from + lasts.min(most)) }
}
