use super::ChainOptions;
use crate::model::ModelProvider;
use crate::model::request::{ModelRequest, Part};
use apex_core::resilience::{Breaker, Budget};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a model can do beside text; what it cannot is not asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a model")]
pub struct Abilities {
    /// See pictures.
    pub images: bool,
    /// Call tools.
    pub tools: bool,
    /// Answer by a schema.
    pub output: bool,
    /// Think harder or less hard.
    pub effort: bool,
}

impl Abilities {
    /// Everything.
    pub const ALL: Self = Self { images: true, tools: true, output: true, effort: true };

    fn allow(self, request: &ModelRequest) -> bool {
        let image = |part: &Part| matches!(part, Part::Image(_));
        let has_images = || request.messages.iter().any(|m| m.parts.iter().any(image));
        (self.tools || request.tools.is_empty())
            && (self.output || request.output.is_none())
            && (self.effort || request.effort.is_none())
            && (self.images || !has_images())
    }
}

/// A model of a chain.
#[derive(Debug, Clone)]
pub struct ChainLink {
    provider: Arc<dyn ModelProvider>,
    model: String,
    abilities: Abilities,
}

impl ChainLink {
    /// A model that can do everything.
    #[must_use]
    pub fn new(provider: Arc<dyn ModelProvider>, model: impl Into<String>) -> Self {
        Self { provider, model: model.into(), abilities: Abilities::ALL }
    }

    /// Says what the model can do.
    #[must_use]
    pub fn with_abilities(mut self, abilities: Abilities) -> Self {
        self.abilities = abilities;
        self
    }
}

/// A link with what is known about how it does.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) provider: Arc<dyn ModelProvider>,
    pub(super) model: String,
    pub(super) breaker: Breaker,
    pub(super) retries: Budget,
    abilities: Abilities,
    limited: Mutex<Option<Instant>>,
}

impl Link {
    pub(super) fn new(link: ChainLink, options: &ChainOptions) -> Self {
        let dependency = format!("{}:{}", link.provider.name(), link.model);
        Self {
            provider: link.provider,
            model: link.model,
            breaker: Breaker::new(dependency, options.breaker.clone()),
            retries: Budget::new(options.retry_share, options.retries_per_second),
            abilities: link.abilities,
            limited: Mutex::default(),
        }
    }

    pub(super) fn can(&self, request: &ModelRequest) -> bool {
        self.abilities.allow(request)
    }

    /// How long the provider wants to be left alone, as far as it has said.
    pub(super) fn limited_for(&self) -> Option<Duration> {
        let until = (*self.limited.lock())?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn limit(&self, wait: Duration) {
        *self.limited.lock() = Instant::now().checked_add(wait);
    }
}
