//! Which agents work on a request, and who needs whose result.

pub use apex_core::event::PlanStep;

use crate::text::clip;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The most steps that a plan may have.
pub(crate) const MOST_STEPS: usize = 32;

/// The longest question of a plan, in bytes: as long as a message may be.
pub(crate) const LONGEST_QUESTION: usize = 16 * 1024;

/// How much of a step's purpose the event has that tells of the plan, in bytes; the step's own event has more of it.
const TOLD_PURPOSE: usize = 120;

/// The steps of a run. Steps whose needs are met run side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The steps; each agent at most once.
    pub steps: Vec<PlanStep>,
    /// The request in words that stand for themselves, where the user's own lean on what was said before. The steps
    /// work on these instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
}

impl From<Vec<PlanStep>> for Plan {
    fn from(steps: Vec<PlanStep>) -> Self {
        Self { steps, question: None }
    }
}

impl Plan {
    /// As events tell it: with the names of 32 steps that need each other, it fits an envelope.
    pub(crate) fn told(&self) -> Vec<PlanStep> {
        let told = |step: &PlanStep| PlanStep {
            purpose: clip(&step.purpose, TOLD_PURPOSE).into_owned(),
            ..step.clone()
        };
        self.steps.iter().map(told).collect()
    }

    /// What is wrong with the plan, if anything is: it must be small, name known agents once each, and hand results
    /// on forwards only. `taken` are the agents that have a step already.
    pub(crate) fn fault(
        &self,
        known: &BTreeMap<String, String>,
        taken: &BTreeSet<&str>,
    ) -> Option<String> {
        if self.steps.is_empty() || self.steps.len() > MOST_STEPS {
            let steps = self.steps.len();
            return Some(format!("a plan has 1 to {MOST_STEPS} steps, this one {steps}"));
        }
        if self.question.as_ref().is_some_and(|words| words.len() > LONGEST_QUESTION) {
            return Some(format!("its question has more than {LONGEST_QUESTION} bytes"));
        }
        let mut seen = taken.clone();
        for step in &self.steps {
            let agent = step.agent.as_str();
            if !known.contains_key(agent) {
                return Some(format!("there is no agent {agent}"));
            }
            if let Some(need) = step.needs.iter().find(|need| !seen.contains(need.as_str())) {
                return Some(format!("{agent} needs {need}, which is no earlier step"));
            }
            if !seen.insert(agent) {
                return Some(format!("{agent} has two steps"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(steps: Vec<PlanStep>) -> Option<String> {
        let known = ["a", "b"].map(|name| (name.to_owned(), String::new())).into();
        Plan::from(steps).fault(&known, &BTreeSet::new())
    }

    #[test]
    fn a_plan_goes_forward_through_known_agents() {
        let (a, b) = (PlanStep::new("a"), PlanStep::new("b").needs(["a"]));
        assert_eq!(fault(vec![a.clone(), b.clone()]), None);
        assert!(fault(vec![b, a.clone()]).unwrap().contains("no earlier step"));
        assert!(fault(vec![a.clone(), a]).unwrap().contains("two steps"));
        assert!(fault(vec![PlanStep::new("c")]).unwrap().contains("no agent c"));
        assert!(fault(Vec::new()).unwrap().contains("1 to 32"));
        let long = Plan {
            steps: vec![PlanStep::new("b")],
            question: Some("?".repeat(LONGEST_QUESTION + 1)),
        };
        let known = [("b".to_owned(), String::new())].into();
        assert!(long.fault(&known, &BTreeSet::new()).unwrap().contains("16384 bytes"));
    }
}
