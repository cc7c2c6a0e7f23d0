//! Which records are the same in what sense, as numbers that every process computes alike.

use super::draft::Decoded;
use super::seen::{hash, mix};
use apex_core::clock::Timestamp;

/// Who asked which model: the user, and all that the price of a model depends on.
pub(in crate::cost) fn subject(user: u64, route: u64) -> u64 {
    mix(user, route)
}

/// A user as a number; no user is one too.
pub(in crate::cost) fn user(record: &Decoded<'_>) -> u64 {
    record.user.map_or(1, |user| hash(user.as_bytes()))
}

/// Provider, model, tier and way as a number.
pub(in crate::cost) fn route(record: &Decoded<'_>) -> u64 {
    let provider =
        mix(hash(record.model.as_bytes()), record.provider.map_or(1, |name| hash(name.as_bytes())));
    mix(
        provider,
        record.tier.map_or(u64::from(record.batch), |tier| {
            hash(tier.as_bytes()) ^ u64::from(record.batch)
        }),
    )
}

/// Records that ask the same: one subject, the same counts, and the same content where that is told.
pub(in crate::cost) fn question(subject: u64, record: &Decoded<'_>) -> u64 {
    let counts = mix(mix(subject, record.input), record.output);
    mix(counts, record.content.map_or(1, hash))
}

/// Records that are the same row: all that is the same in a copy.
pub(in crate::cost) fn row(question: u64, record: &Decoded<'_>) -> u64 {
    let at = record.at.map_or(0, Timestamp::as_millis).cast_unsigned();
    let cached = mix(mix(question, at), record.cached ^ record.cache_write.rotate_left(32));
    let session = mix(cached, record.session.map_or(1, hash));
    #[expect(clippy::cast_possible_truncation, reason = "a fold of both halves")]
    let cost = record.recorded.map_or(1, |cost| (cost.units() ^ (cost.units() >> 64)) as u64);
    mix(mix(session, cost), record.request.map_or(1, hash))
}
