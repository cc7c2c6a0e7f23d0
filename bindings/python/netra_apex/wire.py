"""Made from the schema of the wire and of reports; the tests say how it is made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired


class AcceptedFrame(TypedDict):
    """A message is on record."""

    id: FrameId
    """The id of the `message`."""
    request_id: RequestId
    """The client's id of the message."""
    run: RunId
    """The run."""
    thread: ThreadId
    """The conversation."""


class Action(TypedDict):
    """A step of the action plan."""

    effort: Effort
    """How much work it is."""
    order: int
    """Its place in the plan, from 1."""
    place: str
    """Where."""
    risk: str
    """What can go wrong."""
    roll_back: str
    """How to undo it."""
    saving_usd: NotRequired[Usd | None]
    """The expected saving; `null` where the step is there for certainty, not for money."""
    verify: str
    """How to see that it worked."""
    what: str
    """What to do."""


Advice: TypeAlias = Literal["do", "try", "do_not"]
"""What a recommendation says."""


class EnvelopeFields(TypedDict):
    """An event with its place: `(run, epoch, seq)` names it for ever."""

    at: Timestamp
    """When it happened."""
    epoch: Epoch
    """The life of the log."""
    parent: NotRequired[RunId | None]
    """The run that started this one, if any."""
    run: RunId
    """The run."""
    seq: NotRequired[int | None]
    """The place in the log, from 1 without holes; volatile events have none."""
    thread: ThreadId
    """The conversation that the run belongs to."""
    v: int
    """The version, 1."""


class AgentCompletedEvent(EnvelopeFields):
    """An agent ended its step."""

    data: AgentCompletedEventData
    type: Literal["agent_completed"]


class AgentCompletedEventData(TypedDict):
    agent: str
    """The agent's name."""
    elapsed_ms: int
    """How long it took."""
    models: list[ModelUse]
    """The models that it asked, in the order in which they were asked first."""
    outcome: AgentOutcome
    """How it ended."""
    output: object
    """Its result, or the error."""
    plan: NotRequired[list[PlanStep]]
    """The steps that it planned, each after those that it needs."""
    step: StepId
    """The step."""
    usage: Usage
    """What it used of models."""


AgentOutcome: TypeAlias = Literal["ok", "error", "cancelled", "skipped", "interrupted"]
"""How a step of an agent ended."""


class AgentStartedEvent(EnvelopeFields):
    """An agent begins a step."""

    data: AgentStartedEventData
    type: Literal["agent_started"]


class AgentStartedEventData(TypedDict):
    agent: str
    """The agent's name."""
    attempt: int
    """The attempt of the run that it belongs to, from 1."""
    needs: NotRequired[list[str]]
    """The agents whose results it is handed."""
    purpose: str
    """What it is to do."""
    step: StepId
    """The step."""


class AgentThinkingEvent(EnvelopeFields):
    """A whole thought or progress note."""

    data: AgentThinkingEventData
    type: Literal["agent_thinking"]


class AgentThinkingEventData(TypedDict):
    agent: str
    """The agent's name."""
    note: str
    """The thought."""
    step: StepId
    """The step."""


class AnswerRetractedEvent(EnvelopeFields):
    """What deltas of a step showed no longer holds."""

    data: AnswerRetractedEventData
    type: Literal["answer_retracted"]


class AnswerRetractedEventData(TypedDict):
    reason: str
    """Why."""
    step: StepId
    """The step."""


class Answered(TypedDict):
    """Done."""

    id: FrameId
    """The id of the frame that this answers."""


class ApprovalDecidedEvent(EnvelopeFields):
    """A decision was made."""

    data: ApprovalDecidedEventData
    type: Literal["approval_decided"]


class ApprovalDecidedEventData(TypedDict):
    approval: ApprovalId
    """Which."""
    by: NotRequired[UserId | None]
    """By whom; absent when it lapsed."""
    decision: Decision
    """What was decided."""


ApprovalId: TypeAlias = str
"""A decision that a run waits for."""


class ApprovalRequestedEvent(EnvelopeFields):
    """The run waits for a user's decision."""

    data: ApprovalRequestedEventData
    type: Literal["approval_requested"]


class ApprovalRequestedEventData(TypedDict):
    approval: ApprovalId
    """The decision."""
    arguments: object
    """The exact arguments, secrets redacted."""
    call: CallId
    """The call that it is about."""
    digest: str
    """The digest of the exact call, to be sent back with the decision."""
    expires_at: Timestamp
    """When the request lapses."""
    step: StepId
    """The step."""
    tool: str
    """The tool's name."""


ArtifactId: TypeAlias = str
"""A result that a run made."""


class Attachment(TypedDict):
    """A file that belongs to a message."""

    file: FileId
    """The file."""


class BudgetWarningEvent(EnvelopeFields):
    """Most of a budget is spent."""

    data: BudgetWarningEventData
    type: Literal["budget_warning"]


class BudgetWarningEventData(TypedDict):
    limit: object
    """How much there is."""
    scope: str
    """Whose budget: `run` or `user`."""
    used: object
    """How much is used."""


CallId: TypeAlias = str


class CatalogueStamp(TypedDict):
    """Which prices were used."""

    sha256: str
    """SHA-256 of the catalogue's bytes, of contract overrides too, in hexadecimal."""
    version: str
    """The catalogue's version."""


class ClientFrameFields(TypedDict):
    """A frame that a client sends."""

    id: FrameId
    """The client's id of the frame; the answer repeats it."""


class OfRun(TypedDict):
    """A run."""

    run: RunId
    """The run."""


class ClientCancel(ClientFrameFields, OfRun):
    """Cancel a run: `ok` when recorded."""

    frame: Literal["cancel"]


class Decide(TypedDict):
    """A decision about an approval."""

    approval: ApprovalId
    """The approval."""
    decision: Decision
    """What is decided."""
    digest: str
    """The digest of the call that the user saw."""
    run: RunId
    """The run."""


class ClientDecide(ClientFrameFields, Decide):
    """Decide an approval: `ok`, or `conflict` when it was decided before."""

    frame: Literal["decide"]


class Hello(TypedDict):
    """The fields of a `hello`, of which exactly one is there."""

    ticket: NotRequired[str | None]
    token: NotRequired[str | None]


class ClientHello(ClientFrameFields, Hello):
    """Be let in, or stay in: answered by `welcome`."""

    frame: Literal["hello"]


class NewMessage(TypedDict):
    """A message of the user's, by frame or by HTTP."""

    attachments: NotRequired[list[Attachment]]
    """Files of the user's that belong to it."""
    request_id: RequestId
    """The client's id of the message; the same message again under it is the same run."""
    text: str
    """The words."""
    thread: NotRequired[ThreadId | None]
    """The conversation; absent begins one."""


class ClientMessage(ClientFrameFields, NewMessage):
    """Start a run: answered by `accepted`; the sender is subscribed from 0."""

    frame: Literal["message"]


class Subscribe(TypedDict):
    """From where to follow a run."""

    after: NotRequired[int | None]
    """The last number that the client has applied."""
    epoch: NotRequired[Epoch | None]
    """The life of the log in which `after` was counted."""
    run: RunId
    """The run."""


class ClientSubscribe(ClientFrameFields, Subscribe):
    """Follow a run: answered by `subscribed` or `reset`."""

    frame: Literal["subscribe"]


class Since(TypedDict):
    """The last event that a client has applied; empty for one that has seen nothing."""

    after: NotRequired[int | None]
    """The last number."""
    epoch: NotRequired[Epoch | None]
    """The life of the log in which `after` was counted."""


class ClientInbox(ClientFrameFields, Since):
    """Follow the user's inbox: answered by `subscribed` or `reset`."""

    frame: Literal["inbox"]


class ClientUnsubscribe(ClientFrameFields, OfRun):
    """Stop following a run: answered by `ok`."""

    frame: Literal["unsubscribe"]


class OfStep(TypedDict):
    """A step of a run."""

    run: RunId
    """The run."""
    step: StepId
    """The step."""


class ClientStop(ClientFrameFields, OfStep):
    """Stop one step: `ok` when recorded."""

    frame: Literal["stop"]


class Ping(TypedDict):
    """A sign of life."""

    n: int
    """Any number; the answer repeats it."""


class ClientPing(ClientFrameFields, Ping):
    """See whether the server is there: answered by `pong`."""

    frame: Literal["ping"]


ClientFrame: TypeAlias = (
    ClientHello
    | ClientMessage
    | ClientSubscribe
    | ClientInbox
    | ClientUnsubscribe
    | ClientCancel
    | ClientStop
    | ClientDecide
    | ClientPing
)
"""A frame that a client sends."""

ConnectionId: TypeAlias = str
"""One client connection."""

CorrelationId: TypeAlias = str
"""Ties logs, spans, events and the client's error together."""


class DayRow(TypedDict):
    """A day's share."""

    cached_tokens: int
    """Of these, read from the provider's cache."""
    day: str
    """The day in UTC, as `2026-07-31`, or `unknown`."""
    input_tokens: int
    """Tokens sent, cached ones included."""
    output_tokens: int
    """Tokens received, reasoning included."""
    priced_cost_usd: NotRequired[Usd | None]
    """What the catalogue says that the priced requests cost; `null` where none could be priced."""
    recorded_cost_usd: NotRequired[Usd | None]
    """What the sources say that it cost; `null` where no record has a cost."""
    requests: int
    """How many requests."""
    unpriced_requests: int
    """The requests without a price."""


Decision: TypeAlias = Literal["approve", "deny"]
"""A user's answer to an approval request."""


class DeltaEvent(EnvelopeFields):
    """Volatile: a piece of streamed text."""

    data: DeltaEventData
    type: Literal["delta"]


class DeltaEventData(TypedDict):
    offset: int
    """Where the piece begins in the step's text, in bytes."""
    step: StepId
    """The step."""
    text: str
    """The piece."""


class Draining(TypedDict):
    """This node shuts down soon: resume elsewhere after `after_ms` and a random part of `jitter_ms`."""

    after_ms: int
    """How long to wait at least."""
    jitter_ms: int
    """How much more at most."""


Effort: TypeAlias = Literal["small", "medium", "large"]
"""How much work an action is."""


class RunStartedEvent(EnvelopeFields):
    """A run is on record."""

    data: RunStartedEventData
    type: Literal["run_started"]


class ToolExecutingEvent(EnvelopeFields):
    """A tool is called."""

    data: ToolExecutingEventData
    type: Literal["tool_executing"]


class ToolCompletedEvent(EnvelopeFields):
    """A tool call ended."""

    data: ToolCompletedEventData
    type: Literal["tool_completed"]


class RunResumedEvent(EnvelopeFields):
    """The run goes on after its node was lost."""

    data: RunResumedEventData
    type: Literal["run_resumed"]


class RunCompletedEvent(EnvelopeFields):
    """The run ended with a result. Terminal."""

    data: RunCompletedEventData
    type: Literal["run_completed"]


class RunFailedEvent(EnvelopeFields):
    """The run ended with an error. Terminal."""

    data: RunFailedEventData
    type: Literal["run_failed"]


class RunCancelledEvent(EnvelopeFields):
    """The run was cancelled. Terminal."""

    data: RunCancelledEventData
    type: Literal["run_cancelled"]


class ProgressEvent(EnvelopeFields):
    """Volatile: how far a long piece of work is."""

    data: ProgressEventData
    type: Literal["progress"]


Envelope: TypeAlias = (
    RunStartedEvent
    | AgentStartedEvent
    | AgentThinkingEvent
    | ToolExecutingEvent
    | ToolCompletedEvent
    | AgentCompletedEvent
    | RunResumedEvent
    | ApprovalRequestedEvent
    | ApprovalDecidedEvent
    | BudgetWarningEvent
    | AnswerRetractedEvent
    | RunCompletedEvent
    | RunFailedEvent
    | RunCancelledEvent
    | DeltaEvent
    | ProgressEvent
)
"""An event with its place: `(run, epoch, seq)` names it for ever."""

Epoch: TypeAlias = str
"""One life of a log: a log that lost a part goes on under a new epoch."""


class ErrorFrame(TypedDict):
    """Not done, and why."""

    code: str
    """The stable code of the catalogue."""
    correlation: NotRequired[CorrelationId | None]
    """Leads to the log."""
    id: NotRequired[FrameId | None]
    """The id of the frame that this answers, where it could be read. For a `subscribe` or `message` that was
    answered before, the end of what followed it."""
    message: str
    """What is wrong and what to do."""
    retry_after_ms: NotRequired[int | None]
    """How long to wait, in milliseconds, where that is known."""
    retryable: bool
    """Whether the same call may help later."""


class ErrorReport(TypedDict):
    """An error as it travels: in `error` frames, HTTP bodies and `run_failed` events."""

    code: str
    """The stable code of the catalogue."""
    correlation: NotRequired[CorrelationId | None]
    """Leads to the log."""
    message: str
    """What is wrong and what to do."""
    retry_after_ms: NotRequired[int | None]
    """How long to wait, in milliseconds, where that is known."""
    retryable: bool
    """Whether the same call may help later."""


class EventFrame(TypedDict):
    """An envelope as a client reads it: also one of a type that it does not know."""

    at: Timestamp
    """When it happened."""
    data: object
    """Its fields."""
    epoch: Epoch
    """The life of the log."""
    parent: NotRequired[RunId | None]
    """The run that started this one."""
    run: RunId
    """The run."""
    seq: NotRequired[int | None]
    """The place in the log; volatile events have none."""
    thread: ThreadId
    """Its conversation."""
    type: str
    """What happened."""
    v: int
    """The version, 1."""


EvidenceLevel: TypeAlias = Literal["measured", "estimated", "ceiling"]
"""What stands behind a saving."""


class Example(TypedDict):
    """A record that a finding is about."""

    file: str
    """The file."""
    line: int
    """The line at which the record starts."""
    note: str
    """What is remarkable there."""


class Expiring(TypedDict):
    """The credential runs out soon: a `hello` with a fresh one of the same user goes on."""

    at: Timestamp
    """When."""


FileId: TypeAlias = str
"""A file that a user uploaded."""


class Finding(TypedDict):
    """Something that the reader must know about the records."""

    amount_usd: NotRequired[Usd | None]
    """How much money it is about, where that is known."""
    evidence: str
    """The figures behind it, in words."""
    examples: list[Example]
    """Some of the records, so that they can be looked at."""
    kind: str
    """A stable name, such as `cost_outlier` or `unpriced`."""
    requests: int
    """How many requests it is about."""
    severity: Severity
    """How grave it is."""
    title: str
    """It in a sentence."""


FrameId: TypeAlias = int | str
"""A client's own id of a frame; the answer repeats it."""


class GraphApproval(TypedDict):
    """A decision that a call needed."""

    approval: ApprovalId
    """Which."""
    decision: NotRequired[Decision | None]
    """What was decided; absent while nothing is."""
    lapsed: bool
    """Whether nobody decided in time."""


class GraphCall(TypedDict):
    """A call of a tool."""

    approval: NotRequired[GraphApproval | None]
    """The decision that it needed, if it needed one."""
    began_at: NotRequired[Timestamp | None]
    """When it was made; absent while it was not."""
    call: CallId
    """The call."""
    elapsed_ms: NotRequired[int | None]
    """How long it took; absent while it has not ended."""
    outcome: NotRequired[ToolOutcome | None]
    """How it ended; absent while it has not, and where it was never made."""
    step: StepId
    """The try of its step that asked for it."""
    tool: str
    """The tool."""


class GraphStep(TypedDict):
    """A step of a run: what was planned, and what came of it."""

    agent: str
    """The agent; a plan has each at most once."""
    began_at: NotRequired[Timestamp | None]
    """When it was begun the last time."""
    calls: list[GraphCall]
    """Its calls of tools, over all tries, in the order in which they were asked for."""
    elapsed_ms: NotRequired[int | None]
    """How long its last try took; absent while it has not ended."""
    models: list[ModelUse]
    """That by model."""
    needs: list[str]
    """The agents whose results it is handed."""
    optional: bool
    """Whether the run goes on without it when it fails."""
    planned_by: NotRequired[str | None]
    """The agent that planned it; absent for the one that the run began with."""
    purpose: str
    """What it is to do."""
    state: StepState
    """How far it is."""
    tries: list[StepId]
    """The step's ids, one for each time that it was begun: after its node was lost it begins anew."""
    usage: Usage
    """What it used of models, over all tries that have ended."""


class Headline(TypedDict):
    """The savings together: the sum over the waterfall's steps inside the headline."""

    of_priced_cost_usd: NotRequired[Usd | None]
    """The priced cost that it is a part of; `null` where nothing is priced."""
    saving_usd: Saving
    """The saving; recommendations without quality evidence and advice against are left out."""


class InboxFrame(TypedDict):
    """An entry of the user's inbox."""

    at: Timestamp
    """When."""
    epoch: Epoch
    """The life of the inbox."""
    run: RunId
    """The run."""
    seq: int
    """The place in the inbox, from 1 without holes."""
    state: RunState
    """The state that it came to."""
    thread: ThreadId
    """Its conversation."""


class Limits(TypedDict):
    """What a server allows, as told to clients."""

    connections: int
    """Connections of one user, over all nodes."""
    file_bytes: int
    """The largest file, in bytes."""
    frame_bytes: int
    """The largest frame of a client's, in bytes."""
    frames_burst: int
    """Frames that a client may send at once."""
    frames_per_s: int
    """Frames that a client may send a second."""
    outbound_bytes: int
    """Bytes that may wait to be read by a client before the server stops reading for it."""
    outbound_ms: int
    """How long one of them may wait, in milliseconds."""
    queued_runs: int
    """Runs of one user that wait for a place."""
    running_runs: int
    """Runs of one user at work."""
    subscriptions: int
    """Runs that one connection may follow."""
    unused_tickets: int
    """Tickets of one user that may be unused."""


class ModelRow(TypedDict):
    """A model's share."""

    cached_tokens: int
    """Of these, read from the provider's cache."""
    input_tokens: int
    """Tokens sent, cached ones included."""
    model: str
    """The model as the source names it."""
    output_tokens: int
    """Tokens received, reasoning included."""
    priced_cost_usd: NotRequired[Usd | None]
    """What the catalogue says that the priced requests cost; `null` where none could be priced."""
    recorded_cost_usd: NotRequired[Usd | None]
    """What the sources say that it cost; `null` where no record has a cost."""
    requests: int
    """How many requests."""
    unpriced_requests: int
    """The requests without a price."""


class ModelUse(TypedDict):
    """What a step used of one model."""

    answers: int
    """How often its answer was the one."""
    attempts: int
    """How often it was asked."""
    model: str
    """The model, as it was asked for."""
    provider: str
    """The provider."""
    usage: Usage
    """What that used and cost, answers that broke off included."""


class OpenApproval(TypedDict):
    """A call in a snapshot that waits for a decision."""

    approval: ApprovalId
    """The decision."""
    arguments: object
    """The exact arguments, secrets redacted."""
    call: CallId
    """The call that it is about."""
    digest: str
    """The digest of the exact call, to be sent back with the decision."""
    expires_at: Timestamp
    """When the request lapses."""
    step: StepId
    """The step."""
    tool: str
    """The tool's name."""


class OpenCall(TypedDict):
    """An open tool call in a snapshot."""

    call: CallId
    """The call."""
    step: StepId
    """The step."""
    tool: str
    """The tool's name."""


class Payload(TypedDict):
    """A value kept outside the event because of its size."""

    artifact: ArtifactId
    """Where to fetch it."""
    bytes: int
    """Its size."""
    name: str
    """Its file name."""
    sha256: str
    """Its digest, hexadecimal."""


Period = TypedDict(
    "Period",
    {
        "from": "NotRequired[Timestamp | None]",
        "to": "NotRequired[Timestamp | None]",
    },
)
"""The time that the requests span."""


class PlanStep(TypedDict):
    """A step of a plan: one agent's work."""

    agent: str
    """The agent."""
    needs: list[str]
    """The agents whose results it is handed."""
    optional: bool
    """Whether the run goes on without it when it fails; then those that need it find its field absent."""
    purpose: str
    """What it is to do here; empty for the agent's own purpose."""


class Pong(TypedDict):
    """The answer to a `ping`."""

    id: FrameId
    """The id of the `ping`."""
    n: int
    """Its number."""


class ProgressEventData(TypedDict):
    done: int
    """How much is done."""
    step: StepId
    """The step."""
    total: NotRequired[int | None]
    """How much there is, where that is known."""
    unit: str
    """What is counted, such as `bytes` or `rows`."""


class Recommendation(TypedDict):
    """A lever and what it would save."""

    advice: Advice
    """Whether to."""
    evidence: str
    """The figures behind it, in words."""
    evidence_level: EvidenceLevel
    """What stands behind the figures."""
    lever: str
    """The lever's stable name, such as `batch`."""
    requests: int
    """How many requests: those behind the expected saving, or behind the highest where nothing is expected."""
    risk: str
    """What can go wrong."""
    saving_usd: Saving
    """What it saves of what the levers before it left."""
    scope: str
    """Which requests it is about."""
    title: str
    """What to do, or not, in a sentence."""
    verify: str
    """How to see that it worked."""


class Rejection(TypedDict):
    """A place in a file and what is wrong there."""

    line: int
    """The line (the first is 1) at which the record starts."""
    reason: str
    """What is wrong."""


class Report(TypedDict):
    """A whole report. `report.json` is its serialisation."""

    actions: list[Action]
    """The recommendations as an ordered plan."""
    by_day: list[DayRow]
    """By day (UTC), in order; requests without a time come last, as `unknown`."""
    by_model: list[ModelRow]
    """By model as the source names it, dearest first."""
    by_user: list[UserRow]
    """By user, dearest first; empty where no source names users."""
    catalogue: CatalogueStamp
    """The price catalogue that was used."""
    findings: list[Finding]
    """What the reader must know, the gravest first."""
    headline: Headline
    """What could be saved together, of the requests that have a price."""
    period: Period
    """The first and last moment of the requests that have a time."""
    recommendations: list[Recommendation]
    """What to do, and what not to, in the order of the waterfall."""
    schema: str
    """Always [`SCHEMA`]."""
    sources: list[Source]
    """The files that were read, in the order in which they were given."""
    totals: Totals
    """All imported requests together."""
    waterfall: Waterfall
    """How the savings follow from each other: each lever is applied to what the levers before it left."""


RequestId: TypeAlias = str
"""The client's own id of a message; makes sending it again harmless."""


class ResetFrame(TypedDict):
    """What follows a position cannot be given; the next number is `head + 1`."""

    epoch: Epoch
    """The life of the log from here on."""
    head: int
    """The last number that this covers."""
    id: NotRequired[FrameId | None]
    """The id of the frame that this answers; absent when the subscription was under way."""
    reason: ResetReason
    """Why."""
    run: NotRequired[RunId | None]
    """The run; absent for the inbox."""
    snapshot: NotRequired[Snapshot | None]
    """Where the run stands; absent for the inbox."""


ResetReason: TypeAlias = Literal["trimmed", "epoch"]
"""Why a reader cannot simply go on."""


class RunBudget(TypedDict):
    """What one run may use, all of its agents together."""

    seconds: int
    """Time at work, over all attempts, in seconds."""
    steps: int
    """Steps, over all attempts."""
    tokens: NotRequired[int | None]
    """Tokens of models, sent and received; absent for no limit."""
    usd: NotRequired[Usd | None]
    """What models cost; absent for no limit."""


class RunCancelledEventData(TypedDict):
    by: UserId
    """Who cancelled."""
    elapsed_ms: int
    """How long it took, waiting included."""
    usage: Usage
    """What it used of models."""


class RunCompletedEventData(TypedDict):
    degraded: list[str]
    """What could not be done in full, and why."""
    elapsed_ms: int
    """How long it took, waiting included."""
    result: RunResult
    """The result."""
    usage: Usage
    """What it used of models."""


class RunFailedEventData(TypedDict):
    elapsed_ms: int
    """How long it took, waiting included."""
    error: ErrorReport
    """What went wrong."""
    usage: Usage
    """What it used of models."""


class RunGraph(TypedDict):
    """A run's plan, step by step, and what came of each: who needs whose result, how long it took, what it cost, how
    often it was begun, and the calls of tools beneath it. It holds no word of what was asked, called or answered but
    thepurposes of the steps."""

    attempt: int
    """Which attempt was the last, from 1."""
    budget: NotRequired[RunBudget | None]
    """What it may use, where its log still says so."""
    elapsed_ms: NotRequired[int | None]
    """How long it took, waiting included; absent while it has not ended."""
    run: RunId
    """The run."""
    started_at: Timestamp
    """When it was put on record."""
    state: RunState
    """Its state."""
    steps: list[GraphStep]
    """The steps: those that began in the order in which they did, and those that are planned."""
    thread: ThreadId
    """Its conversation."""
    trimmed: bool
    """Whether a part of its log is no longer kept: then what was there only is missing here."""
    usage: Usage
    """What it used of models: of the run when it has ended, of the steps that have ended before."""
    v: int
    """The version of this shape, 1."""


RunId: TypeAlias = str
"""One run: a message and everything that agents do about it."""


class RunResult(TypedDict):
    """What a completed run gives the user."""

    artifacts: list[Payload]
    """Documents that belong to it."""
    status: RunStatus
    """Whether the question is answered."""
    text: str
    """The answer, as Markdown."""


class RunResumedEventData(TypedDict):
    attempt: int
    """The attempt, from 2."""
    from_step: NotRequired[StepId | None]
    """The step that begins again."""


class RunStartedEventData(TypedDict):
    agents: list[str]
    """The agents that the run may use."""
    budget: NotRequired[RunBudget | None]
    """What it may use."""
    request_id: RequestId
    """The client's id of the message."""
    state: RunState
    """Queued or running."""
    trace: NotRequired[TraceParent | None]
    """The place in a trace from which it was asked for."""


RunState: TypeAlias = Literal[
    "queued",
    "running",
    "waiting",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
]
"""Where a run is in its life."""

RunStatus: TypeAlias = Literal["answered", "insufficient_data"]
"""Whether a completed run could answer."""


class Saving(TypedDict):
    """A saving in dollars over the report's period, under three readings of the records."""

    expected: Usd
    """What is likely."""
    high: Usd
    """What is possible at most."""
    low: Usd
    """What is certain."""


class ServerAccepted(AcceptedFrame):
    """A message is on record."""

    frame: Literal["accepted"]


class ServerDraining(Draining):
    """This node shuts down soon."""

    frame: Literal["draining"]


class ServerError(ErrorFrame):
    """Not done, and why."""

    frame: Literal["error"]


class ServerEvent(EventFrame):
    """Something happened in a run."""

    frame: Literal["event"]


class ServerExpiring(Expiring):
    """The credential runs out soon."""

    frame: Literal["expiring"]


class Welcome(TypedDict):
    """The client is in."""

    connection: ConnectionId
    """The connection."""
    expires_at: Timestamp
    """When the credential runs out."""
    heartbeat_s: int
    """After this many seconds of silence a client sends a `ping`."""
    id: NotRequired[FrameId | None]
    """The id of the `hello` that this answers; absent when the client came in with its upgrade request."""
    limits: Limits
    """What this server allows."""
    user: UserId
    """Who came in."""


class ServerWelcome(Welcome):
    """The client is in."""

    frame: Literal["welcome"]


class Subscribed(TypedDict):
    """A run, or without `run` the inbox, is followed: what comes after the position that was asked for follows."""

    epoch: Epoch
    """The life of the log."""
    head: int
    """The last number at this moment; 0 for none."""
    id: FrameId
    """The id of the `subscribe` or `inbox`."""
    oldest: int
    """The oldest number that is still there; `head + 1` when none is."""
    recovered: bool
    """Whether the rest after the position is complete; where it is not, `reset` is the answer instead."""
    run: NotRequired[RunId | None]
    """The run; absent for the inbox."""
    state: NotRequired[RunState | None]
    """The run's state; absent for the inbox."""


class ServerSubscribed(Subscribed):
    """A run or the inbox is followed."""

    frame: Literal["subscribed"]


class ServerOk(Answered):
    """Done."""

    frame: Literal["ok"]


class ServerInbox(InboxFrame):
    """Something happened among the user's runs."""

    frame: Literal["inbox"]


class ServerReset(ResetFrame):
    """What follows a position cannot be given; this is where things stand."""

    frame: Literal["reset"]


class ServerPong(Pong):
    """The answer to a `ping`."""

    frame: Literal["pong"]


ServerFrame: TypeAlias = (
    ServerWelcome
    | ServerAccepted
    | ServerSubscribed
    | ServerOk
    | ServerError
    | ServerEvent
    | ServerInbox
    | ServerReset
    | ServerExpiring
    | ServerDraining
    | ServerPong
)
"""A frame that the server sends."""

Severity: TypeAlias = Literal["critical", "warning", "info"]
"""How grave a finding is."""


class Snapshot(TypedDict):
    """Where a run stands: what is left of its events when their detail is trimmed, and what a `reset` brings a
    client."""

    approvals: NotRequired[list[OpenApproval]]
    """The calls that wait for a decision, oldest first."""
    open_calls: list[OpenCall]
    """Tool calls that have begun and not ended."""
    result: NotRequired[RunResult | None]
    """The result, when it has one."""
    state: RunState
    """The run's state."""
    steps: list[StepView]
    """Its steps, oldest first."""


class Source(TypedDict):
    """A file that was read. `rows = imported + rejected_rows`, always."""

    bytes: int
    """Its size as it is stored, before decompression; 0 where it was refused."""
    columns: list[str]
    """Which column gave what, as `field=column`."""
    file: str
    """Its name, as given."""
    format: str
    """What it was taken for, such as `csv` or `jsonl+gzip`; `unknown` where it was refused unread."""
    imported: int
    """The records that count in this report."""
    refused: NotRequired[Rejection | None]
    """Why the file as a whole was refused or left before its end."""
    rejected: list[Rejection]
    """Why, for the first thousand of them."""
    rejected_rows: int
    """The records that do not."""
    rows: int
    """The records seen: CSV records after the header, or JSON lines that are not blank."""


class Step(TypedDict):
    """A step of the waterfall."""

    in_headline: bool
    """Whether it counts in the headline."""
    left_usd: Usd
    """What is left of the expected cost after it; unchanged by a step outside the headline."""
    lever: str
    """The lever."""
    saving_usd: Saving
    """What it saves of what the steps before left."""


StepId: TypeAlias = str

StepState: TypeAlias = Literal[
    "planned",
    "running",
    "waiting",
    "ok",
    "error",
    "cancelled",
    "skipped",
    "interrupted",
]
"""How far a step is."""


class StepView(TypedDict):
    """A step in a snapshot."""

    agent: str
    """The agent's name."""
    outcome: NotRequired[AgentOutcome | None]
    """How it ended; absent while it has not."""
    step: StepId
    """The step."""


ThreadId: TypeAlias = str
"""A conversation; its runs follow one another."""

Timestamp: TypeAlias = str


class ToolCompletedEventData(TypedDict):
    agent: str
    """The agent's name."""
    call: CallId
    """The call."""
    elapsed_ms: int
    """How long it took."""
    outcome: ToolOutcome
    """How it ended."""
    step: StepId
    """The step."""
    summary: str
    """What came of it, in a sentence."""
    tool: str
    """The tool's name."""


class ToolExecutingEventData(TypedDict):
    agent: str
    """The agent's name."""
    arguments: object
    """Its arguments, secrets redacted."""
    call: CallId
    """The call."""
    step: StepId
    """The step."""
    tool: str
    """The tool's name."""


ToolOutcome: TypeAlias = Literal["ok", "error", "timeout", "cancelled", "interrupted"]
"""How a tool call ended."""


class Totals(TypedDict):
    """What a set of requests used and cost."""

    cached_tokens: int
    """Of these, read from the provider's cache."""
    input_tokens: int
    """Tokens sent, cached ones included."""
    output_tokens: int
    """Tokens received, reasoning included."""
    priced_cost_usd: NotRequired[Usd | None]
    """What the catalogue says that the priced requests cost; `null` where none could be priced."""
    recorded_cost_usd: NotRequired[Usd | None]
    """What the sources say that it cost; `null` where no record has a cost."""
    requests: int
    """How many requests."""
    unpriced_requests: int
    """The requests without a price."""


TraceParent: TypeAlias = str
"""A place in a trace, as the header `traceparent` of W3C Trace Context has it"""


class Usage(TypedDict):
    """Tokens and their price, as events, reports and budgets count them."""

    cached_tokens: int
    """Of the tokens sent, those that the provider read from its cache."""
    cost_usd: NotRequired[Usd | None]
    """The price; `None` where any part of it is unpriced, zero only where nothing was used."""
    input_tokens: int
    """Tokens sent, cached ones included."""
    output_tokens: int
    """Tokens received, reasoning included."""
    reasoning_tokens: int
    """Of the tokens received, those spent on reasoning."""


Usd: TypeAlias = str
"""US dollars as an exact decimal"""

UserId: TypeAlias = str
"""A user, made when an account is made."""


class UserRow(TypedDict):
    """A user's share."""

    cached_tokens: int
    """Of these, read from the provider's cache."""
    input_tokens: int
    """Tokens sent, cached ones included."""
    output_tokens: int
    """Tokens received, reasoning included."""
    priced_cost_usd: NotRequired[Usd | None]
    """What the catalogue says that the priced requests cost; `null` where none could be priced."""
    recorded_cost_usd: NotRequired[Usd | None]
    """What the sources say that it cost; `null` where no record has a cost."""
    requests: int
    """How many requests."""
    unpriced_requests: int
    """The requests without a price."""
    user: str
    """The user as the source names them."""


class Waterfall(TypedDict):
    """How the savings follow from each other."""

    end_usd: Usd
    """What is left after the expected savings inside the headline."""
    start_usd: Usd
    """The priced cost before any lever."""
    steps: list[Step]
    """The levers in the order of their application."""
