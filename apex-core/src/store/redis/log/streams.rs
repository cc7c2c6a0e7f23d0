//! The keys of logs, and the scripts that work on them.

use super::script;
use crate::error::Result;
use crate::event::Recorded;
use crate::id::{BatchId, Epoch, RunId};
use crate::resilience::Effect;
use crate::run::{Append, Checkpoint, RunLimits};
use crate::store::PAGE_BYTES;
use crate::store::redis::client::{Client, Lua};
use crate::store::redis::error::garbled;
use crate::store::redis::value::millis;
use bytes::Bytes;
use redis::{Value, from_redis_value};
use std::sync::Arc;
use std::time::Duration;

/// How long a log is kept whose run has not ended and which nobody writes; a run may wait long for a decision.
const OPEN_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How much longer than its age a log stays, so that the database has dropped it by then.
const AFTER_AGE: Duration = Duration::from_secs(60 * 60);

/// The largest number that a script can count to.
const LARGEST: u64 = 1 << 52;

/// The logs in a Redis.
#[derive(Debug)]
pub(super) struct Streams {
    client: Arc<Client>,
    limits: RunLimits,
    append: Lua,
    check: Lua,
    take: Lua,
    plant: Lua,
    read: Lua,
    asked: Lua,
}

/// Whose log it is: its life and its writer's fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) run: RunId,
    pub(super) epoch: Epoch,
    pub(super) fence: u64,
}

/// What a script did, or why it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Done(T),
    Not(Why),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// There is no log.
    Gone,
    /// It is in another life, this one.
    Epoch(String),
    /// A later claim is known there.
    Fenced,
    /// The claim is not known there.
    Behind,
    /// The run has ended there.
    Ended,
    /// The head is this.
    Head(u64),
    /// The checkpoint that another one was to follow is not there.
    Short,
}

/// A batch was taken in, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TakenIn {
    pub(super) head: u64,
    /// How often something was asked of the run.
    pub(super) asked: u64,
}

/// What Redis is told of a run's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing: it stays as it is.
    Nothing,
    /// Only the database has it.
    Gone,
    Whole(Checkpoint),
    /// What follows as many bytes as that.
    More(Checkpoint, usize),
}

/// What a claim finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) head: u64,
    pub(super) checkpoint: Option<Checkpoint>,
    /// The fence that is known there, where the log may have lost its end.
    pub(super) doubtful: Option<u64>,
}

/// What a reader finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) head: u64,
    pub(super) oldest: u64,
    pub(super) events: Vec<Recorded>,
}

/// A life that begins.
#[derive(Debug)]
pub(super) struct Seed<'a> {
    pub(super) head: u64,
    pub(super) oldest: u64,
    pub(super) events: &'a [Recorded],
}

impl Streams {
    pub(super) fn new(client: Arc<Client>, limits: RunLimits) -> Self {
        Self {
            client,
            limits,
            append: Lua::new(script::APPEND),
            check: Lua::new(script::CHECK),
            take: Lua::new(script::TAKE),
            plant: Lua::new(script::PLANT),
            read: Lua::new(script::READ),
            asked: Lua::new(script::ASKED),
        }
    }

    /// Whether Redis is there.
    pub(super) async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    /// Appends a batch, and publishes `wake`.
    pub(super) async fn append(
        &self,
        of: Of,
        batch: &Append,
        checkpoint: &Told,
        wake: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer<TakenIn>> {
        let ended = batch.events.last().is_some_and(|last| last.terminal);
        let (channel, message) = wake.unwrap_or_default();
        let numbers = [
            of.epoch.to_string(),
            of.fence.to_string(),
            batch.after.to_string(),
            batch.batch.to_string(),
            u8::from(ended).to_string(),
            self.limits.history_events.to_string(),
            self.limits.history_bytes.to_string(),
            self.life(ended),
        ];
        let (version, state, follows) = match checkpoint {
            Told::Nothing => (String::new(), &[][..], String::new()),
            Told::Gone => ("0".to_owned(), &[][..], String::new()),
            Told::Whole(kept) => (kept.version.to_string(), &kept.state[..], String::new()),
            Told::More(kept, bytes) => {
                (kept.version.to_string(), &kept.state[..], bytes.to_string())
            }
        };
        let mut arguments: Vec<&[u8]> = numbers.iter().map(String::as_bytes).collect();
        arguments.extend([channel.as_bytes(), &message, version.as_bytes()]);
        arguments.extend([state, follows.as_bytes()]);
        arguments.extend(batch.events.iter().map(|event| &event.json[..]));
        self.run("run_log.append", &self.append, of.run, arguments).await?.map(taken_in)
    }

    /// Whether the log is as its writer knows it, or `batch` the last that it took in.
    pub(super) async fn check(&self, of: Of, head: u64, batch: BatchId) -> Result<Answer<TakenIn>> {
        let arguments = [
            of.epoch.to_string(),
            of.fence.to_string(),
            head.to_string(),
            batch.to_string(),
            self.life(false),
        ];
        self.run("run_log.append", &self.check, of.run, arguments.to_vec()).await?.map(taken_in)
    }

    /// Notes the fence of a claim.
    pub(super) async fn take(&self, of: Of) -> Result<Answer<Taken>> {
        let arguments = vec![of.epoch.to_string(), of.fence.to_string()];
        self.run("run_log.claim", &self.take, of.run, arguments).await?.map(|mut rest| {
            let (head, version) = (rest.number()?, rest.text()?);
            let state = rest.bytes()?;
            let checkpoint = match version.parse() {
                Ok(version) if !state.is_empty() => Some(Checkpoint::whole(version, state)),
                _ => None,
            };
            let doubtful = if rest.is_empty() { None } else { Some(rest.number()?) };
            Ok(Taken { head, checkpoint, doubtful })
        })
    }

    /// Begins a life in place of the one that was found.
    pub(super) async fn plant(&self, of: Of, found: &str, seed: Seed<'_>) -> Result<Answer<()>> {
        let numbers = [
            found.to_owned(),
            of.epoch.to_string(),
            of.fence.to_string(),
            seed.head.to_string(),
            seed.oldest.to_string(),
            "0".to_owned(),
            self.life(false),
        ];
        let mut arguments: Vec<&[u8]> = numbers.iter().map(String::as_bytes).collect();
        arguments.extend(seed.events.iter().map(|event| &event.json[..]));
        self.run("run_log.plant", &self.plant, of.run, arguments).await?.map(|_| Ok(()))
    }

    /// Up to `max` events after `after`, and about a page of them.
    pub(super) async fn read(&self, of: Of, after: u64, max: usize) -> Result<Answer<Found>> {
        let after = after.min(LARGEST);
        let arguments = vec![
            of.epoch.to_string(),
            of.fence.to_string(),
            after.to_string(),
            max.to_string(),
            PAGE_BYTES.to_string(),
        ];
        self.run("run_log.read", &self.read, of.run, arguments).await?.map(|mut rest| {
            let (head, oldest) = (rest.number()?, rest.number()?);
            let ended = rest.number()? == 1;
            let mut events = Vec::new();
            for seq in (after + 1).max(oldest).. {
                if rest.is_empty() {
                    break;
                }
                let json = rest.bytes()?;
                events.push(Recorded { seq, terminal: ended && seq == head, json });
            }
            Ok(Found { head, oldest, events })
        })
    }

    /// Notes that something was asked of a run.
    pub(super) async fn asked(&self, run: RunId) -> Result<()> {
        let [state, ..] = self.keys(run);
        let no_arguments: &[&str] = &[];
        self.client
            .script::<Value>(
                "run_log.signal",
                Effect::Idempotent,
                &self.asked,
                &state,
                no_arguments,
            )
            .await
            .map(drop)
    }

    /// Deletes a log.
    pub(super) async fn delete(&self, run: RunId) -> Result<()> {
        let keys = self.keys(run);
        let [state, ..] = &keys;
        let mut delete = redis::cmd("DEL");
        delete.arg(&keys);
        let call =
            self.client.call::<i64>("run_log.forget", Effect::Idempotent, state, &delete).await;
        call.map(drop)
    }

    fn life(&self, ended: bool) -> String {
        let age = self.limits.history_age;
        millis(if ended { age + AFTER_AGE } else { age.max(OPEN_LIFE) }).to_string()
    }

    fn keys(&self, run: RunId) -> [String; 3] {
        ["s", "e", "c"].map(|part| self.client.key("l", format_args!("{{{run}}}:{part}")))
    }

    async fn run(
        &self,
        operation: &'static str,
        script: &Lua,
        run: RunId,
        arguments: impl redis::ToRedisArgs,
    ) -> Result<Answer<Rest>> {
        let keys = self.keys(run);
        let [state, events, checkpoint] = &keys;
        let answer: Vec<Value> = self
            .client
            .script_on(
                operation,
                Effect::Idempotent,
                script,
                [state, events, checkpoint],
                arguments,
            )
            .await?;
        let mut rest = Rest { operation, values: answer.into_iter() };
        let word = rest.text()?;
        Ok(match word.as_str() {
            "ok" | "moved" => Answer::Done(rest),
            "gone" => Answer::Not(Why::Gone),
            "epoch" => Answer::Not(Why::Epoch(rest.text()?)),
            "fenced" => Answer::Not(Why::Fenced),
            "behind" => Answer::Not(Why::Behind),
            "ended" => Answer::Not(Why::Ended),
            "head" => Answer::Not(Why::Head(rest.number()?)),
            "short" => Answer::Not(Why::Short),
            _ => return Err(garbled(operation, word)),
        })
    }
}

impl<T> Answer<T> {
    fn map<U>(self, done: impl FnOnce(T) -> Result<U>) -> Result<Answer<U>> {
        Ok(match self {
            Self::Done(value) => Answer::Done(done(value)?),
            Self::Not(why) => Answer::Not(why),
        })
    }
}

fn taken_in(mut rest: Rest) -> Result<TakenIn> {
    Ok(TakenIn { head: rest.number()?, asked: rest.number()? })
}

/// What is left of an answer.
struct Rest {
    operation: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    fn bytes(&mut self) -> Result<Bytes> {
        match self.values.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes.into()),
            other => Err(garbled(self.operation, format_args!("{other:?}"))),
        }
    }

    fn text(&mut self) -> Result<String> {
        let value = self.values.next().unwrap_or(Value::Nil);
        from_redis_value(value).map_err(|error| garbled(self.operation, error))
    }

    fn number(&mut self) -> Result<u64> {
        let text = self.text()?;
        text.parse().map_err(|_| garbled(self.operation, text))
    }
}
