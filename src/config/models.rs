//! The models that agents may ask.

use apex_agents::model::{ChainLink, ChainOptions, Offline};
use apex_core::config::{
    BadWebUrl, Checks, FaultCode, HumanDuration, Secret, Section, WebUrl, duration,
};
use apex_core::error::{Error, Kind, Result};
use apex_core::money::Usd;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// The names that an entry of the chain can begin with.
const PROVIDERS: [&str; 6] =
    ["openai", "openai_chat", "anthropic", "gemini", "compatible", "offline"];

/// The models that agents may ask, and in which order. Without any they do what can be done by rules, and say so.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ModelsSection {
    /// The models as `provider:model`, the first asked first. The providers are `openai`, `openai_chat` (its older
    /// interface), `anthropic`, `gemini`, `compatible` (a server that speaks OpenAI's chat completions) and
    /// `offline`, which answers nothing.
    pub chain: Vec<String>,
    /// OpenAI.
    pub openai: ProviderSection,
    /// Anthropic.
    pub anthropic: ProviderSection,
    /// Google's Gemini.
    pub gemini: ProviderSection,
    /// A server that speaks OpenAI's chat completions: Ollama, vLLM, LiteLLM, OpenRouter and many more.
    pub compatible: CompatibleSection,
    /// The time to connect, TLS included.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "5m"))]
    pub connect: Duration,
    /// The time from a request to the first sign that the model is at work.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub first_token: Duration,
    /// The time from one such sign to the next.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub between_tokens: Duration,
    /// The time for a whole answer.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "1d"))]
    pub whole: Duration,
    /// A proxy that opens tunnels: `http://[user:password@]host:port`, or `https://`.
    pub proxy: Option<Secret<String>>,
    /// How often one model is asked before the next is, while its trouble may pass.
    #[schemars(range(min = 1, max = 10))]
    pub tries: u32,
    /// How long a model that stood in stays the first to be asked.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "1d"))]
    pub sticky: Duration,
    /// What the attempts at one answer may cost before no further one is begun, in US dollars.
    pub ceiling_usd: Option<Usd>,
    /// After how long without a first sign the next model is asked as well. Not together with a ceiling.
    #[serde(with = "duration::optional")]
    #[schemars(with = "Option<HumanDuration>", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub hedge: Option<Duration>,
}

/// How a provider is reached.
#[derive(Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ProviderSection {
    /// The key.
    pub api_key: Option<Secret<String>>,
    /// Another address than the provider's own.
    pub base_url: Option<WebUrl>,
    /// The requests that this node sends to each of its models in a minute; absent for no limit. What comes faster
    /// waits in a line in which users take turns. Several nodes share a key's limit: give each its part.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_minute: Option<u32>,
    /// The same in tokens, sent and received, as far as that can be told before a request.
    #[schemars(range(min = 1_000, max = 1_000_000_000_000_u64))]
    pub tokens_per_minute: Option<u64>,
}

/// How a server of one's own is reached.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct CompatibleSection {
    /// The name under which its prices are looked up.
    pub name: String,
    /// The key, where it wants one.
    pub api_key: Option<Secret<String>>,
    /// The address, with what stands before `/chat/completions`, such as `http://localhost:11434/v1`.
    pub base_url: Option<WebUrl>,
    /// As those of the other providers.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_minute: Option<u32>,
    /// As those of the other providers.
    #[schemars(range(min = 1_000, max = 1_000_000_000_000_u64))]
    pub tokens_per_minute: Option<u64>,
}

impl Default for CompatibleSection {
    fn default() -> Self {
        Self {
            name: "compatible".to_owned(),
            api_key: None,
            base_url: None,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }
}

impl Default for ModelsSection {
    fn default() -> Self {
        let ChainOptions { tries, sticky, ceiling, hedge, .. } = ChainOptions::default();
        Self {
            chain: Vec::new(),
            openai: ProviderSection::default(),
            anthropic: ProviderSection::default(),
            gemini: ProviderSection::default(),
            compatible: CompatibleSection::default(),
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(120),
            between_tokens: Duration::from_secs(60),
            whole: Duration::from_secs(600),
            proxy: None,
            tries,
            sticky,
            ceiling_usd: ceiling,
            hedge,
        }
    }
}

impl Section for ModelsSection {
    fn check(&self, checks: &mut Checks<'_>) {
        for entry in &self.chain {
            let (provider, model) = entry.split_once(':').unwrap_or((entry, ""));
            checks.require(
                &["chain"],
                PROVIDERS.contains(&provider) && !model.is_empty(),
                FaultCode::Format,
                format!("{entry:?} is no model"),
                format!("write provider:model, with one of {}", PROVIDERS.join(", ")),
            );
            let (key, given, what) = match provider {
                "openai" | "openai_chat" => {
                    ("openai.api_key", self.openai.api_key.is_some(), "key")
                }
                "anthropic" => ("anthropic.api_key", self.anthropic.api_key.is_some(), "key"),
                "gemini" => ("gemini.api_key", self.gemini.api_key.is_some(), "key"),
                "compatible" => {
                    ("compatible.base_url", self.compatible.base_url.is_some(), "address")
                }
                _ => continue,
            };
            checks.require(
                &[key, "chain"],
                given,
                FaultCode::Missing,
                format!("the chain asks {provider}, and its {what} is nowhere"),
                match what {
                    "key" => "put it into a file that only this user can read and name that in the variable that \
                              ends in _API_KEY_FILE, or into the secrets folder",
                    _ => "write the server's address, or take it out of the chain",
                },
            );
        }
        for (key, url) in [
            ("openai.base_url", &self.openai.base_url),
            ("anthropic.base_url", &self.anthropic.base_url),
            ("gemini.base_url", &self.gemini.base_url),
            ("compatible.base_url", &self.compatible.base_url),
        ] {
            if let Some(url) = url {
                url.check(checks, key);
            }
        }
        check_proxy(self.proxy.as_ref(), checks);
        checks.require(
            &["hedge", "ceiling_usd"],
            self.hedge.is_none() || self.ceiling_usd.is_none(),
            FaultCode::Conflict,
            "two attempts at once cost nobody knows how much, and there is a ceiling",
            "leave one of the two out",
        );
        checks.require(
            &["first_token", "whole"],
            self.first_token <= self.whole,
            FaultCode::Conflict,
            "the first sign may take longer than the whole answer",
            "make it shorter than whole",
        );
    }
}

/// Judges the `proxy` of a section.
pub(super) fn check_proxy(proxy: Option<&Secret<String>>, checks: &mut Checks<'_>) {
    let Some(proxy) = proxy else {
        return;
    };
    let read = WebUrl::of_proxy(proxy.reveal());
    let problem = read.as_ref().err().map(BadWebUrl::to_string).unwrap_or_default();
    let advice = "write http://[USER:PASSWORD@]HOST:PORT, or https://";
    checks.require(&["proxy"], read.is_ok(), FaultCode::Format, problem, advice);
    // What goes through it has a TLS of its own.
    checks.require_outside_development(
        &["proxy"],
        read.as_ref().map_or(true, |(url, login)| url.is_private() || !login),
        FaultCode::Insecure,
        "its password goes to another machine without TLS",
        "write https://, or use a proxy without a password",
    );
}

impl ModelsSection {
    /// By which rules the chain goes on.
    pub(super) fn options(&self) -> ChainOptions {
        ChainOptions {
            tries: self.tries,
            sticky: self.sticky,
            ceiling: self.ceiling_usd,
            hedge: self.hedge,
            ..ChainOptions::default()
        }
    }

    /// The chain's models.
    pub(super) fn links(&self) -> Result<Vec<ChainLink>> {
        self.chain.iter().map(|entry| self.link(entry)).collect()
    }

    fn link(&self, entry: &str) -> Result<ChainLink> {
        let (provider, model) = entry.split_once(':').unwrap_or((entry, ""));
        if provider == "offline" {
            return Ok(ChainLink::new(Arc::new(Offline), model));
        }
        #[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
        if let Some(reached) = http::provider(self, provider)? {
            let pace = http::pace(self, provider);
            return Ok(ChainLink::new(Arc::new(reached), model).with_pace(pace));
        }
        Err(Error::new(
            Kind::Config,
            "config.models",
            "this build of Apex cannot ask that model: turn the feature of its provider on (openai, which brings \
             compatible servers too, anthropic or gemini)",
        )
        .with("models.chain", entry))
    }
}

/// Providers over HTTP.
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod http {
    use super::{ModelsSection, ProviderSection};
    use apex_agents::model::{HttpOptions, HttpProvider};
    use apex_core::clock::SystemClock;
    use apex_core::config::{Secret, WebUrl};
    use apex_core::error::Result;
    use apex_core::resilience::PaceLimits;
    use std::sync::Arc;

    /// How fast the models of a provider may be asked.
    pub(super) fn pace(models: &ModelsSection, provider: &str) -> PaceLimits {
        let (calls, weight) = match provider {
            "anthropic" => {
                (models.anthropic.requests_per_minute, models.anthropic.tokens_per_minute)
            }
            "gemini" => (models.gemini.requests_per_minute, models.gemini.tokens_per_minute),
            "compatible" => {
                (models.compatible.requests_per_minute, models.compatible.tokens_per_minute)
            }
            _ => (models.openai.requests_per_minute, models.openai.tokens_per_minute),
        };
        PaceLimits { calls, weight }
    }

    /// The provider of this name, if this build has it.
    pub(super) fn provider(section: &ModelsSection, name: &str) -> Result<Option<HttpProvider>> {
        let options = |base_url: &Option<WebUrl>| HttpOptions {
            base_url: base_url.as_ref().map(WebUrl::to_string),
            connect: section.connect,
            first_token: section.first_token,
            between_tokens: section.between_tokens,
            whole: section.whole,
            proxy: section.proxy.as_ref().map(|proxy| proxy.reveal().clone()),
            ..HttpOptions::default()
        };
        let own = |own: &ProviderSection| {
            let key = own.api_key.clone().unwrap_or_else(|| Secret::new(String::new()));
            (key, options(&own.base_url), Arc::new(SystemClock))
        };
        let _ = (&own, &options);
        match name {
            #[cfg(feature = "openai")]
            "openai" | "openai_chat" => {
                let (key, options, clock) = own(&section.openai);
                if name == "openai" {
                    HttpProvider::openai(key, options, clock).map(Some)
                } else {
                    HttpProvider::openai_chat(key, options, clock).map(Some)
                }
            }
            #[cfg(feature = "anthropic")]
            "anthropic" => {
                let (key, options, clock) = own(&section.anthropic);
                HttpProvider::anthropic(key, options, clock).map(Some)
            }
            #[cfg(feature = "gemini")]
            "gemini" => {
                let (key, options, clock) = own(&section.gemini);
                HttpProvider::gemini(key, options, clock).map(Some)
            }
            #[cfg(feature = "openai")]
            "compatible" => {
                let server = &section.compatible;
                let url = server.base_url.as_ref().map(WebUrl::to_string).unwrap_or_default();
                let (key, options) = (server.api_key.clone(), options(&None));
                HttpProvider::compatible(&server.name, &url, key, options, Arc::new(SystemClock))
                    .map(Some)
            }
            _ => Ok(None),
        }
    }
}
