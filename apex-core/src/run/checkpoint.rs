use crate::error::{Error, Kind};
use bytes::Bytes;

/// The saved state of a run; what is in it is the engine's business.
///
/// One that goes on says only what has changed since the one before, so that a run of many turns does not write its
/// whole state at each of them. A log keeps it behind the one before, and a claim gives all of it as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The version of the format.
    pub version: u32,
    /// The state, or what follows the state that is kept.
    pub state: Bytes,
    /// Whether it goes on where the one before, of the same version, ends, rather than taking its place.
    pub goes_on: bool,
}

impl Checkpoint {
    /// One that takes the place of the one before.
    #[must_use]
    pub fn whole(version: u32, state: impl Into<Bytes>) -> Self {
        Self { version, state: state.into(), goes_on: false }
    }

    /// One that goes on where the one before ends.
    #[must_use]
    pub fn more(version: u32, state: impl Into<Bytes>) -> Self {
        Self { version, state: state.into(), goes_on: true }
    }
}

/// A checkpoint as it grows.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    version: u32,
    state: Vec<u8>,
}

impl Kept {
    /// Whether this one can be saved where that is kept.
    pub(crate) fn takes(kept: Option<&Self>, saved: &Checkpoint) -> bool {
        !saved.goes_on || kept.is_some_and(|kept| kept.version == saved.version)
    }

    /// Saves one; nothing is kept of one that cannot be.
    pub(crate) fn save(kept: &mut Option<Self>, saved: &Checkpoint) {
        if !Self::takes(kept.as_ref(), saved) {
            *kept = None;
        } else if let Some(kept) = kept.as_mut().filter(|_| saved.goes_on) {
            kept.state.extend_from_slice(&saved.state);
        } else {
            *kept = Some(Self { version: saved.version, state: saved.state.to_vec() });
        }
    }

    /// Its bytes.
    #[cfg(feature = "redis")]
    pub(crate) fn len(&self) -> usize {
        self.state.len()
    }

    /// All of it as one.
    pub(crate) fn whole(&self) -> Checkpoint {
        Checkpoint::whole(self.version, Bytes::copy_from_slice(&self.state))
    }
}

/// A checkpoint that goes on where none of its version is kept.
pub(crate) fn unfounded() -> Error {
    Error::new(
        Kind::BadRequest,
        "run_log.append",
        "a checkpoint goes on where none of its version is kept; save a whole one",
    )
}
