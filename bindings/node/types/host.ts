// What an Apex in this process takes and gives; events, reports and errors are in `wire.ts` and `errors.ts`.

import type { Answer, Plan } from '../host/agent.js';
import type { AgentContext, ToolContext } from '../host/context.js';
import type { Envelope, Payload, ResetReason, RunState, Snapshot } from './wire.js';

/** A schema of a library that knows Standard Schema and can make a JSON Schema of it: zod from 4.2, and others. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown, options?: any) => unknown;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** A JSON Schema, draft 2020-12. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown };

export type Schema = StandardSchema<any, any> | JsonSchema;

/** What a value is after its schema has let it pass; of a plain JSON Schema nothing is known. */
export type Parsed<S> = S extends StandardSchema<any, infer Output> ? Output : any;

/** What the user asked: the input of the agent that a run begins with, and a part of every other agent's. */
export interface Question {
  /** The words. */
  text: string;
  /** The files that belong to them. */
  files: string[];
  /** The results of the steps that this one needs, by their agents' names. */
  [agent: string]: any;
}

export interface ToolOptions<Args> {
  /** What making a call twice does: nothing is changed, the same as once, or it must not be made twice (the default). */
  effect?: 'read' | 'idempotent' | 'once';
  /** How long a call may take, where that differs from the engine's default. */
  timeoutMs?: number;
  /** Whether a person has to approve a call before it is made; a function says it by the arguments, at once. */
  needsApproval?: boolean | ((args: any) => boolean);
  /** Looks up what came of a call whose process was lost, by its key. */
  lookUp?: (args: Args, context: ToolContext) => Awaitable<{ done: unknown } | 'not_done' | 'unknown'>;
}

export interface AgentOptions<S extends Schema> {
  /** The schema of its input, whose fields say whose results it takes; by default that of a question. */
  input?: S;
  /** The schema that its output is held against, or which of the special ones it is. */
  output?: Schema | 'text' | 'result' | 'plan';
  /** How long a step of it may take, where that differs from the engine's default. */
  deadlineMs?: number;
  /** Words and phrases by which a question is one for it to answer, where Apex's supervisor has no model to say who does. */
  triggers?: readonly string[];
}

export type Awaitable<T> = T | PromiseLike<T>;

/** What an agent makes: text is the user's answer, and so is an `Answer`; a `Plan` says which steps follow; the rest is handed on. */
export type Made = string | Answer | Plan | object | number | boolean | null | undefined | void;

/** A tool, made by `tool`. */
export interface Tool {
  readonly name: string;
}

/** An agent, made by `agent`. */
export interface Agent {
  readonly name: string;
}

/** A step of a plan. */
export interface NewStep {
  /** The agent; each at most once in a plan. */
  agent: string;
  /** What it is to do here; its own purpose by default. */
  purpose?: string;
  /** The agents whose results it is handed: earlier steps. */
  needs?: string[];
  /** Whether the run goes on without it when it fails. */
  optional?: boolean;
}

/** A way in that this program verifies. */
export interface Door {
  /** The headers that it reads, in small letters; a request that has none of them is asked by the other ways. */
  headers: string[];
  /** Whether browsers send them along unasked, as they do with cookies. */
  ambient?: boolean;
  /** Says who it is, for how many seconds; `null` for nobody. */
  authenticate(request: DoorRequest): Awaitable<{ user: string; expiresIn?: number } | null>;
}

/**
 * Keeps what agents remember of users where this program wants it. `user` is the id of the account. Which notes may be kept,
 * by whom and how many is checked before; what a function throws is `storage_failed`, or an `ApexError`'s own code.
 */
export interface MemoryStore {
  /** Keeps a note in place of the one of its name, if there is one. */
  keep(user: string, note: Note): Awaitable<void>;
  /** All notes of the user, in any order. */
  notes(user: string): Awaitable<Note[]>;
  /** Forgets a note; says whether there was one. */
  forget(user: string, name: string): Awaitable<boolean>;
  /** Forgets all notes of the user; says how many there were. */
  forgetAll(user: string): Awaitable<number>;
}

/** Something that agents remember of a user. */
export interface Note {
  /** By which it is found and replaced. */
  name: string;
  /** What is remembered: data, never an instruction. */
  text: string;
  /** The run that wrote it. */
  run: string | null;
  /** When it was written. */
  at: string;
}

export interface DoorRequest {
  headers: Record<string, string>;
  origin: string | null;
  address: string | null;
}

/** What an Apex is made of. */
export interface Options {
  /** The configuration: sections with their fields, as in the file. */
  config?: { readonly [section: string]: unknown };
  /** A configuration file (TOML) over it. */
  configFile?: string;
  /** The environment over that, such as `process.env`; only names that begin with the prefix are looked at. */
  env?: { readonly [name: string]: string | undefined };
  /** What those names begin with; `APEX` by default. */
  envPrefix?: string;
  /** A folder of files that each hold one secret. */
  secretsDir?: string;
  /** Where else secrets are, by their key; `null` where there is none. Asked while the configuration is read. */
  secrets?: (key: string) => Awaitable<string | null | undefined>;
  /** Agents; runs begin with the first one. Without any, Apex's own team works. */
  agents?: readonly Agent[];
  /** Tools, for every agent to call. */
  tools?: readonly Tool[];
  /** The agent that runs begin with: otherwise the first one, or Apex's supervisor where its team is there. */
  entry?: string;
  /** Whether Apex's own agents are there beside these. */
  team?: boolean;
  /** Ways in of this program's, before all others. */
  doors?: readonly Door[];
  /** Is told of alerts and notices, one at a time and in order; nobody waits for it. */
  onAlert?: (told: { alert: any } | { notice: any }) => Awaitable<void>;
  /** Keeps what agents remember of users. */
  memory?: MemoryStore;
  /** A contract whose prices hold instead of the list's: text of `contract.toml`. */
  contract?: string;
}

export interface AskOptions {
  /** The conversation that it continues; a new one by default. */
  thread?: string;
  /** Ids of the user's files that belong to it. */
  files?: string[];
  /** The message's own id (a UUID), for one that may have been sent before. */
  requestId?: string;
  /** Ends the waiting; the run goes on. */
  signal?: AbortSignal;
}

/** An event of a run, or what stands for those that are no longer kept. */
export type HostEvent = Envelope | ResetEvent;

export interface ResetEvent {
  type: 'reset';
  data: { reason: ResetReason; epoch: string; head: number; snapshot: Snapshot };
}

/** Where to begin to read: after an event that was read. */
export interface From {
  epoch?: string;
  after?: number;
  signal?: AbortSignal;
}

/** Where a run stands. */
export interface RunView {
  run: string;
  thread: string;
  state: RunState;
  epoch: string;
  head: number;
  oldest: number;
  attempt: number;
  started_at: string;
  ended_at: string | null;
  snapshot: Snapshot;
}

export interface Page<T> {
  items: T[];
  /** What to ask for next; absent at the end. */
  next?: string;
}

export interface ThreadInfo {
  thread: string;
  owner: string;
  title: string;
  created_at: string;
  updated_at: string;
}

export interface Said {
  run: string;
  role: 'user' | 'assistant';
  text: string;
  attachments: string[];
  at: string;
}

export interface FileInfo {
  file: string;
  name: string;
  bytes: number;
  sha256: string;
  at: string;
}

/** Something that a run has made. */
export type Artifact = Payload & { [more: string]: unknown };

export interface Ticket {
  ticket: string;
  expires_at: string;
}

/** A question to a model, as the Rust `ModelRequest`. */
export interface ModelQuestion {
  system?: string;
  messages: { role: 'user' | 'assistant'; parts: { [kind: string]: unknown }[] }[];
  [field: string]: unknown;
}

/** What a model answered. */
export interface ModelAnswer {
  /** All text, without thoughts. */
  text: string;
  provider: string;
  model: string;
  parts: { [kind: string]: unknown }[];
  finish: unknown;
  usage: unknown;
  [field: string]: unknown;
}

/** A line of the log. */
export interface LogRecord {
  /** 10 for debug, 20 for info, 30 for warnings, 40 for errors; 5 for what is finer than debug. */
  level: number;
  /** Which part of Apex says it. */
  target: string;
  message: string;
  fields: Record<string, unknown>;
  /** How many lines before it were dropped because there were too many. */
  dropped: number;
}

/** A usage file: its path, or its name and content. */
export type UsageFile = string | URL | { name: string; content: Uint8Array | string };

/** What a file is and what it can be used for, judged by its first rows. */
export interface Inspection {
  file: string;
  format: string;
  rows: number;
  usable: number;
  models: string[];
  [more: string]: unknown;
}
