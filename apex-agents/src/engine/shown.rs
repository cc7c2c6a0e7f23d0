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
    pub(super) fn event(&self, mut event: Event) -> Event {
        match &mut event {
            Event::AgentThinking { note: text, .. }
            | Event::ToolCompleted { summary: text, .. } => {
                self.change(text);
            }
            Event::AgentCompleted { output, .. } => self.value(output),
            Event::RunCompleted { result, degraded, .. } => {
                self.change(&mut result.text);
                degraded.iter_mut().for_each(|note| self.change(note));
            }
            Event::RunFailed { error, .. } => self.change(&mut error.message),
            _ => {}
        }
        event
    }

    fn change(&self, text: &mut String) {
        *text = self.text(std::mem::take(text));
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.change(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.value(field)),
            _ => {}
        }
    }
}
