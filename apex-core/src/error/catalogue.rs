//! The one table of what can go wrong. Wire codes, HTTP statuses, documentation and the other languages' types
//! come from here.

use serde::{Deserialize, Serialize};

/// How bad it is for the one who runs the system.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Expected in normal operation.
    Info,
    /// Worth a look when it is frequent.
    Warning,
    /// Something that should work does not.
    Error,
    /// A defect, or data is at risk: someone has to act.
    Critical,
}

/// What a user notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Nothing but the answer itself.
    None,
    /// This request did not work.
    Request,
    /// This run did not work.
    Run,
    /// This user cannot go on for now.
    User,
    /// Nobody can.
    Service,
}

/// Whether the same call can help later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Not before the caller changes something.
    Never,
    /// After new credentials.
    WithNewCredential,
    /// With back-off.
    Later,
}

/// One row of the catalogue.
#[derive(Debug, Clone, Copy, Serialize, schemars::JsonSchema)]
pub struct Row {
    /// The stable code, as on the wire.
    pub code: &'static str,
    /// The HTTP status that carries it.
    pub status: u16,
    /// How bad it is.
    pub severity: Severity,
    /// What a user notices.
    pub impact: Impact,
    /// Whether the same call can help later.
    pub retry: Retry,
    /// What it means, in a sentence for documentation.
    pub meaning: &'static str,
}

macro_rules! catalogue {
    ($($kind:ident $code:literal $status:literal $severity:ident $impact:ident $retry:ident $meaning:literal;)*) => {
        /// What went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = $meaning] #[serde(rename = $code)] $kind,)*
        }

        impl Kind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The row of the catalogue.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$kind => Row {
                        code: $code,
                        status: $status,
                        severity: Severity::$severity,
                        impact: Impact::$impact,
                        retry: Retry::$retry,
                        meaning: $meaning,
                    },)*
                }
            }
        }
    };
}

catalogue! {
    BadRequest "bad_request" 400 Info Request Never "The request is malformed or a value is out of range.";
    BadFrame "bad_frame" 400 Info Request Never "A WebSocket frame is not one of the protocol.";
    Unauthenticated "unauthenticated" 401 Info Request WithNewCredential "No credential, or one that is unknown, used or wrong.";
    TokenExpired "token_expired" 401 Info Request WithNewCredential "The credential was good and has run out.";
    OriginDenied "origin_denied" 403 Warning Request Never "The page's origin is not on the allow list.";
    Csrf "csrf" 403 Warning Request Never "A request authorised by cookie lacks the CSRF header.";
    Forbidden "forbidden" 403 Info Request Never "The credential lacks a scope for this.";
    NotFound "not_found" 404 Info Request Never "There is no such thing among what belongs to this user.";
    Conflict "conflict" 409 Info Request Never "The thing is already there with other content, or already decided.";
    TooLarge "too_large" 413 Info Request Never "The body, frame, file or value is larger than the limit.";
    RateLimited "rate_limited" 429 Info User Later "Too many requests by this user.";
    TooManyConnections "too_many_connections" 429 Info User Later "This user's connections are at their limit.";
    TooManyRuns "too_many_runs" 429 Info User Later "This user's running and queued runs are at their limit.";
    BudgetExhausted "budget_exhausted" 429 Info User Never "The budget for this run or user is spent.";
    Internal "internal" 500 Critical Request Later "A defect of ours; the correlation id finds it in the log.";
    Unavailable "unavailable" 503 Error Service Later "Something that this needs is down.";
    PoolExhausted "pool_exhausted" 503 Error Service Later "No database session became free in time.";
    Draining "draining" 503 Info Request Later "This node is shutting down; another one will serve.";
    Config "config_invalid" 500 Critical Service Never "The configuration is not valid; every fault is listed.";
    Storage "storage_failed" 500 Error Service Later "The store refused or failed: disk full, read-only, damaged.";
    Fenced "fenced" 409 Warning Run Never "Another node has taken this run over; this writer must stop.";
    Cancelled "cancelled" 409 Info Run Never "It was cancelled.";
    DeadlineExceeded "deadline_exceeded" 504 Warning Run Later "It took longer than its deadline allows.";
    Crashed "crashed" 500 Error Run Later "The run was lost with its node too often.";
    BadCheckpoint "bad_checkpoint" 500 Error Run Never "The run's saved state is of another format or damaged; it was ended in an orderly way.";
    AgentFailed "agent_failed" 500 Error Run Later "An agent ended with an error.";
    AgentPanicked "agent_panicked" 500 Critical Run Never "An agent panicked; the run was ended in an orderly way.";
    ToolFailed "tool_failed" 502 Warning Run Later "A tool ended with an error.";
    BadArguments "bad_arguments" 422 Warning Run Never "The arguments of a tool call do not fit the tool's schema.";
    BadOutput "bad_output" 422 Error Run Never "An agent or tool returned something that does not fit its schema.";
    BadFigures "bad_figures" 422 Critical Run Never "A report's figures do not add up when computed a second way.";
    BadData "bad_data" 422 Info Request Never "A file cannot be read as usage records.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_equal_the_serialised_kind() {
        let mut seen = std::collections::HashSet::new();
        for kind in Kind::ALL {
            assert!(seen.insert(kind.row().code), "{} twice", kind.row().code);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.row().code);
        }
    }
}
