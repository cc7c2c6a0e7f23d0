//! What the user may still use of models.

use super::Call;
use super::reply::{self, ResponseBody};
use apex_core::budget::Balance;
use apex_core::error::Result;
use apex_core::principal::Scope;
use http::{Response, StatusCode};
use serde::Serialize;

#[derive(Serialize)]
struct BudgetBody {
    items: Vec<Balance>,
}

/// `GET /budget`: for the day and the month (UTC) what was used, what is reserved for questions under way, the limits
/// where there are any, what they leave, and when the period ends.
pub(super) async fn left(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let used = call.gateway.stores.budgets.used(&principal).await?;
    let items = used.map(|used| Balance::new(used, &call.gateway.config.budget)).into();
    Ok(reply::json(StatusCode::OK, &BudgetBody { items }))
}
