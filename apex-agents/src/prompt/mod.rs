//! What models are told before they are asked, as files.

/// For triage: what a question is about.
pub(crate) const TRIAGE: &str = include_str!("triage.md");
/// For the supervisor: who works on a question.
pub(crate) const SUPERVISOR: &str = include_str!("supervisor.md");
/// For the reporter: how an answer is worded.
pub(crate) const REPORTER: &str = include_str!("reporter.md");
