//! The supervisor: plans which agents work on a request, and says why.

use crate::agent::{Agent, Request, agent_fn};
use crate::agents::asking::{self, Asked};
use crate::context::Context;
use crate::plan::{Plan, PlanStep};
use crate::prompt;
use apex_core::error::Result;
use serde_json::json;

/// The agents that every plan has, in the order of their needs, and those that a plan may go without.
const NEEDED: [&str; 5] = ["triage", "data_helper", "optimizer", "validation", "reporter"];
const OPTIONAL: [&str; 1] = ["actions"];

/// The agent that runs begin with.
pub(crate) fn agent() -> impl Agent {
    agent_fn("supervisor", "Plans which agents work on the request.", plan)
}

async fn plan(request: Request, run: Context) -> Result<Plan> {
    let files = match request.files.len() {
        0 => "no file is attached".to_owned(),
        1 => "one file is attached".to_owned(),
        n => format!("{n} files are attached"),
    };
    let with_actions = route(&request, &run).await?;
    let actions = if with_actions {
        "actions put what follows in order; the reporter answers and writes the report."
    } else {
        "the reporter answers and writes the report. The question asks for figures, so no plan of actions is made."
    };
    run.think(format!(
        "A question came in, and {files}. Triage reads it and looks at the data; the data helper says what is \
         missing, and ends the run helpfully if that is too much; the optimizer computes costs, findings and \
         savings; validation computes every figure a second time; {actions}"
    ))
    .await?;
    Ok(planned(with_actions))
}

fn planned(with_actions: bool) -> Plan {
    let mut steps = vec![
        PlanStep::new("triage"),
        PlanStep::new("data_helper").needs(["triage"]),
        PlanStep::new("optimizer").needs(["triage", "data_helper"]),
        PlanStep::new("validation").needs(["data_helper", "optimizer"]),
    ];
    let reporter =
        PlanStep::new("reporter").needs(["triage", "data_helper", "optimizer", "validation"]);
    if with_actions {
        steps.push(PlanStep::new("actions").needs(["triage", "optimizer", "validation"]));
        let mut needs = reporter.needs.clone();
        needs.push("actions".to_owned());
        steps.push(PlanStep { needs, ..reporter });
    } else {
        steps.push(reporter);
    }
    Plan { steps }
}

/// Whether the question needs a plan of actions: said by a model, or by rules, which plan with everybody.
async fn route(request: &Request, run: &Context) -> Result<bool> {
    let data = json!({
        "question": request.text,
        "files": request.files.len(),
        "agents": {
            "triage": "reads the question and looks whether the data suffices",
            "data_helper": "says what is missing in the data",
            "optimizer": "computes costs, findings and savings",
            "validation": "computes every figure a second time",
            "actions": "puts what to do in order, where something is to be done",
            "reporter": "answers and writes the report",
        },
    });
    let question = asking::request(prompt::SUPERVISOR, &data);
    let why = match asking::ask(run, question).await? {
        Asked::NoModel => {
            run.degraded(
                "No model took part: the question was read and the answer worded by rules. Every figure is computed \
                 either way.",
            )
            .await?;
            return Ok(true);
        }
        Asked::Answer(answer) => match routed(&answer.text()) {
            Ok(with_actions) => return Ok(with_actions),
            Err(why) => format!("The plan was made by rules: a model's plan {why}."),
        },
        Asked::Failed(why) => asking::unanswered(&why),
    };
    run.degraded(why).await?;
    Ok(true)
}

/// Reads a list of agents: those that every plan has must be there, in the order of their needs.
fn routed(answer: &str) -> Result<bool, String> {
    let names: Vec<&str> = answer
        .split([',', '\n', '>'])
        .map(|name| name.trim().trim_matches(|c: char| !c.is_ascii_alphabetic()))
        .filter(|name| !name.is_empty())
        .collect();
    let is_known = |name: &&str| NEEDED.contains(name) || OPTIONAL.contains(name);
    if !names.iter().all(is_known) {
        return Err("has somebody who does not exist".to_owned());
    }
    let needed = names.iter().filter(|name| NEEDED.contains(name));
    if !needed.eq(NEEDED.iter()) {
        return Err("leaves somebody out who is needed, or has them in the wrong order".to_owned());
    }
    let place = |name| names.iter().position(|known| *known == name);
    match names.iter().filter(|name| OPTIONAL.contains(name)).count() {
        0 => Ok(false),
        1 if place("validation") < place("actions") && place("actions") < place("reporter") => {
            Ok(true)
        }
        _ => Err("has actions at the wrong time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_a_models_is_taken_only_where_it_can_work() {
        let all = "triage, data_helper, optimizer, validation, actions, reporter";
        assert_eq!(routed(all), Ok(true));
        assert_eq!(routed(&all.replace("actions, ", "")), Ok(false));
        assert_eq!(routed(&all.replace(", ", " -> ")), Ok(true));
        for wrong in [
            "",
            "triage, reporter",
            "triage, optimizer, data_helper, validation, reporter",
            "triage, data_helper, optimizer, validation, reporter, actions",
            "triage, data_helper, optimizer, validation, actions, actions, reporter",
            "triage, data_helper, optimizer, validation, reporter, sql_agent",
            "Sure! Here is the plan: triage, data_helper, optimizer, validation, reporter",
        ] {
            assert!(routed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_plans_are_valid() {
        let known = NEEDED.iter().chain(&OPTIONAL).map(|name| ((*name).to_owned(), String::new()));
        let known = known.collect();
        for with_actions in [true, false] {
            assert_eq!(planned(with_actions).fault(&known, &["supervisor"].into()), None);
        }
    }
}
