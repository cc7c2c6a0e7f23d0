//! What still works when something is gone: one table, for code, documentation and tests.

use crate::error::Kind;
use std::fmt::Write;

/// What happens while one thing is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DegradedMode {
    /// The name of the row; a test of the same name shows that it is true.
    pub name: &'static str,
    /// What is gone.
    pub gone: &'static str,
    /// What still works.
    pub works: &'static str,
    /// With which kind the rest is refused; none where nothing is refused.
    pub refused: Option<Kind>,
    /// What is caught up when it is back.
    pub caught_up: &'static str,
}

/// Every row. Stores and providers add the dependencies of theirs to the documentation of their own rooms.
pub const MODES: &[DegradedMode] = &[
    DegradedMode {
        name: "required_dependency_down",
        gone: "a dependency that the node cannot serve without, such as its database",
        works: "liveness, and what needs no such call; the node is not ready, so it gets no new work",
        refused: Some(Kind::Unavailable),
        caught_up: "nothing was taken, so nothing is lost; the breaker's probes find it again within its open time",
    },
    DegradedMode {
        name: "optional_dependency_down",
        gone: "a dependency that has a next best, such as a model provider beside an offline one",
        works: "everything; answers by the next best are marked as degraded",
        refused: None,
        caught_up: "the next call after it is back gets the whole answer",
    },
    DegradedMode {
        name: "dependency_slow",
        gone: "a dependency's speed",
        works: "calls to everything else; to this one, as many at a time as its bulkhead has places",
        refused: Some(Kind::DeadlineExceeded),
        caught_up: "a write that was not answered has an unknown outcome and is looked up by its id",
    },
    DegradedMode {
        name: "writes_refused",
        gone: "the server that takes writes, during a failover",
        works: "reads",
        refused: Some(Kind::Unavailable),
        caught_up: "writes go to whichever endpoint takes them, from the first call after it does",
    },
    DegradedMode {
        name: "disk_full",
        gone: "space on a store's disk",
        works: "reads",
        refused: Some(Kind::Storage),
        caught_up: "nothing is tried again by itself; the forecast warned before",
    },
    DegradedMode {
        name: "disk_read_only",
        gone: "a store's disk for writing: its system made it read-only after an error",
        works: "reads",
        refused: Some(Kind::Storage),
        caught_up: "nothing is tried again by itself; once the disk is repaired, start the node again",
    },
    DegradedMode {
        name: "database_file_gone",
        gone: "the SQLite file itself, deleted or replaced under a running node",
        works: "everything, on the file that is held open; the node is not ready, so it gets no new work",
        refused: None,
        caught_up: "nothing: what was written since is gone with the node, so the file is put back from a backup",
    },
    DegradedMode {
        name: "wakeups_lost",
        gone: "the wake-ups by which nodes hear of each other's work",
        works: "everything, later: a node looks for work every 5 s and at the logs that are read every 20 s",
        refused: None,
        caught_up: "the next look",
    },
    DegradedMode {
        name: "models_absent",
        gone: "every model",
        works: "everything that is computed; rules choose the agents and word the answer",
        refused: None,
        caught_up: "the next question is put to a model again",
    },
    DegradedMode {
        name: "breaker_exchange_down",
        gone: "what nodes share their breakers' states by",
        works: "everything; each node decides by its own calls",
        refused: None,
        caught_up: "hints lapse after ten seconds and are said again",
    },
    DegradedMode {
        name: "configuration_source_down",
        gone: "the file or secret source, at a reload",
        works: "everything, with the configuration that was in force",
        refused: Some(Kind::Config),
        caught_up: "the next reload",
    },
    DegradedMode {
        name: "certificate_source_down",
        gone: "the file or server whose certificate is watched",
        works: "everything; the end that was seen last still counts",
        refused: None,
        caught_up: "the next look, within a minute",
    },
    DegradedMode {
        name: "alert_callback_down",
        gone: "the host's callback for alerts",
        works: "everything; failures are still grouped, logged and counted",
        refused: None,
        caught_up: "an incident that goes on is told again after its quiet time",
    },
    DegradedMode {
        name: "wall_clock_jumps",
        gone: "the right time, ten minutes forwards or back",
        works: "everything: waits, deadlines, breakers and windows stand on the monotonic clock",
        refused: None,
        caught_up: "time stamps are right again when the clock is",
    },
];

/// The table in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "| gone | still works | refused with | caught up afterwards |\n|---|---|---|---|\n",
    );
    for mode in MODES {
        let refused = mode
            .refused
            .map_or_else(|| "nothing".to_owned(), |kind| format!("`{}`", kind.row().code));
        // Writing to a String cannot fail.
        let _ =
            writeln!(page, "| {} | {} | {refused} | {} |", mode.gone, mode.works, mode.caught_up);
    }
    page
}
