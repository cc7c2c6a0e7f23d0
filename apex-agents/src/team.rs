//! Who is there, what each of them takes and gives, and the plan that follows from it.

use crate::plan::{MOST_STEPS, Plan, PlanStep};
use serde_json::Value;
use std::cmp::Reverse;
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
    /// By which words and phrases a question is one for it.
    pub triggers: Vec<String>,
}

/// What an agent says of itself.
#[derive(Clone)]
pub(crate) struct Told<'a> {
    pub(crate) purpose: &'a str,
    pub(crate) triggers: &'a [String],
    /// The JSON Schemas of its input and output.
    pub(crate) input: Value,
    pub(crate) output: Value,
}

impl Team {
    /// The team of these agents, by their names.
    pub(crate) fn new<'a>(agents: impl Iterator<Item = (&'a str, Told<'a>)> + Clone) -> Self {
        let names: Vec<&str> = agents.clone().map(|(name, _)| name).collect();
        let answers = [
            schemars::schema_for!(apex_core::event::RunResult).to_value(),
            schemars::schema_for!(String).to_value(),
        ];
        let members = agents.map(|(name, Told { purpose, triggers, input, output })| {
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
                triggers: triggers.to_vec(),
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

    /// The agent whose longest phrase these words hold.
    #[must_use]
    pub fn triggered(&self, text: &str) -> Option<&str> {
        let text = plain(text);
        let held = self.members.iter().flat_map(|(name, member)| {
            let phrases = member.triggers.iter().map(|phrase| plain(phrase));
            let held = phrases.filter(|phrase| phrase.len() > 2 && text.contains(phrase));
            held.map(move |phrase| (phrase.len(), name))
        });
        // Of several that are as long, that of the first agent by name.
        held.min_by_key(|(length, name)| (Reverse(*length), *name)).map(|(_, name)| name.as_str())
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

/// The words alone, in small letters, with a blank before and after each.
fn plain(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(String::from(" "), |plain, word| plain + &word.to_lowercase() + " ")
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
        Team::new(agents.iter().map(|(name, input)| {
            let (input, output) = (input.clone(), json!({}));
            (*name, Told { purpose: "", triggers: &[], input, output })
        }))
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
    fn a_question_triggers_whose_longest_phrase_it_holds() {
        let phrases = [
            ("notes", ["remember".to_owned(), "forget Everything!".to_owned()]),
            ("other", ["forget".to_owned(), "remember".to_owned()]),
            ("silent", [" ?".to_owned(), String::new()]),
        ];
        let team = Team::new(phrases.iter().map(|(name, triggers)| {
            let (input, output) = (json!({}), json!({}));
            (*name, Told { purpose: "", triggers, input, output })
        }));
        for (text, agent) in [
            ("Forget... everything, now", Some("notes")),
            ("please forget", Some("other")),
            ("Remember this", Some("notes")),
            ("I cannot remembered", None),
            ("What do we spend?", None),
            ("", None),
        ] {
            assert_eq!(team.triggered(text), agent, "{text}");
        }
    }

    #[test]
    fn a_circle_is_no_plan() {
        let team = team(&[("a", &["b"], &[]), ("b", &["c"], &[]), ("c", &["a"], &[])]);
        assert_eq!(team.plan("a", &[]), None);
    }
}
