use super::options::EngineOptions;
use crate::registry::Ready;
use crate::tool::Dispatcher;
use apex_core::clock::Clock;
use apex_core::health::Observer;
use apex_core::run::Live;
use apex_core::store::Stores;
use std::sync::Arc;

/// What all runs on a node share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stores: Stores,
    pub(super) live: Live,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) registry: Ready,
    pub(super) dispatcher: Dispatcher,
    pub(super) observer: Observer,
    pub(super) options: EngineOptions,
}
