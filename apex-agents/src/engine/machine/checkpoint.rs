use super::State;
use apex_core::error::{Error, Kind, Result};
use apex_core::run::Checkpoint;

/// The version of the format that this engine writes. It reads the ones before as well: version 2 adds the questions
/// to models and what they cost, version 3 calls that wait and the decisions that they wait for.
pub(crate) const VERSION: u32 = 3;

/// A state as it is saved.
pub(crate) fn save(state: &State) -> Result<Checkpoint> {
    let json = serde_json::to_vec(state).map_err(|error| {
        Error::internal("checkpoint.save", "a run's state could not be encoded").with_source(error)
    })?;
    Ok(Checkpoint { version: VERSION, state: json.into() })
}

/// A saved state again.
///
/// A version that this engine does not know is refused: to guess what it means could repeat what was done.
pub(crate) fn load(checkpoint: &Checkpoint) -> Result<State> {
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
    serde_json::from_slice(&checkpoint.state).map_err(|error| {
        Error::new(
            Kind::BadCheckpoint,
            "checkpoint.load",
            "the run's saved state is damaged: ask again",
        )
        .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::super::budget::{Measure, Spent};
    use super::super::journal::{Approval, Entry, Journal};
    use super::super::state::{Ending, OpenCall, OpenQuestion, OpenStep, Part, Status, Waiting};
    use super::*;
    use crate::context::Came;
    use crate::failure::Failure;
    use crate::plan::PlanStep;
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

    #[test]
    fn a_state_is_the_same_after_it_was_saved() {
        let mut state = full();
        assert_eq!(load(&save(&state).unwrap()).unwrap(), state);
        for ending in endings() {
            state.ending = Some(ending);
            assert_eq!(load(&save(&state).unwrap()).unwrap(), state);
        }
    }

    /// They came later within version 3, whose readers pass over what they do not know: a budget of the user's is then
    /// freed when its reservation lapses.
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
        assert_eq!(load(&save(&state).unwrap()).unwrap(), state);
    }

    /// Runs that were saved by an earlier build have to go on: what changes this file needs a new version.
    #[test]
    fn the_format_of_version_3_stays() {
        let kept: Value = serde_json::from_str(include_str!("checkpoint-3.json")).unwrap();
        let saved: Value = serde_json::from_slice(&save(&full()).unwrap().state).unwrap();
        assert_eq!(saved, kept, "{saved}");
    }

    #[test]
    fn version_1_is_read() {
        let kept = include_bytes!("checkpoint-1.json");
        let state = load(&Checkpoint { version: 1, state: kept.as_slice().into() }).unwrap();
        assert_eq!((state.usage, state.questions, state.parts.len()), (Usage::NONE, 0, 4));
    }

    #[test]
    fn version_2_is_read() {
        let kept = include_bytes!("checkpoint-2.json");
        let state = load(&Checkpoint { version: 2, state: kept.as_slice().into() }).unwrap();
        assert_eq!((state.questions, &state.waiting, state.waited_ms), (4, &None, 0));
        assert_eq!(state.spent, Spent::default());
        let journals = state.parts.iter().map(|part| &part.journal);
        let called: Vec<_> = journals.map(|journal| journal.called(2)).collect();
        assert_eq!(called.last(), Some(&(true, None)), "what it had begun may have taken effect");
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        let mut checkpoint = save(&full()).unwrap();
        checkpoint.version = VERSION + 1;
        let error = load(&checkpoint).unwrap_err();
        assert_eq!(error.kind(), Kind::BadCheckpoint);
        assert!(error.message().contains("format 4"), "{error}");
        let damaged = Checkpoint { version: VERSION, state: checkpoint.state.slice(1..) };
        assert_eq!(load(&damaged).unwrap_err().kind(), Kind::BadCheckpoint);
    }
}
