use super::migration::lock_key;
use crate::config::SchemaName;
use crate::database::{Access, Database, Heard, Listener, Priority};
use crate::id::{NodeId, RunId, UserId};
use crate::run::{LocalWakeup, Topic, Wakeup, Woken};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// The channel of every node and schema; what is sent says of which it is.
const CHANNEL: &str = "apex_wakeup";

const NOTIFY: &str = "SELECT pg_notify('apex_wakeup', $1)";

/// The topics of one notification: the server takes less than 8,000 bytes.
const TOPICS: usize = 200;

/// The topics that may wait to be sent. Past it everyone is woken.
const WAITING: usize = 10_000;

/// What is said to wake everyone.
const ALL: &str = "*";

/// The least time between two notifications, so that many wakes are one statement.
const PAUSE: Duration = Duration::from_millis(5);

/// Wake-ups over all nodes, by NOTIFY. They are sent apart from the writes that they tell of, because the server
/// commits transactions with a notification one after the other. One that gets lost costs time, never an event.
#[derive(Debug)]
pub(super) struct PostgresWakeup {
    local: Arc<LocalWakeup>,
    outgoing: Arc<Outgoing>,
    sending: JoinHandle<()>,
    _listener: Listener,
}

#[derive(Debug, Default)]
struct Outgoing {
    topics: Mutex<HashSet<Topic>>,
    some: Notify,
}

impl PostgresWakeup {
    pub(super) fn start(database: &Database, schema: &SchemaName, node: NodeId) -> Self {
        let local = Arc::new(LocalWakeup::default());
        let scope = format!("{:016x}", lock_key(schema, "wakeup"));
        let from = format!("{scope} {} ", Uuid::from_bytes(*node.as_bytes()).simple());
        let outgoing = Arc::new(Outgoing::default());
        let sending = tokio::spawn(send(database.clone(), from.clone(), Arc::clone(&outgoing)));
        let waking = Arc::clone(&local);
        let listener = database.listen(&[CHANNEL], move |heard| match heard {
            Heard::Notified { payload, .. } => hear(&waking, &scope, &from, payload),
            Heard::Gap => waking.wake_all(),
        });
        Self { local, outgoing, sending, _listener: listener }
    }
}

impl Wakeup for PostgresWakeup {
    fn wake(&self, topic: Topic) {
        self.local.wake(topic);
        let mut topics = self.outgoing.topics.lock();
        if topics.len() <= WAITING {
            topics.insert(topic);
        }
        drop(topics);
        self.outgoing.some.notify_one();
    }

    fn listen(&self, topic: Topic) -> Woken {
        self.local.listen(topic)
    }
}

impl Drop for PostgresWakeup {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

/// Sends what waits, for as long as there is someone who wakes.
async fn send(database: Database, from: String, outgoing: Arc<Outgoing>) {
    loop {
        outgoing.some.notified().await;
        let topics: Vec<Topic> = outgoing.topics.lock().drain().collect();
        for payload in payloads(&from, &topics) {
            let access = Access::system("wakeup.send").priority(Priority::Critical);
            if let Err(error) = database.fetch(access, NOTIFY, &[&payload]).await {
                // Others look by themselves; that takes longer.
                tracing::debug!(%error, "a wake-up was not sent");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn payloads(from: &str, topics: &[Topic]) -> Vec<String> {
    if topics.len() > WAITING {
        return vec![format!("{from}{ALL}")];
    }
    let payload = |few: &[Topic]| {
        few.iter().fold(from.to_owned(), |mut text, topic| {
            text.push_str(&word(*topic));
            text
        })
    };
    topics.chunks(TOPICS).map(payload).collect()
}

/// Wakes those whom another node's notification is about.
fn hear(local: &LocalWakeup, scope: &str, own: &str, payload: &str) {
    if !payload.starts_with(scope) || payload.starts_with(own) {
        return;
    }
    let Some(mut words) = payload.get(own.len()..) else {
        return;
    };
    if words == ALL {
        return local.wake_all();
    }
    while let Some((topic, rest)) = read(words) {
        local.wake(topic);
        words = rest;
    }
}

/// A letter for the kind, and the id.
fn word(topic: Topic) -> String {
    let with = |letter: char, id: &[u8; 16]| format!("{letter}{}", Uuid::from_bytes(*id).simple());
    match topic {
        Topic::Run(run) => with('r', run.as_bytes()),
        Topic::Ended(run) => with('e', run.as_bytes()),
        Topic::Signals(run) => with('s', run.as_bytes()),
        Topic::Inbox(user) => with('i', user.as_bytes()),
        Topic::Work => "w".to_owned(),
        Topic::Revocations => "v".to_owned(),
    }
}

/// The first topic, and what follows it.
fn read(words: &str) -> Option<(Topic, &str)> {
    let (letter, rest) = words.split_at_checked(1)?;
    match letter {
        "w" => return Some((Topic::Work, rest)),
        "v" => return Some((Topic::Revocations, rest)),
        _ => {}
    }
    let (id, rest) = rest.split_at_checked(32)?;
    let id = Uuid::try_parse(id).ok()?.into_bytes();
    let topic = match letter {
        "r" => Topic::Run(RunId::from_bytes(id)),
        "e" => Topic::Ended(RunId::from_bytes(id)),
        "s" => Topic::Signals(RunId::from_bytes(id)),
        "i" => Topic::Inbox(UserId::from_bytes(id)),
        _ => return None,
    };
    Some((topic, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn every_topic_survives_its_payload() {
        let (run, user) = (RunId::new(&SystemClock), UserId::new(&SystemClock));
        let topics = [
            Topic::Run(run),
            Topic::Work,
            Topic::Ended(run),
            Topic::Signals(run),
            Topic::Revocations,
            Topic::Inbox(user),
        ];
        let payload = payloads("from ", &topics).remove(0);
        let mut words = payload.strip_prefix("from ").unwrap();
        for topic in topics {
            let (read, rest) = read(words).unwrap();
            assert_eq!(read, topic);
            words = rest;
        }
        assert_eq!(words, "");
        for bad in ["", "x", "r12", "zzz", "r€"] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_payload_fits_a_notification() {
        let topics = vec![Topic::Run(RunId::new(&SystemClock)); 5_000];
        let payloads = payloads(&"f".repeat(50), &topics);
        assert_eq!(payloads.len(), 25);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let too_many = vec![Topic::Work; WAITING + 1];
        assert_eq!(super::payloads("f ", &too_many), ["f *"]);
    }
}
