//! What the catalogue knows of a model apart from the price of one request: who sells it, and at which list prices.

use super::rates::Rate;
use super::{Catalogue, Rates, Route};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model in a provider's list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// The provider's id.
    pub provider: String,
    /// The model's id there.
    pub model: String,
}

/// List prices in dollars per million tokens, of a request whose input is shorter than every threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PerMillion {
    /// Sent.
    pub input: Option<Usd>,
    /// Read from the provider's cache; `None` where it has no price of its own.
    pub cached: Option<Usd>,
    /// Received.
    pub output: Option<Usd>,
}

impl Catalogue {
    /// The model that a route leads to, if the catalogue has it.
    #[must_use]
    pub fn listed(&self, provider: Option<&str>, model: &str) -> Option<Listed> {
        let provider = provider.map(|p| p.trim().to_lowercase()).filter(|p| !p.is_empty());
        let found = self.find(provider.as_deref(), &model.trim().to_lowercase())?;
        Some(Listed { provider: found.provider.id.clone(), model: found.model.id.clone() })
    }

    /// Where else a model of the same name is sold by itself: not in a batch, and not for free.
    #[must_use]
    pub fn elsewhere(&self, listed: &Listed) -> Vec<Listed> {
        let name = bare(&listed.model);
        let mut found = Vec::new();
        for provider in self.providers.iter().filter(|p| p.id != listed.provider) {
            let same = provider
                .models
                .iter()
                .filter(|m| !m.id.contains([':', '#']) || m.id.contains("-v"));
            for model in same.filter(|m| bare(&m.id) == name) {
                found.push(Listed { provider: provider.id.clone(), model: model.id.clone() });
            }
        }
        found
    }

    /// The service tiers other than the ordinary one for which a model has prices.
    #[must_use]
    pub fn tiers(&self, listed: &Listed) -> Vec<String> {
        let provider = self.providers.iter().find(|p| p.id == listed.provider);
        let model = provider.and_then(|p| p.models.iter().find(|m| m.id == listed.model));
        let mut tiers: Vec<String> = Vec::new();
        for tier in model.into_iter().flat_map(|m| &m.variants).filter_map(|v| v.tier.as_ref()) {
            if !tiers.contains(tier) {
                tiers.push(tier.clone());
            }
        }
        tiers
    }

    /// The rates of a listed model at a time, in a tier or in a batch; `None` where it has no price.
    #[must_use]
    pub fn rates(
        &self,
        listed: &Listed,
        tier: Option<&str>,
        batch: bool,
        at: Timestamp,
    ) -> Option<Rates> {
        let route = Route { provider: Some(&listed.provider), model: &listed.model, tier, batch };
        self.schedule(&route).quote(Some(at)).rates.clone().ok()
    }
}

impl Rates {
    /// As list prices.
    #[must_use]
    pub fn per_million(&self) -> PerMillion {
        self.per_million_at(0)
    }

    /// The first number of input tokens past which all tokens of a request have other prices, and those.
    #[must_use]
    pub fn beyond(&self) -> Option<(u64, PerMillion)> {
        let rates = [&self.input, &self.read, &self.output];
        let starts = rates.into_iter().flatten().filter_map(|rate| rate.steps.first());
        let start = starts.map(|(start, _)| *start).min()?;
        Some((start, self.per_million_at(start.saturating_add(1))))
    }

    fn per_million_at(&self, input: u64) -> PerMillion {
        let price = |rate: &Option<Rate>| rate.as_ref()?.at(input).checked_mul(1_000_000);
        PerMillion {
            input: price(&self.input),
            cached: price(&self.read),
            output: price(&self.output),
        }
    }
}

/// A model's name without its maker, its host's additions and its version: what the same model is called everywhere.
fn bare(id: &str) -> String {
    let name = id.rsplit_once('/').map_or(id, |(_, last)| last).to_ascii_lowercase();
    // Bedrock: `global.anthropic.claude-sonnet-4-5-20250929-v1:0`.
    let hosted = name.strip_prefix("global.").or_else(|| name.strip_prefix("regional."));
    let name = hosted.and_then(|rest| rest.split_once('.')).map_or(name.as_str(), |(_, rest)| rest);
    let name =
        name.rsplit_once("-v").filter(|(_, v)| v.contains(':')).map_or(name, |(rest, _)| rest);
    let dated = name
        .rsplit_once('-')
        .filter(|(_, date)| date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit()));
    dated.map_or(name, |(rest, _)| rest).replace('.', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_model_is_found_under_the_names_of_its_hosts() {
        let catalogue = Catalogue::embedded().unwrap();
        let sonnet = catalogue.listed(None, "claude-sonnet-4-5").unwrap();
        assert_eq!(
            (sonnet.provider.as_str(), sonnet.model.as_str()),
            ("anthropic", "claude-sonnet-4-5")
        );
        let hosts: Vec<Listed> = catalogue.elsewhere(&sonnet);
        let at = |provider: &str| {
            hosts.iter().find(|h| h.provider == provider).map(|h| h.model.as_str())
        };
        assert_eq!(at("openrouter"), Some("anthropic/claude-sonnet-4.5"));
        assert!(at("aws").is_some_and(|name| name.contains("claude-sonnet-4-5")), "{hosts:?}");
        assert!(
            hosts.iter().all(|host| !host.model.contains("batch") && !host.model.contains("free"))
        );
        let now = "2026-11-23T00:00:00Z".parse().unwrap();
        let priced = |host: &&Listed| catalogue.rates(host, None, false, now).is_some();
        assert!(hosts.iter().filter(priced).count() >= 2, "{hosts:?}");
    }

    #[test]
    fn list_prices_are_told_per_million() {
        let catalogue = Catalogue::embedded().unwrap();
        let now = "2026-11-23T00:00:00Z".parse().unwrap();
        let usd = |text: &str| text.parse().ok();
        let listed = catalogue.listed(None, "claude-sonnet-4-5").unwrap();
        let rates = catalogue.rates(&listed, None, false, now).unwrap();
        let expected = PerMillion { input: usd("3"), cached: usd("0.3"), output: usd("15") };
        assert_eq!(rates.per_million(), expected);
        let beyond = PerMillion { input: usd("6"), cached: usd("0.6"), output: usd("22.5") };
        assert_eq!(rates.beyond(), Some((200_000, beyond)));
        let listed = catalogue.listed(None, "gpt-5-mini").unwrap();
        assert!(catalogue.tiers(&listed).contains(&"flex".to_owned()));
        let flex = catalogue.rates(&listed, Some("flex"), false, now).unwrap().per_million();
        assert_eq!(flex.input, usd("0.125"));
        assert_eq!(catalogue.listed(None, "frobnicator-9"), None);
    }
}
