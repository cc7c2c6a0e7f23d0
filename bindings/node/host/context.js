// What agents and tools may touch while they work. Everything can be taken out of it: `({ text }, { call, think }) => …`.

import { json, nothing, plain } from './bridge.js';
import { kind, text } from './values.js';

/** @typedef {import('./bridge.js').Work} Work */
/** @typedef {import('../types/wire.js').Payload} Payload */
/** @typedef {import('../types/host.js').FileInfo} FileInfo */
/** @typedef {import('../types/host.js').Note} Note */
/** @typedef {import('../types/host.js').ModelQuestion} ModelQuestion */
/** @typedef {import('../types/host.js').ModelAnswer} ModelAnswer */

/**
 * @param {Work} work
 * @returns {(done: number, total?: number | null, unit?: string) => void}
 */
const progress = (work) => (done, total = null, unit = 'steps') => {
  const counted = (/** @type {unknown} */ value) => Number.isSafeInteger(value) && Number(value) >= 0;
  if (!counted(done) || (total !== null && !counted(total))) throw new TypeError('progress is told in whole numbers from 0');
  work.tell('progress', { done, total, unit: text(unit, 'the unit of progress') });
};

/** What a tool may touch while it works on one call, in the name of the run's owner and of nobody else. */
export class ToolContext {
  #work;

  /** @param {Work} work */
  constructor(work) {
    this.#work = work;
  }

  /** The run. */
  get run() {
    return String(this.#work.about.run);
  }

  /** The call. */
  get call() {
    return String(this.#work.about.call);
  }

  /** In whose name the call is made. */
  get user() {
    return String(this.#work.about.user);
  }

  /** A key that stays the same when this call is made again; hand it to whatever makes a write happen once. */
  get idempotencyKey() {
    return String(this.#work.about.key);
  }

  /** Aborted when the call is to stop: its run was cancelled, or it took too long. */
  get signal() {
    return this.#work.signal;
  }

  /** Says how far the work is; shown at most ten times a second. */
  get progress() {
    return progress(this.#work);
  }

  /** Says in a sentence what came of the call; users see it. */
  get summarise() {
    return (/** @type {string} */ sentence) => this.#work.tell('summarise', { note: text(sentence, 'the summary') });
  }

  /** What is known of one of the user's files. */
  get file() {
    return (/** @type {string} */ id) => /** @type {Promise<FileInfo>} */ (this.#work.ask('file', { id: text(id, 'the file') }));
  }

  /** The content of one of the user's files, up to 64 MiB. */
  get readFile() {
    return (/** @type {string} */ id) => /** @type {Promise<Uint8Array>} */ (this.#work.ask('read_file', { id: text(id, 'the file') }, plain));
  }

  /** The content of one of the user's artifacts. */
  get artifact() {
    return (/** @type {string} */ id) => /** @type {Promise<Uint8Array>} */ (this.#work.ask('artifact', { id: text(id, 'the artifact') }, plain));
  }

  /** Keeps a result of the run's; one of the same name is replaced. */
  get putArtifact() {
    return (/** @type {string} */ name, /** @type {string} */ mediaType, /** @type {Uint8Array | string} */ content) => {
      const args = { name: text(name, 'the name'), media_type: text(mediaType, 'the media type') };
      return /** @type {Promise<Payload>} */ (this.#work.ask('put_artifact', args, json, [bytes(content)]));
    };
  }

  /** Keeps a note about the user under a name; one of the same name is replaced. */
  get remember() {
    return (/** @type {string} */ name, /** @type {string} */ note) => /** @type {Promise<void>} */ (this.#work.ask('remember', { name: text(name, 'the name'), text: text(note, 'the note') }, nothing));
  }

  /** The notes about the user, by name. */
  get recall() {
    return () => /** @type {Promise<Note[]>} */ (this.#work.ask('recall', undefined));
  }

  /** Drops a note about the user; `not_found` where there is none. */
  get forget() {
    return (/** @type {string} */ name) => /** @type {Promise<void>} */ (this.#work.ask('forget', { name: text(name, 'the name') }, nothing));
  }
}

/**
 * What an agent may touch while it works on one step, in the name of the run's owner and of nobody else. After a crash it
 * runs again and gets the same answers, so it takes the time and random numbers from here.
 */
export class AgentContext {
  #work;

  /** @param {Work} work */
  constructor(work) {
    this.#work = work;
  }

  /** The run. */
  get run() {
    return String(this.#work.about.run);
  }

  /** The conversation. */
  get thread() {
    return String(this.#work.about.thread);
  }

  /** The step. */
  get step() {
    return String(this.#work.about.step);
  }

  /** In whose name the step is done. */
  get user() {
    return String(this.#work.about.user);
  }

  /** Aborted when the step is to stop: its run was cancelled, or it took too long. */
  get signal() {
    return this.#work.signal;
  }

  /** Tells the user a thought or what comes next; on record when the promise is kept. */
  get think() {
    return (/** @type {string} */ note) => /** @type {Promise<void>} */ (this.#work.ask('think', { note: text(note, 'a thought') }, nothing));
  }

  /** Says what cannot be done in full, and why; the run's result tells the user. */
  get degraded() {
    return (/** @type {string} */ note) => /** @type {Promise<void>} */ (this.#work.ask('degraded', { note: text(note, 'what is degraded') }, nothing));
  }

  /** Calls a tool and waits for its result. */
  get call() {
    return (/** @type {string} */ tool, /** @type {unknown} */ args = {}) => /** @type {Promise<any>} */ (this.#work.ask('call', { tool: text(tool, 'the tool'), arguments: args }));
  }

  /** The models that the step may ask. */
  get model() {
    return {
      /** Asks a model; with `show`, the user sees the answer as it comes. */
      ask: (/** @type {string | ModelQuestion} */ question, /** @type {{ show?: boolean }} */ { show = false } = {}) => {
        const whole = typeof question === 'string' ? { messages: [{ role: 'user', parts: [{ text: question }] }] } : question;
        return /** @type {Promise<ModelAnswer>} */ (this.#work.ask('ask', { question: whole, show }));
      },
    };
  }

  /** The time, the same when the agent is run again. */
  get now() {
    return () => /** @type {Promise<Date>} */ (this.#work.ask('now', undefined, (ms) => new Date(Number(ms))));
  }

  /** A random number from 0 to 1, the same when the agent is run again. */
  get random() {
    return () => /** @type {Promise<number>} */ (this.#work.ask('random', undefined, Number));
  }

  /** Says how far the step is; shown at most ten times a second. */
  get progress() {
    return progress(this.#work);
  }

  /** The plan whose last step is the agent of that name, made by who takes whose results; `null` where there is none. */
  get plan() {
    return (/** @type {string} */ goal, /** @type {string[]} */ without = []) => /** @type {Promise<{ steps: object[] } | null>} */ (this.#work.ask('plan', { goal: text(goal, 'the goal'), without }));
  }
}

/**
 * Bytes, checked; text is made UTF-8.
 *
 * @param {unknown} content
 * @returns {Uint8Array}
 */
export function bytes(content) {
  if (typeof content === 'string') return new TextEncoder().encode(content);
  if (content instanceof Uint8Array) return content;
  throw new TypeError(`content has to be a string or a Uint8Array, not ${kind(content)}`);
}
