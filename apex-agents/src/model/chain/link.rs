use super::ChainOptions;
use crate::model::ModelProvider;
use crate::model::request::{ModelRequest, Part};
use apex_core::resilience::{Breaker, Budget, Pace, PaceLimits};
use std::sync::Arc;

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
    pace: PaceLimits,
}

impl ChainLink {
    /// A model that can do everything.
    #[must_use]
    pub fn new(provider: Arc<dyn ModelProvider>, model: impl Into<String>) -> Self {
        Self {
            provider,
            model: model.into(),
            abilities: Abilities::ALL,
            pace: PaceLimits::default(),
        }
    }

    /// Says what the model can do.
    #[must_use]
    pub fn with_abilities(mut self, abilities: Abilities) -> Self {
        self.abilities = abilities;
        self
    }

    /// Says how many requests and tokens this node may send in a minute. What comes faster waits in a line in which
    /// users take turns.
    #[must_use]
    pub fn with_pace(mut self, pace: PaceLimits) -> Self {
        self.pace = pace;
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
    /// When it may be asked: by its limits, and by what the provider has said.
    pub(super) pace: Pace,
    abilities: Abilities,
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
            pace: Pace::new(link.pace),
        }
    }

    pub(super) fn can(&self, request: &ModelRequest) -> bool {
        self.abilities.allow(request)
    }
}
