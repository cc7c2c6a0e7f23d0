// Made from the schema of the wire and of reports; the tests say how it is made anew.

/** A message is on record. */
export interface AcceptedFrame {
  /** The id of the `message`. */
  id: FrameId;
  /** The client's id of the message. */
  request_id: RequestId;
  /** The run. */
  run: RunId;
  /** The conversation. */
  thread: ThreadId;
}

/** A step of the action plan. */
export interface Action {
  /** How much work it is. */
  effort: Effort;
  /** Its place in the plan, from 1. */
  order: number;
  /** Where. */
  place: string;
  /** What can go wrong. */
  risk: string;
  /** How to undo it. */
  roll_back: string;
  /** The expected saving; `null` where the step is there for certainty, not for money. */
  saving_usd?: Usd | null;
  /** How to see that it worked. */
  verify: string;
  /** What to do. */
  what: string;
}

/** What a recommendation says. */
export type Advice = "do" | "try" | "do_not";

/** An agent ended its step. */
export interface AgentCompletedEvent extends EnvelopeFields {
  data: AgentCompletedEventData;
  type: "agent_completed";
}

export interface AgentCompletedEventData {
  /** The agent's name. */
  agent: string;
  /** How long it took. */
  elapsed_ms: number;
  /** The models that it asked, in the order in which they were asked first. */
  models: (ModelUse)[];
  /** How it ended. */
  outcome: AgentOutcome;
  /** Its result, or the error. */
  output: unknown;
  /** The steps that it planned, each after those that it needs. */
  plan?: (PlanStep)[];
  /** The step. */
  step: StepId;
  /** What it used of models. */
  usage: Usage;
}

/** How a step of an agent ended. */
export type AgentOutcome = "ok" | "error" | "cancelled" | "skipped" | "interrupted";

/** An agent begins a step. */
export interface AgentStartedEvent extends EnvelopeFields {
  data: AgentStartedEventData;
  type: "agent_started";
}

export interface AgentStartedEventData {
  /** The agent's name. */
  agent: string;
  /** The attempt of the run that it belongs to, from 1. */
  attempt: number;
  /** The agents whose results it is handed. */
  needs?: string[];
  /** What it is to do. */
  purpose: string;
  /** The step. */
  step: StepId;
}

/** A whole thought or progress note. */
export interface AgentThinkingEvent extends EnvelopeFields {
  data: AgentThinkingEventData;
  type: "agent_thinking";
}

export interface AgentThinkingEventData {
  /** The agent's name. */
  agent: string;
  /** The thought. */
  note: string;
  /** The step. */
  step: StepId;
}

/** What deltas of a step showed no longer holds. */
export interface AnswerRetractedEvent extends EnvelopeFields {
  data: AnswerRetractedEventData;
  type: "answer_retracted";
}

export interface AnswerRetractedEventData {
  /** Why. */
  reason: string;
  /** The step. */
  step: StepId;
}

/** Done. */
export interface Answered {
  /** The id of the frame that this answers. */
  id: FrameId;
}

/** A decision was made. */
export interface ApprovalDecidedEvent extends EnvelopeFields {
  data: ApprovalDecidedEventData;
  type: "approval_decided";
}

export interface ApprovalDecidedEventData {
  /** Which. */
  approval: ApprovalId;
  /** By whom; absent when it lapsed. */
  by?: UserId | null;
  /** What was decided. */
  decision: Decision;
}

/** A decision that a run waits for. */
export type ApprovalId = string;

/** The run waits for a user's decision. */
export interface ApprovalRequestedEvent extends EnvelopeFields {
  data: ApprovalRequestedEventData;
  type: "approval_requested";
}

export interface ApprovalRequestedEventData {
  /** The decision. */
  approval: ApprovalId;
  /** The exact arguments, secrets redacted. */
  arguments: unknown;
  /** The call that it is about. */
  call: CallId;
  /** The digest of the exact call, to be sent back with the decision. */
  digest: string;
  /** When the request lapses. */
  expires_at: Timestamp;
  /** The step. */
  step: StepId;
  /** The tool's name. */
  tool: string;
}

/** A result that a run made. */
export type ArtifactId = string;

/** A file that belongs to a message. */
export interface Attachment {
  /** The file. */
  file: FileId;
}

/** Most of a budget is spent. */
export interface BudgetWarningEvent extends EnvelopeFields {
  data: BudgetWarningEventData;
  type: "budget_warning";
}

export interface BudgetWarningEventData {
  /** How much there is. */
  limit: unknown;
  /** Whose budget: `run` or `user`. */
  scope: string;
  /** How much is used. */
  used: unknown;
}

export type CallId = string;

/** Which prices were used. */
export interface CatalogueStamp {
  /** SHA-256 of the catalogue's bytes, of contract overrides too, in hexadecimal. */
  sha256: string;
  /** The catalogue's version. */
  version: string;
}

/** Cancel a run: `ok` when recorded. */
export interface ClientCancel extends ClientFrameFields, OfRun {
  frame: "cancel";
}

/** Decide an approval: `ok`, or `conflict` when it was decided before. */
export interface ClientDecide extends ClientFrameFields, Decide {
  frame: "decide";
}

/** A frame that a client sends. */
export type ClientFrame = ClientHello | ClientMessage | ClientSubscribe | ClientInbox | ClientUnsubscribe | ClientCancel | ClientStop | ClientDecide | ClientPing;

/** A frame that a client sends. */
export interface ClientFrameFields {
  /** The client's id of the frame; the answer repeats it. */
  id: FrameId;
}

/** Be let in, or stay in: answered by `welcome`. */
export interface ClientHello extends ClientFrameFields, Hello {
  frame: "hello";
}

/** Follow the user's inbox: answered by `subscribed` or `reset`. */
export interface ClientInbox extends ClientFrameFields, Since {
  frame: "inbox";
}

/** Start a run: answered by `accepted`; the sender is subscribed from 0. */
export interface ClientMessage extends ClientFrameFields, NewMessage {
  frame: "message";
}

/** See whether the server is there: answered by `pong`. */
export interface ClientPing extends ClientFrameFields, Ping {
  frame: "ping";
}

/** Stop one step: `ok` when recorded. */
export interface ClientStop extends ClientFrameFields, OfStep {
  frame: "stop";
}

/** Follow a run: answered by `subscribed` or `reset`. */
export interface ClientSubscribe extends ClientFrameFields, Subscribe {
  frame: "subscribe";
}

/** Stop following a run: answered by `ok`. */
export interface ClientUnsubscribe extends ClientFrameFields, OfRun {
  frame: "unsubscribe";
}

/** One client connection. */
export type ConnectionId = string;

/** Ties logs, spans, events and the client's error together. */
export type CorrelationId = string;

/** A day's share. */
export interface DayRow {
  /** Of these, read from the provider's cache. */
  cached_tokens: number;
  /** The day in UTC, as `2026-07-31`, or `unknown`. */
  day: string;
  /** Tokens sent, cached ones included. */
  input_tokens: number;
  /** Tokens received, reasoning included. */
  output_tokens: number;
  /** What the catalogue says that the priced requests cost; `null` where none could be priced. */
  priced_cost_usd?: Usd | null;
  /** What the sources say that it cost; `null` where no record has a cost. */
  recorded_cost_usd?: Usd | null;
  /** How many requests. */
  requests: number;
  /** The requests without a price. */
  unpriced_requests: number;
}

/** A decision about an approval. */
export interface Decide {
  /** The approval. */
  approval: ApprovalId;
  /** What is decided. */
  decision: Decision;
  /** The digest of the call that the user saw. */
  digest: string;
  /** The run. */
  run: RunId;
}

/** A user's answer to an approval request. */
export type Decision = "approve" | "deny";

/** Volatile: a piece of streamed text. */
export interface DeltaEvent extends EnvelopeFields {
  data: DeltaEventData;
  type: "delta";
}

export interface DeltaEventData {
  /** Where the piece begins in the step's text, in bytes. */
  offset: number;
  /** The step. */
  step: StepId;
  /** The piece. */
  text: string;
}

/** This node shuts down soon: resume elsewhere after `after_ms` and a random part of `jitter_ms`. */
export interface Draining {
  /** How long to wait at least. */
  after_ms: number;
  /** How much more at most. */
  jitter_ms: number;
}

/** How much work an action is. */
export type Effort = "small" | "medium" | "large";

/** An event with its place: `(run, epoch, seq)` names it for ever. */
export type Envelope = RunStartedEvent | AgentStartedEvent | AgentThinkingEvent | ToolExecutingEvent | ToolCompletedEvent | AgentCompletedEvent | RunResumedEvent | ApprovalRequestedEvent | ApprovalDecidedEvent | BudgetWarningEvent | AnswerRetractedEvent | RunCompletedEvent | RunFailedEvent | RunCancelledEvent | DeltaEvent | ProgressEvent;

/** An event with its place: `(run, epoch, seq)` names it for ever. */
export interface EnvelopeFields {
  /** When it happened. */
  at: Timestamp;
  /** The life of the log. */
  epoch: Epoch;
  /** The run that started this one, if any. */
  parent?: RunId | null;
  /** The run. */
  run: RunId;
  /** The place in the log, from 1 without holes; volatile events have none. */
  seq?: number | null;
  /** The conversation that the run belongs to. */
  thread: ThreadId;
  /** The version, 1. */
  v: number;
}

/** One life of a log: a log that lost a part goes on under a new epoch. */
export type Epoch = string;

/** Not done, and why. */
export interface ErrorFrame {
  /** The stable code of the catalogue. */
  code: string;
  /** Leads to the log. */
  correlation?: CorrelationId | null;
  /** The id of the frame that this answers, where it could be read. For a `subscribe` or `message` that was
   * answered before, the end of what followed it. */
  id?: FrameId | null;
  /** What is wrong and what to do. */
  message: string;
  /** How long to wait, in milliseconds, where that is known. */
  retry_after_ms?: number | null;
  /** Whether the same call may help later. */
  retryable: boolean;
}

/** An error as it travels: in `error` frames, HTTP bodies and `run_failed` events. */
export interface ErrorReport {
  /** The stable code of the catalogue. */
  code: string;
  /** Leads to the log. */
  correlation?: CorrelationId | null;
  /** What is wrong and what to do. */
  message: string;
  /** How long to wait, in milliseconds, where that is known. */
  retry_after_ms?: number | null;
  /** Whether the same call may help later. */
  retryable: boolean;
}

/** An envelope as a client reads it: also one of a type that it does not know. */
export interface EventFrame {
  /** When it happened. */
  at: Timestamp;
  /** Its fields. */
  data: unknown;
  /** The life of the log. */
  epoch: Epoch;
  /** The run that started this one. */
  parent?: RunId | null;
  /** The run. */
  run: RunId;
  /** The place in the log; volatile events have none. */
  seq?: number | null;
  /** Its conversation. */
  thread: ThreadId;
  /** What happened. */
  type: string;
  /** The version, 1. */
  v: number;
}

/** What stands behind a saving. */
export type EvidenceLevel = "measured" | "estimated" | "ceiling";

/** A record that a finding is about. */
export interface Example {
  /** The file. */
  file: string;
  /** The line at which the record starts. */
  line: number;
  /** What is remarkable there. */
  note: string;
}

/** The credential runs out soon: a `hello` with a fresh one of the same user goes on. */
export interface Expiring {
  /** When. */
  at: Timestamp;
}

/** A file that a user uploaded. */
export type FileId = string;

/** Something that the reader must know about the records. */
export interface Finding {
  /** How much money it is about, where that is known. */
  amount_usd?: Usd | null;
  /** The figures behind it, in words. */
  evidence: string;
  /** Some of the records, so that they can be looked at. */
  examples: (Example)[];
  /** A stable name, such as `cost_outlier` or `unpriced`. */
  kind: string;
  /** How many requests it is about. */
  requests: number;
  /** How grave it is. */
  severity: Severity;
  /** It in a sentence. */
  title: string;
}

/** A client's own id of a frame; the answer repeats it. */
export type FrameId = number | string;

/** A decision that a call needed. */
export interface GraphApproval {
  /** Which. */
  approval: ApprovalId;
  /** What was decided; absent while nothing is. */
  decision?: Decision | null;
  /** Whether nobody decided in time. */
  lapsed: boolean;
}

/** A call of a tool. */
export interface GraphCall {
  /** The decision that it needed, if it needed one. */
  approval?: GraphApproval | null;
  /** When it was made; absent while it was not. */
  began_at?: Timestamp | null;
  /** The call. */
  call: CallId;
  /** How long it took; absent while it has not ended. */
  elapsed_ms?: number | null;
  /** How it ended; absent while it has not, and where it was never made. */
  outcome?: ToolOutcome | null;
  /** The try of its step that asked for it. */
  step: StepId;
  /** The tool. */
  tool: string;
}

/** A step of a run: what was planned, and what came of it. */
export interface GraphStep {
  /** The agent; a plan has each at most once. */
  agent: string;
  /** When it was begun the last time. */
  began_at?: Timestamp | null;
  /** Its calls of tools, over all tries, in the order in which they were asked for. */
  calls: (GraphCall)[];
  /** How long its last try took; absent while it has not ended. */
  elapsed_ms?: number | null;
  /** That by model. */
  models: (ModelUse)[];
  /** The agents whose results it is handed. */
  needs: string[];
  /** Whether the run goes on without it when it fails. */
  optional: boolean;
  /** The agent that planned it; absent for the one that the run began with. */
  planned_by?: string | null;
  /** What it is to do. */
  purpose: string;
  /** How far it is. */
  state: StepState;
  /** The step's ids, one for each time that it was begun: after its node was lost it begins anew. */
  tries: (StepId)[];
  /** What it used of models, over all tries that have ended. */
  usage: Usage;
}

/** The savings together: the sum over the waterfall's steps inside the headline. */
export interface Headline {
  /** The priced cost that it is a part of; `null` where nothing is priced. */
  of_priced_cost_usd?: Usd | null;
  /** The saving; recommendations without quality evidence and advice against are left out. */
  saving_usd: Saving;
}

/** The fields of a `hello`, of which exactly one is there. */
export interface Hello {
  ticket?: string | null;
  token?: string | null;
}

/** An entry of the user's inbox. */
export interface InboxFrame {
  /** When. */
  at: Timestamp;
  /** The life of the inbox. */
  epoch: Epoch;
  /** The run. */
  run: RunId;
  /** The place in the inbox, from 1 without holes. */
  seq: number;
  /** The state that it came to. */
  state: RunState;
  /** Its conversation. */
  thread: ThreadId;
}

/** What a server allows, as told to clients. */
export interface Limits {
  /** Connections of one user, over all nodes. */
  connections: number;
  /** The largest file, in bytes. */
  file_bytes: number;
  /** The largest frame of a client's, in bytes. */
  frame_bytes: number;
  /** Frames that a client may send at once. */
  frames_burst: number;
  /** Frames that a client may send a second. */
  frames_per_s: number;
  /** Bytes that may wait to be read by a client before the server stops reading for it. */
  outbound_bytes: number;
  /** How long one of them may wait, in milliseconds. */
  outbound_ms: number;
  /** Runs of one user that wait for a place. */
  queued_runs: number;
  /** Runs of one user at work. */
  running_runs: number;
  /** Runs that one connection may follow. */
  subscriptions: number;
  /** Tickets of one user that may be unused. */
  unused_tickets: number;
}

/** A model's share. */
export interface ModelRow {
  /** Of these, read from the provider's cache. */
  cached_tokens: number;
  /** Tokens sent, cached ones included. */
  input_tokens: number;
  /** The model as the source names it. */
  model: string;
  /** Tokens received, reasoning included. */
  output_tokens: number;
  /** What the catalogue says that the priced requests cost; `null` where none could be priced. */
  priced_cost_usd?: Usd | null;
  /** What the sources say that it cost; `null` where no record has a cost. */
  recorded_cost_usd?: Usd | null;
  /** How many requests. */
  requests: number;
  /** The requests without a price. */
  unpriced_requests: number;
}

/** What a step used of one model. */
export interface ModelUse {
  /** How often its answer was the one. */
  answers: number;
  /** How often it was asked. */
  attempts: number;
  /** The model, as it was asked for. */
  model: string;
  /** The provider. */
  provider: string;
  /** What that used and cost, answers that broke off included. */
  usage: Usage;
}

/** A message of the user's, by frame or by HTTP. */
export interface NewMessage {
  /** Files of the user's that belong to it. */
  attachments?: (Attachment)[];
  /** The client's id of the message; the same message again under it is the same run. */
  request_id: RequestId;
  /** The words. */
  text: string;
  /** The conversation; absent begins one. */
  thread?: ThreadId | null;
}

/** A run. */
export interface OfRun {
  /** The run. */
  run: RunId;
}

/** A step of a run. */
export interface OfStep {
  /** The run. */
  run: RunId;
  /** The step. */
  step: StepId;
}

/** A call in a snapshot that waits for a decision. */
export interface OpenApproval {
  /** The decision. */
  approval: ApprovalId;
  /** The exact arguments, secrets redacted. */
  arguments: unknown;
  /** The call that it is about. */
  call: CallId;
  /** The digest of the exact call, to be sent back with the decision. */
  digest: string;
  /** When the request lapses. */
  expires_at: Timestamp;
  /** The step. */
  step: StepId;
  /** The tool's name. */
  tool: string;
}

/** An open tool call in a snapshot. */
export interface OpenCall {
  /** The call. */
  call: CallId;
  /** The step. */
  step: StepId;
  /** The tool's name. */
  tool: string;
}

/** A value kept outside the event because of its size. */
export interface Payload {
  /** Where to fetch it. */
  artifact: ArtifactId;
  /** Its size. */
  bytes: number;
  /** Its file name. */
  name: string;
  /** Its digest, hexadecimal. */
  sha256: string;
}

/** The time that the requests span. */
export interface Period {
  /** The earliest request. */
  from?: Timestamp | null;
  /** The latest request. */
  to?: Timestamp | null;
}

/** A sign of life. */
export interface Ping {
  /** Any number; the answer repeats it. */
  n: number;
}

/** A step of a plan: one agent's work. */
export interface PlanStep {
  /** The agent. */
  agent: string;
  /** The agents whose results it is handed. */
  needs: string[];
  /** Whether the run goes on without it when it fails; then those that need it find its field absent. */
  optional: boolean;
  /** What it is to do here; empty for the agent's own purpose. */
  purpose: string;
}

/** The answer to a `ping`. */
export interface Pong {
  /** The id of the `ping`. */
  id: FrameId;
  /** Its number. */
  n: number;
}

/** Volatile: how far a long piece of work is. */
export interface ProgressEvent extends EnvelopeFields {
  data: ProgressEventData;
  type: "progress";
}

export interface ProgressEventData {
  /** How much is done. */
  done: number;
  /** The step. */
  step: StepId;
  /** How much there is, where that is known. */
  total?: number | null;
  /** What is counted, such as `bytes` or `rows`. */
  unit: string;
}

/** A lever and what it would save. */
export interface Recommendation {
  /** Whether to. */
  advice: Advice;
  /** The figures behind it, in words. */
  evidence: string;
  /** What stands behind the figures. */
  evidence_level: EvidenceLevel;
  /** The lever's stable name, such as `batch`. */
  lever: string;
  /** How many requests: those behind the expected saving, or behind the highest where nothing is expected. */
  requests: number;
  /** What can go wrong. */
  risk: string;
  /** What it saves of what the levers before it left. */
  saving_usd: Saving;
  /** Which requests it is about. */
  scope: string;
  /** What to do, or not, in a sentence. */
  title: string;
  /** How to see that it worked. */
  verify: string;
}

/** A place in a file and what is wrong there. */
export interface Rejection {
  /** The line (the first is 1) at which the record starts. */
  line: number;
  /** What is wrong. */
  reason: string;
}

/** A whole report. `report.json` is its serialisation. */
export interface Report {
  /** The recommendations as an ordered plan. */
  actions: (Action)[];
  /** By day (UTC), in order; requests without a time come last, as `unknown`. */
  by_day: (DayRow)[];
  /** By model as the source names it, dearest first. */
  by_model: (ModelRow)[];
  /** By user, dearest first; empty where no source names users. */
  by_user: (UserRow)[];
  /** The price catalogue that was used. */
  catalogue: CatalogueStamp;
  /** What the reader must know, the gravest first. */
  findings: (Finding)[];
  /** What could be saved together, of the requests that have a price. */
  headline: Headline;
  /** The first and last moment of the requests that have a time. */
  period: Period;
  /** What to do, and what not to, in the order of the waterfall. */
  recommendations: (Recommendation)[];
  /** Always [`SCHEMA`]. */
  schema: string;
  /** The files that were read, in the order in which they were given. */
  sources: (Source)[];
  /** All imported requests together. */
  totals: Totals;
  /** How the savings follow from each other: each lever is applied to what the levers before it left. */
  waterfall: Waterfall;
}

/** The client's own id of a message; makes sending it again harmless. */
export type RequestId = string;

/** What follows a position cannot be given; the next number is `head + 1`. */
export interface ResetFrame {
  /** The life of the log from here on. */
  epoch: Epoch;
  /** The last number that this covers. */
  head: number;
  /** The id of the frame that this answers; absent when the subscription was under way. */
  id?: FrameId | null;
  /** Why. */
  reason: ResetReason;
  /** The run; absent for the inbox. */
  run?: RunId | null;
  /** Where the run stands; absent for the inbox. */
  snapshot?: Snapshot | null;
}

/** Why a reader cannot simply go on. */
export type ResetReason = "trimmed" | "epoch";

/** What one run may use, all of its agents together. */
export interface RunBudget {
  /** Time at work, over all attempts, in seconds. */
  seconds: number;
  /** Steps, over all attempts. */
  steps: number;
  /** Tokens of models, sent and received; absent for no limit. */
  tokens?: number | null;
  /** What models cost; absent for no limit. */
  usd?: Usd | null;
}

/** The run was cancelled. Terminal. */
export interface RunCancelledEvent extends EnvelopeFields {
  data: RunCancelledEventData;
  type: "run_cancelled";
}

export interface RunCancelledEventData {
  /** Who cancelled. */
  by: UserId;
  /** How long it took, waiting included. */
  elapsed_ms: number;
  /** What it used of models. */
  usage: Usage;
}

/** The run ended with a result. Terminal. */
export interface RunCompletedEvent extends EnvelopeFields {
  data: RunCompletedEventData;
  type: "run_completed";
}

export interface RunCompletedEventData {
  /** What could not be done in full, and why. */
  degraded: string[];
  /** How long it took, waiting included. */
  elapsed_ms: number;
  /** The result. */
  result: RunResult;
  /** What it used of models. */
  usage: Usage;
}

/** The run ended with an error. Terminal. */
export interface RunFailedEvent extends EnvelopeFields {
  data: RunFailedEventData;
  type: "run_failed";
}

export interface RunFailedEventData {
  /** How long it took, waiting included. */
  elapsed_ms: number;
  /** What went wrong. */
  error: ErrorReport;
  /** What it used of models. */
  usage: Usage;
}

/** A run's plan, step by step, and what came of each: who needs whose result, how long it took, what it cost, how
 * often it was begun, and the calls of tools beneath it. It holds no word of what was asked, called or answered but the
 * purposes of the steps. */
export interface RunGraph {
  /** Which attempt was the last, from 1. */
  attempt: number;
  /** What it may use, where its log still says so. */
  budget?: RunBudget | null;
  /** How long it took, waiting included; absent while it has not ended. */
  elapsed_ms?: number | null;
  /** The run. */
  run: RunId;
  /** When it was put on record. */
  started_at: Timestamp;
  /** Its state. */
  state: RunState;
  /** The steps: those that began in the order in which they did, and those that are planned. */
  steps: (GraphStep)[];
  /** Its conversation. */
  thread: ThreadId;
  /** Whether a part of its log is no longer kept: then what was there only is missing here. */
  trimmed: boolean;
  /** What it used of models: of the run when it has ended, of the steps that have ended before. */
  usage: Usage;
  /** The version of this shape, 1. */
  v: number;
}

/** One run: a message and everything that agents do about it. */
export type RunId = string;

/** What a completed run gives the user. */
export interface RunResult {
  /** Documents that belong to it. */
  artifacts: (Payload)[];
  /** Whether the question is answered. */
  status: RunStatus;
  /** The answer, as Markdown. */
  text: string;
}

/** The run goes on after its node was lost. */
export interface RunResumedEvent extends EnvelopeFields {
  data: RunResumedEventData;
  type: "run_resumed";
}

export interface RunResumedEventData {
  /** The attempt, from 2. */
  attempt: number;
  /** The step that begins again. */
  from_step?: StepId | null;
}

/** A run is on record. */
export interface RunStartedEvent extends EnvelopeFields {
  data: RunStartedEventData;
  type: "run_started";
}

export interface RunStartedEventData {
  /** The agents that the run may use. */
  agents: string[];
  /** What it may use. */
  budget?: RunBudget | null;
  /** The client's id of the message. */
  request_id: RequestId;
  /** Queued or running. */
  state: RunState;
  /** The place in a trace from which it was asked for. */
  trace?: TraceParent | null;
}

/** Where a run is in its life. */
export type RunState = "queued" | "running" | "waiting" | "cancelling" | "completed" | "failed" | "cancelled";

/** Whether a completed run could answer. */
export type RunStatus = "answered" | "insufficient_data";

/** A saving in dollars over the report's period, under three readings of the records. */
export interface Saving {
  /** What is likely. */
  expected: Usd;
  /** What is possible at most. */
  high: Usd;
  /** What is certain. */
  low: Usd;
}

/** A message is on record. */
export interface ServerAccepted extends AcceptedFrame {
  frame: "accepted";
}

/** This node shuts down soon. */
export interface ServerDraining extends Draining {
  frame: "draining";
}

/** Not done, and why. */
export interface ServerError extends ErrorFrame {
  frame: "error";
}

/** Something happened in a run. */
export interface ServerEvent extends EventFrame {
  frame: "event";
}

/** The credential runs out soon. */
export interface ServerExpiring extends Expiring {
  frame: "expiring";
}

/** A frame that the server sends. */
export type ServerFrame = ServerWelcome | ServerAccepted | ServerSubscribed | ServerOk | ServerError | ServerEvent | ServerInbox | ServerReset | ServerExpiring | ServerDraining | ServerPong;

/** Something happened among the user's runs. */
export interface ServerInbox extends InboxFrame {
  frame: "inbox";
}

/** Done. */
export interface ServerOk extends Answered {
  frame: "ok";
}

/** The answer to a `ping`. */
export interface ServerPong extends Pong {
  frame: "pong";
}

/** What follows a position cannot be given; this is where things stand. */
export interface ServerReset extends ResetFrame {
  frame: "reset";
}

/** A run or the inbox is followed. */
export interface ServerSubscribed extends Subscribed {
  frame: "subscribed";
}

/** The client is in. */
export interface ServerWelcome extends Welcome {
  frame: "welcome";
}

/** How grave a finding is. */
export type Severity = "critical" | "warning" | "info";

/** The last event that a client has applied; empty for one that has seen nothing. */
export interface Since {
  /** The last number. */
  after?: number | null;
  /** The life of the log in which `after` was counted. */
  epoch?: Epoch | null;
}

/** Where a run stands: what is left of its events when their detail is trimmed, and what a `reset` brings a client. */
export interface Snapshot {
  /** The calls that wait for a decision, oldest first. */
  approvals?: (OpenApproval)[];
  /** Tool calls that have begun and not ended. */
  open_calls: (OpenCall)[];
  /** The result, when it has one. */
  result?: RunResult | null;
  /** The run's state. */
  state: RunState;
  /** Its steps, oldest first. */
  steps: (StepView)[];
}

/** A file that was read. `rows = imported + rejected_rows`, always. */
export interface Source {
  /** Its size as it is stored, before decompression; 0 where it was refused. */
  bytes: number;
  /** Which column gave what, as `field=column`. */
  columns: string[];
  /** Its name, as given. */
  file: string;
  /** What it was taken for, such as `csv` or `jsonl+gzip`; `unknown` where it was refused unread. */
  format: string;
  /** The records that count in this report. */
  imported: number;
  /** Why the file as a whole was refused or left before its end. */
  refused?: Rejection | null;
  /** Why, for the first thousand of them. */
  rejected: (Rejection)[];
  /** The records that do not. */
  rejected_rows: number;
  /** The records seen: CSV records after the header, or JSON lines that are not blank. */
  rows: number;
}

/** A step of the waterfall. */
export interface Step {
  /** Whether it counts in the headline. */
  in_headline: boolean;
  /** What is left of the expected cost after it; unchanged by a step outside the headline. */
  left_usd: Usd;
  /** The lever. */
  lever: string;
  /** What it saves of what the steps before left. */
  saving_usd: Saving;
}

export type StepId = string;

/** How far a step is. */
export type StepState = "planned" | "running" | "waiting" | "ok" | "error" | "cancelled" | "skipped" | "interrupted";

/** A step in a snapshot. */
export interface StepView {
  /** The agent's name. */
  agent: string;
  /** How it ended; absent while it has not. */
  outcome?: AgentOutcome | null;
  /** The step. */
  step: StepId;
}

/** From where to follow a run. */
export interface Subscribe {
  /** The last number that the client has applied. */
  after?: number | null;
  /** The life of the log in which `after` was counted. */
  epoch?: Epoch | null;
  /** The run. */
  run: RunId;
}

/** A run, or without `run` the inbox, is followed: what comes after the position that was asked for follows. */
export interface Subscribed {
  /** The life of the log. */
  epoch: Epoch;
  /** The last number at this moment; 0 for none. */
  head: number;
  /** The id of the `subscribe` or `inbox`. */
  id: FrameId;
  /** The oldest number that is still there; `head + 1` when none is. */
  oldest: number;
  /** Whether the rest after the position is complete; where it is not, `reset` is the answer instead. */
  recovered: boolean;
  /** The run; absent for the inbox. */
  run?: RunId | null;
  /** The run's state; absent for the inbox. */
  state?: RunState | null;
}

/** A conversation; its runs follow one another. */
export type ThreadId = string;

export type Timestamp = string;

/** A tool call ended. */
export interface ToolCompletedEvent extends EnvelopeFields {
  data: ToolCompletedEventData;
  type: "tool_completed";
}

export interface ToolCompletedEventData {
  /** The agent's name. */
  agent: string;
  /** The call. */
  call: CallId;
  /** How long it took. */
  elapsed_ms: number;
  /** How it ended. */
  outcome: ToolOutcome;
  /** The step. */
  step: StepId;
  /** What came of it, in a sentence. */
  summary: string;
  /** The tool's name. */
  tool: string;
}

/** A tool is called. */
export interface ToolExecutingEvent extends EnvelopeFields {
  data: ToolExecutingEventData;
  type: "tool_executing";
}

export interface ToolExecutingEventData {
  /** The agent's name. */
  agent: string;
  /** Its arguments, secrets redacted. */
  arguments: unknown;
  /** The call. */
  call: CallId;
  /** The step. */
  step: StepId;
  /** The tool's name. */
  tool: string;
}

/** How a tool call ended. */
export type ToolOutcome = "ok" | "error" | "timeout" | "cancelled" | "interrupted";

/** What a set of requests used and cost. */
export interface Totals {
  /** Of these, read from the provider's cache. */
  cached_tokens: number;
  /** Tokens sent, cached ones included. */
  input_tokens: number;
  /** Tokens received, reasoning included. */
  output_tokens: number;
  /** What the catalogue says that the priced requests cost; `null` where none could be priced. */
  priced_cost_usd?: Usd | null;
  /** What the sources say that it cost; `null` where no record has a cost. */
  recorded_cost_usd?: Usd | null;
  /** How many requests. */
  requests: number;
  /** The requests without a price. */
  unpriced_requests: number;
}

/** A place in a trace, as the header `traceparent` of W3C Trace Context has it */
export type TraceParent = string;

/** Tokens and their price, as events, reports and budgets count them. */
export interface Usage {
  /** Of the tokens sent, those that the provider read from its cache. */
  cached_tokens: number;
  /** The price; `None` where any part of it is unpriced, zero only where nothing was used. */
  cost_usd?: Usd | null;
  /** Tokens sent, cached ones included. */
  input_tokens: number;
  /** Tokens received, reasoning included. */
  output_tokens: number;
  /** Of the tokens received, those spent on reasoning. */
  reasoning_tokens: number;
}

/** US dollars as an exact decimal */
export type Usd = string;

/** A user, made when an account is made. */
export type UserId = string;

/** A user's share. */
export interface UserRow {
  /** Of these, read from the provider's cache. */
  cached_tokens: number;
  /** Tokens sent, cached ones included. */
  input_tokens: number;
  /** Tokens received, reasoning included. */
  output_tokens: number;
  /** What the catalogue says that the priced requests cost; `null` where none could be priced. */
  priced_cost_usd?: Usd | null;
  /** What the sources say that it cost; `null` where no record has a cost. */
  recorded_cost_usd?: Usd | null;
  /** How many requests. */
  requests: number;
  /** The requests without a price. */
  unpriced_requests: number;
  /** The user as the source names them. */
  user: string;
}

/** How the savings follow from each other. */
export interface Waterfall {
  /** What is left after the expected savings inside the headline. */
  end_usd: Usd;
  /** The priced cost before any lever. */
  start_usd: Usd;
  /** The levers in the order of their application. */
  steps: (Step)[];
}

/** The client is in. */
export interface Welcome {
  /** The connection. */
  connection: ConnectionId;
  /** When the credential runs out. */
  expires_at: Timestamp;
  /** After this many seconds of silence a client sends a `ping`. */
  heartbeat_s: number;
  /** The id of the `hello` that this answers; absent when the client came in with its upgrade request. */
  id?: FrameId | null;
  /** What this server allows. */
  limits: Limits;
  /** Who came in. */
  user: UserId;
}
