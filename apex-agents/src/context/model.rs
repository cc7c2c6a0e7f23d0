use super::{Ask, Came, Context, Inner, Reply, Telling, mismatch};
use crate::failure::Failure;
use crate::model::{
    Asker, Chain, ChainEvent, FaultReason, ModelEvent, ModelFault, ModelRequest, ModelResponse,
};
use crate::prompt::{self, Links};
use crate::stored::Stored;
use crate::tool::Shown;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Event;
use apex_core::id::ReservationId;
use apex_core::money::Usage;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an answer waits until what it cost is on record.
const ON_RECORD: Duration = Duration::from_secs(2);

/// The models that a step may ask, in the name of the run's owner.
///
/// A question is journaled: it is on record before it is asked, and an agent that is run again after a crash gets
/// the answer that it got before, at no further cost. Which model is asked, and what it answered at which price,
/// goes into the run's events by itself; each attempt into the usage of the run's owner. A step that ends closes
/// the connection of its question.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a>(pub(super) &'a Context);

impl Model<'_> {
    /// Asks for an answer. Nothing of it is shown to the user.
    ///
    /// # Errors
    /// What the last model says, when none answered; `unavailable` where there is no model; `budget_exhausted` when the
    /// run's budget or its user's has not as much left as the answer may use; `cancelled` when the step has ended.
    pub async fn ask(&self, request: ModelRequest) -> Result<ModelResponse> {
        self.asked(request, false).await?.ok_or_else(offline)
    }

    /// Asks for an answer, and shows the user its text and visible thoughts as they come. What was shown of one that
    /// broke off is taken back before another one begins.
    ///
    /// # Errors
    /// As [`Model::ask`].
    pub async fn stream(&self, request: ModelRequest) -> Result<ModelResponse> {
        self.asked(request, true).await?.ok_or_else(offline)
    }

    /// As [`Model::ask`], or [`Model::stream`] where the user is `shown` it; `None` where there is no model.
    pub(crate) async fn try_ask(
        &self,
        request: ModelRequest,
        shown: bool,
    ) -> Result<Option<ModelResponse>> {
        self.asked(request, shown).await
    }

    async fn asked(&self, request: ModelRequest, show: bool) -> Result<Option<ModelResponse>> {
        let Self(context) = self;
        let request = prompt::marked(request, &*context.inner.redact);
        let chain = context.inner.chain.clone();
        let ask = Ask::Model { digest: request.digest()?, there: chain.is_some() };
        let came = match (context.ask(ask).await?, chain) {
            (Reply::Came(came), _) => came,
            (Reply::Go(place), Some(chain)) => {
                let question = Question::new(context, place, show);
                // It is large, and soon over: an agent that waits for a call has no room for it.
                let came = Box::pin(question.put(&chain, request)).await?;
                // So that what an answer cost is on record before anything is built on it.
                chain.meter().settle(ON_RECORD).await;
                if let Some(left) = chain.meter().left(&context.inner.principal).await {
                    context.ask(Ask::Told { place, what: Telling::Left(left) }).await?;
                }
                let what = Telling::Came(came.clone());
                context.ask(Ask::Told { place, what }).await?;
                came
            }
            _ => return Err(mismatch()),
        };
        match came {
            Came::Nothing => Ok(None),
            Came::Failed(failure) => Err(failure.into_error("model.ask")),
            Came::Answer(stored) => {
                let inner = &context.inner;
                let value = stored.load(&*inner.artifacts, &inner.principal).await?;
                serde_json::from_value(value).map(Some).map_err(|error| {
                    Error::internal("model.ask", "a kept answer is damaged").with_source(error)
                })
            }
        }
    }
}

fn offline() -> Error {
    ModelFault::new("offline", FaultReason::Offline).error("", None)
}

/// One question on its way.
struct Question<'a> {
    context: &'a Context,
    place: usize,
    show: bool,
    deltas: Deltas<'a>,
    thoughts: String,
    /// The models by attempt, what each may use, and under which that is reserved.
    asked: FxHashMap<u32, (String, String, Usage, Option<ReservationId>)>,
    /// Why the first model that there is gave no answer.
    failed: Option<Failure>,
    /// Why an attempt was not made.
    vetoed: Option<Failure>,
}

impl<'a> Question<'a> {
    fn new(context: &'a Context, place: usize, show: bool) -> Self {
        let inner = &context.inner;
        Self {
            context,
            place,
            show,
            deltas: Deltas::new(inner),
            thoughts: String::new(),
            asked: FxHashMap::default(),
            failed: None,
            vetoed: None,
        }
    }

    async fn put(mut self, chain: &Chain, request: ModelRequest) -> Result<Came> {
        let inner = &self.context.inner;
        let asker = Asker {
            principal: inner.principal.clone(),
            run: Some(inner.run),
            step: Some(inner.step),
        };
        let mut stream = chain.stream(asker, Arc::new(request));
        loop {
            match stream.next().await {
                Some(Ok(ChainEvent::Done(answer))) => {
                    self.deltas.end();
                    self.think().await?;
                    self.tell(answer.attempt, true, answer.usage, None).await?;
                    return self.keep(answer.response).await.map(Came::Answer);
                }
                Some(Ok(event)) => match self.take(event).await {
                    // The attempt has not left yet, and does not.
                    Err(error) if error.kind() == Kind::BudgetExhausted => {
                        stream.veto();
                        self.vetoed = Some(error.into());
                    }
                    taken => taken?,
                },
                Some(Err(error)) => {
                    let vetoed = self.vetoed.take_if(|_| error.kind() == Kind::BudgetExhausted);
                    return Ok(vetoed.map_or_else(|| self.gave_up(error), Came::Failed));
                }
                None => return Ok(self.gave_up(offline())),
            }
        }
    }

    async fn take(&mut self, event: ChainEvent) -> Result<()> {
        match event {
            ChainEvent::Begun { attempt, provider, model, bound, reservation } => {
                let begun = (provider.clone(), model.clone(), bound, reservation);
                self.say(Telling::Begun { provider, model, bound, reservation }).await?;
                self.asked.insert(attempt, begun);
                Ok(())
            }
            ChainEvent::Piece(ModelEvent::Text(text)) => {
                self.think().await?;
                if self.show {
                    self.deltas.show(&text);
                }
                Ok(())
            }
            ChainEvent::Piece(ModelEvent::Reasoning(text)) => {
                self.thoughts.push_str(&text);
                Ok(())
            }
            ChainEvent::Piece(ModelEvent::ToolCall(_) | ModelEvent::Done(_))
            | ChainEvent::Done(_) => Ok(()),
            ChainEvent::Failed { attempt, error, usage } => {
                if error.message != FaultReason::Offline.told() {
                    self.failed
                        .get_or_insert_with(|| Failure::new(Kind::Unavailable, &error.message));
                }
                self.tell(attempt, false, usage, None).await
            }
            ChainEvent::Dropped { attempt } => {
                self.tell(attempt, false, Usage::UNKNOWN, None).await
            }
            ChainEvent::Retracted { attempt, error, usage } => {
                self.thoughts.clear();
                self.failed.get_or_insert_with(|| Failure::new(Kind::Unavailable, &error.message));
                let shown = self.deltas.take_back();
                self.tell(attempt, false, usage, shown.then_some(error.message)).await
            }
        }
    }

    /// Shows the visible thoughts so far as one.
    async fn think(&mut self) -> Result<()> {
        let thoughts = std::mem::take(&mut self.thoughts);
        if !self.show || thoughts.trim().is_empty() {
            return Ok(());
        }
        self.say(Telling::Thought(thoughts)).await
    }

    /// Tells how an attempt ended.
    async fn tell(
        &mut self,
        attempt: u32,
        answered: bool,
        usage: Usage,
        retracted: Option<String>,
    ) -> Result<()> {
        let asked = self.asked.remove(&attempt).unwrap_or_default();
        let (provider, model, bound, reservation) = asked;
        let ended =
            Telling::Ended { provider, model, answered, usage, bound, reservation, retracted };
        self.say(ended).await
    }

    async fn say(&self, what: Telling) -> Result<()> {
        self.context.ask(Ask::Told { place: self.place, what }).await.map(drop)
    }

    fn gave_up(self, error: Error) -> Came {
        let none = ModelFault::of(&error).is_some_and(|f| f.reason == FaultReason::Offline);
        match self.failed {
            Some(failure) if none => Came::Failed(failure),
            None if none => Came::Nothing,
            _ => Came::Failed(error.into()),
        }
    }

    async fn keep(&self, answer: ModelResponse) -> Result<Stored> {
        let inner = &self.context.inner;
        let value = serde_json::to_value(answer).map_err(|error| {
            Error::internal("model.ask", "an answer could not be encoded").with_source(error)
        })?;
        let name = format!("{}-model-{}.json", inner.step, self.place);
        Stored::keep(&*inner.artifacts, &inner.principal, inner.run, &name, value).await
    }
}

/// Shows a text as it comes, as the next part of the step's text. Nobody waits for it: pieces that nobody takes are
/// merged with the next ones.
struct Deltas<'a> {
    inner: &'a Inner,
    pending: String,
    /// What is held back until it is known whether it goes on: the beginning of a link.
    word: String,
    /// Whether anything of this answer was shown.
    shown: bool,
}

impl<'a> Deltas<'a> {
    fn new(inner: &'a Inner) -> Self {
        Self { inner, pending: String::new(), word: String::new(), shown: false }
    }

    fn show(&mut self, text: &str) {
        if !self.shown && self.pending.is_empty() && self.inner.text.load(Ordering::Relaxed) > 0 {
            // What the step showed before was another answer.
            self.pending.push_str("\n\n");
        }
        self.word.push_str(text);
        if self.inner.wary.load(Ordering::Relaxed) {
            // A link is told by its whole word.
            let whole = self.word.rfind(char::is_whitespace).map_or(0, |at| at + 1);
            let held = self.word.split_off(self.word.ceil_char_boundary(whole));
            let words = std::mem::replace(&mut self.word, held);
            self.take(&words);
        } else {
            let words = std::mem::take(&mut self.word);
            self.pending.push_str(&words);
        }
        self.flush();
    }

    /// Takes whole words in, without links that may not stay.
    fn take(&mut self, words: &str) {
        let links = Links { asked: &self.inner.asked, allowed: &self.inner.links };
        self.pending.push_str(&links.only(words));
    }

    fn flush(&mut self) {
        let Ok(place) = self.inner.shown.try_reserve() else {
            return;
        };
        let text = std::mem::take(&mut self.pending);
        let offset = self.inner.text.fetch_add(text.len() as u64, Ordering::Relaxed);
        self.shown = true;
        let step = self.inner.step;
        place.send(Shown { step, event: Box::new(Event::Delta { step, offset, text }) });
    }

    fn end(&mut self) {
        let word = std::mem::take(&mut self.word);
        match self.inner.wary.load(Ordering::Relaxed) {
            true => self.take(&word),
            false => self.pending.push_str(&word),
        }
        if !self.pending.is_empty() {
            self.flush();
        }
    }

    /// Begins the step's text anew if anything of this answer was shown; says whether.
    fn take_back(&mut self) -> bool {
        self.pending.clear();
        self.word.clear();
        let shown = std::mem::take(&mut self.shown);
        if shown {
            self.inner.text.store(0, Ordering::Relaxed);
        }
        shown
    }
}
