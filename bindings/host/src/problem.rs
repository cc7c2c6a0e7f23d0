use netra_apex::core::config::{Fault, Report};
use netra_apex::core::error::{Class, Error, ErrorReport, Kind, Outcome};
use serde::Serialize;
use std::fmt;

/// Whatever went wrong, as the host sees it: more than clients are told, since it is the host's own.
#[derive(Debug)]
pub struct Problem {
    error: Error,
    faults: Vec<Fault>,
}

/// As JSON: an [`ErrorReport`] whose message is whole, and what a host may want beside it.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: ErrorReport,
    category: Class,
    operation: &'static str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    faults: &'a [Fault],
}

impl Problem {
    /// What a function of the host's could not do: an error of the catalogue where the host raised one by its `code`,
    /// else the kind of whatever called it.
    #[must_use]
    pub fn of_host(code: Option<&str>, otherwise: Kind, message: impl Into<String>) -> Error {
        let named = code.and_then(|code| Kind::ALL.iter().find(|kind| kind.row().code == code));
        Error::new(named.copied().unwrap_or(otherwise), "host.callback", message)
    }

    /// The error behind it.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// As JSON: `{"code", "message", "retryable", "correlation"?, "retry_after_ms"?, "category", "operation", "outcome",
    /// "faults"?}`, where `faults` are those of a configuration.
    #[must_use]
    pub fn to_json(&self) -> String {
        let report = ErrorReport { message: self.error.to_string(), ..self.error.report() };
        let told = Told {
            report,
            category: self.error.kind().row().class,
            operation: self.error.operation(),
            outcome: self.error.outcome(),
            faults: &self.faults,
        };
        // Nothing in it can fail: it has neither maps nor numbers that are none.
        serde_json::to_string(&told).unwrap_or_default()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { error, faults: Vec::new() }
    }
}

impl From<Report> for Problem {
    fn from(report: Report) -> Self {
        let faults = report.faults.clone();
        Self { error: report.into(), faults }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Problem {}
