use super::client::{Client, Lua};
use super::value::{from_json, hex, json, millis};
use crate::auth::{TicketRecord, TicketStore, TokenHash, too_many_tickets};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::resilience::Effect;
use async_trait::async_trait;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// How much longer than a ticket the note lives that it was issued.
const NOTE: Duration = Duration::from_secs(60);

/// Tickets in Redis, each a key of its own, so that taking one is one `GETDEL`. Beside them is a set of those issued to
/// each user: what is no more among the tickets is taken out of it when it is full.
#[derive(Debug)]
pub(super) struct RedisTicketStore {
    client: Arc<Client>,
    note: Lua,
}

impl RedisTicketStore {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, note: Lua::new(NOTED) }
    }

    fn key(&self, hash: &TokenHash) -> String {
        self.client.key("t", hex(hash.as_bytes()))
    }

    /// Of the tickets that were noted for a user, those that there are still; the others are taken off the note.
    async fn unused(&self, note: &str, noted: Vec<(String, i64)>) -> Result<Vec<i64>> {
        let there = join_all(noted.iter().map(|(ticket, _)| async move {
            let key = self.client.key("t", ticket);
            let mut exists = redis::cmd("EXISTS");
            exists.arg(&key);
            self.client.call::<bool>(ISSUE, Effect::Read, &key, &exists).await
        }))
        .await;
        let mut unused = Vec::new();
        let mut used = redis::cmd("ZREM");
        used.arg(note);
        let mut any = false;
        for ((ticket, lapses), there) in noted.iter().zip(there) {
            if there? {
                unused.push(*lapses);
            } else {
                used.arg(ticket);
                any = true;
            }
        }
        if any {
            self.client.call::<i64>(ISSUE, Effect::Idempotent, note, &used).await?;
        }
        Ok(unused)
    }

    async fn forget(&self, key: &str) {
        let mut delete = redis::cmd("DEL");
        delete.arg(key);
        // Nobody knows this ticket, so that it only lapses where this fails.
        let _ = self.client.call::<i64>(ISSUE, Effect::Idempotent, key, &delete).await;
    }
}

#[async_trait]
impl TicketStore for RedisTicketStore {
    async fn issue(&self, ticket: TicketRecord, now: Timestamp, most_unused: usize) -> Result<()> {
        let key = self.key(&ticket.hash);
        let note = self.client.key("tu", ticket.user);
        let life = millis(ticket.expires_at.since(now)).max(1);
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(json(ISSUE, &ticket)?).arg("PX").arg(life);
        self.client.call::<()>(ISSUE, Effect::Idempotent, &key, &set).await?;
        // A ticket that is used between the look and the second try makes room for one; nothing else can.
        for last in [false, true] {
            let arguments = (
                now.as_millis(),
                most_unused,
                hex(ticket.hash.as_bytes()),
                ticket.expires_at.as_millis(),
                life.saturating_add(millis(NOTE)),
            );
            let noted: Vec<(String, i64)> =
                self.client.script(ISSUE, Effect::Idempotent, &self.note, &note, arguments).await?;
            if noted.is_empty() {
                return Ok(());
            }
            let unused = self.unused(&note, noted).await?;
            if last || unused.len() >= most_unused {
                self.forget(&key).await;
                let lapses = unused.into_iter().min().map(Timestamp::from_millis);
                return Err(too_many_tickets(most_unused, lapses, now));
            }
        }
        Ok(())
    }

    async fn redeem(&self, hash: &TokenHash) -> Result<Option<TicketRecord>> {
        let key = self.key(hash);
        let mut take = redis::cmd("GETDEL");
        take.arg(&key);
        let found: Option<Vec<u8>> = self.client.call(REDEEM, Effect::Once, &key, &take).await?;
        found.map(|found| from_json(REDEEM, &found)).transpose()
    }
}

const ISSUE: &str = "ticket.issue";
const REDEEM: &str = "ticket.redeem";

/// Notes a ticket, or gives back what is noted where that is as much as may be.
const NOTED: &str = "#!lua
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) and not redis.call('ZSCORE', KEYS[1], ARGV[3]) then
    local noted = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
    if #noted == 0 then return {'', ARGV[1]} end
    return noted
end
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[5])))
return {}
";
