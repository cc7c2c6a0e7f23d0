//! Typed identifiers. Every id is a UUIDv7 made by the caller of a write, so that a write can be repeated safely
//! and rows of a store stay in order of creation (RFC 9562, section 5.7).

use crate::clock::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: 48 bits of the clock's milliseconds, the rest random.
            #[must_use]
            pub fn new(clock: &dyn Clock) -> Self {
                Self(uuid_v7(clock))
            }

            /// An id that follows from `parts` alone, so that the same write made again names the same thing.
            #[must_use]
            pub fn derived(parts: &[&[u8]]) -> Self {
                Self(derived(stringify!($name), parts))
            }

            /// When it was made, by the clock of whoever made it; `None` for one that does not tell, such as a derived
            /// one.
            #[must_use]
            pub fn made_at(&self) -> Option<Timestamp> {
                made_at(self.0)
            }

            /// The id as 16 bytes, for keys and digests.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id from 16 bytes, as [`Self::as_bytes`] gave them.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A user, made when an account is made.
    UserId,
    /// One run: a message and everything that agents do about it.
    RunId,
    /// A conversation; its runs follow one another.
    ThreadId,
    /// The client's own id of a message; makes sending it again harmless.
    RequestId,
    /// A file that a user uploaded.
    FileId,
    /// A result that a run made.
    ArtifactId,
    /// A login; ending it ends every connection and ticket that came from it.
    SessionId,
    /// One client connection.
    ConnectionId,
    /// What of a user's budget is reserved for one question; makes settling it again harmless.
    ReservationId,
    /// Who holds a place under a limit: one connection, say.
    HolderId,
    /// One process that runs Apex; made anew at every start.
    NodeId,
    /// Ties logs, spans, events and the client's error together.
    CorrelationId,
    /// An entry in the record of what happened at the door.
    AuditId,
    /// A decision that a run waits for.
    ApprovalId,
    /// One life of a log: a log that lost a part goes on under a new epoch.
    Epoch,
    /// One batch of appended events; makes appending it again harmless.
    BatchId,
    /// One attempt to have a model answer; makes recording it again harmless.
    AttemptId,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident $prefix:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix)
                    .and_then(|n| n.parse().ok())
                    .map(Self)
                    .ok_or_else(|| format!(concat!("expected ", $prefix, "<number>, got {:?}"), text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": concat!("^", $prefix, "[0-9]+$")})
            }
        }
    )*};
}

counters! {
    /// A step of a run, counted within it (`s1`, `s2`, …); a step done again on a new attempt has a new number.
    StepId "s",
    /// A tool call of a run, counted within it (`c1`, `c2`, …).
    CallId "c",
}

fn uuid_v7(clock: &dyn Clock) -> Uuid {
    let mut random = [0_u8; 10];
    // The system's generator can fail only before the machine has gathered any entropy; a version 4 id from the
    // uuid crate's own source would fail the same way.
    if !clock.fill(&mut random) {
        return Uuid::now_v7();
    }
    let millis = u64::try_from(clock.now().as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

fn made_at(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    let millis = i64::try_from(seconds).ok()?.checked_mul(1_000)?;
    Some(Timestamp::from_millis(millis.checked_add(i64::from(nanos / 1_000_000))?))
}

fn derived(kind: &str, parts: &[&[u8]]) -> Uuid {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(kind.as_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn ids_are_ordered_by_time_and_survive_text() {
        let a = RunId::new(&SystemClock);
        std::thread::sleep(std::time::Duration::from_millis(2));
        let b = RunId::new(&SystemClock);
        assert!(a < b);
        assert_eq!(a, a.to_string().parse().unwrap());
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let before = SystemClock.now();
        let made = RunId::new(&SystemClock).made_at().unwrap();
        assert!(before <= made && made <= SystemClock.now());
        assert_eq!(RunId::derived(&[b"a"]).made_at(), None);
    }

    #[test]
    fn derived_ids_depend_on_every_part_and_on_the_kind() {
        assert_eq!(ThreadId::derived(&[b"a", b"b"]), ThreadId::derived(&[b"a", b"b"]));
        assert_ne!(ThreadId::derived(&[b"a", b"b"]), ThreadId::derived(&[b"ab"]));
        assert_ne!(ThreadId::derived(&[b"a"]).as_bytes(), RunId::derived(&[b"a"]).as_bytes());
    }

    #[test]
    fn counters_are_strings_on_the_wire() {
        assert_eq!(serde_json::to_string(&StepId(3)).unwrap(), "\"s3\"");
        assert_eq!(serde_json::from_str::<CallId>("\"c12\"").unwrap(), CallId(12));
        assert!(serde_json::from_str::<CallId>("\"s12\"").is_err());
    }
}
