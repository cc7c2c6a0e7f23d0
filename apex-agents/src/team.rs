//! Who is there, what each of them takes and gives, and the plan that follows from it.

use crate::plan::{MOST_STEPS, Plan, PlanStep};
use serde_json::Value;
use std::collections::BTreeMap;

/// The agents of a registry with what they are for and what they take, read from the types of their inputs: a field
/// that is named as an agent is that agent's result.
#[derive(Debug, Clone, Default)]
pub struct Team {
    members: BTreeMap<String, Member>,
}

/// An agent as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is for.
    pub purpose: String,
    /// The agents whose results it cannot work without.
    pub needs: Vec<String>,
    /// The agents whose results it takes where they are there.
    pub takes: Vec<String>,
    /// Whether its result is the user's answer.
    pub answers: bool,
}

impl Team {
    /// The team of these agents: name, purpose, and the JSON Schemas of input and output.
    pub(crate) fn new<'a>(
        agents: impl Iterator<Item = (&'a str, &'a str, Value, Value)> + Clone,
    ) -> Self {
        let names: Vec<&str> = agents.clone().map(|(name, ..)| name).collect();
        let answers = [
            schemars::schema_for!(apex_core::event::RunResult).to_value(),
            schemars::schema_for!(String).to_value(),
        ];
        let members = agents.map(|(name, purpose, input, output)| {
            let has = |key: &str, field: &str| match input.get(key) {
                Some(Value::Array(list)) => list.iter().any(|item| item == field),
                Some(Value::Object(fields)) => fields.contains_key(field),
                _ => false,
            };
            let others = || names.iter().filter(|other| **other != name);
            let needs = others().filter(|other| has("required", other)).map(|o| (*o).to_owned());
            let takes = others()
                .filter(|other| has("properties", other) && !has("required", other))
                .map(|other| (*other).to_owned());
            let member = Member {
                purpose: purpose.to_owned(),
                needs: needs.collect(),
                takes: takes.collect(),
                answers: answers.contains(&output),
            };
            (name.to_owned(), member)
        });
        Self { members: members.collect() }
    }

    /// The agents by their names.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// The steps that lead to this agent's result: those whose results it needs, those whose results these need, and
    /// so on, each before who needs it; and those whose results it takes unless they are to be gone `without`.
    /// `None` where there is no such agent, or agents need each other in a circle.
    #[must_use]
    pub fn plan(&self, goal: &str, without: &[&str]) -> Option<Plan> {
        let mut plan = Plan::default();
        self.add(goal, without, &mut Vec::new(), &mut plan)?;
        (plan.steps.len() <= MOST_STEPS).then_some(plan)
    }

    fn add<'a>(
        &'a self,
        agent: &'a str,
        without: &[&str],
        path: &mut Vec<&'a str>,
        plan: &mut Plan,
    ) -> Option<()> {
        if plan.steps.iter().any(|step| step.agent == agent) {
            return Some(());
        }
        if path.contains(&agent) {
            return None;
        }
        path.push(agent);
        let member = self.members.get(agent)?;
        let taken = member.takes.iter().filter(|other| !without.contains(&other.as_str()));
        let needs: Vec<&String> = member.needs.iter().chain(taken).collect();
        for other in &needs {
            self.add(other, without, path, plan)?;
        }
        path.pop();
        let needs = needs.into_iter().cloned().collect();
        plan.steps.push(PlanStep { needs, ..PlanStep::new(agent) });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn team(agents: &[(&str, &[&str], &[&str])]) -> Team {
        let agents: Vec<(&str, Value)> = agents
            .iter()
            .map(|(name, needs, takes)| {
                let fields = needs.iter().chain(*takes).map(|name| ((*name).to_owned(), json!({})));
                let fields: serde_json::Map<_, _> = fields.collect();
                (*name, json!({ "properties": fields, "required": needs }))
            })
            .collect();
        Team::new(agents.iter().map(|(name, input)| (*name, "", input.clone(), json!({}))))
    }

    fn steps(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|step| format!("{}<{}", step.agent, step.needs.join("+"))).collect()
    }

    #[test]
    fn a_plan_follows_from_what_the_agents_take() {
        let team = team(&[
            ("answer", &["left", "right"], &["extra", "text"]),
            ("left", &["read"], &[]),
            ("right", &["read"], &[]),
            ("read", &["text"], &[]),
            ("extra", &["left"], &[]),
            ("other", &[], &[]),
        ]);
        let plan = team.plan("answer", &[]).unwrap();
        assert_eq!(
            steps(&plan),
            ["read<", "left<read", "right<read", "extra<left", "answer<left+right+extra"],
            "left and right run side by side"
        );
        let plan = team.plan("answer", &["extra"]).unwrap();
        assert_eq!(steps(&plan).last().unwrap(), "answer<left+right");
        assert_eq!(team.plan("nobody", &[]), None);
    }

    #[test]
    fn a_circle_is_no_plan() {
        let team = team(&[("a", &["b"], &[]), ("b", &["c"], &[]), ("c", &["a"], &[])]);
        assert_eq!(team.plan("a", &[]), None);
    }
}
