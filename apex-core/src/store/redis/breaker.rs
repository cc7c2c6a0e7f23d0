use super::client::{Client, Lua};
use super::value::{from_json, json, millis};
use crate::error::Result;
use crate::id::NodeId;
use crate::resilience::{BreakerExchange, BreakerHint, Effect, HINT_LIFE};
use async_trait::async_trait;
use std::sync::Arc;

/// The nodes whose hints are kept.
const NODES: usize = 1_024;

/// Hints of breakers in Redis: for each node what it said last, which lapses by Redis's own clock.
#[derive(Debug)]
pub(super) struct RedisBreakerExchange {
    client: Arc<Client>,
    publish: Lua,
    read: Lua,
}

impl RedisBreakerExchange {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, publish: Lua::new(PUBLISH), read: Lua::new(READ) }
    }
}

#[async_trait]
impl BreakerExchange for RedisBreakerExchange {
    async fn publish(&self, node: NodeId, hints: Vec<BreakerHint>) -> Result<()> {
        let operation = "breaker.publish";
        let said = if hints.is_empty() { Vec::new() } else { json(operation, &hints)? };
        let key = self.client.key("b", "hints");
        let arguments = (node.to_string(), said, millis(HINT_LIFE), NODES);
        self.client.script(operation, Effect::Idempotent, &self.publish, &key, arguments).await
    }

    async fn hints(&self) -> Result<Vec<BreakerHint>> {
        let operation = "breaker.hints";
        let key = self.client.key("b", "hints");
        let said: Vec<Vec<u8>> = self
            .client
            .script(operation, Effect::Read, &self.read, &key, (millis(HINT_LIFE),))
            .await?;
        let mut hints = Vec::new();
        for said in said {
            hints.extend(from_json::<Vec<BreakerHint>>(operation, &said)?);
        }
        Ok(hints)
    }
}

/// Keeps what a node says, after the time at which it says it; nothing said is nothing kept.
const PUBLISH: &str = "#!lua
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
elseif redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 or redis.call('HLEN', KEYS[1]) < tonumber(ARGV[4]) then
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.status_reply('OK')
";

/// What was said and still holds; the rest is dropped.
const READ: &str = "#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local said = redis.call('HGETALL', KEYS[1])
local fresh = {}
for i = 1, #said, 2 do
    local at, hints = string.match(said[i + 1], '^(%d+) (.*)$')
    if at and now - at < tonumber(ARGV[1]) then
        fresh[#fresh + 1] = hints
    else
        redis.call('HDEL', KEYS[1], said[i])
    end
end
return fresh
";
