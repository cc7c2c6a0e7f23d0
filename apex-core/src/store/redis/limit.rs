use super::client::{Client, Lua};
use super::value::millis;
use crate::error::Result;
use crate::limit::{Grant, LimitKey, LimitStore, Place, Rate};
use crate::resilience::Effect;
use async_trait::async_trait;
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::time::Duration;

/// Renewals under way at a time.
const AT_A_TIME: usize = 64;

/// Limits in Redis, by its own clock: for each key a set of holders with the time until which each has its place.
#[derive(Debug)]
pub(super) struct RedisLimitStore {
    client: Arc<Client>,
    hold: Lua,
    take: Lua,
}

impl RedisLimitStore {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, hold: Lua::new(HOLD), take: Lua::new(TAKE) }
    }

    async fn hold_as(
        &self,
        operation: &'static str,
        place: &Place,
        life: Duration,
    ) -> Result<Grant> {
        let key = self.client.key("l", place.key.as_str());
        let arguments = (&place.holder.as_bytes()[..], place.most, millis(life));
        let wait: u64 =
            self.client.script(operation, Effect::Idempotent, &self.hold, &key, arguments).await?;
        Ok(grant(Duration::from_millis(wait)))
    }
}

impl RedisLimitStore {
    /// Renews places, each on its way before the one before it is answered.
    async fn renew_some(&self, places: &[Place], life: Duration) -> Result<Vec<Place>> {
        let renewals = places.iter().map(|place| self.hold_as("limit.renew", place, life));
        let grants = try_join_all(renewals).await?;
        let of = places.iter().zip(grants).filter(|(_, grant)| *grant != Grant::Granted);
        Ok(of.map(|(place, _)| place.clone()).collect())
    }
}

#[async_trait]
impl LimitStore for RedisLimitStore {
    async fn hold(&self, place: &Place, life: Duration) -> Result<Grant> {
        self.hold_as("limit.hold", place, life).await
    }

    async fn renew(&self, places: &[Place], life: Duration) -> Result<Vec<Place>> {
        let mut lost = Vec::new();
        for places in places.chunks(AT_A_TIME) {
            lost.extend(self.renew_some(places, life).await?);
        }
        Ok(lost)
    }

    async fn release(&self, place: &Place) -> Result<()> {
        let key = self.client.key("l", place.key.as_str());
        let mut remove = redis::cmd("ZREM");
        remove.arg(&key).arg(&place.holder.as_bytes()[..]);
        self.client.call::<i64>("limit.release", Effect::Idempotent, &key, &remove).await.map(drop)
    }

    async fn take(&self, key: &LimitKey, rate: Rate, count: u32) -> Result<Grant> {
        let key = self.client.key("r", key.as_str());
        let refill = u64::try_from(rate.refill.as_micros()).unwrap_or(u64::MAX);
        let arguments = (count, rate.burst, refill);
        let wait: u64 =
            self.client.script("limit.take", Effect::Once, &self.take, &key, arguments).await?;
        Ok(grant(Duration::from_micros(wait)))
    }
}

fn grant(wait: Duration) -> Grant {
    if wait.is_zero() { Grant::Granted } else { Grant::Refused { retry_after: wait } }
}

/// Takes or keeps a place: 0, or the milliseconds until the first one lapses.
const HOLD: &str = "#!lua
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    return math.max(1, tonumber(first[2] or now) - now)
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[3])))
return 0
";

/// Takes from a bucket: 0, or the microseconds until there is enough. The key holds when it is full again.
const TAKE: &str = "#!lua
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local next = full + ARGV[1] * ARGV[3]
local over = next - (now + ARGV[2] * ARGV[3])
if over > 0 then return math.ceil(over) end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.floor((next - now) / 1000) + 1)
return 0
";
