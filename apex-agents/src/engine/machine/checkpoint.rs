//! What is saved of a run: its whole state now and then, and in between only what has changed, so that a run of many
//! effects writes about as many bytes as they bring, not its whole state at each of them.

use super::State;
use super::journal::{Entry, Journal};
use super::state::{Part, Status};
use crate::plan::PlanStep;
use apex_core::error::{Error, Kind, Result};
use apex_core::run::Checkpoint;
use serde::{Deserialize, Serialize};

/// The version of the format that this engine writes. It reads the ones before as well: version 2 adds the questions
/// to models and what they cost, version 3 calls that wait and the decisions that they wait for, version 4 the changes
/// that follow a state, each on a line of its own, and whether it has read what others wrote, version 5 the words that a
/// plan made of the request's.
pub(crate) const VERSION: u32 = 5;

/// How many bytes of changes are saved, at least, before the state is saved whole again.
const FEW: usize = 8 * 1024;

/// Saves a state as it changes. A new one begins with the whole.
#[derive(Debug, Default)]
pub(crate) struct Saver(Option<Saved>);

/// What is known to be saved.
#[derive(Debug)]
struct Saved {
    rest: State,
    degraded: usize,
    parts: Vec<(PlanStep, Status)>,
    /// How long the journal of each part was.
    journals: Vec<usize>,
    /// The bytes of the state when it was saved whole, and of the changes since.
    whole: usize,
    changes: usize,
}

/// What has changed since the line before.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Change {
    /// The state but for its parts and what was degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rest: Option<State>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    degraded: Vec<String>,
    /// Parts, by their places, but for their journals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<(usize, PlanStep, Status)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    journals: Vec<Entered>,
}

/// What has changed in a part's journal.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entered {
    part: usize,
    /// How many effects it holds now.
    len: usize,
    entries: Vec<(usize, Entry)>,
}

impl Saver {
    /// What is to be saved of a state for all of it to be saved.
    ///
    /// # Errors
    /// `internal` for a state that cannot be: a run that is saved wrong is lost for good.
    pub(crate) fn save(&mut self, state: &mut State) -> Result<Checkpoint> {
        if let Some(fault) = state.fault() {
            return Err(Error::internal(
                "checkpoint.save",
                format!("a run's state is not sound and is not saved: {fault}"),
            ));
        }
        let mut change = None;
        if let Some(saved) = self.0.as_ref().filter(|saved| saved.changes < saved.whole.max(FEW)) {
            change = Some(encoded(&saved.change(state))?);
        }
        let saved = match (change, &mut self.0) {
            (Some(json), Some(saved)) => {
                let mut line = Vec::with_capacity(json.len() + 1);
                line.push(b'\n');
                line.extend(json);
                saved.changes += line.len();
                saved.note(state);
                Checkpoint::more(VERSION, line)
            }
            _ => {
                let json = encoded(state)?;
                self.0 = Some(Saved::of(state, json.len(), json.len()));
                Checkpoint::whole(VERSION, json)
            }
        };
        for part in &mut state.parts {
            part.journal.saved();
        }
        Ok(saved)
    }
}

impl Saved {
    /// A state that is saved: whole in so many bytes, with the changes since in so many.
    fn of(state: &State, whole: usize, all: usize) -> Self {
        let rest = state.rest();
        let (parts, journals, changes) = (Vec::new(), Vec::new(), all - whole);
        let mut saved = Self { rest, degraded: 0, parts, journals, whole, changes };
        saved.note(state);
        saved
    }

    fn change(&self, state: &State) -> Change {
        let rest = state.rest();
        let mut change = Change {
            rest: (rest != self.rest).then_some(rest),
            degraded: state.degraded.get(self.degraded..).unwrap_or_default().to_vec(),
            ..Change::default()
        };
        for (place, part) in state.parts.iter().enumerate() {
            let known = self.parts.get(place);
            if known.is_none_or(|(plan, status)| *plan != part.plan || *status != part.status) {
                change.parts.push((place, part.plan.clone(), part.status.clone()));
            }
            let (entries, len) = (part.journal.changes(), part.journal.len());
            if !entries.is_empty() || self.journals.get(place).is_some_and(|known| *known != len) {
                change.journals.push(Entered { part: place, len, entries });
            }
        }
        change
    }

    fn note(&mut self, state: &State) {
        self.rest = state.rest();
        self.degraded = state.degraded.len();
        self.journals = state.parts.iter().map(|part| part.journal.len()).collect();
        for (place, part) in state.parts.iter().enumerate() {
            match self.parts.get_mut(place) {
                Some((plan, status)) if *plan == part.plan && *status == part.status => {}
                Some(known) => *known = (part.plan.clone(), part.status.clone()),
                None => self.parts.push((part.plan.clone(), part.status.clone())),
            }
        }
    }
}

impl Change {
    /// Makes the change; `None` where it does not fit the state.
    fn make(self, state: &mut State) -> Option<()> {
        if let Some(rest) = self.rest {
            let (parts, degraded) =
                (std::mem::take(&mut state.parts), std::mem::take(&mut state.degraded));
            *state = State { parts, degraded, ..rest };
        }
        state.degraded.extend(self.degraded);
        for (place, plan, status) in self.parts {
            if place == state.parts.len() {
                state.parts.push(Part { plan, status, journal: Journal::default() });
            } else {
                let part = state.parts.get_mut(place)?;
                (part.plan, part.status) = (plan, status);
            }
        }
        for Entered { part, len, entries } in self.journals {
            state.parts.get_mut(part)?.journal.enter(len, entries)?;
        }
        Some(())
    }
}

/// A saved state again, and what goes on saving it where it was saved in the format of this engine.
///
/// A version that this engine does not know is refused: to guess what it means could repeat what was done.
pub(crate) fn load(checkpoint: &Checkpoint) -> Result<(State, Saver)> {
    let version = checkpoint.version;
    if !(1..=VERSION).contains(&version) {
        return Err(Error::new(
            Kind::BadCheckpoint,
            "checkpoint.load",
            format!(
                "the run's state was saved in format {version}; this node reads up to format {VERSION}: ask again"
            ),
        ));
    }
    // Before version 4 there is the state alone, which may have lines of its own.
    let lines = if version < 4 { 1 } else { usize::MAX };
    let mut lines = checkpoint.state.splitn(lines, |byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut state: State = decoded(first)?;
    for line in lines {
        decoded::<Change>(line)?.make(&mut state).ok_or_else(damaged)?;
    }
    if let Some(fault) = state.fault() {
        return Err(damaged().with("fault", fault));
    }
    for part in &mut state.parts {
        part.journal.saved();
    }
    let saver = match version {
        VERSION => Saver(Some(Saved::of(&state, first.len(), checkpoint.state.len()))),
        _ => Saver::default(),
    };
    Ok((state, saver))
}

fn encoded(what: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(|error| {
        Error::internal("checkpoint.save", "a run's state could not be encoded").with_source(error)
    })
}

fn decoded<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| damaged().with_source(error))
}

fn damaged() -> Error {
    let told = "the run's saved state is damaged: ask again";
    Error::new(Kind::BadCheckpoint, "checkpoint.load", told)
}

#[cfg(test)]
mod tests {
    use super::super::budget::{Measure, Spent};
    use super::super::journal::Approval;
    use super::super::state::{Ending, OpenCall, OpenQuestion, OpenStep, Status, Waiting};
    use super::*;
    use crate::context::Came;
    use crate::failure::Failure;
    use crate::stored::Stored;
    use apex_core::budget::Charge;
    use apex_core::clock::Timestamp;
    use apex_core::event::{ModelUse, Payload, RunResult, RunStatus};
    use apex_core::id::{ApprovalId, ArtifactId, CallId, ReservationId, StepId, UserId};
    use apex_core::money::{Usage, Usd};
    use serde_json::{Value, json};

    /// A state in which everything that can be in one is.
    fn full() -> State {
        let at = Timestamp::from_millis(1_763_805_600_123);
        let payload = Payload {
            artifact: ArtifactId::derived(&[b"artifact"]),
            name: "c1-much.json".into(),
            bytes: 5_000,
            sha256: "ab".repeat(32),
        };
        let mut journal = Journal::default();
        journal.ask(0, Entry::Now(at));
        journal.ask(1, Entry::Random(u64::MAX));
        for (place, result) in [
            None,
            Some(Ok(Stored::Inline(json!({"a": 1})))),
            Some(Ok(Stored::Artifact(payload.clone()))),
            Some(Err(Failure::new(Kind::NotFound, "no such file"))),
        ]
        .into_iter()
        .enumerate()
        {
            let (tool, digest) = ("add".to_owned(), "00".repeat(32));
            let begun = place > 0;
            let approval = (place < 2).then(|| Approval {
                approval: ApprovalId::derived(&[b"approval"]),
                call: CallId(7),
                expires_at: at,
                approved: begun,
            });
            journal.ask(place + 2, Entry::Call { tool, digest, begun, approval, result });
        }
        let model = |came| Entry::Model { digest: "11".repeat(32), came };
        for (place, came) in [
            None,
            Some(Came::Nothing),
            Some(Came::Answer(Stored::Inline(json!({"parts": []})))),
            Some(Came::Failed(Failure::new(Kind::Unavailable, "m"))),
        ]
        .into_iter()
        .enumerate()
        {
            journal.ask(place + 6, model(came));
        }
        let usage = Usage { input_tokens: 7, cost_usd: Some(Usd::from_units(5)), ..Usage::NONE };
        let (provider, name) = ("openai".to_owned(), "gpt-5".to_owned());
        let open = OpenStep {
            step: StepId(3),
            started_at: at,
            notes: 2,
            thoughts: 1,
            said: 0,
            place: 10,
            questions: vec![OpenQuestion {
                place: 6,
                asked_at: at,
                asking: vec![(provider.clone(), name.clone())],
                reserved: Charge { tokens: 900, usd: Usd::from_units(7) },
                of_user: Vec::new(),
            }],
            models: vec![ModelUse { provider, model: name, attempts: 2, answers: 1, usage }],
            calls: vec![OpenCall { call: CallId(4), tool: "add".into(), started_at: at, place: 2 }],
        };
        let part = |agent: &str, status| Part {
            status,
            ..Part::new(PlanStep::new(agent).purpose("p").needs(["entry"]).optional())
        };
        let mut state = State::new("entry");
        state.began_at = Some(at);
        (state.steps_made, state.calls_made, state.questions) = (3, 4, 4);
        state.usage = usage;
        state.spent.charged = Charge { tokens: 8_000, usd: Usd::from_units(9) };
        state.spent.warned.insert(Measure::Tokens);
        state.waiting = Some(Waiting { since: at, attempt: 2 });
        state.waited_ms = 1_234;
        state.parts.extend([
            part("done", Status::Done(Stored::Artifact(payload.clone()))),
            part("missing", Status::Missing),
            Part { journal, ..part("open", Status::Open(open)) },
        ]);
        state.degrade("no model took part");
        state.interrupted = Some(StepId(2));
        state.question = Some("how much in April?".into());
        state
    }

    fn endings() -> [Ending; 3] {
        [
            Ending::answered(RunResult {
                status: RunStatus::Answered,
                text: "t".into(),
                artifacts: Vec::new(),
            }),
            Ending::Failed(Failure::new(Kind::AgentFailed, "m")),
            Ending::Cancelled(UserId::derived(&[b"user"])),
        ]
    }

    fn whole(state: &State) -> Checkpoint {
        Saver::default().save(&mut state.clone()).unwrap()
    }

    #[test]
    fn a_state_is_the_same_after_it_was_saved() {
        let mut state = full();
        assert_eq!(load(&whole(&state)).unwrap().0, state);
        for ending in endings() {
            state.ending = Some(ending);
            assert_eq!(load(&whole(&state)).unwrap().0, state);
        }
    }

    /// What a run does to its state, in lines.
    fn lived() -> (Vec<Checkpoint>, State) {
        let (mut saver, mut state) = (Saver::default(), full());
        let mut saved = vec![saver.save(&mut state).unwrap()];
        state.calls_made += 1;
        state.untrusted = Some("read_page".into());
        state.degrade("and no second one");
        saved.push(saver.save(&mut state).unwrap());
        let open = state.parts.len() - 1;
        let journal = &mut state.parts[open].journal;
        let (tool, digest) = ("again".to_owned(), "22".repeat(32));
        journal.ask(10, Entry::call(tool, digest));
        journal.begin(10);
        journal.complete(10, Ok(Stored::Inline(json!("much"))));
        saved.push(saver.save(&mut state).unwrap());
        state.parts[open].journal = Journal::default();
        state.parts[open].status = Status::Done(Stored::Inline(json!(7)));
        state.parts.push(Part::new(PlanStep::new("next").needs(["open"])));
        state.waiting = None;
        saved.push(saver.save(&mut state).unwrap());
        state.parts[open + 1].journal.ask(0, Entry::Random(9));
        state.parts[open + 1].journal.ask(1, Entry::Random(10));
        saved.push(saver.save(&mut state).unwrap());
        (saved, state)
    }

    fn joined(saved: &[Checkpoint]) -> Checkpoint {
        let all: Vec<u8> = saved.iter().flat_map(|one| one.state.to_vec()).collect();
        Checkpoint::whole(saved[0].version, all)
    }

    #[test]
    fn changes_make_the_state_that_was_saved() {
        let (saved, state) = lived();
        let goes_on: Vec<bool> = saved.iter().map(|one| one.goes_on).collect();
        assert_eq!(goes_on, [false, true, true, true, true]);
        assert_eq!(load(&joined(&saved)).unwrap().0, state);
        assert!(saved[1..].iter().all(|one| one.state.len() < 2_000), "{saved:?}");
    }

    #[test]
    fn what_was_read_again_is_gone_on_with() {
        let (mut saved, mut state) = lived();
        let (mut read, mut saver) = load(&joined(&saved)).unwrap();
        for state in [&mut read, &mut state] {
            state.waited_ms += 1;
            state.parts.last_mut().unwrap().journal.ask(2, Entry::Random(11));
        }
        saved.push(saver.save(&mut read).unwrap());
        assert!(saved.last().is_some_and(|last| last.goes_on && last.state.len() < 1_000));
        assert_eq!(load(&joined(&saved)).unwrap().0, state);
    }

    #[test]
    fn a_change_that_does_not_fit_is_damage() {
        let (saved, _) = lived();
        for lost in [1, 3] {
            let mut rest = saved.clone();
            rest.remove(lost);
            let read = load(&joined(&rest));
            let same = read.is_ok_and(|(read, _)| read == lived().1);
            assert!(!same, "without line {lost} it is not what was saved");
        }
        let cut = joined(&saved);
        let cut = Checkpoint::whole(VERSION, cut.state.slice(..cut.state.len() - 1));
        assert_eq!(load(&cut).unwrap_err().kind(), Kind::BadCheckpoint);
    }

    #[test]
    fn a_state_that_is_not_sound_is_not_saved() {
        let wrong: [fn(&mut State); 5] = [
            |state| state.calls_made = 1,
            |state| state.steps_made = 1,
            |state| state.parts.swap(0, 1),
            |state| state.parts[3].journal = Journal::default(),
            |state| state.parts.clear(),
        ];
        for make in wrong {
            let mut state = full();
            make(&mut state);
            assert!(Saver::default().save(&mut state).is_err(), "{state:?}");
        }
    }

    #[test]
    fn what_is_reserved_of_a_users_budget_is_saved_where_there_is_one() {
        let mut state = full();
        let at = Timestamp::from_millis(1_763_856_000_000);
        state.spent.warned_of_user.insert((at, Measure::Usd));
        let reserved = (ReservationId::derived(&[b"reservation"]), Charge::default());
        for part in &mut state.parts {
            if let Status::Open(open) = &mut part.status {
                open.questions[0].of_user.push(reserved);
            }
        }
        assert_ne!(state, full());
        let saved = Saver::default().save(&mut state).unwrap();
        assert_eq!(load(&saved).unwrap().0, state);
    }

    /// Runs that were saved by an earlier build have to go on: what changes this file needs a new version.
    #[test]
    fn the_format_of_version_5_stays() {
        let (saved, state) = lived();
        let now = joined(&saved);
        let kept = include_bytes!("checkpoint-5.jsonl");
        let lines = |bytes: &[u8]| -> Vec<Value> {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
        };
        assert_eq!(lines(&now.state), lines(kept), "{}", String::from_utf8_lossy(&now.state));
        let kept = kept.strip_suffix(b"\n").unwrap_or(kept);
        assert_eq!(load(&Checkpoint::whole(5, kept)).unwrap().0, state);
    }

    #[test]
    fn version_4_is_read() {
        let kept = include_bytes!("checkpoint-4.jsonl");
        let kept = kept.strip_suffix(b"\n").unwrap_or(kept);
        let (read, mut saver) = load(&Checkpoint::whole(4, kept)).unwrap();
        assert_eq!(read, State { question: None, ..lived().1 });
        assert!(!saver.save(&mut read.clone()).unwrap().goes_on, "it is saved anew, whole");
    }

    #[test]
    fn version_3_is_read() {
        let kept = include_bytes!("checkpoint-3.json");
        let (read, _) = load(&Checkpoint::whole(3, kept.as_slice())).unwrap();
        assert_eq!(read, State { question: None, ..full() });
    }

    #[test]
    fn version_1_is_read() {
        let kept = include_bytes!("checkpoint-1.json");
        let (state, _) = load(&Checkpoint::whole(1, kept.as_slice())).unwrap();
        assert_eq!((state.usage, state.questions, state.parts.len()), (Usage::NONE, 0, 4));
    }

    #[test]
    fn version_2_is_read() {
        let kept = include_bytes!("checkpoint-2.json");
        let (state, _) = load(&Checkpoint::whole(2, kept.as_slice())).unwrap();
        assert_eq!((state.questions, &state.waiting, state.waited_ms), (4, &None, 0));
        assert_eq!(state.spent, Spent::default());
        let journals = state.parts.iter().map(|part| &part.journal);
        let called: Vec<_> = journals.map(|journal| journal.called(2)).collect();
        assert_eq!(called.last(), Some(&(true, None)), "what it had begun may have taken effect");
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        let mut checkpoint = whole(&full());
        checkpoint.version = VERSION + 1;
        let error = load(&checkpoint).unwrap_err();
        assert_eq!(error.kind(), Kind::BadCheckpoint);
        assert!(error.message().contains("format 5"), "{error}");
        let damaged = Checkpoint::whole(VERSION, checkpoint.state.slice(1..));
        assert_eq!(load(&damaged).unwrap_err().kind(), Kind::BadCheckpoint);
    }

    /// The bytes that runs of so many effects write.
    #[test]
    fn many_effects_write_about_as_many_bytes_as_they_bring() {
        let mut per_effect = Vec::new();
        for effects in [10_usize, 100, 1_000] {
            let (mut saver, mut state) = (Saver::default(), full());
            let part = state.parts.len() - 1;
            let mut written = 0;
            for place in 10..10 + effects {
                let journal = &mut state.parts[part].journal;
                journal.ask(place, Entry::call("add".into(), format!("{place:064}")));
                state.calls_made += 1;
                for done in [false, true] {
                    let journal = &mut state.parts[part].journal;
                    match done {
                        false => journal.begin(place),
                        true => journal.complete(place, Ok(Stored::Inline(json!("r".repeat(200))))),
                    }
                    written += saver.save(&mut state).unwrap().state.len();
                }
            }
            println!(
                "{effects} effects: {written} bytes, {} as one state",
                whole(&state).state.len()
            );
            per_effect.push(written / effects);
        }
        assert!(per_effect[2] < per_effect[0] * 2, "{per_effect:?}");
    }
}
