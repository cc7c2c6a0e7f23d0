//! All prices of one route, laid out by time, so that a request is priced by two searches in short lists.

use super::catalogue::{Price, Variant};
use super::contract::Term;
use super::rates::Rates;
use super::{Listing, Unpriced};
use apex_core::clock::Timestamp;

const DAY: i64 = 86_400_000;

/// What requests of one route cost at any time.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// By the first moment (milliseconds since 1970) at which they count; the first counts from the beginning.
    segments: Vec<(i64, Segment)>,
    undated: Quote,
}

/// Quotes by the first millisecond of the day (UTC) at which they count; the first counts from midnight.
type Segment = Vec<(i64, Quote)>;

/// What a request of one route costs at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The rates that it was billed at, or why there are none.
    pub rates: Result<Rates, Unpriced>,
    /// The rates that it would have had in a batch: today's discount on the rates of its own time. `None` where it
    /// was in one, or the provider sells none.
    pub batch: Option<Rates>,
}

impl Schedule {
    pub(super) fn new(
        listing: Option<Listing<'_>>,
        terms: &[Term],
        provider: Option<&str>,
        model: &str,
        tier: Option<&str>,
        batch: bool,
    ) -> Self {
        if model.is_empty() {
            return Self::constant(Quote { rates: Err(Unpriced::NoModel), batch: None });
        }
        let (provider, listed) = listing
            .map_or((provider, model), |l| (Some(l.provider.id.as_str()), l.model.id.as_str()));
        let book = Book {
            prices: listing.map_or(&[], |l| l.model.prices.as_slice()),
            variants: listing.filter(|l| l.own).map_or(&[], |l| l.model.variants.as_slice()),
            terms: terms
                .iter()
                .filter(|t| t.covers(provider, [model, listed], tier, batch))
                .collect(),
            tier,
            batch,
        };
        let segments = book
            .dates()
            .into_iter()
            .map(|from| {
                let slots = book.hours().into_iter();
                let at = |hour: i64| {
                    if from == i64::MIN { hour } else { from.saturating_add(hour) }
                };
                (from, slots.map(|hour| (hour, book.quote(at(hour)))).collect())
            })
            .collect();
        Self::from_segments(segments)
    }

    /// What a request at this moment costs; without a moment, only a price that never changed is known.
    #[must_use]
    pub fn quote(&self, at: Option<Timestamp>) -> &Quote {
        let Some(at) = at.map(Timestamp::as_millis) else {
            return &self.undated;
        };
        let segment = latest(&self.segments, at);
        segment
            .and_then(|slots| {
                if slots.len() == 1 {
                    slots.first().map(|s| &s.1)
                } else {
                    latest(slots, at.rem_euclid(DAY))
                }
            })
            .unwrap_or(&self.undated)
    }

    fn constant(quote: Quote) -> Self {
        Self::from_segments(vec![(i64::MIN, vec![(0, quote)])])
    }

    fn from_segments(segments: Vec<(i64, Segment)>) -> Self {
        let mut quotes =
            segments.iter().flat_map(|(_, slots)| slots.iter().map(|(_, quote)| quote));
        let first = quotes.next();
        let undated = match first {
            Some(first) if quotes.all(|other| other == first) => first.clone(),
            _ => Quote { rates: Err(Unpriced::NoDate), batch: None },
        };
        Self { segments, undated }
    }
}

fn latest<T>(list: &[(i64, T)], at: i64) -> Option<&T> {
    if let [(_, only)] = list {
        return Some(only);
    }
    let after = list.partition_point(|(from, _)| *from <= at);
    list.get(after.checked_sub(1)?).map(|(_, value)| value)
}

/// Everything that the price of one route is made of.
struct Book<'a> {
    prices: &'a [Price],
    variants: &'a [Variant],
    terms: Vec<&'a Term>,
    tier: Option<&'a str>,
    batch: bool,
}

impl Book<'_> {
    fn dates(&self) -> Vec<i64> {
        let mut dates: Vec<i64> = std::iter::once(i64::MIN)
            .chain(self.prices.iter().filter_map(|p| p.from))
            .chain(self.variants.iter().filter_map(|v| v.from))
            .chain(self.terms.iter().flat_map(|t| [t.from, t.until]).flatten())
            .collect();
        dates.sort_unstable();
        dates.dedup();
        dates
    }

    fn hours(&self) -> Vec<i64> {
        let windows = self.prices.iter().filter_map(|p| p.hours);
        let mut hours: Vec<i64> =
            std::iter::once(0).chain(windows.flat_map(|(start, end)| [start, end])).collect();
        hours.sort_unstable();
        hours.dedup();
        hours
    }

    fn quote(&self, at: i64) -> Quote {
        let rates = self.rates(at);
        let batch = rates.as_ref().ok().filter(|_| !self.batch).and_then(|rates| {
            let (list, discounted) = self.batch_discount(at)?;
            Some(rates.scaled(list, &discounted))
        });
        Quote { rates, batch }
    }

    fn rates(&self, at: i64) -> Result<Rates, Unpriced> {
        let list = self.list(at);
        let mut over = Rates::default();
        let (mut has_tier, mut has_batch) = (self.tier.is_none(), !self.batch);
        for variant in self.variants.iter().filter(|v| v.from.is_none_or(|from| at >= from)) {
            let for_batch = variant.batch && self.batch;
            let for_tier = variant.tier.is_some() && variant.tier.as_deref() == self.tier;
            if for_batch || for_tier {
                over = variant.rates.overlaid(&over);
                has_batch |= for_batch;
                has_tier |= for_tier;
            }
        }
        let mut rates = list.map(|list| list.overlaid(&over)).unwrap_or_default();
        for term in self.terms.iter().filter(|t| t.holds(at)) {
            rates = term.apply(&rates);
            (has_tier, has_batch) = (true, true);
        }
        if rates.is_empty() {
            Err(if list.is_some() { Unpriced::NoRate } else { Unpriced::UnknownModel })
        } else if has_tier && has_batch {
            Ok(rates)
        } else {
            Err(Unpriced::NoTier)
        }
    }

    fn list(&self, at: i64) -> Option<&Rates> {
        let holding = self.prices.iter().rev().find(|price| price.holds(at));
        holding.or(self.prices.first()).map(|price| &price.rates)
    }

    /// A date's list rates, and those of a batch at that date: as of this moment, or the first after it.
    fn batch_discount(&self, at: i64) -> Option<(&Rates, Rates)> {
        let begins = |v: &&Variant| v.from.unwrap_or(i64::MIN).max(at);
        let variant = self.variants.iter().filter(|v| v.batch).min_by_key(begins)?;
        let list = self.list(begins(&variant))?;
        Some((list, list.overlaid(&variant.rates)))
    }
}

#[cfg(test)]
mod tests {
    use crate::cost::price::{Catalogue, Route, Tokens};
    use apex_core::money::Usd;

    fn cost(rates: &super::Rates) -> Usd {
        rates
            .cost(&Tokens { input: 1_000_000, cached: 0, output: 1_000_000, ..Tokens::default() })
            .unwrap()
    }

    #[test]
    fn a_price_by_the_hour_is_found_at_its_hour() {
        let catalogue = Catalogue::embedded().unwrap();
        let schedule =
            catalogue.schedule(&Route { model: "deepseek/deepseek-chat", ..Route::default() });
        let at =
            |text: &str| cost(schedule.quote(Some(text.parse().unwrap())).rates.as_ref().unwrap());
        assert!(at("2025-03-01T20:00:00Z") < at("2025-03-01T10:00:00Z"), "cheaper at night");
    }

    #[test]
    fn todays_batch_discount_is_carried_back() {
        let catalogue = Catalogue::embedded().unwrap();
        let schedule = catalogue.schedule(&Route { model: "o3", ..Route::default() });
        for (at, list, batch) in
            [("2025-05-01T00:00:00Z", "50", "25"), ("2026-11-01T00:00:00Z", "10", "5")]
        {
            let quote = schedule.quote(Some(at.parse().unwrap()));
            assert_eq!(cost(quote.rates.as_ref().unwrap()), list.parse().unwrap());
            assert_eq!(cost(quote.batch.as_ref().unwrap()), batch.parse().unwrap());
        }
        let batch = catalogue.schedule(&Route { model: "o3", batch: true, ..Route::default() });
        assert_eq!(batch.quote(Some("2026-11-01T00:00:00Z".parse().unwrap())).batch, None);
    }
}
