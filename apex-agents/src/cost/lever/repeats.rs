//! The same request again: what a cache of answers, or a button that works once, would spare.

use super::{Call, Effect, Lever, Readings, Rule};
use crate::cost::analyse::Row;
use crate::cost::report::words::{count, dollars};
use crate::cost::report::{Action, Advice, Effort, EvidenceLevel, Recommendation};
use apex_core::clock::Timestamp;

/// The lever.
pub(super) const LEVER: Lever = Lever {
    name: "exact_repeats",
    in_headline: true,
    rule: |_| Box::new(Repeats::default()),
    recommend,
    act,
};

/// How long an answer would be kept.
pub(in crate::cost) const WINDOW_MS: i64 = 24 * 3_600_000;

/// Without a digest of the content, equal counts prove something only where they are large: two short prompts often
/// have the same length.
pub(in crate::cost) const TELLING_TOKENS: u64 = 1_000;

/// How many questions are remembered, each in the one place that its key gives it. A newer one takes the place of an
/// older one, so that some repeats are missed and none is invented.
pub(in crate::cost) const SLOTS: usize = 1 << 18;

/// The place of a question.
pub(in crate::cost) fn slot(question: u64) -> usize {
    usize::try_from(question % SLOTS as u64).unwrap_or(0)
}

/// Remembers when each question was last asked.
#[derive(Debug, Default)]
struct Repeats {
    slots: Vec<(u64, i64)>,
}

impl Rule for Repeats {
    fn warm(&self, row: &Row) -> u64 {
        self.slots.get(slot(row.question)).map_or(0, |place| place.0)
    }

    fn apply(&mut self, call: &Call<'_>, left: &mut Readings) {
        let row = call.row;
        let Some(at) = row.at.map(Timestamp::as_millis) else {
            return;
        };
        if self.slots.is_empty() {
            self.slots = vec![(0, i64::MIN); SLOTS];
        }
        let Some(place) = self.slots.get_mut(slot(row.question)) else {
            return;
        };
        let before = std::mem::replace(place, (row.question, at));
        let again = before.0 == row.question && at.abs_diff(before.1) <= WINDOW_MS.unsigned_abs();
        if !again || row.tokens.input == 0 {
            return;
        }
        if !row.has_content && row.tokens.input < TELLING_TOKENS {
            return;
        }
        left.high.spare();
        left.expected.spare();
        if row.has_content {
            left.low.spare();
        }
    }
}

fn recommend(effect: &Effect) -> Recommendation {
    let advice = if effect.low_requests > 0 {
        Advice::Do
    } else if effect.expected_requests > 0 {
        Advice::Try
    } else {
        Advice::DoNot
    };
    Recommendation {
        lever: LEVER.name.to_owned(),
        title: match advice {
            Advice::Do => "Answer exact repeats from a cache".to_owned(),
            Advice::Try => "Look at the likely repeats; answer those that are real from a cache".to_owned(),
            Advice::DoNot => "Do not build an answer cache: the records show no repeats that would pay for it".to_owned(),
        },
        advice,
        scope: "A second request by the same user to the same model with the same token counts (and the same content \
                digest, where there is one) within 24 hours"
            .to_owned(),
        requests: effect.requests(),
        saving_usd: effect.saving,
        evidence_level: if effect.low_requests > 0 { EvidenceLevel::Measured } else { EvidenceLevel::Estimated },
        evidence: format!(
            "{} repeats are proven by their content ({}); with those of at least {TELLING_TOKENS} input tokens and \
             equal counts there are {} ({}). One in {SLOTS} places remembers each request, so the true number can only \
             be higher.",
            count(effect.low_requests), dollars(effect.saving.low), count(effect.expected_requests), dollars(effect.saving.expected),
        ),
        risk: "A cached answer can be stale, or wrong for another user: cache by user and content, for a day at most."
            .to_owned(),
        verify: "Record a digest of each prompt for a week: the share of digests seen twice within 24 hours is the \
                 hit rate."
            .to_owned(),
    }
}

fn act(effect: &Effect) -> Action {
    Action {
        order: 0,
        what: "Cache answers by user, model and a digest of the whole request, for 24 hours; skip it where the \
               temperature is above 0 or tools have effects"
            .to_owned(),
        place: "In front of the call to the model".to_owned(),
        effort: Effort::Medium,
        risk: "Medium: stale answers; never share entries between users".to_owned(),
        roll_back: "Switch the cache off; nothing else depends on it".to_owned(),
        verify: "Hit rate, and complaints about stale answers, over a week".to_owned(),
        saving_usd: Some(effect.saving.expected),
    }
}
