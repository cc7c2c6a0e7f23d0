//! The AG-UI protocol, version 1.0, over the same runs: its front ends work unchanged.
//!
//! | Apex | AG-UI |
//! |---|---|
//! | `run_started` | `RUN_STARTED` |
//! | `agent_started` | `SUBAGENT_STARTED`, `STEP_STARTED` |
//! | `agent_thinking` | `REASONING_START`, `REASONING_MESSAGE_*`, `REASONING_END` |
//! | `tool_executing` | `TOOL_CALL_START`, `TOOL_CALL_ARGS`, `TOOL_CALL_END` |
//! | `tool_completed` | `TOOL_CALL_RESULT`, the outcome in its metadata |
//! | `agent_completed` | `STEP_FINISHED`, then `SUBAGENT_FINISHED`, or `SUBAGENT_ERROR` with the outcome as its code |
//! | `approval_requested` | everything open is suspended, and `RUN_FINISHED` with an interrupt; `resume` decides |
//! | `run_completed` | the answer as `TEXT_MESSAGE_*` under the run's id, and `RUN_FINISHED` |
//! | `run_failed`, `run_cancelled` | `RUN_ERROR`; `RUN_FINISHED` with the outcome `cancelled` |
//! | `progress` | `ACTIVITY_SNAPSHOT`, each in the place of the one before |
//! | `delta` and all else | `CUSTOM` under its own name |
//!
//! A conversation goes on when `threadId` is one of the user's threads, or when `messages` has an answer of an earlier
//! run. The same `runId` again is the same run. Tools of the front end are not called.
//!
//! Resume is ours, for AG-UI has none: every event has an `id`, and the same request with the last one as
//! `Last-Event-ID` is answered by the rest, from the very next event.

mod input;
mod script;
mod translate;

pub(crate) use input::{Asked, Decided, RunAgentInput};
pub(crate) use script::{Script, Seen};

#[cfg(test)]
mod tests;
