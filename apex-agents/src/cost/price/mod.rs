//! Dated prices: what a request cost at its own time.
//!
//! A price of today applied to last year is wrong, and so is the maker's price for a model that someone else hosts.
//! So a model is looked up at the provider that served it, at the date of the request, and what is not found there
//! is [`Unpriced`], a state that is never zero dollars.

mod catalogue;
mod clause;
mod contract;
mod offers;
mod rates;
mod retirements;
mod schedule;

pub use offers::{Listed, PerMillion};
pub use rates::{Rates, Tokens};
pub use retirements::{Retirement, Retirements};
pub use schedule::{Quote, Schedule};

use crate::cost::report::CatalogueStamp;
use apex_core::error::Result;
use catalogue::{File, Model, Provider};
use sha2::{Digest, Sha256};
use std::fmt;

/// Names under which gateways and SDKs know a provider of the catalogue.
const PROVIDER_ALIASES: &[(&str, &str)] = &[
    ("fireworks_ai", "fireworks"),
    ("hf", "huggingface"),
    ("claude", "anthropic"),
    ("moonshot", "moonshotai"),
    ("x_ai", "x-ai"),
];

/// What stands in a provider column but is only the way there.
const GATEWAYS: &[&str] = &["litellm", "langfuse", "helicone", "portkey", "gateway", "proxy"];

/// Words for the ordinary service tier.
const STANDARD_TIERS: &[&str] =
    &["", "default", "standard", "auto", "on_demand", "on-demand", "none", "null"];

/// Why a request has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unpriced {
    /// The record names no model.
    NoModel,
    /// The catalogue does not know the model at its provider.
    UnknownModel,
    /// The price depends on the date, and the record has none.
    NoDate,
    /// The catalogue has no price for the service tier or the batch interface at that date.
    NoTier,
    /// A kind of token was used that has no rate.
    NoRate,
    /// There are more models than are told apart.
    TooMany,
    /// The product is beyond the range of money.
    TooLarge,
}

impl fmt::Display for Unpriced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoModel => "the record names no model",
            Self::UnknownModel => "the catalogue does not know the model at this provider",
            Self::NoDate => "the price depends on the date and the record has none",
            Self::NoTier => "no price is known for this service tier at that date",
            Self::NoRate => "a kind of token was used that has no price",
            Self::TooMany => "there are more models than are told apart",
            Self::TooLarge => "the amount is beyond the range of money",
        })
    }
}

/// Who served which model how: what a price depends on beside time and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Route<'a> {
    /// The provider, where the record names one.
    pub provider: Option<&'a str>,
    /// The model as the record names it.
    pub model: &'a str,
    /// The service tier, where the record names one.
    pub tier: Option<&'a str>,
    /// Whether it went through a batch interface.
    pub batch: bool,
}

/// A set of dated prices.
#[derive(Clone)]
pub struct Catalogue {
    version: String,
    date: String,
    digest: Sha256,
    providers: Vec<Provider>,
    terms: Vec<contract::Term>,
}

impl Catalogue {
    /// The catalogue that this version of the library was built with.
    ///
    /// # Errors
    /// None that a release can have: it is read like any other.
    pub fn embedded() -> Result<Self> {
        Self::from_json(include_bytes!("catalogue.json"))
    }

    /// A catalogue in our format, `apex.prices/1`.
    ///
    /// # Errors
    /// `bad_data` with what is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let file = File::parse(bytes)?;
        Ok(Self {
            version: file.version,
            date: file.date,
            digest: Sha256::new_with_prefix(bytes),
            providers: file.providers,
            terms: Vec::new(),
        })
    }

    /// This catalogue with a contract's prices (TOML or JSON) on top; of several terms the last one wins.
    ///
    /// # Errors
    /// `bad_data` with what is wrong.
    pub fn with_contract(mut self, bytes: &[u8]) -> Result<Self> {
        self.terms.extend(contract::parse(bytes)?);
        self.digest.update(bytes);
        self.version.push_str("+contract");
        Ok(self)
    }

    /// Its version, such as `genai-prices-0.2.3`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The day on which it was made.
    #[must_use]
    pub fn date(&self) -> &str {
        &self.date
    }

    /// Its version and hash, as a report names them.
    #[must_use]
    pub fn stamp(&self) -> CatalogueStamp {
        let sha256 = self.digest.clone().finalize();
        CatalogueStamp {
            version: self.version.clone(),
            sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Everything that requests of this route can cost.
    #[must_use]
    pub fn schedule(&self, route: &Route<'_>) -> Schedule {
        let model = route.model.trim().to_lowercase();
        let provider = route.provider.map(|p| p.trim().to_lowercase()).filter(|p| !p.is_empty());
        let tier = route.tier.map(|t| t.trim().to_lowercase());
        let (tier, tier_is_batch) = match tier.as_deref() {
            Some("batch") => (None, true),
            Some(tier) if !STANDARD_TIERS.contains(&tier) => (Some(tier), false),
            _ => (None, false),
        };
        let listing = self.find(provider.as_deref(), &model);
        Schedule::new(
            listing,
            &self.terms,
            provider.as_deref(),
            &model,
            tier,
            route.batch || tier_is_batch,
        )
    }

    fn find(&self, provider: Option<&str>, model: &str) -> Option<Listing<'_>> {
        // Google's own names have a folder before them.
        let model = model.strip_prefix("models/").unwrap_or(model);
        let named = provider.filter(|p| !GATEWAYS.contains(p));
        if let Some(named) = named {
            let provider = self.provider(named)?;
            // Some records name the provider twice.
            return self.listing(provider, model).or_else(|| {
                let (prefix, rest) = model.split_once('/')?;
                let same = self.provider(prefix).is_some_and(|p| p.id == provider.id);
                same.then(|| self.listing(provider, rest)).flatten()
            });
        }
        if let Some((prefix, rest)) = model.split_once('/')
            && let Some(provider) = self.provider(prefix)
        {
            // Not sold there under this name: another provider's price would be a guess.
            return self.listing(provider, rest);
        }
        let provider = self
            .providers
            .iter()
            .find(|p| p.matches.as_ref().is_some_and(|clause| clause.matches(model)))?;
        self.listing(provider, model)
    }

    fn provider(&self, name: &str) -> Option<&Provider> {
        let name =
            PROVIDER_ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, id)| *id);
        self.providers.iter().find(|p| p.id == name).or_else(|| {
            self.providers
                .iter()
                .find(|p| p.names.as_ref().is_some_and(|clause| clause.matches(name)))
        })
    }

    fn listing<'a>(&'a self, provider: &'a Provider, model: &str) -> Option<Listing<'a>> {
        let dashed = with_dashed_date(model);
        [Some(model), dashed.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|name| self.listing_as(provider, name))
    }

    fn listing_as<'a>(&'a self, provider: &'a Provider, name: &str) -> Option<Listing<'a>> {
        let in_list = |p: &'a Provider| p.models.iter().find(|m| m.matches.matches(name));
        if let Some(model) = in_list(provider) {
            return Some(Listing { provider, model, own: true });
        }
        provider.fallback.iter().find_map(|id| {
            let other = self.providers.iter().find(|p| p.id == *id)?;
            let model = in_list(other)?;
            Some(Listing { provider, model, own: false })
        })
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue")
            .field("version", &self.version)
            .field("date", &self.date)
            .field("providers", &self.providers.len())
            .field("terms", &self.terms.len())
            .finish_non_exhaustive()
    }
}

/// A model in a provider's list.
#[derive(Debug, Clone, Copy)]
struct Listing<'a> {
    provider: &'a Provider,
    model: &'a Model,
    /// Whether it stands in the provider's own list, to which alone the variants belong.
    own: bool,
}

/// `gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: gateways write the date of a model without dashes.
fn with_dashed_date(model: &str) -> Option<String> {
    let digits_at = |at: usize| {
        let date = model.get(at..at + 8)?;
        let ends = matches!(model.as_bytes().get(at + 8), None | Some(b'-' | b':'));
        let fits = ends && date.starts_with("20") && date.bytes().all(|b| b.is_ascii_digit());
        fits.then_some((at, date))
    };
    let (at, date) = model.match_indices('-').find_map(|(dash, _)| digits_at(dash + 1))?;
    let (year, rest) = date.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    Some(format!("{}{year}-{month}-{day}{}", model.get(..at)?, model.get(at + 8..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::clock::Timestamp;
    use apex_core::money::Usd;

    fn price(model: &str, at: &str, input: u64, output: u64) -> Result<Usd, Unpriced> {
        price_of(&Route { model, ..Route::default() }, at, input, output)
    }

    fn price_of(route: &Route<'_>, at: &str, input: u64, output: u64) -> Result<Usd, Unpriced> {
        let catalogue = Catalogue::embedded().unwrap();
        let at = at.parse::<Timestamp>().unwrap();
        let tokens = Tokens { input, output, ..Tokens::default() };
        catalogue.schedule(route).quote(Some(at)).rates.clone()?.cost(&tokens)
    }

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_costs_what_it_cost_then() {
        assert_eq!(price("o3", "2025-06-09T23:59:59Z", 1_000, 1_000), Ok(usd("0.05")));
        assert_eq!(price("o3", "2025-06-10T00:00:00Z", 1_000, 1_000), Ok(usd("0.01")));
    }

    #[test]
    fn the_host_decides_the_price_not_the_maker() {
        let at = "2025-05-01T00:00:00Z";
        assert!(price("deepseek/deepseek-reasoner", at, 1_000, 10).is_ok());
        assert!(price("openrouter/anthropic/claude-3.7-sonnet", at, 1_000, 10).is_ok());
        for elsewhere in [
            "fireworks_ai/accounts/fireworks/models/deepseek-r1",
            "ollama/llama3",
            "openrouter/REDACTED",
            "no-such-model",
        ] {
            assert_eq!(price(elsewhere, at, 1_000, 10), Err(Unpriced::UnknownModel), "{elsewhere}");
        }
        assert_eq!(price("", at, 1_000, 10), Err(Unpriced::NoModel));
    }

    #[test]
    fn providers_are_known_by_many_names() {
        let at = "2025-05-01T00:00:00Z";
        let direct = price("claude-3-7-sonnet-20250219", at, 1_000, 10);
        for (provider, model) in [
            (Some("anthropic"), "claude-3-7-sonnet-20250219"),
            (Some("Anthropic"), "anthropic/claude-3-7-sonnet-20250219"),
            (None, "anthropic/claude-3-7-sonnet-20250219"),
            (Some("litellm"), "anthropic/claude-3-7-sonnet-20250219"),
        ] {
            let route = Route { provider, model, ..Route::default() };
            assert_eq!(price_of(&route, at, 1_000, 10), direct, "{route:?}");
        }
        assert_eq!(
            price("gpt-5.4-20260305", "2026-05-01T00:00:00Z", 1_000, 10),
            price("gpt-5.4-2026-03-05", "2026-05-01T00:00:00Z", 1_000, 10),
        );
    }

    #[test]
    fn tiers_and_batch_have_their_price_or_none() {
        let route = |tier, batch| Route { model: "gpt-4o", tier, batch, ..Route::default() };
        let price = |tier, batch, at| price_of(&route(tier, batch), at, 1_000_000, 0);
        let now = "2026-11-01T00:00:00Z";
        assert_eq!(price(None, false, now), Ok(usd("2.5")));
        assert_eq!(price(Some("default"), false, now), Ok(usd("2.5")));
        assert_eq!(price(Some("priority"), false, now), Ok(usd("4.25")));
        assert_eq!(price(None, true, now), Ok(usd("1.25")));
        assert_eq!(price(Some("batch"), false, now), Ok(usd("1.25")));
        assert_eq!(price(Some("scale"), false, now), Err(Unpriced::NoTier));
        // No price is recorded for that time: the later one would be a guess.
        assert_eq!(price(None, true, "2025-11-01T00:00:00Z"), Err(Unpriced::NoTier));
    }

    #[test]
    fn the_last_term_of_a_contract_wins() {
        let contract = br#"
            [[price]]
            model = "gpt-4o*"
            discount = "0.2"
            [[price]]
            provider = "openai"
            model = "gpt-4o"
            from = "2026-01-01"
            until = "2026-07-01"
            rates = { in = "1" }
            [[price]]
            model = "in-house"
            rates = { in = "0.1", out = "0.1" }
        "#;
        let list = Catalogue::embedded().unwrap();
        let catalogue = list.clone().with_contract(contract).unwrap();
        assert_ne!(list.stamp().sha256, catalogue.stamp().sha256);
        let price = |model, at: &str| {
            let schedule = catalogue.schedule(&Route { model, ..Route::default() });
            let tokens = Tokens { input: 1_000_000, output: 1_000_000, ..Tokens::default() };
            schedule.quote(Some(at.parse().unwrap())).rates.clone()?.cost(&tokens)
        };
        assert_eq!(price("gpt-4o", "2025-12-31T23:59:59Z"), Ok(usd("10")));
        assert_eq!(price("gpt-4o", "2026-01-01T00:00:00Z"), Ok(usd("9")));
        assert_eq!(price("gpt-4o", "2026-07-01T00:00:00Z"), Ok(usd("10")));
        assert_eq!(price("in-house", "2026-07-01T00:00:00Z"), Ok(usd("0.2")));
    }

    #[test]
    fn without_a_date_only_a_price_that_never_changed_is_known() {
        let catalogue = Catalogue::embedded().unwrap();
        let tokens = Tokens { input: 1, ..Tokens::default() };
        let undated = |model| {
            let schedule = catalogue.schedule(&Route { model, ..Route::default() });
            schedule.quote(None).rates.clone().and_then(|rates| rates.cost(&tokens))
        };
        assert_eq!(undated("o3"), Err(Unpriced::NoDate));
        assert_eq!(undated("gpt-4o"), Ok(usd("0.0000025")));
    }
}
