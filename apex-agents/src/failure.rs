use apex_core::error::{Error, ErrorReport, Kind};
use serde::{Deserialize, Serialize};

/// The longest message of a failure, in bytes: it travels in events and checkpoints.
const LONGEST: usize = 2 * 1024;

/// What went wrong in an agent or a tool, in a form that a checkpoint can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Self { kind, message: crate::text::clip(message.as_ref(), LONGEST).into_owned() }
    }

    /// The failure of work that panicked, with what it said.
    pub(crate) fn panicked(kind: Kind, who: &str, panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("it did not say why");
        Self::new(kind, format!("{who} panicked: {said}"))
    }

    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        Error::new(self.kind, operation, self.message)
    }

    /// What a conversation says of a run that failed.
    pub(crate) fn told(&self) -> String {
        let report = self.report();
        format!("This did not work: {} (`{}`)", report.message, report.code)
    }

    /// As users see it.
    pub(crate) fn report(&self) -> ErrorReport {
        Error::new(self.kind, "run", self.message.clone()).report()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
