//! What the levers save, a second way: one plain function over the record and what is left of it.

use crate::cost::import::{Decoded, key};
use crate::cost::lever::{Effect, batch, cheaper, repeats};
use crate::cost::price::{Catalogue, Rates, Route, Schedule, Tokens};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use apex_core::usage::UsageStatus;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Levers {
    catalogue: Arc<Catalogue>,
    /// By the place of a question: the last one there, and when.
    asked: Vec<(u64, i64)>,
    /// By the place of a user and model: which, in which window, how many.
    bursts: HashMap<usize, (u64, i64, u32)>,
    /// By a model's full name: its sibling's prices.
    siblings: BTreeMap<String, Option<Schedule>>,
    failed: Effect,
    repeated: Effect,
    batched: Effect,
    cheaper: Effect,
}

impl Levers {
    pub(super) fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            catalogue,
            // All zero, so that the system gives memory only where something is written.
            asked: vec![(0, 0); repeats::SLOTS],
            bursts: HashMap::new(),
            siblings: BTreeMap::new(),
            failed: Effect::default(),
            repeated: Effect::default(),
            batched: Effect::default(),
            cheaper: Effect::default(),
        }
    }

    /// The effects, in the order of the levers.
    pub(super) fn effects(&self) -> Vec<Effect> {
        vec![self.failed, self.repeated, self.batched, self.cheaper]
    }

    /// Counts a priced record.
    pub(super) fn enter(
        &mut self,
        record: &Decoded<'_>,
        tokens: &Tokens,
        rates: &Rates,
        batch: Option<&Rates>,
        price: Usd,
    ) {
        let subject = key::subject(key::user(record), key::route(record));
        let (proven, likely) = self.is_repeat(record, subject);
        let burst = self.is_burst(record, subject);
        let in_batch =
            batch.and_then(|rates| rates.cost(tokens).ok()).filter(|cheaper| *cheaper < price);

        let empty = tokens.output == 0 && tokens.input > 0 && rates.bills_output();
        if record.status == UsageStatus::Error || empty {
            // Only a recorded cost is proof that it was paid.
            let certain = record.recorded.is_some_and(|cost| cost > Usd::ZERO);
            save(&mut self.failed, if certain { price } else { Usd::ZERO }, price, price);
            return;
        }
        if likely {
            save(&mut self.repeated, if proven { price } else { Usd::ZERO }, price, price);
            return;
        }
        let discount = in_batch.map_or(Usd::ZERO, |cheaper| price - cheaper);
        save(&mut self.batched, Usd::ZERO, if burst { discount } else { Usd::ZERO }, discount);
        let left = in_batch.unwrap_or(price);
        let sibling = self
            .sibling(record)
            .and_then(|s| cheaper::price(s, record.at, tokens, in_batch.is_some()));
        if let Some(cheaper) = sibling.filter(|cheaper| *cheaper < left) {
            save(&mut self.cheaper, Usd::ZERO, Usd::ZERO, left - cheaper);
        }
    }

    /// Whether it is a repeat: proven, likely.
    fn is_repeat(&mut self, record: &Decoded<'_>, subject: u64) -> (bool, bool) {
        let Some(at) = record.at.map(Timestamp::as_millis) else {
            return (false, false);
        };
        let question = key::question(subject, record);
        let Some(place) = self.asked.get_mut(repeats::slot(question)) else {
            return (false, false);
        };
        let (asked, then) = std::mem::replace(place, (question, at));
        let again = asked == question && (at - then).abs() <= repeats::WINDOW_MS;
        let proven = again && record.input > 0 && record.content.is_some();
        (proven, proven || again && record.input >= repeats::TELLING_TOKENS)
    }

    fn is_burst(&mut self, record: &Decoded<'_>, subject: u64) -> bool {
        let (None, Some(at)) = (record.session, record.at) else {
            return false;
        };
        let window = at.as_millis().div_euclid(batch::WINDOW_MS);
        let count = self.bursts.entry(batch::slot(subject)).or_insert((subject, window, 0));
        if count.0 != subject || count.1 != window {
            *count = (subject, window, 0);
        }
        count.2 += 1;
        count.2 >= batch::BURST
    }

    fn sibling(&mut self, record: &Decoded<'_>) -> Option<&Schedule> {
        let (provider, tier) = (record.provider, record.tier);
        let name = format!("{provider:?} {} {tier:?} {}", record.model, record.batch);
        let catalogue = &self.catalogue;
        self.siblings
            .entry(name)
            .or_insert_with(|| {
                let model = cheaper::sibling(record.model)?;
                Some(catalogue.schedule(&Route {
                    provider,
                    model: &model,
                    tier,
                    batch: record.batch,
                }))
            })
            .as_ref()
    }
}

fn save(effect: &mut Effect, low: Usd, expected: Usd, high: Usd) {
    effect.saving.low += low;
    effect.saving.expected += expected;
    effect.saving.high += high;
    effect.low_requests += u64::from(low > Usd::ZERO);
    effect.expected_requests += u64::from(expected > Usd::ZERO);
    effect.high_requests += u64::from(high > Usd::ZERO);
}
