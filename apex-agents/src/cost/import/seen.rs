//! Which records were there before: bounded, so that the ten-millionth costs no more than the first.

use std::hash::Hasher;

/// How many records one generation remembers; two are kept, so at least this many are always known.
const GENERATION: usize = (1 << 21) / 8 * 7;

/// Finds rows that equal an earlier one, over all files of an analysis.
#[derive(Debug, Default)]
pub(in crate::cost) struct Copies {
    seen: Seen,
    files: Vec<String>,
}

/// Where a row stands: the number of its file above, its line below.
const LINE_BITS: u32 = 40;

impl Copies {
    /// A new file begins.
    pub(in crate::cost) fn begin(&mut self, file: &str) {
        self.files.push(file.to_owned());
    }

    /// Where the row with this fingerprint was before, in words; else remembers that it is here.
    pub(in crate::cost) fn earlier(&mut self, fingerprint: u64, line: u64) -> Option<String> {
        let here = (self.files.len() as u64) << LINE_BITS | line;
        let before = self.seen.before(fingerprint, here)?;
        let line = before & ((1 << LINE_BITS) - 1);
        let number = usize::try_from(before >> LINE_BITS).unwrap_or(0);
        Some(match self.files.get(number.saturating_sub(1)) {
            Some(file) if number < self.files.len() => format!("line {line} of {file}"),
            _ => format!("line {line}"),
        })
    }

    /// Whether rows were forgotten, so that a copy far away may have passed.
    pub(in crate::cost) fn forgot(&self) -> bool {
        self.seen.forgot
    }
}

/// Remembers where records were seen. It knows the last [`GENERATION`] records for certain, and up to twice as many.
#[derive(Debug, Default)]
struct Seen {
    young: Table,
    old: Table,
    forgot: bool,
}

/// Open addressing with linear probing; a key of zero is a free slot.
#[derive(Debug, Default)]
struct Table {
    keys: Vec<u64>,
    places: Vec<u64>,
    count: usize,
}

impl Seen {
    /// Where a record with this fingerprint was seen before; else remembers that it was at `place`.
    fn before(&mut self, fingerprint: u64, place: u64) -> Option<u64> {
        let key = fingerprint.max(1);
        if let Some(place) = self.old.find(key).or_else(|| self.young.find(key)) {
            return Some(place);
        }
        if self.young.count >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.forgot |= self.young.count > 0;
            self.young.clear();
        }
        self.young.insert(key, place);
        None
    }
}

impl Table {
    fn find(&self, key: u64) -> Option<u64> {
        let mut slot = self.slot(key)?;
        loop {
            match self.keys.get(slot) {
                Some(found) if *found == key => return self.places.get(slot).copied(),
                Some(0) | None => return None,
                Some(_) => slot = (slot + 1) & (self.keys.len() - 1),
            }
        }
    }

    fn insert(&mut self, key: u64, place: u64) {
        if self.count * 8 >= self.keys.len() * 7 {
            self.grow();
        }
        let Some(mut slot) = self.slot(key) else {
            return;
        };
        while self.keys.get(slot).is_some_and(|found| *found != 0) {
            slot = (slot + 1) & (self.keys.len() - 1);
        }
        if let (Some(k), Some(p)) = (self.keys.get_mut(slot), self.places.get_mut(slot)) {
            (*k, *p) = (key, place);
            self.count += 1;
        }
    }

    fn slot(&self, key: u64) -> Option<usize> {
        let mask = (self.keys.len() as u64).checked_sub(1)?;
        usize::try_from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20 & mask).ok()
    }

    fn grow(&mut self) {
        let size = (self.keys.len() * 2).max(1 << 10);
        let keys = std::mem::replace(&mut self.keys, vec![0; size]);
        let places = std::mem::replace(&mut self.places, vec![0; size]);
        self.count = 0;
        for (key, place) in keys.into_iter().zip(places).filter(|(key, _)| *key != 0) {
            self.insert(key, place);
        }
    }

    fn clear(&mut self) {
        self.keys.fill(0);
        self.count = 0;
    }
}

/// A hash of a text that is the same in every process.
#[inline]
pub(in crate::cost) fn hash(text: &str) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Mixes a number into a hash.
#[inline]
pub(in crate::cost) fn mix(hash: u64, value: u64) -> u64 {
    let product =
        u128::from(hash ^ 0x9e37_79b9_7f4a_7c15) * u128::from(value ^ 0xd6e8_feb8_6659_fd93);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "folding both halves is the point"
    )]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded.rotate_left(29) ^ hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_where_it_was_first() {
        let mut seen = Seen::default();
        assert_eq!(seen.before(7, 2), None);
        assert_eq!(seen.before(0, 3), None);
        assert_eq!(seen.before(7, 9), Some(2));
        assert_eq!(seen.before(0, 9), Some(3));
    }

    #[test]
    fn a_generation_is_always_remembered_and_memory_is_bounded() {
        let mut seen = Seen::default();
        let total = GENERATION as u64 * 2 + 10;
        for place in 0..total {
            assert_eq!(seen.before(mix(1, place), place), None);
        }
        assert!(seen.forgot);
        assert_eq!(
            seen.before(mix(1, total - GENERATION as u64), 0),
            Some(total - GENERATION as u64)
        );
        assert!(seen.young.keys.len() <= 1 << 21 && seen.old.keys.len() <= 1 << 21);
    }
}
