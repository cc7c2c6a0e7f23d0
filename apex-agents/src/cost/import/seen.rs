//! Which records were there before: bounded, so that the ten-millionth costs no more than the first.

use std::hash::Hasher;

/// How many records one generation remembers; two are kept, so at least this many are always known.
const GENERATION: usize = 1 << 20;

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

    /// Looks at the place of a fingerprint without needing what is there. Done for many rows in a row, the processor
    /// fetches their places from memory at the same time instead of one after the other.
    #[inline]
    pub(in crate::cost) fn warm(&self, fingerprint: u64) -> u64 {
        let key = fingerprint.max(1);
        self.seen.old.warm(key) ^ self.seen.young.warm(key)
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
    /// Keys and their places, side by side so that one look brings both.
    slots: Vec<(u64, u64)>,
    count: usize,
}

impl Seen {
    /// Where a record with this fingerprint was seen before; else remembers that it was at `place`.
    fn before(&mut self, fingerprint: u64, place: u64) -> Option<u64> {
        let key = fingerprint.max(1);
        if self.young.count >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.forgot |= self.young.count > 0;
            self.young.clear();
        }
        if let Ok(slot) = self.old.find(key) {
            return self.old.slots.get(slot).map(|(_, place)| *place);
        }
        self.young.find_or_insert(key, place)
    }
}

impl Table {
    /// The slot of a key, or the free one at which the search for it ended.
    fn find(&self, key: u64) -> Result<usize, usize> {
        let mut slot = self.slot(key).unwrap_or(0);
        loop {
            match self.slots.get(slot) {
                Some((found, _)) if *found == key => return Ok(slot),
                Some((0, _)) | None => return Err(slot),
                Some(_) => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
    }

    /// The place of a key; else puts it there.
    fn find_or_insert(&mut self, key: u64, place: u64) -> Option<u64> {
        // Half empty: a search that finds nothing, the usual one, then ends after two or three looks.
        if self.count * 2 >= self.slots.len() {
            self.grow();
        }
        match self.find(key) {
            Ok(slot) => self.slots.get(slot).map(|(_, place)| *place),
            Err(slot) => {
                if let Some(free) = self.slots.get_mut(slot) {
                    *free = (key, place);
                    self.count += 1;
                }
                None
            }
        }
    }

    #[inline]
    fn slot(&self, key: u64) -> Option<usize> {
        let mask = (self.slots.len() as u64).checked_sub(1)?;
        usize::try_from((key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) & mask).ok()
    }

    #[inline]
    fn warm(&self, key: u64) -> u64 {
        self.slot(key).and_then(|slot| self.slots.get(slot)).map_or(0, |(found, _)| *found)
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 8).clamp(1 << 10, 2 * GENERATION);
        let slots = std::mem::replace(&mut self.slots, vec![(0, 0); size]);
        self.count = 0;
        for (key, place) in slots.into_iter().filter(|(key, _)| *key != 0) {
            self.find_or_insert(key, place);
        }
    }

    /// Empties it, at its full size: who needed one generation needs all of the next.
    fn clear(&mut self) {
        self.slots.clear();
        self.slots.resize(2 * GENERATION, (0, 0));
        self.count = 0;
    }
}

/// A hash of a text that is the same in every process.
#[inline]
pub(in crate::cost) fn hash(text: &[u8]) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(text);
    hasher.finish()
}

/// Mixes a number into a hash.
#[inline]
pub(in crate::cost) fn mix(hash: u64, value: u64) -> u64 {
    let product =
        u128::from(hash ^ 0x9e37_79b9_7f4a_7c15) * u128::from(value ^ 0xd6e8_feb8_6659_fd93);
    #[expect(clippy::cast_possible_truncation, reason = "folding both halves is the point")]
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
        assert!(seen.young.slots.len() <= 1 << 21 && seen.old.slots.len() <= 1 << 21);
    }
}
