//! The supervisor: plans which agents work on a request, and says why.
//!
//! Which agent is to answer is said by a model where there is one, else by rules; who works before it follows from
//! the types of the agents' inputs, so that agents of a host's own are planned like those of Apex.

use crate::agent::{Agent, Request, agent_fn};
use crate::agents::asking::{self, Asked, Terms, Turns};
use crate::agents::lane::{self, Lane};
use crate::context::Context;
use crate::plan::Plan;
use crate::prompt;
use crate::team::Team;
use crate::tools::Earlier;
use apex_core::clock::Timestamp;
use apex_core::error::{Error, Kind, Result};
use serde_json::json;
use std::collections::BTreeMap;

/// Its name.
const NAME: &str = "supervisor";

/// The longest question that may lean on those before it, in bytes; a longer one says what it means.
const LONGEST_FOLLOW_UP: usize = 1_000;

/// The agent that runs begin with.
pub(crate) fn agent() -> impl Agent {
    agent_fn(NAME, "Plans which agents work on the request.", plan)
}

async fn plan(request: Request, run: Context) -> Result<Plan> {
    let files = match request.files.len() {
        0 => "no file is attached".to_owned(),
        1 => "one file is attached".to_owned(),
        n => format!("{n} files are attached"),
    };
    let question = standing_alone(&request, &run).await?;
    let request = match &question {
        Some(text) => Request { text: text.clone(), ..request },
        None => request,
    };
    let plan = match route(&request, &run).await? {
        Some(plan) => plan,
        None => by_rules(&request, run.now().await?, run.team())?,
    };
    run.think(format!("A question came in, and {files}. {}", explained(&plan, run.team()))).await?;
    Ok(Plan { question, ..plan })
}

/// What a model makes of a question that leans on those before it, where there is a model and the question does. What was
/// answered before it is not shown: that may hold what others wrote, and a run that has read it is held back.
async fn standing_alone(request: &Request, run: &Context) -> Result<Option<String>> {
    let text = request.text.trim();
    if !run.continues() || text.is_empty() || text.len() > LONGEST_FOLLOW_UP {
        return Ok(None);
    }
    let earlier: Earlier = run.call("earlier_questions", json!({})).await?;
    if earlier.questions.is_empty() {
        return Ok(None);
    }
    let data = json!({ "question": text, "earlier": earlier.questions });
    let terms = Terms {
        accept: |answer: &str| match answer.trim() {
            "" => Err(vec!["it is empty.".to_owned()]),
            words if words.len() > 2 * LONGEST_FOLLOW_UP => Err(vec!["it is too long.".to_owned()]),
            words => Ok(words.to_owned()),
        },
        thought: |_: &[String]| None,
        again: "Answer again with the question alone.",
    };
    let question = asking::request(prompt::FOLLOW_UP, &data);
    let checked = asking::checked(run, question, Turns::default(), terms).await?;
    let refused = |times, _: &[String]| {
        format!(
            "The question was taken as it stands: what a model made of it was refused {times} times."
        )
    };
    let words = asking::or_rules(run, checked, refused).await?.filter(|words| words != text);
    if let Some(words) = &words {
        run.think(format!("With what was asked before, I read this as: {words}")).await?;
    }
    Ok(words)
}

/// Who works, what each of them does, and what runs side by side.
fn explained(plan: &Plan, team: &Team) -> String {
    let mut sentences: Vec<String> = Vec::new();
    for step in &plan.steps {
        let purpose = team.members().get(&step.agent).map_or("", |member| member.purpose.as_str());
        let after = match step.needs.as_slice() {
            [] => "at once".to_owned(),
            needs => format!("after {}", needs.join(", ")),
        };
        sentences.push(format!("{} ({after}): {purpose}", step.agent));
    }
    if plan.steps.iter().any(|step| step.agent == "reporter")
        && !plan.steps.iter().any(|step| step.agent == "actions")
    {
        sentences.push("The question asks for figures, so no plan of actions is made.".to_owned());
    }
    format!("The plan:\n- {}", sentences.join("\n- "))
}

/// The plan that the rules make.
fn by_rules(request: &Request, now: Timestamp, team: &Team) -> Result<Plan> {
    let goal = match team.triggered(&request.text) {
        Some(agent) => agent,
        None => {
            let lane = lane::of(&request.text, now).agent();
            if team.members().contains_key(lane) { lane } else { Lane::Report.agent() }
        }
    };
    team.plan(goal, &[]).ok_or_else(|| {
        let told =
            format!("no plan leads to agent {goal}: it is not there, or agents need each other");
        Error::new(Kind::Config, "supervisor.plan", told)
    })
}

/// A model's plan, where there is a model and its plan can work.
async fn route(request: &Request, run: &Context) -> Result<Option<Plan>> {
    let others = run.team().members().iter().filter(|(name, _)| *name != NAME);
    let agents: BTreeMap<&String, serde_json::Value> = others
        .map(|(name, member)| {
            let told = json!({
                "does": member.purpose,
                "needs": member.needs,
                "may_take": member.takes,
                "answers_the_user": member.answers,
            });
            (name, told)
        })
        .collect();
    let data = json!({ "question": request.text, "files": request.files.len(), "agents": agents });
    let question = asking::request(prompt::SUPERVISOR, &data);
    let why = match asking::ask(run, question).await? {
        Asked::NoModel => {
            "No model took part: the question was read and the answer worded by rules. Every figure is computed \
             either way."
                .to_owned()
        }
        Asked::Answer(answer) => match routed(&answer.text(), run.team()) {
            Ok(plan) => return Ok(Some(plan)),
            Err(why) => format!("The plan was made by rules: a model's plan {why}."),
        },
        Asked::Failed(why) => asking::unanswered(&why),
    };
    run.degraded(why).await?;
    Ok(None)
}

/// Reads a list of agents: the last answers the user, and before it work all whose results are needed, each before
/// who needs it, and nobody else.
fn routed(answer: &str, team: &Team) -> std::result::Result<Plan, String> {
    let names: Vec<&str> = answer
        .split([',', '\n', '>'])
        .map(|name| name.trim().trim_matches(|c: char| !c.is_ascii_alphabetic()))
        .filter(|name| !name.is_empty())
        .collect();
    let known = |name: &&str| team.members().contains_key(*name) && *name != NAME;
    if !names.iter().all(known) {
        return Err("has somebody who does not exist".to_owned());
    }
    let goal = names.last().and_then(|name| Some((*name, team.members().get(*name)?)));
    let Some((goal, _)) = goal.filter(|(_, member)| member.answers) else {
        return Err("does not end with somebody who answers".to_owned());
    };
    let all = team.plan(goal, &[]).ok_or("leads in a circle")?;
    let unnamed = all.steps.iter().map(|step| step.agent.as_str());
    let without: Vec<&str> = unnamed.filter(|agent| !names.contains(agent)).collect();
    let plan = team.plan(goal, &without).ok_or("leads in a circle")?;
    let mut places = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        if places.insert(*name, place).is_some() {
            return Err("has somebody twice".to_owned());
        }
    }
    let fits = plan.steps.len() == names.len()
        && plan.steps.iter().all(|step| {
            let place = places.get(step.agent.as_str());
            place.is_some() && step.needs.iter().all(|need| places.get(need.as_str()) < place)
        });
    if !fits {
        return Err("leaves somebody out who is needed, or has them in the wrong order".to_owned());
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents;
    use crate::cost::{AnalysisOptions, Catalogue};
    use crate::plan::PlanStep;
    use std::sync::Arc;

    fn team() -> Arc<Team> {
        let catalogue = Arc::new(Catalogue::embedded().unwrap());
        agents::team(catalogue, AnalysisOptions::default()).ready().unwrap().team
    }

    fn named(answer: &str) -> std::result::Result<Vec<String>, String> {
        let plan = routed(answer, &team())?;
        Ok(plan.steps.into_iter().map(|step| step.agent).collect())
    }

    #[test]
    fn a_plan_of_a_models_is_taken_only_where_it_can_work() {
        let all = "triage, data_helper, optimizer, validation, actions, reporter";
        assert_eq!(named(all).unwrap().join(", "), all);
        let fewer = all.replace("actions, ", "");
        assert_eq!(named(&fewer).unwrap().join(", "), fewer);
        assert_eq!(named(&all.replace(", ", " -> ")).unwrap().join(", "), all);
        assert_eq!(named("pricing").unwrap(), ["pricing"]);
        for wrong in [
            "",
            "triage, reporter",
            "triage, optimizer, data_helper, validation, reporter",
            "triage, data_helper, optimizer, validation, reporter, actions",
            "triage, data_helper, optimizer, validation, actions, actions, reporter",
            "triage, data_helper, optimizer, validation, reporter, sql_agent",
            "supervisor, pricing",
            "triage, pricing",
            "triage",
            "Sure! Here is the plan: triage, data_helper, optimizer, validation, reporter",
        ] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_plan_of_the_rules_follows_from_the_agents_types() {
        let request = |text: &str| Request { text: text.to_owned(), files: Vec::new() };
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let plan = by_rules(&request("Where can we save?"), now, &team()).unwrap();
        let expected = [
            PlanStep::new("triage"),
            PlanStep::new("data_helper").needs(["triage"]),
            PlanStep::new("optimizer").needs(["data_helper", "triage"]),
            PlanStep::new("validation").needs(["data_helper", "optimizer"]),
            PlanStep::new("actions").needs(["optimizer", "triage", "validation"]),
            PlanStep::new("reporter").needs([
                "data_helper",
                "optimizer",
                "triage",
                "validation",
                "actions",
            ]),
        ];
        assert_eq!(plan.steps, expected);
        let known = team().members().keys().map(|name| (name.clone(), String::new())).collect();
        assert_eq!(plan.fault(&known, &[NAME].into()), None);
        let told = explained(&plan, &team());
        assert!(told.contains("optimizer (after data_helper, triage)"), "{told}");
    }
}
