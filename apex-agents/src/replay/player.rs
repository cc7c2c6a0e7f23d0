use super::{Difference, RecordedStep, Recording, Replayed};
use crate::agent::{AnyAgent, Then};
use crate::context::{Ask, Asked, Came, Context, Inner, Reply, Telling};
use crate::engine::machine::{Entry, Journal, Known, call_digest};
use crate::failure::Failure;
use crate::model::{Chain, ModelResponse};
use crate::plan::PlanStep;
use crate::registry::{Ready, Registry};
use crate::stored::Stored;
use crate::tool::{Progress, SecretNames};
use apex_core::clock::{Clock, Timestamp};
use apex_core::error::{Kind, Result};
use apex_core::file::ArtifactStore;
use apex_core::id::{StepId, ThreadId};
use apex_core::money::Usage;
use apex_core::principal::Principal;
use apex_core::store::memory;
use futures_util::FutureExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many asks wait for the replay.
const ASKS: usize = 64;
/// How long a step may take in which nothing is waited for but models that are asked anew.
const STEP: Duration = Duration::from_secs(60);

/// Runs agents against recordings. Nothing is called, and nothing asked but the models that it is given.
#[derive(Debug)]
pub struct Replay {
    registry: Ready,
    models: Option<Chain>,
}

/// A step as it was played.
struct Played {
    /// What it made; `None` where its record ends before that.
    made: Option<std::result::Result<(Value, Then), Failure>>,
    /// Whether it did something else than its record, in a replay that ends there.
    diverged: bool,
}

impl Replay {
    /// A replay with these agents.
    ///
    /// # Errors
    /// `config_invalid` with everything that is wrong with the registry.
    pub fn new(registry: Registry) -> Result<Self> {
        Ok(Self { registry: registry.ready()?, models: None })
    }

    /// Asks these models anew instead of answering their questions from the record, and goes on where something
    /// differs: calls are answered by what the same call gave in the run, wherever it was made; one that was not made
    /// there fails.
    #[must_use]
    pub fn models(mut self, models: Chain) -> Self {
        self.models = Some(models);
        self
    }

    /// Runs the agents against a recording, in this principal's name. Models that are asked anew are billed to it.
    pub async fn run(&self, recording: &Recording, principal: &Principal) -> Replayed {
        let clock: Arc<dyn Clock> = Arc::new(Still(recording.at));
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        let mut player = Player {
            replay: self,
            recording,
            principal,
            artifacts: stores.artifacts,
            clock,
            question: None,
            replayed: Replayed {
                answer: None,
                recorded: recording.result.clone(),
                differences: Vec::new(),
                answered: 0,
                asked: 0,
                usage: Usage::NONE,
                recorded_usage: recording.usage,
            },
        };
        player.run().await;
        player.replayed
    }
}

/// A clock that stands where the run began.
#[derive(Debug)]
struct Still(Timestamp);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// One replay under way.
struct Player<'a> {
    replay: &'a Replay,
    recording: &'a Recording,
    principal: &'a Principal,
    artifacts: Arc<dyn ArtifactStore>,
    clock: Arc<dyn Clock>,
    /// What a plan made of the request's words.
    question: Option<String>,
    replayed: Replayed,
}

impl Player<'_> {
    fn is_what_if(&self) -> bool {
        self.replay.models.is_some()
    }

    /// Plays the steps one after the other, each once those have ended that it needs.
    async fn run(&mut self) {
        let mut steps = vec![PlanStep::new(self.replay.registry.entry.clone())];
        let mut made: BTreeMap<String, Option<Value>> = BTreeMap::new();
        let mut place = 0;
        while let Some(step) = steps.get(place).cloned() {
            place += 1;
            let recorded = self.recording.steps.iter().find(|known| known.plan.agent == step.agent);
            let begun = |known: &RecordedStep| known.output.is_some() || known.journal.len() > 0;
            if !self.is_what_if() && !recorded.is_some_and(begun) && recorded.is_some() {
                // The run ended before this step had done anything.
                made.insert(step.agent, None);
                continue;
            }
            let number = StepId(u32::try_from(place).unwrap_or(u32::MAX));
            let played = self.step(&step, number, recorded, &made).await;
            let ends = played.diverged;
            let output = match played.made {
                Some(Ok((output, then))) => {
                    let was = recorded.and_then(|recorded| recorded.output.as_ref());
                    self.compare(&step.agent, was, &output);
                    match then {
                        Then::HandOn => {}
                        Then::Plan(plan) => {
                            self.question = plan.question.or(self.question.take());
                            steps.extend(plan.steps);
                        }
                        Then::Answer(result) => {
                            self.replayed.answer = Some(result);
                            return;
                        }
                    }
                    Some(output)
                }
                Some(Err(_)) if !step.optional => return,
                _ => None,
            };
            if ends {
                return;
            }
            made.insert(step.agent, output);
        }
    }

    fn compare(&mut self, agent: &str, was: Option<&Stored>, is: &Value) {
        let was = match was {
            Some(Stored::Inline(was)) if was == is => return,
            Some(Stored::Inline(was)) => Some(shown(was)),
            Some(Stored::Artifact(kept)) => Some(kept.name.clone()),
            None => None,
        };
        let (agent, is) = (agent.to_owned(), Some(shown(is)));
        self.replayed.differences.push(Difference { agent, effect: None, was, is });
    }

    async fn step(
        &mut self,
        step: &PlanStep,
        number: StepId,
        recorded: Option<&RecordedStep>,
        made: &BTreeMap<String, Option<Value>>,
    ) -> Played {
        let Some(ready) = self.replay.registry.agents.get(&step.agent) else {
            let told = format!("there is no agent {}", step.agent);
            let made = Some(Err(Failure::new(Kind::AgentFailed, told)));
            return Played { made, diverged: false };
        };
        let mut input = self.recording.request.input(self.question.as_deref());
        if let Some(fields) = input.as_object_mut() {
            for need in &step.needs {
                if let Some(Some(value)) = made.get(need) {
                    fields.insert(need.clone(), value.clone());
                }
            }
        }
        let (asks, mut asked) = mpsc::channel(ASKS);
        let context = self.context(number, asks);
        let journal = recorded.map(|recorded| recorded.journal.clone()).unwrap_or_default();
        let whole = recorded.is_some_and(|recorded| recorded.output.is_some());
        let mut track =
            Track { agent: step.agent.clone(), journal, whole, place: 0, used: Vec::new() };
        let work = work(&*ready.agent, input, context);
        tokio::pin!(work);
        let deadline = tokio::time::sleep(STEP);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                Some(Asked { ask, reply, .. }) = asked.recv() => {
                    match self.answer(&mut track, *ask) {
                        Ok(answer) => { let _ = reply.send(answer); }
                        Err(diverged) => return Played { made: None, diverged },
                    }
                }
                made = &mut work => {
                    self.unasked(&track);
                    return Played { made: Some(made), diverged: false };
                }
                () = &mut deadline => {
                    let told = format!("{} did not end within {} s", step.agent, STEP.as_secs());
                    let made = Some(Err(Failure::new(Kind::DeadlineExceeded, told)));
                    return Played { made, diverged: false };
                }
            }
        }
    }

    fn context(&self, step: StepId, asks: mpsc::Sender<Asked>) -> Context {
        // What is shown nobody sees: both take what finds no place for dropped.
        let (shown, _) = mpsc::channel(1);
        Context::new(Inner {
            principal: self.principal.clone(),
            run: self.recording.run,
            thread: ThreadId::derived(&[self.recording.run.as_bytes()]),
            step,
            continues: self.recording.continues,
            clock: Arc::clone(&self.clock),
            artifacts: Arc::clone(&self.artifacts),
            asks,
            progress: Progress::new(step, shown.clone()),
            chain: self.replay.models.clone(),
            team: Arc::clone(&self.replay.registry.team),
            tools: Arc::clone(&self.replay.registry.specs),
            shown,
            text: AtomicU64::new(0),
            cancelled: CancellationToken::new(),
            redact: Arc::new(SecretNames),
            // Nobody follows a link of what nobody sees.
            wary: Arc::default(),
            asked: String::new(),
            links: Arc::default(),
        })
    }

    /// The answer to an ask; `Err` where the replay of the step ends, and whether because it differs.
    fn answer(
        &mut self,
        track: &mut Track,
        ask: Ask,
    ) -> std::result::Result<std::result::Result<Reply, Failure>, bool> {
        let entry = match ask {
            Ask::Think(_) | Ask::Degraded(_) => return Ok(Ok(Reply::Done)),
            Ask::Told { what, .. } => {
                if let Telling::Ended { usage, .. } = what {
                    self.replayed.usage = self.replayed.usage.plus(usage);
                }
                return Ok(Ok(Reply::Done));
            }
            Ask::Now(at) => Entry::Now(at),
            Ask::Random(number) => Entry::Random(number),
            Ask::Model { digest, .. } => Entry::model(digest),
            Ask::Call { tool, arguments } => Entry::call(tool, call_digest(&arguments)),
        };
        let place = track.place;
        track.place += 1;
        if self.is_what_if() {
            return Ok(self.what_if(track, place, entry));
        }
        if place >= track.journal.len() {
            if !track.whole {
                // The run ended here.
                return Err(false);
            }
            self.differ(track, place, None, Some(entry.named()));
            return Err(true);
        }
        let is = entry.named();
        let known = match track.journal.ask(place, entry) {
            Known::Before(known) => known.clone(),
            Known::New | Known::Other(_) => {
                let was = track.journal.entries().get(place).map(Entry::named);
                self.differ(track, place, was, Some(is));
                return Err(true);
            }
        };
        match recorded(&known) {
            Some(answer) => {
                self.count(&known);
                Ok(answer)
            }
            // It was under way when the run ended.
            None => Err(false),
        }
    }

    /// Answers from the record where it can, with other models and instructions than in the run.
    fn what_if(
        &mut self,
        track: &mut Track,
        place: usize,
        entry: Entry,
    ) -> std::result::Result<Reply, Failure> {
        let was = track.journal.entries().get(place);
        if was.is_none_or(|was| !was.is_alike(&entry)) {
            let was = was.map(Entry::named);
            self.differ(track, place, was, Some(entry.named()));
        }
        if matches!(entry, Entry::Model { .. }) {
            self.replayed.asked += 1;
            return Ok(Reply::Go(place));
        }
        let own = track.journal.entries().iter().enumerate();
        let found = own
            .filter(|(at, known)| known.is_like(&entry) && !track.used.contains(at))
            .min_by_key(|(at, _)| at.abs_diff(place));
        let answer = match found {
            Some((at, known)) => {
                track.used.push(at);
                recorded(known)
            }
            None => {
                let all = self.recording.steps.iter();
                let mut all = all.flat_map(|step| step.journal.entries());
                all.find(|known| known.is_like(&entry)).and_then(recorded)
            }
        };
        match (answer, entry) {
            (Some(answer), _) => {
                self.replayed.answered += 1;
                answer
            }
            (None, Entry::Now(at)) => Ok(Reply::Time(at)),
            (None, Entry::Random(number)) => Ok(Reply::Number(number)),
            (None, entry) => Err(Failure::new(
                Kind::Unavailable,
                format!("{} was not made in the run, and a replay makes none", entry.named()),
            )),
        }
    }

    /// What the run asked for and the replay did not.
    fn unasked(&mut self, track: &Track) {
        let rest = track.journal.entries().get(track.place..).unwrap_or_default();
        for (place, was) in (track.place..).zip(rest) {
            self.differ(track, place, Some(was.named()), None);
            if !self.is_what_if() {
                return;
            }
        }
    }

    fn differ(&mut self, track: &Track, place: usize, was: Option<String>, is: Option<String>) {
        let (agent, effect) = (track.agent.clone(), Some(place + 1));
        self.replayed.differences.push(Difference { agent, effect, was, is });
    }

    fn count(&mut self, known: &Entry) {
        self.replayed.answered += 1;
        if let Entry::Model { came: Some(Came::Answer(Stored::Inline(answer))), .. } = known
            && let Ok(answer) = serde_json::from_value::<ModelResponse>(answer.clone())
            && let Some(used) = answer.usage
        {
            let tokens = used.tokens;
            // What it cost stands in the whole of the run alone.
            self.replayed.usage = self.replayed.usage.plus(Usage {
                input_tokens: tokens.input,
                cached_tokens: tokens.cached,
                output_tokens: tokens.output,
                reasoning_tokens: tokens.reasoning,
                cost_usd: None,
            });
        }
    }
}

/// How far a step is along its record.
struct Track {
    agent: String,
    journal: Journal,
    /// Whether the step ended by itself in the run.
    whole: bool,
    place: usize,
    /// The effects of the record that have answered already.
    used: Vec<usize>,
}

/// What an effect got in the run; `None` when it got nothing any more.
fn recorded(known: &Entry) -> Option<std::result::Result<Reply, Failure>> {
    Some(match known {
        Entry::Now(at) => Ok(Reply::Time(*at)),
        Entry::Random(number) => Ok(Reply::Number(*number)),
        Entry::Call { result, .. } => result.clone()?.map(Reply::Result),
        Entry::Model { came, .. } => Ok(Reply::Came(came.clone()?)),
    })
}

async fn work(
    agent: &dyn AnyAgent,
    input: Value,
    context: Context,
) -> std::result::Result<(Value, Then), Failure> {
    match AssertUnwindSafe(agent.run(input, context)).catch_unwind().await {
        Ok(made) => made.map(|made| (made.output, made.then)),
        Err(panic) => Err(Failure::panicked(Kind::AgentPanicked, agent.name(), &*panic)),
    }
}

fn shown(value: &Value) -> String {
    crate::text::clip(&value.to_string(), 200).into_owned()
}
