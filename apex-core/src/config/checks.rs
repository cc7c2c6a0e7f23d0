//! Rules across fields: what no single field can be blamed for by its own type.

use super::report::{Fault, FaultCode};
use super::{Environment, Section};
use crate::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Collects what a configuration breaks. A rule names the fields that it looks at, the one to blame first; when one
/// of them is already faulty the rule is not judged, so that one mistake is one row.
#[derive(Debug)]
pub struct Checks<'a> {
    environment: Environment,
    now: Timestamp,
    prefix: String,
    faulty: &'a BTreeSet<String>,
    sources: &'a BTreeMap<String, String>,
    faults: &'a mut Vec<Fault>,
    warnings: &'a mut Vec<Fault>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(
        environment: Environment,
        now: Timestamp,
        faulty: &'a BTreeSet<String>,
        sources: &'a BTreeMap<String, String>,
        faults: &'a mut Vec<Fault>,
        warnings: &'a mut Vec<Fault>,
    ) -> Self {
        Self { environment, now, prefix: String::new(), faulty, sources, faults, warnings }
    }

    /// Where the process is going to run, as the key `environment` says.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// The time at which the configuration is judged.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Judges the rules of a section that stands under `name`.
    pub fn section<S: Section>(&mut self, name: &str, section: &S) {
        let outer = self.prefix.clone();
        self.prefix = format!("{outer}{name}.");
        section.check(self);
        self.prefix = outer;
    }

    /// A rule that must hold. `keys` are relative to the section; neither text may contain a value that is secret.
    pub fn require(
        &mut self,
        keys: &[&str],
        holds: bool,
        code: FaultCode,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) {
        if let Some(fault) = self.judge(keys, holds, code, problem, advice) {
            self.faults.push(fault);
        }
    }

    /// A rule that should hold: what breaks it is listed, and the start goes on.
    pub fn prefer(
        &mut self,
        keys: &[&str],
        holds: bool,
        code: FaultCode,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) {
        if let Some(fault) = self.judge(keys, holds, code, problem, advice) {
            self.warnings.push(fault);
        }
    }

    /// A rule that must hold in staging and production, and should in development.
    pub fn require_outside_development(
        &mut self,
        keys: &[&str],
        holds: bool,
        code: FaultCode,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) {
        if self.environment == Environment::Development {
            self.prefer(keys, holds, code, problem, advice);
        } else {
            self.require(keys, holds, code, problem, advice);
        }
    }

    fn judge(
        &self,
        keys: &[&str],
        holds: bool,
        code: FaultCode,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) -> Option<Fault> {
        let full = |key: &&str| format!("{}{key}", self.prefix);
        if holds || keys.iter().any(|key| self.faulty.contains(&full(key))) {
            return None;
        }
        let key = keys.first().map(full).unwrap_or_else(|| self.prefix.clone());
        let source = self.sources.get(&key).cloned().unwrap_or_else(|| "default".to_owned());
        Some(Fault { key, source, problem: problem.into(), advice: advice.into(), code })
    }
}
