//! What users are shown of a run: without secrets, and, once the run has read what others wrote, without links that
//! these may have chosen.

use crate::prompt::Links;
use crate::tool::Redact;
use apex_core::event::Event;
use serde_json::Value;
use std::borrow::Cow;

/// How the texts of a run are shown.
pub(super) struct Shown<'a> {
    pub(super) redact: &'a dyn Redact,
    /// The links that may stay; all, where the run has read nothing of others.
    pub(super) links: Option<Links<'a>>,
}

impl Shown<'_> {
    pub(super) fn text(&self, mut text: String) -> String {
        self.redact.redact_text(&mut text);
        match self.links.map(|links| links.only(&text)) {
            Some(Cow::Owned(kept)) => kept,
            _ => text,
        }
    }

    /// What somebody says in an event. What a call is made with stays as it is: a person who approves it has to see it.
    pub(super) fn event(&self, event: Event) -> Event {
        match event {
            Event::AgentThinking { step, agent, note } => {
                Event::AgentThinking { step, agent, note: self.text(note) }
            }
            Event::ToolCompleted { step, agent, call, tool, outcome, elapsed_ms, summary } => {
                let summary = self.text(summary);
                Event::ToolCompleted { step, agent, call, tool, outcome, elapsed_ms, summary }
            }
            Event::AgentCompleted {
                step,
                agent,
                outcome,
                elapsed_ms,
                mut output,
                usage,
                models,
            } => {
                self.value(&mut output);
                Event::AgentCompleted { step, agent, outcome, elapsed_ms, output, usage, models }
            }
            Event::RunCompleted { elapsed_ms, usage, degraded, mut result } => {
                result.text = self.text(result.text);
                let degraded = degraded.into_iter().map(|note| self.text(note)).collect();
                Event::RunCompleted { elapsed_ms, usage, degraded, result }
            }
            Event::RunFailed { elapsed_ms, usage, mut error } => {
                error.message = self.text(error.message);
                Event::RunFailed { elapsed_ms, usage, error }
            }
            other => other,
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(std::mem::take(text)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.value(field)),
            _ => {}
        }
    }
}
