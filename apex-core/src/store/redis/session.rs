use super::client::{Client, Lua};
use super::value::{from_json, hex, json, millis};
use crate::auth::{
    REVOCATIONS_KEPT, Revocation, Rotated, Rotation, SessionRecord, SessionStore, TokenHash,
};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::principal::Principal;
use crate::resilience::Effect;
use crate::run::{Topic, Wakeup};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::Cmd;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// How much longer than a login what is known of it is kept.
const GRACE: Duration = Duration::from_secs(60 * 60);
/// The tries at a renewal that others get in the way of.
const TURNS: usize = 64;

/// Logins in Redis. The record of a login is one key, which only changes as a whole and only from what was read; the
/// keys that lead to it by token, family and user may be a moment older or younger, and are checked against it.
#[derive(Debug)]
pub(super) struct RedisSessionStore {
    client: Arc<Client>,
    wakeup: Arc<dyn Wakeup>,
    replace: Lua,
    remove: Lua,
    list: Lua,
    revoke: Lua,
}

impl RedisSessionStore {
    pub(super) fn new(client: Arc<Client>, wakeup: Arc<dyn Wakeup>) -> Self {
        Self {
            client,
            wakeup,
            replace: Lua::new(REPLACE),
            remove: Lua::new(REMOVE),
            list: Lua::new(LIST),
            revoke: Lua::new(REVOKE),
        }
    }

    fn record_key(&self, session: SessionId) -> String {
        self.client.key("s", session)
    }

    fn token_key(&self, token: &TokenHash) -> String {
        self.client.key("st", hex(token.as_bytes()))
    }

    fn family_key(&self, family: &TokenHash) -> String {
        self.client.key("sf", hex(family.as_bytes()))
    }

    fn user_key(&self, user: UserId) -> String {
        self.client.key("su", user)
    }

    /// A record as it is kept, and what it says.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        session: SessionId,
    ) -> Result<Option<(Vec<u8>, SessionRecord)>> {
        let key = self.record_key(session);
        let kept: Option<Vec<u8>> =
            self.client.call(operation, Effect::Read, &key, redis::cmd("GET").arg(&key)).await?;
        let Some(kept) = kept else { return Ok(None) };
        let record = from_json(operation, &kept)?;
        Ok(Some((kept, record)))
    }

    /// Where a token or family leads.
    async fn lead(&self, operation: &'static str, key: &str) -> Result<Option<SessionId>> {
        let found: Option<String> =
            self.client.call(operation, Effect::Read, key, redis::cmd("GET").arg(key)).await?;
        Ok(found.and_then(|session| session.parse().ok()))
    }

    async fn set(&self, operation: &'static str, key: &str, value: &[u8], life: i64) -> Result<()> {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value).arg("PX").arg(life);
        self.client.call(operation, Effect::Idempotent, key, &set).await
    }

    async fn delete(&self, operation: &'static str, key: &str) -> Result<bool> {
        let mut delete = redis::cmd("DEL");
        self.client.call(operation, Effect::Idempotent, key, delete.arg(key)).await
    }

    /// A user's logins; what has run out with its time is taken off the user's list.
    async fn of(&self, operation: &'static str, user: UserId) -> Result<Vec<SessionRecord>> {
        let key = self.user_key(user);
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg(0).arg(-1);
        let names: Vec<String> = self.client.call(operation, Effect::Read, &key, &range).await?;
        let sessions: Vec<SessionId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let found =
            try_join_all(sessions.iter().map(|session| self.read(operation, *session))).await?;
        let mut records = Vec::new();
        let mut gone = unlist(&key);
        let mut any = false;
        for (session, found) in sessions.iter().zip(found) {
            match found {
                Some((_, record)) => records.push(record),
                None => {
                    gone.arg(session.to_string());
                    any = true;
                }
            }
        }
        if any {
            self.client.call::<i64>(operation, Effect::Idempotent, &key, &gone).await?;
        }
        Ok(records)
    }

    /// Takes away what leads to a login whose record is gone.
    async fn forget(&self, operation: &'static str, record: &SessionRecord) -> Result<()> {
        self.delete(operation, &self.token_key(&record.hash)).await?;
        if let Some(refresh) = record.refresh {
            self.delete(operation, &self.family_key(&refresh.family)).await?;
        }
        let key = self.user_key(record.user);
        let mut gone = unlist(&key);
        gone.arg(record.session.to_string());
        self.client.call::<i64>(operation, Effect::Idempotent, &key, &gone).await.map(drop)
    }

    /// Keeps a login for as long as it may be asked for from `now` on.
    pub(super) async fn keep(
        &self,
        operation: &'static str,
        session: &SessionRecord,
        now: Timestamp,
    ) -> Result<()> {
        let life = life(session, now);
        let name = session.session.to_string();
        let user = self.user_key(session.user);
        let arguments = (session.created_at.as_millis(), &*name, life);
        let listed =
            self.client.script::<()>(operation, Effect::Idempotent, &self.list, &user, arguments);
        listed.await?;
        self.set(operation, &self.token_key(&session.hash), name.as_bytes(), life).await?;
        if let Some(refresh) = session.refresh {
            let family = self.family_key(&refresh.family);
            self.set(operation, &family, name.as_bytes(), life).await?;
        }
        let record = json(operation, session)?;
        self.set(operation, &self.record_key(session.session), &record, life).await
    }

    /// What was revoked, from the first to the last of these places, oldest first.
    pub(super) async fn revoked_between(
        &self,
        operation: &'static str,
        first: i64,
        last: i64,
    ) -> Result<Vec<Revocation>> {
        let key = self.client.key("rv", "");
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg(first).arg(last);
        let found: Vec<Vec<u8>> = self.client.call(operation, Effect::Read, &key, &range).await?;
        found.iter().map(|kept| from_json(operation, kept)).collect()
    }

    pub(super) async fn revoke(
        &self,
        operation: &'static str,
        revocation: Revocation,
    ) -> Result<()> {
        let key = self.client.key("rv", "");
        let arguments = (
            revocation.at.as_millis(),
            json(operation, &revocation)?,
            revocation.at.minus(REVOCATIONS_KEPT).as_millis(),
            millis(REVOCATIONS_KEPT),
        );
        self.client.script(operation, Effect::Idempotent, &self.revoke, &key, arguments).await
    }
}

#[async_trait]
impl SessionStore for RedisSessionStore {
    async fn create(&self, session: SessionRecord) -> Result<()> {
        for known in self.of(CREATE, session.user).await? {
            if known.lapses_at <= session.created_at {
                self.delete(CREATE, &self.record_key(known.session)).await?;
                self.forget(CREATE, &known).await?;
            }
        }
        self.keep(CREATE, &session, session.created_at).await
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>> {
        let Some(session) = self.lead("session.find", &self.token_key(hash)).await? else {
            return Ok(None);
        };
        let found = self.read("session.find", session).await?;
        Ok(found.map(|(_, record)| record).filter(|record| record.hash == *hash))
    }

    async fn session(&self, session: SessionId) -> Result<Option<SessionRecord>> {
        Ok(self.read("session.session", session).await?.map(|(_, record)| record))
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated> {
        let family = rotation.presented.family;
        let Some(session) = self.lead(ROTATE, &self.family_key(&family)).await? else {
            return Ok(Rotated::Unknown);
        };
        let key = self.record_key(session);
        for _ in 0..TURNS {
            let Some((kept, record)) = self.read(ROTATE, session).await? else {
                return Ok(Rotated::Unknown);
            };
            if record.refresh.is_none_or(|refresh| refresh.family != family) {
                return Ok(Rotated::Unknown);
            }
            let before = record.hash;
            let rotated = rotation.decide(record);
            match &rotated {
                Rotated::Unknown => return Ok(rotated),
                Rotated::Renewed(record) => {
                    let (token, life) = (self.token_key(&record.hash), life(record, rotation.now));
                    self.set(ROTATE, &token, session.to_string().as_bytes(), life).await?;
                    let arguments = (kept, json(ROTATE, record)?);
                    let done: bool = self
                        .client
                        .script(ROTATE, Effect::Once, &self.replace, &key, arguments)
                        .await?;
                    if done {
                        self.delete(ROTATE, &self.token_key(&before)).await?;
                        return Ok(rotated);
                    }
                    self.delete(ROTATE, &token).await?;
                }
                Rotated::Reused(record) => {
                    let (at, user) = (rotation.now, record.user);
                    // Noted first: what is noted twice is ended once, and what is not noted would live on elsewhere.
                    let revocation = Revocation { at, user, session: Some(session) };
                    self.revoke(ROTATE, revocation).await?;
                    self.wakeup.wake(Topic::Revocations);
                    let done: bool = self
                        .client
                        .script(ROTATE, Effect::Once, &self.remove, &key, (kept,))
                        .await?;
                    if done {
                        self.forget(ROTATE, record).await?;
                        return Ok(rotated);
                    }
                }
            }
        }
        Err(Error::new(Kind::Unavailable, ROTATE, "too many renew this login at once; try again"))
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>> {
        let mut found = self.of("session.list", principal.user()).await?;
        found.sort_unstable_by_key(|session| Reverse((session.created_at, session.session)));
        Ok(found)
    }

    async fn end(&self, principal: &Principal, session: SessionId, now: Timestamp) -> Result<()> {
        let known = self.read(END, session).await?.map(|(_, record)| record);
        let Some(known) = known.filter(|known| known.user == principal.user()) else {
            return Err(Error::not_found(END, "session"));
        };
        let revocation = Revocation { at: now, user: known.user, session: Some(session) };
        self.revoke(END, revocation).await?;
        self.delete(END, &self.record_key(session)).await?;
        self.wakeup.wake(Topic::Revocations);
        self.forget(END, &known).await
    }

    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionId>> {
        let operation = "session.end_all";
        let known = self.of(operation, user).await?;
        let ended: Vec<SessionId> = known.iter().map(|known| known.session).collect();
        // Noted first, as in a renewal.
        for session in ended.iter().copied().map(Some).chain([None]) {
            self.revoke(operation, Revocation { at: now, user, session }).await?;
        }
        for known in &known {
            self.delete(operation, &self.record_key(known.session)).await?;
            self.forget(operation, known).await?;
        }
        self.wakeup.wake(Topic::Revocations);
        Ok(ended)
    }

    async fn revoked(&self, since: Timestamp) -> Result<Vec<Revocation>> {
        let operation = "session.revoked";
        let key = self.client.key("rv", "");
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg(since.as_millis()).arg("+inf").arg("BYSCORE");
        let found: Vec<Vec<u8>> = self.client.call(operation, Effect::Read, &key, &range).await?;
        found.iter().map(|kept| from_json(operation, kept)).collect()
    }
}

const CREATE: &str = "session.create";
const ROTATE: &str = "session.rotate";
const END: &str = "session.end";

/// How long what is known of a login is kept from `now`, in milliseconds.
fn life(record: &SessionRecord, now: Timestamp) -> i64 {
    millis(record.ends_at.since(now) + GRACE)
}

fn unlist(key: &str) -> Cmd {
    let mut command = redis::cmd("ZREM");
    command.arg(key);
    command
}

/// Replaces a record where it is still what was read.
const REPLACE: &str = "#!lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
";

/// Removes a record where it is still what was read.
const REMOVE: &str = "#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
";

/// Puts a login on its user's list.
const LIST: &str = "#!lua
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[3])))
return redis.status_reply('OK')
";

/// Notes a revocation and drops those that are old enough; also in a server that is full, for it must not be refused.
const REVOKE: &str = "#!lua flags=allow-oom
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return redis.status_reply('OK')
";
