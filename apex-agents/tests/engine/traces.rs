//! The spans and metrics of runs, held against their events.

use crate::pipeline::{ask, team};
use apex_agents::testkit::{Node, Scripted, clock, runtime, says};
use apex_agents::{Context, EngineOptions, Registry, Request, ToolContext, agent_fn, tool_fn};
use apex_core::event::{AgentOutcome, Envelope, Event, ToolOutcome};
use apex_core::id::RunId;
use apex_core::run::Runner;
use apex_core::store::memory;
use apex_core::trace::{self, TraceBridge, TraceParent};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::{Context as Around, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The spans that the conventions know, as a subscriber sees them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spans(Arc<Mutex<Vec<Seen>>>);

#[derive(Debug, Clone, Default)]
struct Seen {
    name: &'static str,
    /// The place of the nearest of these that it hangs under.
    parent: Option<usize>,
    fields: BTreeMap<&'static str, String>,
    closed: bool,
}

/// The place of a span in the list.
struct Place(usize);

const KNOWN: [&str; 4] = ["invoke_workflow", "invoke_agent", "execute_tool", "chat"];

impl Spans {
    /// Collects what this thread does from now on.
    pub(crate) fn collect(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::set_default(subscriber)
    }

    fn named(&self, name: &str) -> Vec<Seen> {
        self.0.lock().iter().filter(|span| span.name == name).cloned().collect()
    }

    fn at(&self, place: Option<usize>) -> Option<Seen> {
        self.0.lock().get(place?).cloned()
    }

    /// What is wrong with the spans of a run, held against its log: one for each step and call, under the one that it
    /// belongs to, with the same name and end; closed; and no others. A step in which the run waited has one for each
    /// time that it was at work.
    pub(crate) fn fault(&self, run: RunId, events: &[Envelope]) -> Option<String> {
        let of_run = |name| -> Vec<Seen> {
            let all = self.named(name).into_iter();
            all.filter(|span| span.field("apex.run") == run.to_string()).collect()
        };
        let (runs, steps, calls) =
            (of_run("invoke_workflow"), of_run("invoke_agent"), of_run("execute_tool"));
        if let Some(open) = self.0.lock().iter().find(|span| !span.closed) {
            return Some(format!("open: {open:?}"));
        }
        let (mut of_steps, mut of_calls) = (0, 0);
        for Envelope { event, .. } in events {
            let fits = match event {
                Event::AgentCompleted { step, agent, outcome, .. } => {
                    let own: Vec<&Seen> =
                        steps.iter().filter(|s| s.field("apex.step") == step.to_string()).collect();
                    of_steps += own.len();
                    let Some((last, before)) = own.split_last() else {
                        return Some(format!("no span of {event:?}"));
                    };
                    let again = ["waiting", "interrupted"];
                    before.iter().all(|span| again.contains(&span.field("apex.outcome")))
                        && last.field("apex.outcome") == word(*outcome)
                        && last.field("otel.name") == format!("invoke_agent {agent}")
                        && own.iter().all(|span| {
                            self.at(span.parent).is_some_and(|up| up.name == "invoke_workflow")
                        })
                }
                Event::ToolCompleted { step, call, tool, outcome, .. } => {
                    let own: Vec<&Seen> = calls
                        .iter()
                        .filter(|span| span.field("gen_ai.tool.call.id") == call.to_string())
                        .collect();
                    of_calls += own.len();
                    let [own] = own[..] else { return Some(format!("{own:?} of {event:?}")) };
                    let up = self.at(own.parent);
                    own.field("apex.outcome") == named(*outcome)
                        && own.field("gen_ai.tool.name") == tool
                        && up.is_some_and(|up| up.field("apex.step") == step.to_string())
                }
                event if event.is_terminal() => {
                    let state = event.terminal_state().map_or("", |state| state.name());
                    let code = match event {
                        Event::RunFailed { error, .. } => error.code.as_str(),
                        _ => "",
                    };
                    let Some((last, before)) = runs.split_last() else {
                        return Some("the run has no span".to_owned());
                    };
                    before.iter().all(|span| span.field("apex.outcome") != state)
                        && (last.field("apex.outcome"), last.field("error.type")) == (state, code)
                }
                _ => true,
            };
            if !fits {
                return Some(format!("{event:?} does not fit {:#?}", self.0.lock()));
            }
        }
        ((of_steps, of_calls) != (steps.len(), calls.len()))
            .then(|| format!("{steps:?} and {calls:?} have more than the log"))
    }
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, around: Around<'_, S>) {
        let (name, span) = (attributes.metadata().name(), around.span(id).unwrap());
        if !KNOWN.contains(&name) {
            return;
        }
        let above = span.scope().skip(1);
        let parent =
            above.filter_map(|up| up.extensions().get::<Place>().map(|place| place.0)).next();
        let mut seen = Seen { name, parent, ..Seen::default() };
        attributes.record(&mut seen);
        let mut all = self.0.lock();
        span.extensions_mut().insert(Place(all.len()));
        all.push(seen);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, around: Around<'_, S>) {
        if let Some(Place(place)) = around.span(id).unwrap().extensions().get() {
            record.record(&mut self.0.lock()[*place]);
        }
    }

    fn on_close(&self, id: Id, around: Around<'_, S>) {
        if let Some(Place(place)) = around.span(&id).unwrap().extensions().get() {
            self.0.lock()[*place].closed = true;
        }
    }
}

fn word(outcome: AgentOutcome) -> &'static str {
    match outcome {
        AgentOutcome::Ok => "ok",
        AgentOutcome::Error => "error",
        AgentOutcome::Cancelled => "cancelled",
        AgentOutcome::Skipped => "skipped",
        AgentOutcome::Interrupted => "interrupted",
    }
}

fn named(outcome: ToolOutcome) -> &'static str {
    match outcome {
        ToolOutcome::Ok => "ok",
        ToolOutcome::Error => "error",
        ToolOutcome::Timeout => "timeout",
        ToolOutcome::Cancelled => "cancelled",
        ToolOutcome::Interrupted => "interrupted",
    }
}

fn secretive() -> Registry {
    let whisper = tool_fn("whisper", "Whispers.", |word: String, _: ToolContext| async move {
        Ok(format!("{word} it is"))
    });
    let agent = agent_fn("teller", "Tells.", |ask: Request, run: Context| async move {
        run.think(format!("They said {}.", ask.text)).await?;
        let told: String = run.call("whisper", ask.text).await?;
        Ok(told)
    });
    Registry::default().agent(agent).tool(whisper)
}

#[tokio::test(start_paused = true)]
async fn no_word_of_what_was_said_is_in_a_span() {
    let spans = Spans::default();
    let _collecting = spans.collect();
    let node = Node::new(secretive());
    let user = node.user();
    let run = node.ask(&user, "marmalade").await.run;
    let events = node.ended(&user, run).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(spans.fault(run, &events), None);
    assert!(format!("{events:?}").contains("marmalade it is"));
    let all = format!("{:?}", spans.0.lock());
    assert!(!all.contains("marmalade"), "{all}");
    let [call] = spans.named("execute_tool").try_into().unwrap();
    assert_eq!(call.field("otel.name"), "execute_tool whisper");
    assert_eq!(call.field("gen_ai.operation.name"), "execute_tool");
    let [run_span] = spans.named("invoke_workflow").try_into().unwrap();
    assert_eq!(run_span.field("gen_ai.workflow.name"), "teller");
    assert_eq!((run_span.field("gen_ai.conversation.id").len(), run_span.parent), (36, None));
}

/// What was recorded by a thread, by name and labels.
#[derive(Debug, Default)]
struct Recorded(Mutex<HashMap<String, Arc<Values>>>);

#[derive(Debug, Default)]
struct Values(Mutex<Vec<f64>>);

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().push(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Histogram::from_arc(Arc::clone(self.0.lock().entry(name).or_default()))
    }
}

#[test]
fn tokens_cost_and_time_are_in_spans_and_metrics_as_in_the_events() {
    let (recorded, spans) = (Recorded::default(), Spans::default());
    let (run, events) = metrics::with_local_recorder(&recorded, || {
        let _collecting = spans.collect();
        runtime().block_on(async {
            let model = Scripted::always("openai", says("pricing"));
            let node = Node::with_models(team(), &[&model]);
            let user = node.user();
            let (accepted, events) = ask(&node, &user, "What does gpt-4o cost?", Vec::new()).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            (accepted.run, events)
        })
    });
    assert_eq!(spans.fault(run, &events), None);
    let usage = events.iter().find_map(|envelope| match &envelope.event {
        Event::AgentCompleted { agent, usage, .. } if agent == "supervisor" => Some(*usage),
        _ => None,
    });
    let usage = usage.unwrap();
    let cost = usage.cost_usd.unwrap().to_f64();
    assert!(cost > 0.0);
    let chats = spans.named("chat");
    let asked = &chats[0];
    assert_eq!(asked.field("gen_ai.provider.name"), "openai");
    assert_eq!(asked.field("gen_ai.usage.input_tokens"), usage.input_tokens.to_string());
    assert_eq!(asked.field("apex.outcome"), "answered");
    let up = spans.at(asked.parent).unwrap();
    assert_eq!(up.field("otel.name"), "invoke_agent supervisor");
    assert_eq!(up.field("apex.cost_usd"), format!("{cost:?}"));

    let metrics = recorded.0.lock();
    let values = |name: &str| -> Vec<f64> {
        let found = metrics.iter().filter(|(key, _)| key.starts_with(name));
        found.flat_map(|(_, values)| values.0.lock().clone()).collect()
    };
    assert_eq!(values("apex_step_cost_usd agent=supervisor"), [cost]);
    let tokens = format!(
        "gen_ai.client.token.usage gen_ai.operation.name=chat gen_ai.provider.name=openai gen_ai.request.model={} gen_ai.token.type=input",
        asked.field("gen_ai.request.model"),
    );
    assert_eq!(values(&tokens)[0], usage.input_tokens as f64);
    assert_eq!(values("gen_ai.client.operation.duration").len(), chats.len());
    assert_eq!(values("gen_ai.invoke_agent.duration gen_ai.agent.name=pricing").len(), 1);
    let [whole] = values("gen_ai.workflow.duration gen_ai.workflow.name=supervisor")[..] else {
        panic!("{metrics:?}");
    };
    let took = events.last().unwrap().at.since(events[0].at).as_secs_f64();
    assert!((whole - took).abs() < 0.01, "{whole} {took}");
}

/// Remembers what hangs under what.
#[derive(Debug, Default)]
struct Bridge {
    adopted: Mutex<Vec<TraceParent>>,
    places: Mutex<Vec<Option<Id>>>,
}

impl TraceBridge for Bridge {
    fn adopt(&self, _: &Span, parent: TraceParent) {
        self.adopted.lock().push(parent);
    }

    fn place_of(&self, span: &Span) -> Option<TraceParent> {
        self.places.lock().push(span.id());
        self.adopted.lock().last().copied()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_belongs_to_the_trace_of_who_asked_on_every_node() {
    let spans = Spans::default();
    let _collecting = spans.collect();
    let bridge = Arc::new(Bridge::default());
    let out: Arc<Mutex<Vec<Option<TraceParent>>>> = Arc::default();
    let said = Arc::clone(&out);
    let agent = agent_fn("caller", "Calls.", move |_: Request, run: Context| {
        let said = Arc::clone(&said);
        async move {
            said.lock().push(trace::outgoing());
            run.call::<String>("whisper", "x").await
        }
    });
    let said = Arc::clone(&out);
    let tool = tool_fn("whisper", "Whispers.", move |word: String, _: ToolContext| {
        said.lock().push(trace::outgoing());
        async move { Ok(word) }
    });
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let traces: Arc<dyn TraceBridge> = Arc::clone(&bridge) as _;
    let options = EngineOptions { traces: Some(traces), ..EngineOptions::default() };
    let node = Node::on(stores, clock, Registry::default().agent(agent).tool(tool), options);
    let user = node.user();

    let place: TraceParent =
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let asked = trace::coming_from(Some(place), node.engine.start(&user, node.message("hi")));
    let first = asked.await.unwrap().run;
    node.ended(&user, first).await;
    let second = node.ask(&user, "and again").await.run;
    node.ended(&user, second).await;

    let own = TraceParent::of_run(second);
    assert_eq!(*bridge.adopted.lock(), [place, own]);
    assert_eq!(*out.lock(), [place, place, own, own].map(Some));
    assert!(bridge.places.lock().iter().all(Option::is_some), "each within a span of its own");
}
