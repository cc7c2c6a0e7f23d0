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

/// Which family it belongs to: the other languages have one exception class for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The request is wrong.
    Request,
    /// The caller is not let in, or not to this.
    Access,
    /// A limit is reached.
    Limit,
    /// Something needed is not there for now.
    Unavailable,
    /// The store failed.
    Storage,
    /// The configuration is wrong.
    Configuration,
    /// A run, an agent or a tool did not work.
    Run,
    /// Data or figures are wrong.
    Data,
    /// A defect of ours.
    Defect,
}

/// One row of the catalogue.
#[derive(Debug, Clone, Copy, Serialize, schemars::JsonSchema)]
pub struct Row {
    /// The stable code, as on the wire.
    pub code: &'static str,
    /// The HTTP status that carries it.
    pub status: u16,
    /// Which family it belongs to.
    pub class: Class,
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
    ($($kind:ident $code:literal $status:literal $class:ident $severity:ident $impact:ident $retry:ident $meaning:literal;)*) => {
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
                        class: Class::$class,
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
    BadRequest "bad_request" 400 Request Info Request Never "The request is malformed or a value is out of range.";
    BadFrame "bad_frame" 400 Request Info Request Never "A WebSocket frame is not one of the protocol.";
    Unauthenticated "unauthenticated" 401 Access Info Request WithNewCredential "No credential, or one that is unknown, used or wrong.";
    TokenExpired "token_expired" 401 Access Info Request WithNewCredential "The credential was good and has run out.";
    OriginDenied "origin_denied" 403 Access Warning Request Never "The page's origin is not on the allow list.";
    Csrf "csrf" 403 Access Warning Request Never "A request authorised by cookie lacks the CSRF header.";
    Forbidden "forbidden" 403 Access Info Request Never "The credential lacks a scope for this.";
    NotFound "not_found" 404 Request Info Request Never "There is no such thing among what belongs to this user.";
    Conflict "conflict" 409 Request Info Request Never "The thing is already there with other content, or already decided.";
    TooLarge "too_large" 413 Limit Info Request Never "The body, frame, file or value is larger than the limit.";
    RateLimited "rate_limited" 429 Limit Info User Later "Too many requests by this user.";
    TooManyConnections "too_many_connections" 429 Limit Info User Later "This user's connections are at their limit.";
    TooManyRuns "too_many_runs" 429 Limit Info User Later "This user's running and queued runs are at their limit.";
    BudgetExhausted "budget_exhausted" 429 Limit Info User Never "The budget for this run or user is spent.";
    Internal "internal" 500 Defect Critical Request Later "A defect of ours; the correlation id finds it in the log.";
    Unavailable "unavailable" 503 Unavailable Error Service Later "Something that this needs is down.";
    PoolExhausted "pool_exhausted" 503 Unavailable Error Service Later "No database session became free in time.";
    Draining "draining" 503 Unavailable Info Request Later "This node is shutting down; another one will serve.";
    Config "config_invalid" 500 Configuration Critical Service Never "The configuration is not valid; every fault is listed.";
    Storage "storage_failed" 500 Storage Error Service Later "The store refused or failed: disk full, read-only, damaged.";
    Fenced "fenced" 409 Run Warning Run Never "Another node has taken this run over; this writer must stop.";
    Cancelled "cancelled" 409 Run Info Run Never "It was cancelled.";
    DeadlineExceeded "deadline_exceeded" 504 Unavailable Warning Run Later "It took longer than its deadline allows.";
    Crashed "crashed" 500 Run Error Run Later "The run was lost with its node too often.";
    BadCheckpoint "bad_checkpoint" 500 Run Error Run Never "The run's saved state is of another format or damaged; it was ended in an orderly way.";
    AgentFailed "agent_failed" 500 Run Error Run Later "An agent ended with an error.";
    AgentPanicked "agent_panicked" 500 Run Critical Run Never "An agent panicked; the run was ended in an orderly way.";
    ToolFailed "tool_failed" 502 Run Warning Run Later "A tool ended with an error.";
    InDoubt "outcome_unknown" 500 Run Error Run Never "A node was lost during a tool call that must not be made twice; whether it took effect is not known.";
    Denied "denied" 403 Run Info Run Never "A tool call was decided against, or nobody decided in time; it was not made.";
    BadArguments "bad_arguments" 422 Run Warning Run Never "The arguments of a tool call do not fit the tool's schema.";
    BadOutput "bad_output" 422 Run Error Run Never "An agent or tool returned something that does not fit its schema.";
    BadFigures "bad_figures" 422 Data Critical Run Never "A report's figures do not add up when computed a second way.";
    BadData "bad_data" 422 Data Info Request Never "A file cannot be read as usage records.";
}

/// The catalogue as JSON Schema: the report as it travels, and each code with its row. The other languages' types are
/// generated from it.
#[must_use]
pub fn schema() -> serde_json::Value {
    let rows: serde_json::Map<_, _> = Kind::ALL
        .iter()
        .map(|kind| (kind.row().code.to_owned(), serde_json::json!(kind.row())))
        .collect();
    let mut schema = schemars::schema_for!(super::ErrorReport);
    let code = serde_json::json!({
        "description": "The stable code of the catalogue.",
        "type": "string",
        "enum": rows.keys().collect::<Vec<_>>(),
    });
    if let Some(property) = schema.pointer_mut("/properties/code") {
        *property = code;
    }
    schema.insert("x-catalogue".to_owned(), rows.into());
    schema.to_value()
}

/// The catalogue as a module of TypeScript: the codes as a type, and the row of each.
#[must_use]
pub fn typescript() -> String {
    let mut module = String::from(
        "// Made from the catalogue of errors; the tests say how it is made anew.\n\nexport const ERRORS = {\n",
    );
    for row in Kind::ALL.iter().map(|kind| kind.row()) {
        module += &format!("  {}: {{\n", row.code);
        for (name, value) in fields(&row) {
            module += &format!("    {name}: {value},\n");
        }
        module += "  },\n";
    }
    module
        + "} as const;\n\n/** The stable code of an error. */\nexport type ErrorCode = keyof typeof ERRORS;\n\n\
           /** The family of an error. */\nexport type ErrorKind = (typeof ERRORS)[ErrorCode][\"class\"];\n"
}

/// The catalogue as a module of Python: the codes as a type, and the row of each.
#[must_use]
pub fn python() -> String {
    let rows = || Kind::ALL.iter().map(|kind| kind.row());
    let mut module = String::from(
        "\"\"\"Made from the catalogue of errors; the tests say how it is made anew.\"\"\"\n\n\
         from typing import Final, Literal, NamedTuple\n\n\
         ErrorCode = Literal[\n",
    );
    for row in rows() {
        module += &format!("    \"{}\",\n", row.code);
    }
    module += "]\n\n\nclass ErrorRow(NamedTuple):\n    status: int\n    category: str\n    severity: str\n    impact: str\n    \
               retry: str\n    meaning: str\n\n\nERRORS: Final[dict[ErrorCode, ErrorRow]] = {\n";
    for row in rows() {
        module += &format!("    \"{}\": ErrorRow(\n", row.code);
        for (name, value) in fields(&row) {
            // `class` is a keyword there.
            let name = if name == "class" { "category" } else { name };
            module += &format!("        {name}={value},\n");
        }
        module += "    ),\n";
    }
    module + "}\n"
}

/// What other languages are told of a row, as literals that all of them read.
fn fields(row: &Row) -> [(&'static str, serde_json::Value); 6] {
    [
        ("status", row.status.into()),
        ("class", serde_json::json!(row.class)),
        ("severity", serde_json::json!(row.severity)),
        ("impact", serde_json::json!(row.impact)),
        ("retry", serde_json::json!(row.retry)),
        ("meaning", row.meaning.into()),
    ]
}

/// The catalogue as a table in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "| code | status | class | severity | users notice | try again | meaning |\n|---|---|---|---|---|---|---|\n",
    );
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().replace('_', " ");
    for row in Kind::ALL.iter().map(|kind| kind.row()) {
        let [class, severity, impact, retry] = [
            serde_json::json!(row.class),
            serde_json::json!(row.severity),
            serde_json::json!(row.impact),
            serde_json::json!(row.retry),
        ]
        .map(name);
        page += &format!(
            "| `{}` | {} | {class} | {severity} | {impact} | {retry} | {} |\n",
            row.code, row.status, row.meaning
        );
    }
    page
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
