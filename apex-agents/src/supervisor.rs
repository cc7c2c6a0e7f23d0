//! The supervisor: plans which agents work on a request, and says why.

use crate::agent::{Agent, Request, agent_fn};
use crate::context::Context;
use crate::plan::{Plan, PlanStep};
use apex_core::error::Result;

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
    run.think(format!(
        "A question came in, and {files}. Triage reads it and looks at the data; the data helper says what is \
         missing, and ends the run helpfully if that is too much; the optimizer computes costs, findings and \
         savings; validation computes every figure a second time; actions put what follows in order; the reporter \
         answers and writes the report."
    ))
    .await?;
    run.degraded(
        "No model took part: the question was read and the answer worded by rules. Every figure is computed either \
         way.",
    )
    .await?;
    Ok(Plan {
        steps: vec![
            PlanStep::new("triage"),
            PlanStep::new("data_helper").needs(["triage"]),
            PlanStep::new("optimizer").needs(["triage", "data_helper"]),
            PlanStep::new("validation").needs(["data_helper", "optimizer"]),
            PlanStep::new("actions").needs(["triage", "optimizer", "validation"]),
            PlanStep::new("reporter").needs([
                "triage",
                "data_helper",
                "optimizer",
                "validation",
                "actions",
            ]),
        ],
    })
}
