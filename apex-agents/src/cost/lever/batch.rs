//! Batch interfaces: half the price for an answer within a day.

use super::{Call, Effect, Left, Lever, Readings, Rule};
use crate::cost::report::words::{count, dollars};
use crate::cost::report::{Action, Advice, Effort, EvidenceLevel, Recommendation};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;

/// The lever.
pub(super) const LEVER: Lever = Lever {
    name: "batch",
    in_headline: true,
    rule: |_| Box::new(Batch::default()),
    recommend,
    act,
};

/// A burst is counted in clock windows of this length.
pub(in crate::cost) const WINDOW_MS: i64 = 600_000;

/// From this request on, those of one user to one model in one window come from a program, not from a person.
pub(in crate::cost) const BURST: u32 = 50;

/// How many users and models are told apart, each pair in the one place that its key gives it.
pub(in crate::cost) const SLOTS: usize = 1 << 16;

/// The place of a user and model.
pub(in crate::cost) fn slot(subject: u64) -> usize {
    usize::try_from(subject % SLOTS as u64).unwrap_or(0)
}

/// Counts the requests of each user to each model in the present window.
#[derive(Debug, Default)]
struct Batch {
    slots: Vec<(u64, i64, u32)>,
}

impl Batch {
    /// Whether this request is one of a burst.
    fn in_burst(&mut self, call: &Call<'_>) -> bool {
        let row = call.row;
        // A turn of a conversation waits for the one before it, so it cannot wait for a batch.
        let Some(at) = row.at.map(Timestamp::as_millis).filter(|_| !row.in_session) else {
            return false;
        };
        if self.slots.is_empty() {
            self.slots = vec![(0, i64::MIN, 0); SLOTS];
        }
        let window = at.div_euclid(WINDOW_MS);
        let Some(place) = self.slots.get_mut(slot(row.subject)) else {
            return false;
        };
        if (place.0, place.1) != (row.subject, window) {
            *place = (row.subject, window, 0);
        }
        place.2 = place.2.saturating_add(1);
        place.2 >= BURST
    }
}

impl Rule for Batch {
    fn apply(&mut self, call: &Call<'_>, left: &mut Readings) {
        let burst = self.in_burst(call);
        let Some(price) = call.batch.and_then(|rates| rates.cost(&call.row.tokens).ok()) else {
            return;
        };
        let move_over = |left: &mut Left| {
            if left.cost > price && left.cost > Usd::ZERO {
                *left = Left { cost: price, batched: true };
            }
        };
        move_over(&mut left.high);
        if burst {
            move_over(&mut left.expected);
        }
    }
}

fn recommend(effect: &Effect) -> Recommendation {
    let advice = if effect.expected_requests > 0 { Advice::Try } else { Advice::DoNot };
    Recommendation {
        lever: LEVER.name.to_owned(),
        title: match advice {
            Advice::DoNot if effect.high_requests > 0 => {
                "Do not move these calls to a batch interface: they look like people waiting for answers".to_owned()
            }
            Advice::DoNot => "No call could be moved to a batch interface at a lower price".to_owned(),
            _ => "Send the bursts that a program makes through the batch interface".to_owned(),
        },
        advice,
        scope: format!(
            "Requests outside sessions from the {BURST}th on that one user sends to one model within ten minutes, where \
             the provider has a batch price"
        ),
        requests: effect.requests(),
        saving_usd: effect.saving,
        evidence_level: EvidenceLevel::Estimated,
        evidence: format!(
            "{} requests come in bursts that no person types ({}). If every answer could wait a day, {} requests would \
             save {}: an upper limit. No column says which answers may wait, so nothing is certain.",
            count(effect.expected_requests), dollars(effect.saving.expected), count(effect.high_requests), dollars(effect.saving.high)
        ),
        risk: "Answers come within 24 hours instead of seconds, and a batch can expire; the model is the same.".to_owned(),
        verify: "Send one job through the batch interface, compare answers and bill, and measure when it came back."
            .to_owned(),
    }
}

fn act(effect: &Effect) -> Action {
    Action {
        order: 0,
        what: "Ask the owners of the bursts whether the results may come a day later; move one job to the batch \
               interface and keep the direct path beside it"
            .to_owned(),
        place: "The jobs that send many requests at once".to_owned(),
        effort: Effort::Medium,
        risk: "Medium: late or expired answers".to_owned(),
        roll_back: "Send the job through the direct path again".to_owned(),
        verify: "Bill of the job before and after; share of answers within its deadline".to_owned(),
        saving_usd: Some(effect.saving.expected),
    }
}
