//! A cheaper model for the same task. Without evidence of quality it is a ceiling: what the bill would be if the
//! cheaper sibling did everything as well, which nobody has shown.

use super::{Call, Effect, Left, Lever, Readings, Rule};
use crate::cost::price::{Catalogue, Route, Schedule, Tokens};
use crate::cost::report::words::{count, dollars};
use crate::cost::report::{Action, Advice, Effort, EvidenceLevel, Recommendation};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use std::sync::Arc;

/// The lever.
pub(super) const LEVER: Lever = Lever {
    name: "cheaper_model",
    in_headline: false,
    rule: |catalogue| {
        Box::new(Cheaper { catalogue: Arc::clone(catalogue), candidates: Vec::new() })
    },
    recommend,
    act,
};

/// The next cheaper sibling by the same maker: how a model's name begins, and the sibling. The first that fits
/// counts; a model that is itself a small one has none.
const SIBLINGS: &[(&str, &str)] = &[
    ("gpt-4o-mini", ""),
    ("gpt-4o", "gpt-4o-mini"),
    ("gpt-4.1-nano", ""),
    ("gpt-4.1-mini", "gpt-4.1-nano"),
    ("gpt-4.1", "gpt-4.1-mini"),
    ("gpt-5-nano", ""),
    ("gpt-5-mini", "gpt-5-nano"),
    ("gpt-5.4-nano", ""),
    ("gpt-5.4-mini", "gpt-5.4-nano"),
    ("gpt-5.4", "gpt-5.4-mini"),
    ("gpt-5", "gpt-5-mini"),
    ("o1-mini", ""),
    ("o3-mini", ""),
    ("o4-mini", ""),
    ("o1", "o3-mini"),
    ("o3", "o4-mini"),
    ("claude-3-5-haiku", ""),
    ("claude-3-5-sonnet", "claude-3-5-haiku-20241022"),
    ("claude-3-7-sonnet", "claude-3-5-haiku-20241022"),
    ("claude-3.5-sonnet", "claude-3.5-haiku"),
    ("claude-3.7-sonnet", "claude-3.5-haiku"),
    ("claude-sonnet-4", "claude-haiku-4-5"),
    ("claude-opus-4", "claude-sonnet-4-5"),
    ("gemini-1.5-pro", "gemini-1.5-flash"),
    ("gemini-2.5-pro", "gemini-2.5-flash"),
    ("gemini-2.5-flash-lite", ""),
    ("gemini-2.5-flash", "gemini-2.5-flash-lite"),
    ("gemini-3-pro", "gemini-3-flash-preview"),
];

/// The name of the cheaper sibling of a model, with the same provider before it.
pub(in crate::cost) fn sibling(model: &str) -> Option<String> {
    let name_at = model.rfind('/').map_or(0, |slash| slash + 1);
    let (prefix, name) = model.split_at_checked(name_at)?;
    let name = name.to_ascii_lowercase();
    let (_, sibling) = SIBLINGS.iter().find(|(start, _)| name.starts_with(start))?;
    (!sibling.is_empty()).then(|| format!("{prefix}{sibling}"))
}

/// What a sibling would have billed for the same tokens, in a batch or not. A cache that it does not have is read as
/// plain input.
pub(in crate::cost) fn price(
    sibling: &Schedule,
    at: Option<Timestamp>,
    tokens: &Tokens,
    batched: bool,
) -> Option<Usd> {
    let quote = sibling.quote(at);
    let rates = if batched { quote.batch.as_ref() } else { None };
    rates.or(quote.rates.as_ref().ok())?.cost(tokens).ok()
}

#[derive(Debug)]
struct Cheaper {
    catalogue: Arc<Catalogue>,
    /// The sibling's prices by the number of the route; `Some(None)` where there is none.
    candidates: Vec<Option<Option<Schedule>>>,
}

impl Rule for Cheaper {
    fn apply(&mut self, call: &Call<'_>, left: &mut Readings) {
        if left.high.cost <= Usd::ZERO {
            return;
        }
        let (number, name) = (call.route.0 as usize, call.route.1.route());
        if self.candidates.len() <= number {
            self.candidates.resize(number + 1, None);
        }
        let Some(candidate) = self.candidates.get_mut(number) else {
            return;
        };
        let catalogue = &self.catalogue;
        let candidate = candidate.get_or_insert_with(|| {
            let sibling = sibling(name.model)?;
            Some(catalogue.schedule(&Route { model: &sibling, ..name }))
        });
        let Some(schedule) = candidate else { return };
        let Some(price) = price(schedule, call.row.at, &call.row.tokens, left.high.batched) else {
            return;
        };
        if price < left.high.cost {
            left.high = Left { cost: price, ..left.high };
        }
    }
}

fn recommend(effect: &Effect) -> Recommendation {
    let found = effect.high_requests > 0;
    Recommendation {
        lever: LEVER.name.to_owned(),
        title: if found {
            "Test whether a cheaper model of the same family does the task as well, before believing any saving"
                .to_owned()
        } else {
            "No cheaper sibling is known for the models in use".to_owned()
        },
        advice: if found { Advice::Try } else { Advice::DoNot },
        scope: "Requests to models that have a cheaper sibling by the same maker".to_owned(),
        requests: effect.requests(),
        saving_usd: effect.saving,
        evidence_level: EvidenceLevel::Ceiling,
        evidence: format!(
            "If the sibling answered all {} requests with the same number of tokens, they would cost {} less. The \
             records hold no evidence of quality, so nothing of it counts.",
            count(effect.high_requests), dollars(effect.saving.high)
        ),
        risk: "High: answers can be worse without anyone noticing, and a weaker model often needs more tokens or more \
               attempts."
            .to_owned(),
        verify: "Replay a stratified sample on both models, have the answers judged blind, and compare the cost of each \
                 task that succeeds; then hold back 5 to 10% in live use."
            .to_owned(),
    }
}

fn act(_: &Effect) -> Action {
    Action {
        order: 0,
        what: "Collect 200 real requests of the dearest model and replay them on its cheaper sibling; judge both blind"
            .to_owned(),
        place: "A test beside production; no traffic is moved".to_owned(),
        effort: Effort::Large,
        risk: "None for the test; high for a switch without it".to_owned(),
        roll_back: "Nothing was changed".to_owned(),
        verify: "Share of answers that are no worse, with its interval".to_owned(),
        saving_usd: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_stay_with_the_provider_and_small_models_have_none() {
        assert_eq!(sibling("gpt-4o-2024-08-06").as_deref(), Some("gpt-4o-mini"));
        assert_eq!(
            sibling("openrouter/anthropic/claude-3.7-sonnet").as_deref(),
            Some("openrouter/anthropic/claude-3.5-haiku")
        );
        for small in ["gpt-4o-mini", "o3-mini", "gemini-2.5-flash-lite", "unknown", ""] {
            assert_eq!(sibling(small), None, "{small}");
        }
    }

    #[test]
    fn every_sibling_is_in_the_catalogue_and_cheaper_than_what_it_replaces() {
        let catalogue = Catalogue::embedded().unwrap();
        let tokens = Tokens { input: 1_000, output: 1_000, ..Tokens::default() };
        let at = Some("2026-11-01T00:00:00Z".parse().unwrap());
        let cost = |model: &str| {
            let provider = model.starts_with("claude-3.").then_some("anthropic");
            price(
                &catalogue.schedule(&Route { model, provider, ..Route::default() }),
                at,
                &tokens,
                false,
            )
        };
        for (model, sibling) in SIBLINGS.iter().filter(|(_, sibling)| !sibling.is_empty()) {
            let dear = cost(model)
                .or_else(|| cost(&format!("{model}-preview")))
                .or_else(|| cost(&format!("{model}-0")));
            assert!(
                cost(sibling) < dear && cost(sibling).is_some(),
                "{model} {dear:?} {sibling} {:?}",
                cost(sibling)
            );
        }
    }
}
