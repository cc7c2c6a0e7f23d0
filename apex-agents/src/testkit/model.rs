use crate::cost::Catalogue;
use crate::cost::price::Tokens;
use crate::model::{
    Chain, ChainLink, ChainOptions, Finish, Meter, ModelEvent, ModelProvider, ModelRequest,
    ModelResponse, ModelStream, ModelUsage, Part, ToolCall,
};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result};
use apex_core::store::Stores;
use apex_core::usage::UsageRecorder;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What a model does with a question.
#[derive(Debug, Clone)]
pub enum Does {
    /// Answers this, word by word.
    Says(String),
    /// Begins like this and breaks off.
    Breaks(String),
    /// Begins like this and never goes on.
    Hangs(String),
    /// Refuses at once.
    Refuses,
    /// Wants these calls made: tools with their arguments.
    Calls(Vec<(String, Value)>),
}

/// It answers this.
pub fn says(text: impl Into<String>) -> Does {
    Does::Says(text.into())
}

/// It wants these calls made.
pub fn calls<'a>(wanted: impl IntoIterator<Item = (&'a str, Value)>) -> Does {
    Does::Calls(wanted.into_iter().map(|(tool, arguments)| (tool.to_owned(), arguments)).collect())
}

type Script = Box<dyn Fn(&ModelRequest, usize) -> Does + Send + Sync>;

/// A model that follows a script.
pub struct Scripted {
    name: &'static str,
    script: Script,
    asked: Mutex<Vec<ModelRequest>>,
    /// How many of its answers were dropped before their end.
    pub dropped: Arc<AtomicUsize>,
}

impl Scripted {
    /// A model that does with each question, and the number of those before it, what is said.
    pub fn new(
        name: &'static str,
        script: impl Fn(&ModelRequest, usize) -> Does + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (asked, dropped) = (Mutex::default(), Arc::default());
        Arc::new(Self { name, script: Box::new(script), asked, dropped })
    }

    /// A model that does the same each time.
    pub fn always(name: &'static str, does: Does) -> Arc<Self> {
        Self::new(name, move |_, _| does.clone())
    }

    /// What it was asked, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<ModelRequest> {
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
            Does::Calls(_) => String::new(),
        };
        let wanted = match &does {
            Does::Calls(wanted) => wanted.clone(),
            _ => Vec::new(),
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
            let calls = (0..).zip(wanted).map(|(place, (name, arguments))| {
                let (id, arguments) = (format!("{before}-{place}"), arguments.to_string());
                Part::ToolCall(ToolCall { id, name, arguments, signature: None })
            });
            let calls: Vec<Part> = calls.collect();
            let finish = if calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
            let said = (!text.is_empty()).then_some(Part::Text(text));
            let response = ModelResponse {
                model,
                parts: said.into_iter().chain(calls).collect(),
                finish,
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
#[must_use]
pub fn chain(
    stores: &Stores,
    clock: &Arc<dyn Clock>,
    models: &[&Arc<Scripted>],
    options: ChainOptions,
) -> Chain {
    chain_of(meter(stores, clock), models, options)
}

/// What records into the stores.
#[must_use]
pub fn meter(stores: &Stores, clock: &Arc<dyn Clock>) -> Meter {
    let sink = Arc::new(UsageRecorder::new(Arc::clone(&stores.usage), 100));
    Meter::new(Arc::new(Catalogue::embedded().unwrap()), Arc::clone(clock), sink)
}

/// A chain of these models, all as `gpt-4o`, that is metered so.
#[must_use]
pub fn chain_of(meter: Meter, models: &[&Arc<Scripted>], options: ChainOptions) -> Chain {
    let links =
        models.iter().map(|model| ChainLink::new(Arc::<Scripted>::clone(model) as _, "gpt-4o"));
    Chain::new(links, options, meter).unwrap()
}

/// Each model once.
#[must_use]
pub fn once() -> ChainOptions {
    ChainOptions { tries: 1, ..ChainOptions::default() }
}
