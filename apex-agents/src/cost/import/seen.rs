//! Which records were there before: bounded, so that the ten-millionth costs no more than the first.

use std::hash::Hasher;

/// How many places there are, and how many records each remembers.
const PLACES: usize = 1 << 19;
const WAYS: usize = 8;

/// Where a row stands: the number of its file above, its line below.
const LINE_BITS: u32 = 40;

/// Finds rows that equal an earlier one, over all files of an analysis.
///
/// A row's fingerprint names the one place that may remember it; it is forgotten when eight newer rows have come into
/// that place. Of copies 250,000 rows back one in ten million is missed so, of those a million back one in a thousand.
#[derive(Debug, Default)]
pub(in crate::cost) struct Copies {
    places: Vec<Place>,
    files: Vec<String>,
    rows: u64,
}

/// The last rows of one place, the newest first. It fills two lines of a processor's cache, the first of which is all
/// that a search needs.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(128))]
struct Place {
    fingerprints: [u64; WAYS],
    rows: [u64; WAYS],
}

impl Copies {
    /// A new file begins.
    pub(in crate::cost) fn begin(&mut self, file: &str) {
        if self.places.is_empty() {
            self.places = vec![Place::default(); PLACES];
        }
        self.files.push(file.to_owned());
    }

    /// Where the row with this fingerprint was before, in words; else remembers that it is here.
    pub(in crate::cost) fn earlier(&mut self, fingerprint: u64, line: u64) -> Option<String> {
        let fingerprint = fingerprint.max(1);
        let place = self.places.get_mut(index(fingerprint))?;
        if let Some(found) = place.fingerprints.iter().position(|known| *known == fingerprint) {
            return place.rows.get(found).copied().map(|row| self.in_words(row));
        }
        place.fingerprints.copy_within(..WAYS - 1, 1);
        place.rows.copy_within(..WAYS - 1, 1);
        place.fingerprints[0] = fingerprint;
        place.rows[0] = (self.files.len() as u64) << LINE_BITS | line;
        self.rows += 1;
        None
    }

    fn in_words(&self, row: u64) -> String {
        let line = row & ((1 << LINE_BITS) - 1);
        let number = usize::try_from(row >> LINE_BITS).unwrap_or(0);
        match self.files.get(number.saturating_sub(1)) {
            Some(file) if number < self.files.len() => format!("line {line} of {file}"),
            _ => format!("line {line}"),
        }
    }

    /// Looks at the place of a fingerprint without needing what is there. Done for many rows in a row, the processor
    /// fetches their places from memory at the same time instead of one after the other.
    #[inline]
    pub(in crate::cost) fn warm(&self, fingerprint: u64) -> u64 {
        let place = self.places.get(index(fingerprint.max(1)));
        place.map_or(0, |place| place.fingerprints[0] ^ place.rows[0])
    }

    /// Whether rows may have been forgotten, so that a copy far away may have passed.
    pub(in crate::cost) fn forgot(&self) -> bool {
        self.rows > PLACES as u64
    }
}

#[inline]
fn index(fingerprint: u64) -> usize {
    usize::try_from(fingerprint.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20).unwrap_or(0) % PLACES
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
    fn a_row_is_known_where_it_was_first() {
        let mut copies = Copies::default();
        copies.begin("a");
        assert_eq!(copies.earlier(7, 2), None);
        assert_eq!(copies.earlier(0, 3), None);
        assert_eq!(copies.earlier(7, 9).as_deref(), Some("line 2"));
        copies.begin("b");
        assert_eq!(copies.earlier(0, 9).as_deref(), Some("line 3 of a"));
    }

    #[test]
    fn the_last_quarter_million_rows_are_remembered_and_memory_is_bounded() {
        let mut copies = Copies::default();
        copies.begin("a");
        for line in 0..2_000_000 {
            assert_eq!(copies.earlier(mix(1, line), line), None);
        }
        assert!(copies.forgot());
        for line in 1_750_000..2_000_000 {
            assert_eq!(copies.earlier(mix(1, line), 0), Some(format!("line {line}")));
        }
        assert_eq!(copies.places.len(), PLACES);
    }
}
