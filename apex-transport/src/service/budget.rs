//! What the user has used of models, and may still use.

use super::Call;
use super::reply::{self, ResponseBody};
use apex_core::budget::Balance;
use apex_core::clock::Timestamp;
use apex_core::error::Result;
use apex_core::id::RunId;
use apex_core::principal::Scope;
use apex_core::usage::{GroupBy, Total, UsageQuery};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct BudgetBody {
    items: Vec<Balance>,
}

/// `GET /budget`: for the day and the month (UTC) what was used, what is reserved for questions under way, the limits
/// where there are any, what they leave, and when the period ends.
pub(super) async fn left(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let used = call.gateway.stores.budgets.used(&principal).await?;
    let limits = call.gateway.budget.limits(&principal).await?;
    let items = used.map(|used| Balance::new(used, &limits)).into();
    Ok(reply::json(StatusCode::OK, &BudgetBody { items }))
}

#[derive(Deserialize)]
struct Spent {
    #[serde(default)]
    by: GroupBy,
    run: Option<RunId>,
    from: Option<Timestamp>,
    before: Option<Timestamp>,
}

#[derive(Serialize)]
struct UsageBody {
    items: Vec<Total>,
}

/// `GET /usage?by&run&from&before`: what the user's runs used and cost, one sum for each model, outcome, day (UTC), run
/// or step, or one of all. What nobody knows the price of is counted apart, never as nothing.
pub(super) async fn spent(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let Spent { by, run, from, before } = call.query()?;
    let query = UsageQuery { from, before, run, by };
    let items = call.gateway.stores.usage.totals(&principal, &query).await?;
    Ok(reply::json(StatusCode::OK, &UsageBody { items }))
}
