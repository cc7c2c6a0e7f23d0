use super::State;
use apex_core::error::{Error, Kind, Result};
use apex_core::run::Checkpoint;

/// The version of the format that this engine writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 1;

/// A state as it is saved.
pub(crate) fn save(state: &State) -> Result<Checkpoint> {
    let json = serde_json::to_vec(state).map_err(|error| {
        Error::internal("checkpoint.save", "a run's state could not be encoded").with_source(error)
    })?;
    Ok(Checkpoint {
        version: VERSION,
        state: json.into(),
    })
}

/// A saved state again.
///
/// A version that this engine does not know is refused: to guess what it means could repeat what was done.
pub(crate) fn load(checkpoint: &Checkpoint) -> Result<State> {
    let version = checkpoint.version;
    if version != VERSION {
        return Err(Error::new(
            Kind::BadCheckpoint,
            "checkpoint.load",
            format!(
                "the run's state was saved in format {version}; this node reads format {VERSION}: ask again"
            ),
        ));
    }
    serde_json::from_slice(&checkpoint.state).map_err(|error| {
        Error::new(
            Kind::BadCheckpoint,
            "checkpoint.load",
            "the run's saved state is damaged: ask again",
        )
        .with_source(error)
    })
}
