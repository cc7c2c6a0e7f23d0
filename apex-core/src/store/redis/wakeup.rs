//! Wake-ups from node to node, by Redis's publish and subscribe.
//!
//! They are hints: what gets lost is found by those who wait when they look by themselves. But a subscription can be
//! dead while everything looks healthy, so each node also sends itself a message twice a second, and subscribes anew
//! when it does not arrive.

use super::client::Client;
use super::link::Link;
use crate::error::{Error, Kind, Result};
use crate::id::{NodeId, RunId, UserId};
use crate::resilience::Effect;
use crate::run::{LocalWakeup, Topic, Wakeup, Woken};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Topics that may wait to be told; when there are more, all listeners are told instead.
const PENDING: usize = 4_096;
/// Topics in one message.
const MESSAGE: usize = 512;
/// How often a node sends itself a message, and how long it may take.
const CANARY_EVERY: Duration = Duration::from_millis(300);
const CANARY_WITHIN: Duration = Duration::from_millis(400);
/// The wait before another try, to tell or to subscribe.
const AGAIN: Duration = Duration::from_millis(100);
const OPERATION: &str = "redis.wakeup";

/// Wake-ups of all nodes that share a Redis.
#[derive(Debug)]
pub(super) struct RedisWakeup {
    inner: Arc<Inner>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    node: NodeId,
    local: LocalWakeup,
    pending: Mutex<Pending>,
    told: Notify,
    /// Counts the own messages that arrived.
    heard: watch::Sender<u64>,
    channel: String,
    own_channel: String,
}

#[derive(Debug, Default)]
struct Pending {
    topics: HashSet<Topic>,
    all: bool,
}

impl RedisWakeup {
    /// Begins to tell and to hear, on this runtime, until it is dropped.
    pub(super) fn start(client: Arc<Client>, node: NodeId) -> Self {
        let inner = Arc::new(Inner {
            channel: client.key("w", ""),
            own_channel: client.key("w", node),
            client,
            node,
            local: LocalWakeup::default(),
            pending: Mutex::default(),
            told: Notify::new(),
            heard: watch::channel(0).0,
        });
        let tasks = [
            tokio::spawn(Inner::tell(Arc::clone(&inner))),
            tokio::spawn(Inner::hear(Arc::clone(&inner))),
        ];
        Self { inner, tasks }
    }

    /// By what the other nodes are woken for a topic: a channel, and what is to be published there.
    pub(super) fn message(&self, topic: Topic) -> (&str, Vec<u8>) {
        (&self.inner.channel, encode(self.inner.node, &[topic]))
    }

    /// Wakes those who listen in this process, where the other nodes are woken already.
    pub(super) fn wake_here(&self, topic: Topic) {
        self.inner.local.wake(topic);
    }

    /// Waits until a message of this node's has gone to Redis and come back.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn canary(&self) -> Result<()> {
        self.inner.canary().await
    }
}

impl Drop for RedisWakeup {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Wakeup for RedisWakeup {
    fn wake(&self, topic: Topic) {
        self.inner.local.wake(topic);
        let mut pending = self.inner.pending.lock();
        if pending.all {
            return;
        }
        pending.topics.insert(topic);
        if pending.topics.len() > PENDING {
            *pending = Pending { all: true, ..Pending::default() };
        }
        drop(pending);
        self.inner.told.notify_one();
    }

    fn listen(&self, topic: Topic) -> Woken {
        self.inner.local.listen(topic)
    }
}

impl Inner {
    /// Tells the other nodes what is to be told; what comes up meanwhile goes together.
    async fn tell(self: Arc<Self>) {
        loop {
            self.told.notified().await;
            let pending = std::mem::take(&mut *self.pending.lock());
            let topics: Vec<Topic> = pending.topics.into_iter().collect();
            let mut messages: Vec<Vec<u8>> =
                topics.chunks(MESSAGE).map(|topics| encode(self.node, topics)).collect();
            if pending.all {
                messages = vec![encode(self.node, &[])];
            }
            for message in messages {
                if self.publish(&self.channel, &message).await.is_err() {
                    // Nobody knows what the others have missed.
                    *self.pending.lock() = Pending { all: true, ..Pending::default() };
                    sleep(AGAIN).await;
                    self.told.notify_one();
                    break;
                }
            }
        }
    }

    /// Hears what other nodes tell, on a connection that is replaced when it is of no use.
    async fn hear(self: Arc<Self>) {
        let mut told = false;
        loop {
            match self.subscribe().await {
                Ok(link) => {
                    told = false;
                    metrics::counter!("apex_redis_subscriptions_total").increment(1);
                    // Nobody knows what was missed.
                    self.local.wake_all();
                    self.watch(&link).await;
                }
                // Once for an outage, not for every try in it.
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(%error, "no subscription to Redis");
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    async fn subscribe(self: &Arc<Self>) -> Result<Link> {
        let hears: Weak<Self> = Arc::downgrade(self);
        let hear = move |push: PushInfo| {
            if let Some(inner) = hears.upgrade() {
                inner.heard(&push);
            }
        };
        let link = self.client.hear(Arc::new(hear)).await?;
        let mut subscribe = redis::cmd("SUBSCRIBE");
        subscribe.arg(&self.channel).arg(&self.own_channel);
        let failed = |cause: String| {
            Error::new(Kind::Unavailable, OPERATION, "Redis does not let this node subscribe")
                .with_source(cause)
        };
        match timeout(CANARY_WITHIN, link.ask(&subscribe)).await {
            Ok(Ok(_)) => Ok(link),
            Ok(Err(why)) => Err(failed(format!("{why:?}"))),
            Err(_) => Err(failed("no answer within the limit".to_owned())),
        }
    }

    /// Returns when the subscription is of no use any more.
    async fn watch(&self, link: &Link) {
        let mut missed_since: Option<Instant> = None;
        loop {
            if link.is_closed() {
                return;
            }
            match self.canary().await {
                Ok(()) => missed_since = None,
                // Where it cannot even be sent, the subscription is not to blame at once.
                Err(error) if error.kind() == Kind::DeadlineExceeded => return,
                Err(_) => {
                    let since = *missed_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > CANARY_EVERY {
                        return;
                    }
                }
            }
            sleep(CANARY_EVERY).await;
        }
    }

    async fn canary(&self) -> Result<()> {
        let mut heard = self.heard.subscribe();
        self.publish(&self.own_channel, b"canary").await?;
        match timeout(CANARY_WITHIN, heard.changed()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::new(
                Kind::DeadlineExceeded,
                OPERATION,
                "what is published in Redis does not come back; wake-ups of other nodes are late",
            )),
        }
    }

    async fn publish(&self, channel: &str, message: &[u8]) -> Result<()> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(message);
        self.client.call::<i64>(OPERATION, Effect::Idempotent, channel, &publish).await.map(drop)
    }

    fn heard(&self, push: &PushInfo) {
        let (PushKind::Message, [Value::BulkString(channel), Value::BulkString(message)]) =
            (&push.kind, &*push.data)
        else {
            return;
        };
        if channel == self.own_channel.as_bytes() {
            self.heard.send_modify(|count| *count = count.wrapping_add(1));
        } else if let Some((node, topics)) = message.split_first_chunk::<16>()
            && node != self.node.as_bytes()
        {
            if topics.is_empty() {
                self.local.wake_all();
            }
            for topic in decode(topics) {
                self.local.wake(topic);
            }
        }
    }
}

/// A message: the node that sends it, and the topics; none of them stands for all.
fn encode(node: NodeId, topics: &[Topic]) -> Vec<u8> {
    let mut message = node.as_bytes().to_vec();
    for topic in topics {
        let (letter, id) = match topic {
            Topic::Run(run) => (b'r', *run.as_bytes()),
            Topic::Ended(run) => (b'e', *run.as_bytes()),
            Topic::Signals(run) => (b's', *run.as_bytes()),
            Topic::Inbox(user) => (b'i', *user.as_bytes()),
            Topic::Work => (b'w', [0; 16]),
            Topic::Revocations => (b'v', [0; 16]),
        };
        message.push(letter);
        message.extend(id);
    }
    message
}

/// The topics of a message; what a newer version may send besides is passed over.
fn decode(topics: &[u8]) -> impl Iterator<Item = Topic> {
    topics.chunks_exact(17).filter_map(|topic| {
        let (letter, id) = topic.split_first()?;
        let id = <[u8; 16]>::try_from(id).ok()?;
        match letter {
            b'r' => Some(Topic::Run(RunId::from_bytes(id))),
            b'e' => Some(Topic::Ended(RunId::from_bytes(id))),
            b's' => Some(Topic::Signals(RunId::from_bytes(id))),
            b'i' => Some(Topic::Inbox(UserId::from_bytes(id))),
            b'w' => Some(Topic::Work),
            b'v' => Some(Topic::Revocations),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn topics_travel() {
        let node = NodeId::new(&SystemClock);
        let run = RunId::new(&SystemClock);
        let topics = [
            Topic::Run(run),
            Topic::Ended(run),
            Topic::Signals(run),
            Topic::Inbox(UserId::new(&SystemClock)),
            Topic::Work,
            Topic::Revocations,
        ];
        let mut message = encode(node, &topics);
        message.extend([b'?'; 17]);
        let (sender, rest) = message.split_first_chunk::<16>().unwrap();
        assert_eq!(sender, node.as_bytes());
        assert_eq!(decode(rest).collect::<Vec<_>>(), topics);
    }
}
