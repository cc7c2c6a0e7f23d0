//! List prices, and what is cheaper.

use super::{Mix, PriceQuestion, PriceTopic};
use crate::cost::lever::cheaper::sibling;
use crate::cost::price::{Catalogue, Listed, Rates, Retirements, Tokens};
use crate::cost::query::calendar;
use crate::cost::report::words::{count, dollars, dollars_or, markdown};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use std::fmt::Write as _;

/// The most alternatives that an answer lists.
const MOST_OPTIONS: usize = 12;
/// How far ahead models that end are looked for, in days, and how many are listed.
const AHEAD: i64 = 180;
const MOST_ENDING: usize = 30;
/// The makers whose endings are listed where no provider is named; hosts end too much to list it all.
const MAKERS: [&str; 6] = ["anthropic", "deepseek", "google", "mistral", "openai", "x-ai"];

/// What prices are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Prices<'a> {
    /// The prices.
    pub catalogue: &'a Catalogue,
    /// The days on which models end.
    pub retirements: &'a Retirements,
    /// When the question is asked.
    pub now: Timestamp,
}

/// Answers a question from list prices and dates alone.
#[must_use]
pub fn prices(prices: &Prices<'_>, question: &PriceQuestion) -> String {
    match question.asked {
        PriceTopic::Price | PriceTopic::Change => prices.list(question),
        PriceTopic::Cheaper => prices.cheaper(question),
        PriceTopic::Ending => prices.ending(question),
    }
}

/// A way to have the same work done.
struct Offer {
    listed: Listed,
    how: String,
    cost: Usd,
}

impl Prices<'_> {
    /// The model as the catalogue has it, at the provider that is asked for.
    pub(super) fn find(&self, model: &str, provider: Option<&str>) -> Option<Listed> {
        let direct = self.catalogue.listed(provider, model);
        let Some(named) = provider else {
            // The name of a model does not always tell its maker.
            let made = |maker| self.catalogue.listed(Some(maker), model);
            return direct.or_else(|| MAKERS.into_iter().find_map(made));
        };
        direct.or_else(|| {
            let maker = self.catalogue.listed(None, model)?;
            self.catalogue.elsewhere(&maker).into_iter().find(|host| host.provider == named)
        })
    }

    fn list(&self, question: &PriceQuestion) -> String {
        let mix = question.mix.unwrap_or(Mix::EXAMPLE);
        let provider = question.provider.as_deref();
        let (found, unknown) = self.split(question);
        let mut text = String::new();
        if !found.is_empty() {
            let day = calendar::date(calendar::day_of(self.now));
            let _ = write!(
                text,
                "List prices in dollars per million tokens on {day}, and what {} cost:\n\n\
                 | Model | Provider | Input | Cached input | Output | {} | Ends |\n\
                 |---|---|--:|--:|--:|--:|---|\n",
                told(&mix),
                if question.mix.is_some() { "These tokens" } else { "Example" },
            );
        }
        let mut notes = Vec::new();
        for listed in &found {
            let rates = self.catalogue.rates(listed, None, false, self.now);
            let batch = self.catalogue.rates(listed, None, true, self.now);
            let plain = rates.as_ref().map(Rates::per_million).unwrap_or_default();
            let batched = batch.as_ref().map(Rates::per_million).unwrap_or_default();
            let cost = rates.as_ref().and_then(|rates| cost(rates, &mix));
            let ends = self.retirements.of(&listed.provider, &listed.model);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                markdown(&listed.model),
                markdown(&listed.provider),
                dollars_or(plain.input, "no price"),
                dollars_or(plain.cached, "as input"),
                dollars_or(plain.output, "no price"),
                dollars_or(cost, "no price"),
                ends.map_or("no date known", |ends| ends.day.as_str()),
            );
            if let Some((start, beyond)) = rates.as_ref().and_then(Rates::beyond) {
                notes.push(format!(
                    "{}: a request with more than {} tokens of input costs {} in and {} out, for all of its tokens",
                    markdown(&listed.model),
                    count(start),
                    dollars_or(beyond.input, "no price"),
                    dollars_or(beyond.output, "no price")
                ));
            }
            if batch.is_some() {
                notes.push(format!(
                    "{} in a batch, answered within a day: {} in and {} out",
                    markdown(&listed.model),
                    dollars_or(batched.input, "no price"),
                    dollars_or(batched.output, "no price")
                ));
            }
            let tiers = self.catalogue.tiers(listed);
            if !tiers.is_empty() {
                notes.push(format!(
                    "{} has other prices in the tiers {}",
                    markdown(&listed.model),
                    tiers.join(", ")
                ));
            }
        }
        text.push('\n');
        for note in notes {
            let _ = writeln!(text, "- {note}.");
        }
        no_price(&unknown, provider, &mut text);
        self.sources(&mut text);
        text
    }

    fn cheaper(&self, question: &PriceQuestion) -> String {
        let mix = question.mix.unwrap_or(Mix::EXAMPLE);
        let (found, unknown) = self.split(question);
        let mut text = String::new();
        for listed in &found {
            let name = markdown(&listed.model);
            let own = self.catalogue.rates(listed, None, false, self.now);
            let Some(own) = own.and_then(|rates| cost(&rates, &mix)) else {
                let _ = writeln!(text, "There is no price for {name} on this day.\n");
                continue;
            };
            let offers = self.offers(listed, &mix, own);
            let _ = writeln!(
                text,
                "**{}** at {}: {} cost {}.\n",
                name,
                markdown(&listed.provider),
                told(&mix),
                dollars(own)
            );
            if offers.is_empty() {
                let _ = writeln!(text, "Nothing cheaper is known for it.\n");
                continue;
            }
            text.push_str(
                "| Instead | Provider | What it is | Cost | Saves |\n|---|---|---|--:|--:|\n",
            );
            for offer in offers {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} |",
                    markdown(&offer.listed.model),
                    markdown(&offer.listed.provider),
                    offer.how,
                    dollars(offer.cost),
                    dollars(own - offer.cost)
                );
            }
            text.push('\n');
        }
        no_price(&unknown, question.provider.as_deref(), &mut text);
        if !found.is_empty() {
            text.push_str(
                "The same number of tokens is priced everywhere; another model counts and writes others. Of the \
                 quality of a smaller model prices say nothing: replay a sample of real requests on both before \
                 anything is moved.\n\n",
            );
        }
        self.sources(&mut text);
        text
    }

    /// Cheaper ways, the cheapest first.
    fn offers(&self, listed: &Listed, mix: &Mix, own: Usd) -> Vec<Offer> {
        let mut offers = Vec::new();
        let mut offer = |listed: &Listed, tier: Option<&str>, batch: bool, how: &str| {
            let rates = self.catalogue.rates(listed, tier, batch, self.now);
            if let Some(cost) = rates.and_then(|rates| cost(&rates, mix))
                && cost < own
            {
                offers.push(Offer { listed: listed.clone(), how: how.to_owned(), cost });
            }
        };
        offer(listed, None, true, "the same model in a batch: the answer within a day");
        for tier in self.catalogue.tiers(listed) {
            let how = format!(
                "the same model in the tier {}: slower or not always there",
                markdown(&tier)
            );
            offer(listed, Some(&tier), false, &how);
        }
        for host in self.catalogue.elsewhere(listed) {
            offer(
                &host,
                None,
                false,
                "a model of the same name at another provider: check version, region and terms",
            );
        }
        let mut name = listed.model.clone();
        while let Some(sibling) = sibling(&name) {
            let Some(smaller) = self.catalogue.listed(Some(&listed.provider), &sibling) else {
                break;
            };
            offer(
                &smaller,
                None,
                false,
                "a smaller model of the same family: quality is to be tested",
            );
            if sibling == name {
                break;
            }
            name = sibling;
        }
        offers.sort_by(|a, b| {
            a.cost.cmp(&b.cost).then_with(|| a.listed.provider.cmp(&b.listed.provider))
        });
        offers.truncate(MOST_OPTIONS);
        offers
    }

    fn ending(&self, question: &PriceQuestion) -> String {
        let today = calendar::day_of(self.now);
        let mut text = String::new();
        if question.models.is_empty() {
            let (from, before) = (calendar::date(today), calendar::date(today + AHEAD));
            let all = self.retirements.between(&from, &before);
            let named = question.provider.as_deref();
            let wanted: Vec<_> = all
                .into_iter()
                .filter(|date| {
                    named.map_or(MAKERS.contains(&date.provider.as_str()), |n| n == date.provider)
                })
                .collect();
            let _ = writeln!(
                text,
                "Models that end within {AHEAD} days{}:\n",
                named.map_or(String::new(), |name| format!(" at {}", markdown(name)))
            );
            if wanted.is_empty() {
                text.push_str("None is known.\n");
            } else {
                text.push_str("| Model | Provider | Ends | Source |\n|---|---|---|---|\n");
            }
            for date in wanted.iter().take(MOST_ENDING) {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} |",
                    markdown(&date.model),
                    markdown(&date.provider),
                    self.told_day(&date.day),
                    date.source.as_deref().unwrap_or("not named")
                );
            }
            if wanted.len() > MOST_ENDING {
                let _ =
                    writeln!(text, "\nand {} more.", count((wanted.len() - MOST_ENDING) as u64));
            }
            text.push('\n');
        }
        for model in &question.models {
            self.end_of(model, question.provider.as_deref(), &mut text);
        }
        self.sources(&mut text);
        text
    }

    fn end_of(&self, model: &str, provider: Option<&str>, text: &mut String) {
        let listed = self.find(model, provider);
        let at = listed.as_ref().map(|listed| listed.provider.clone());
        let Some(at) = at.or_else(|| provider.map(str::to_owned)) else {
            let _ =
                writeln!(text, "The catalogue has no price and no date for {}.\n", markdown(model));
            return;
        };
        let names = [Some(model), listed.as_ref().map(|listed| listed.model.as_str())];
        let found = names.into_iter().flatten().find_map(|name| self.retirements.of(&at, name));
        let (name, provider) = (markdown(model), markdown(&at));
        match found {
            Some(end) => {
                let _ = writeln!(
                    text,
                    "**{name}** at {provider} ends on **{}**{}.\n",
                    self.told_day(&end.day),
                    end.source.as_ref().map_or(String::new(), |page| format!(", by {page}"))
                );
            }
            None => {
                let _ = writeln!(text, "For **{name}** at {provider} no date is known.\n");
            }
        }
        for version in self.retirements.versions(&at, model) {
            let _ = writeln!(
                text,
                "- its version {} ends on {}",
                markdown(&version.model),
                self.told_day(&version.day)
            );
        }
    }

    /// A day with how far it is.
    pub(super) fn told_day(&self, day: &str) -> String {
        let today = calendar::day_of(self.now);
        match calendar::parse_day(day).map(|day| day - today) {
            Some(0) => format!("{day} (today)"),
            Some(days @ 1..) => format!("{day} (in {days} days)"),
            Some(days) => format!("{day} (passed {} days ago)", -days),
            None => day.to_owned(),
        }
    }

    /// The models that the catalogue has, and those that it has not.
    pub(super) fn split(&self, question: &PriceQuestion) -> (Vec<Listed>, Vec<String>) {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for model in &question.models {
            match self.find(model, question.provider.as_deref()) {
                Some(listed) if found.contains(&listed) => {}
                Some(listed) => found.push(listed),
                None => unknown.push(model.clone()),
            }
        }
        (found, unknown)
    }

    pub(super) fn sources(&self, text: &mut String) {
        let (catalogue, dates) = (self.catalogue, self.retirements);
        let _ = write!(
            text,
            "Prices: {} of {}; ends of models: {}.",
            markdown(catalogue.version()),
            markdown(catalogue.date()),
            markdown(dates.version())
        );
    }
}

pub(super) fn no_price(models: &[String], provider: Option<&str>, text: &mut String) {
    for model in models {
        let place = provider.map_or(String::new(), |name| format!(" at {}", markdown(name)));
        let _ = writeln!(
            text,
            "The catalogue has no price for {}{place}, so none is given.\n",
            markdown(model)
        );
    }
}

/// What tokens cost at these rates.
fn cost(rates: &Rates, mix: &Mix) -> Option<Usd> {
    let tokens = Tokens {
        input: mix.input_tokens,
        cached: mix.cached_tokens,
        output: mix.output_tokens,
        ..Tokens::default()
    };
    let each = mix.input_tokens.checked_div(mix.requests).unwrap_or(0);
    rates.cost_in_parts(each, &tokens).ok()
}

/// Tokens in words.
fn told(mix: &Mix) -> String {
    let cached = match mix.cached_tokens {
        0 => String::new(),
        cached => format!(" ({} of them cached)", count(cached)),
    };
    let requests = match mix.requests {
        0 => String::new(),
        requests => format!(" in {} requests", count(requests)),
    };
    format!(
        "{} tokens sent{cached} and {} received{requests}",
        count(mix.input_tokens),
        count(mix.output_tokens)
    )
}
