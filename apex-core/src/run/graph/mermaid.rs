//! A graph as a Mermaid flowchart.

use super::RunGraph;
use super::step::{GraphCall, GraphStep, StepState};
use crate::event::{Decision, ToolOutcome};
use crate::money::Usage;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The most calls that are drawn beneath a step; the rest is counted.
const MOST_CALLS: usize = 8;

/// The most characters that a label shows of a text.
const LONGEST: usize = 80;

/// How each state looks: readable in light and dark.
const LOOKS: &str = "  classDef ok fill:#e2f1ed,stroke:#0f6b5e,color:#1a201e
  classDef running fill:#e4edfb,stroke:#2459a8,color:#1a201e
  classDef waiting fill:#fbf2df,stroke:#8a5a00,color:#1a201e
  classDef error fill:#fcebe9,stroke:#b3261e,color:#1a201e
  classDef other fill:#eef1ee,stroke:#7d8883,color:#1a201e
  classDef planned fill:#ffffff,stroke:#7d8883,color:#1a201e,stroke-dasharray:4
";

impl RunGraph {
    /// The graph as a Mermaid flowchart: steps with their needs, and beneath each step its calls of tools. A need
    /// that follows from others is left out. Whatever names and purposes hold, they are text in it and nothing else.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut chart = "flowchart TD\n".to_owned();
        for (place, step) in self.steps.iter().enumerate() {
            let _ = writeln!(chart, "  s{place}[\"{}\"]", told(step));
            let _ = writeln!(chart, "  class s{place} {}", look(step.state));
        }
        for (place, step) in self.steps.iter().enumerate() {
            self.arrows(place, step, &mut chart);
        }
        for (place, step) in self.steps.iter().enumerate() {
            beneath(place, step, &mut chart);
        }
        chart + LOOKS
    }

    fn arrows(&self, place: usize, step: &GraphStep, chart: &mut String) {
        let needs: Vec<usize> = self.places(step).collect();
        let implied: BTreeSet<usize> = needs.iter().flat_map(|need| self.before(*need)).collect();
        for need in needs.iter().filter(|need| !implied.contains(need)) {
            let _ = writeln!(chart, "  s{need} --> s{place}");
        }
        let planner = step.planned_by.as_ref().and_then(|agent| self.place(agent));
        if let (true, Some(planner)) = (needs.is_empty(), planner) {
            let _ = writeln!(chart, "  s{planner} -.-> s{place}");
        }
    }

    /// All steps that have to end before this one can begin.
    fn before(&self, place: usize) -> BTreeSet<usize> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![place]);
        while let Some(step) = next.pop().and_then(|place| self.steps.get(place)) {
            next.extend(self.places(step).filter(|need| seen.insert(*need)));
        }
        seen
    }

    fn places(&self, step: &GraphStep) -> impl Iterator<Item = usize> {
        step.needs.iter().filter_map(|agent| self.place(agent))
    }

    fn place(&self, agent: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.agent == agent)
    }
}

/// A step in a few words: who, how far, how long, how often, at which cost.
fn told(step: &GraphStep) -> String {
    let mut words = vec![step.state.name().to_owned()];
    if step.tries.len() > 1 {
        words.push(format!("{} tries", step.tries.len()));
    }
    words.extend(step.elapsed_ms.map(duration));
    words.extend(cost(step.usage));
    let optional = if step.optional { " (optional)" } else { "" };
    let purpose = match step.purpose.as_str() {
        "" => String::new(),
        purpose => format!("<br/>{}", plain(purpose)),
    };
    format!("{}{optional}{purpose}<br/>{}", plain(&step.agent), words.join(", "))
}

fn beneath(place: usize, step: &GraphStep, chart: &mut String) {
    for (number, call) in step.calls.iter().take(MOST_CALLS).enumerate() {
        let mut words = vec![plain(&call.tool), how(call).to_owned()];
        words.extend(call.elapsed_ms.map(duration));
        let _ = writeln!(chart, "  s{place} --- s{place}c{number}([\"{}\"])", words.join(", "));
    }
    if let Some(more) = step.calls.len().checked_sub(MOST_CALLS).filter(|more| *more > 0) {
        let _ = writeln!(chart, "  s{place} --- s{place}more([\"and {more} more calls\"])");
    }
}

/// How far a call is, in a word.
fn how(call: &GraphCall) -> &'static str {
    match (call.outcome, &call.approval) {
        (Some(ToolOutcome::Ok), _) => "ok",
        (Some(ToolOutcome::Error), _) => "error",
        (Some(ToolOutcome::Timeout), _) => "timeout",
        (Some(ToolOutcome::Cancelled), _) => "cancelled",
        (Some(ToolOutcome::Interrupted), _) => "interrupted",
        (None, _) if call.began_at.is_some() => "running",
        (None, Some(asked)) if asked.lapsed => "not decided in time",
        (None, Some(asked)) if asked.decision == Some(Decision::Deny) => "denied",
        (None, _) => "waiting",
    }
}

fn look(state: StepState) -> &'static str {
    match state {
        StepState::Ok => "ok",
        StepState::Running => "running",
        StepState::Waiting => "waiting",
        StepState::Error => "error",
        StepState::Planned => "planned",
        StepState::Cancelled | StepState::Skipped | StepState::Interrupted => "other",
    }
}

fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// What models cost, if any was asked.
fn cost(usage: Usage) -> Option<String> {
    match usage.cost_usd {
        None => Some("unpriced".to_owned()),
        Some(usd) if usd.is_zero() => None,
        Some(usd) => Some(format!("#36;{}", usd.rounded(4))),
    }
}

/// A text that means nothing to Mermaid: every sign but the plainest as its number.
fn plain(text: &str) -> String {
    let mut safe = String::new();
    for (place, character) in text.chars().enumerate() {
        if place == LONGEST {
            safe.push('…');
            break;
        }
        match character {
            c if c.is_alphanumeric() || " _-.,".contains(c) => safe.push(c),
            c if c.is_whitespace() || c.is_control() => safe.push(' '),
            c => {
                let _ = write!(safe, "#{};", u32::from(c));
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_text_and_nothing_else() {
        let evil = "a\"] --> b; %%{init: {}}%% `x` <script>#quot;\n click s0 \"x\" &amp;";
        let safe = plain(evil);
        let kept = |c: char| c.is_alphanumeric() || " _-.,#;…".contains(c);
        assert!(safe.chars().all(kept), "{safe}");
        assert!(safe.starts_with("a#34;#93; --#62; b#59; #37;#37;#123;init#58;"), "{safe}");
        assert!(!safe.contains("#quot"), "{safe}");
        assert_eq!(plain(&"ä".repeat(100)), "ä".repeat(80) + "…");
    }

    #[test]
    fn times_are_told_as_people_tell_them() {
        let told = [0, 999, 1_000, 59_999, 60_000, 3_723_000].map(duration);
        assert_eq!(told, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 0 s", "62 min 3 s"]);
    }
}
