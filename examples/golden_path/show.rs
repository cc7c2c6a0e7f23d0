//! What the user sees while the run goes on.

use netra_apex::core::clock::Timestamp;
use netra_apex::core::event::{AgentOutcome, Envelope, Event, ModelUse, ToolOutcome};
use std::io::{IsTerminal, Write};

/// Prints each event as a line: seconds since the start, kind, step, agent or tool, and what there is to say.
pub(crate) struct Show {
    began: Option<Timestamp>,
    colours: bool,
    on_progress_line: bool,
}

impl Show {
    pub(crate) fn new() -> Self {
        Self { began: None, colours: std::io::stdout().is_terminal(), on_progress_line: false }
    }

    /// Prints one event.
    pub(crate) fn event(&mut self, envelope: &Envelope) {
        let began = *self.began.get_or_insert(envelope.at);
        let seconds = envelope.at.since(began).as_secs_f64();
        let name = envelope.event.name();
        let (colour, text) = match &envelope.event {
            Event::RunStarted { state, agents, .. } => {
                (36, format!("{}, with {}", state.name(), agents.join(", ")))
            }
            Event::AgentStarted { step, agent, purpose, .. } => {
                (34, format!("{step} {agent}: {purpose}"))
            }
            Event::AgentThinking { step, agent, note } => (90, format!("{step} {agent}: {note}")),
            Event::ToolExecuting { step, agent, call, tool, arguments } => {
                (33, format!("{step} {agent}: {call} {tool} {}", shortened(&arguments.to_string())))
            }
            Event::ToolCompleted { step, agent, call, tool, outcome, elapsed_ms, summary } => (
                if *outcome == ToolOutcome::Ok { 33 } else { 31 },
                format!("{step} {agent}: {call} {tool} {outcome:?} in {elapsed_ms} ms: {summary}"),
            ),
            Event::AgentCompleted { step, agent, outcome, elapsed_ms, models, .. } => (
                if *outcome == AgentOutcome::Ok { 34 } else { 31 },
                format!("{step} {agent}: {outcome:?} in {elapsed_ms} ms{}", asked(models)),
            ),
            Event::AnswerRetracted { step, reason } => {
                (31, format!("{step}: what was shown of an answer does not hold: {reason}"))
            }
            Event::RunResumed { attempt, from_step } => (
                36,
                format!(
                    "attempt {attempt}{}",
                    from_step.map_or(String::new(), |s| format!(" from {s}"))
                ),
            ),
            Event::RunCompleted { elapsed_ms, usage, .. } => {
                let tokens = usage.input_tokens + usage.output_tokens;
                let models = match usage.cost_usd {
                    Some(cost) if cost.is_zero() && tokens == 0 => String::new(),
                    Some(cost) => format!(", models used {tokens} tokens for ${cost}"),
                    None => format!(", models used {tokens} tokens, in part without a price"),
                };
                (32, format!("in {elapsed_ms} ms{models}"))
            }
            // The whole answer is printed at the end.
            Event::Delta { .. } => return,
            Event::RunFailed { error, .. } => (31, format!("{}: {}", error.code, error.message)),
            Event::RunCancelled { .. } => (31, "as you asked".to_owned()),
            Event::Progress { done, total, unit, .. } => return self.progress(*done, *total, unit),
            _ => (36, String::new()),
        };
        self.end_progress_line();
        let line = if self.colours {
            format!("{seconds:>8.3}s  \x1b[{colour}m{name:<15}\x1b[0m {text}")
        } else {
            format!("{seconds:>8.3}s  {name:<15} {text}")
        };
        println!("{}", line.trim_end());
    }

    /// Shows how far a long piece of work is, on one line that is written over on a terminal.
    pub(crate) fn progress(&mut self, done: u64, total: Option<u64>, unit: &str) {
        if !self.colours {
            return;
        }
        let total = total.map_or(String::new(), |total| format!(" of {}", amount(total, unit)));
        let name = if unit == "bytes" { "MB" } else { unit };
        print!("\r\x1b[K           … {}{total} {name}", amount(done, unit));
        let _ = std::io::stdout().flush();
        self.on_progress_line = true;
    }

    /// Prints a line of its own.
    pub(crate) fn line(&mut self, text: &str) {
        self.end_progress_line();
        println!("{text}");
    }

    fn end_progress_line(&mut self) {
        if std::mem::take(&mut self.on_progress_line) {
            print!("\r\x1b[K");
        }
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("…".chars()).collect()
}

/// Tells about an upload on a line that is written over, on a terminal.
pub(crate) fn upload_progress(length: u64) -> impl FnMut(u64) + Send + 'static {
    let mut show = Show::new();
    let mut told = 0;
    move |sent| {
        if sent >= told + length / 100 + (1 << 20) {
            told = sent;
            show.progress(sent, Some(length), "bytes");
        }
    }
}

fn amount(number: u64, unit: &str) -> String {
    if unit == "bytes" {
        return format!("{:.1}", number as f64 / 1e6);
    }
    let digits = number.to_string();
    digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

/// Which models a step asked.
fn asked(models: &[ModelUse]) -> String {
    let told = models.iter().map(|asked| {
        let ModelUse { provider, model, attempts, answers, usage } = asked;
        let cost = usage.cost_usd.map_or("no price".to_owned(), |cost| format!("${cost}"));
        format!(", {provider}:{model} answered {answers} of {attempts} for {cost}")
    });
    told.collect()
}
