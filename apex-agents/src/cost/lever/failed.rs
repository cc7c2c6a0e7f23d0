//! Calls that failed, or were billed and brought no answer.

use super::{Call, Effect, Left, Lever, Readings, Rule};
use crate::cost::report::words::{count, dollars};
use crate::cost::report::{Action, Advice, Effort, EvidenceLevel, Recommendation};
use apex_core::money::Usd;
use apex_core::usage::UsageStatus;

/// The lever.
pub(super) const LEVER: Lever =
    Lever { name: "failed_calls", in_headline: true, rule: |_| Box::new(Failed), recommend, act };

#[derive(Debug)]
struct Failed;

impl Rule for Failed {
    fn apply(&mut self, call: &Call<'_>, left: &mut Readings) {
        let row = call.row;
        // A model whose answers have no price (an embedding) never has output tokens: that is no failure.
        let empty = row.tokens.output == 0 && row.tokens.input > 0 && call.rates.bills_output();
        if row.status != UsageStatus::Error && !empty {
            return;
        }
        left.expected.spare();
        left.high.spare();
        // Only what the source itself recorded as paid is certain.
        if row.recorded.is_some_and(|cost| cost > Usd::ZERO) {
            Left::spare(&mut left.low);
        }
    }
}

fn recommend(effect: &Effect) -> Recommendation {
    let found = effect.high_requests > 0;
    Recommendation {
        lever: LEVER.name.to_owned(),
        title: if found {
            "Find the cause of the calls that failed or came back empty, and stop paying for them".to_owned()
        } else {
            "No call failed or came back empty: nothing to do here".to_owned()
        },
        advice: if found { Advice::Do } else { Advice::DoNot },
        scope: "Priced requests whose status is an error, or that have input but no output tokens".to_owned(),
        requests: effect.requests(),
        saving_usd: effect.saving,
        evidence_level: EvidenceLevel::Measured,
        evidence: format!(
            "{} requests failed or have no output tokens; at list price they cost {}. For {} of them ({}) the source \
             itself recorded a cost.",
            count(effect.high_requests), dollars(effect.saving.high), count(effect.low_requests), dollars(effect.saving.low)
        ),
        risk: "None for quality. A part may be calls that users broke off on purpose.".to_owned(),
        verify: "Count such calls again in the next export: their number and cost should fall, the number of answered \
                 requests should not."
            .to_owned(),
    }
}

fn act(effect: &Effect) -> Action {
    Action {
        order: 0,
        what: "Group the failed and empty calls by error and by caller; fix the largest group first, and retry only \
               what can succeed (429, 5xx, timeouts), with a limit"
            .to_owned(),
        place: "The code that calls the model, at its retry and cancel paths".to_owned(),
        effort: Effort::Small,
        risk: "Low: fewer retries can show errors that were hidden before".to_owned(),
        roll_back: "Restore the former retry settings".to_owned(),
        verify: "Failed and empty calls, and their cost, in the next export".to_owned(),
        saving_usd: Some(effect.saving.expected),
    }
}
