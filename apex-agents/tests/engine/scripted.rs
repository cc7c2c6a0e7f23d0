use crate::support::Node;
use apex_agents::cost::Catalogue;
use apex_agents::cost::price::Tokens;
use apex_agents::model::{
    Chain, ChainLink, ChainOptions, Message, Meter, ModelEvent, ModelProvider, ModelRequest,
    ModelResponse, ModelStream, ModelUsage, Part,
};
use apex_agents::{EngineOptions, Registry};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result};
use apex_core::store::Stores;
use apex_core::usage::UsageRecorder;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What a model does with a question.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// Answers this, word by word.
    Says(String),
    /// Begins like this and breaks off.
    Breaks(String),
    /// Begins like this and never goes on.
    Hangs(String),
    /// Refuses at once.
    Refuses,
}

pub(crate) fn says(text: impl Into<String>) -> Does {
    Does::Says(text.into())
}

type Script = Box<dyn Fn(&ModelRequest, usize) -> Does + Send + Sync>;

/// A model that follows a script.
pub(crate) struct Scripted {
    name: &'static str,
    script: Script,
    asked: Mutex<Vec<ModelRequest>>,
    /// How many of its answers were dropped before their end.
    pub dropped: Arc<AtomicUsize>,
}

impl Scripted {
    /// A model that does with each question, and the number of those before it, what is said.
    pub(crate) fn new(
        name: &'static str,
        script: impl Fn(&ModelRequest, usize) -> Does + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (asked, dropped) = (Mutex::default(), Arc::default());
        Arc::new(Self { name, script: Box::new(script), asked, dropped })
    }

    pub(crate) fn always(name: &'static str, does: Does) -> Arc<Self> {
        Self::new(name, move |_, _| does.clone())
    }

    pub(crate) fn asked(&self) -> Vec<ModelRequest> {
        self.asked.lock().clone()
    }
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[async_trait]
impl ModelProvider for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    async fn complete(&self, model: &str, request: &ModelRequest) -> Result<ModelResponse> {
        self.stream(model, request).await?.whole().await
    }

    async fn stream(&self, model: &str, request: &ModelRequest) -> Result<ModelStream> {
        let before = {
            let mut asked = self.asked.lock();
            asked.push(request.clone());
            asked.len() - 1
        };
        let does = (self.script)(request, before);
        let down = || Error::new(Kind::Unavailable, "test", "the provider is down");
        let text = match &does {
            Does::Refuses => return Err(down()),
            Does::Says(text) | Does::Breaks(text) | Does::Hangs(text) => text.clone(),
        };
        let model = model.to_owned();
        let guard = Dropped(Arc::clone(&self.dropped), false);
        Ok(ModelStream::new(|writer| async move {
            let mut guard = guard;
            for word in text.split_inclusive(' ') {
                tokio::time::sleep(Duration::from_millis(5)).await;
                writer.send(ModelEvent::Text(word.to_owned())).await;
            }
            match does {
                Does::Hangs(_) => std::future::pending::<()>().await,
                Does::Breaks(_) => {
                    guard.1 = true;
                    return Err(down());
                }
                _ => {}
            }
            let usage = ModelUsage {
                tokens: Tokens { input: 1_000, output: 100, ..Tokens::default() },
                ..ModelUsage::default()
            };
            let response = ModelResponse {
                model,
                parts: vec![Part::Text(text)],
                usage: Some(usage),
                ..ModelResponse::default()
            };
            guard.1 = true;
            writer.send(ModelEvent::Done(Box::new(response))).await;
            Ok(())
        }))
    }
}

struct Dropped(Arc<AtomicUsize>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A chain of these models, all as `gpt-4o`, that records into the stores.
pub(crate) fn chain(
    stores: &Stores,
    clock: &Arc<dyn Clock>,
    models: &[&Arc<Scripted>],
    options: ChainOptions,
) -> Chain {
    let models = models.iter().map(|model| Arc::<Scripted>::clone(model) as _).collect();
    linked(stores, clock, models, options)
}

/// A chain of models of any kind, each of them once.
pub(crate) fn chain_of(
    stores: &Stores,
    clock: &Arc<dyn Clock>,
    models: Vec<Arc<dyn ModelProvider>>,
) -> Chain {
    linked(stores, clock, models, once())
}

fn linked(
    stores: &Stores,
    clock: &Arc<dyn Clock>,
    models: Vec<Arc<dyn ModelProvider>>,
    options: ChainOptions,
) -> Chain {
    let sink = Arc::new(UsageRecorder::new(Arc::clone(&stores.usage), 100));
    let meter = Meter::new(Arc::new(Catalogue::embedded().unwrap()), Arc::clone(clock), sink);
    let links = models.into_iter().map(|model| ChainLink::new(model, "gpt-4o"));
    Chain::new(links, options, meter).unwrap()
}

/// Each model once.
pub(crate) fn once() -> ChainOptions {
    ChainOptions { tries: 1, ..ChainOptions::default() }
}

/// A node on stores of its own whose agents may ask these models.
pub(crate) fn node(registry: Registry, models: &[&Arc<Scripted>]) -> Node {
    let plain = Node::new(Registry::default().agent(nobody()));
    let (stores, clock) = (plain.stores.clone(), Arc::clone(&plain.clock));
    drop(plain);
    let models = Some(chain(&stores, &clock, models, once()));
    Node::on(stores, clock, registry, EngineOptions { models, ..EngineOptions::default() })
}

fn nobody() -> impl apex_agents::Agent {
    apex_agents::agent_fn(
        "nobody",
        "Nothing.",
        |_: apex_agents::Request, _: apex_agents::Context| async { Ok(String::new()) },
    )
}

/// The text of a request's first message.
pub(crate) fn first_text(request: &ModelRequest) -> String {
    let Message { parts, .. } = &request.messages[0];
    match &parts[0] {
        Part::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}
