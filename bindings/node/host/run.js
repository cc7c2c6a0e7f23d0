import { json, nothing, plain, request } from './bridge.js';
import { text } from './values.js';

/** @typedef {import('../types/native.js').Handle} Handle */
/** @typedef {import('../types/host.js').HostEvent} HostEvent */
/** @typedef {import('../types/host.js').From} From */
/** @typedef {import('../types/host.js').RunView} RunView */
/** @typedef {import('../types/wire.js').RunResult} RunResult */

/** A run in its user's name. It is read by `for await`, from its beginning, as often as one likes. */
export class Run {
  #host;
  #user;

  /**
   * @param {() => Handle} host
   * @param {Handle} user
   * @param {{ run: string, thread?: string | null, request_id?: string | null }} accepted
   */
  constructor(host, user, { run, thread = null, request_id = null }) {
    this.#host = host;
    this.#user = user;
    /** Its id. */
    this.run = run;
    /** The conversation, where this run was started here. */
    this.thread = thread;
    /** The id of the message, where this run was started here. */
    this.requestId = request_id;
  }

  /**
   * Its events in order, each once, without a hole: from the beginning, or from after one that was read. What is no
   * longer kept is one `reset`.
   *
   * @param {From} [from]
   * @returns {AsyncIterableIterator<HostEvent>}
   */
  events({ epoch, after = 0, signal } = {}) {
    const args = { run: this.run, after, epoch: epoch ?? null };
    const opened = this.#ask('follow', args, { read: (_, handle) => handle, signal });
    opened.catch(() => {}); // told to whoever reads
    return new Events(opened, signal);
  }

  /** @returns {AsyncIterableIterator<HostEvent>} */
  [Symbol.asyncIterator]() {
    return this.events();
  }

  /**
   * Waits for the answer.
   *
   * @param {{ signal?: AbortSignal | undefined }} [options] ends the waiting; the run goes on
   * @returns {Promise<RunResult>} broken by the error with which the run failed
   */
  result({ signal } = {}) {
    return this.#ask('result', { run: this.run }, { signal });
  }

  /**
   * Where it stands.
   *
   * @returns {Promise<RunView>}
   */
  view() {
    return this.#ask('run', { run: this.run });
  }

  /**
   * Tells it to stop; kept when that is on record.
   *
   * @returns {Promise<void>}
   */
  cancel() {
    return this.#ask('cancel', { run: this.run }, { read: nothing });
  }

  /**
   * Tells one step to stop; the run goes on where it can.
   *
   * @param {string} step
   * @returns {Promise<void>}
   */
  stop(step) {
    return this.#ask('stop', { run: this.run, step: text(step, 'the step') }, { read: nothing });
  }

  /**
   * Decides what it waits for.
   *
   * @param {{ approval: string, digest: string }} asked the data of its `approval_requested`
   * @param {'approve' | 'deny'} decision
   * @returns {Promise<void>}
   */
  decide({ approval, digest }, decision) {
    return this.#ask('decide', { run: this.run, approval, digest, decision }, { read: nothing });
  }

  /**
   * What it has made.
   *
   * @returns {Promise<import('../types/host.js').Artifact[]>}
   */
  artifacts() {
    return this.#ask('artifacts', { run: this.run });
  }

  /**
   * The content of something that it has made.
   *
   * @param {string} artifact
   * @returns {Promise<Uint8Array>}
   */
  artifact(artifact) {
    return this.#ask('artifact', { artifact: text(artifact, 'the artifact') }, { read: plain });
  }

  /**
   * @param {string} op
   * @param {object} args
   * @param {{ read?: import('./bridge.js').Read, signal?: AbortSignal | undefined }} [how]
   */
  async #ask(op, args, { read = json, signal } = {}) {
    return request(op, { on: this.#host(), with: this.#user, args, read, signal });
  }
}

/** @implements {AsyncIterableIterator<HostEvent>} */
class Events {
  #opened;
  #signal;
  /** @type {Handle | null} */
  #handle = null;
  /** @type {HostEvent[]} */
  #read = [];
  #at = 0;
  #ended = false;
  /** Whoever asks while another waits, waits behind it. @type {Promise<unknown>} */
  #turn = Promise.resolve();

  /**
   * @param {Promise<Handle>} opened
   * @param {AbortSignal | undefined} signal
   */
  constructor(opened, signal) {
    this.#opened = opened;
    this.#signal = signal;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<HostEvent, undefined>>} */
  next() {
    const event = this.#read[this.#at];
    if (event !== undefined) {
      this.#at += 1;
      return Promise.resolve({ done: false, value: event });
    }
    const next = this.#turn.then(() => this.#fetch());
    this.#turn = next.catch(() => {});
    return next;
  }

  /** @returns {Promise<IteratorResult<HostEvent, undefined>>} */
  async return() {
    this.#end();
    return { done: true, value: undefined };
  }

  /** @returns {Promise<IteratorResult<HostEvent, undefined>>} */
  async #fetch() {
    if (this.#at >= this.#read.length && !this.#ended) {
      this.#handle ??= await this.#opened;
      const batch = await request('next', { on: this.#handle, text: '', read: plain, signal: this.#signal });
      if (this.#ended || batch === 0) this.#end();
      else {
        this.#read = JSON.parse(batch);
        this.#at = 0;
      }
    }
    const event = this.#read[this.#at];
    if (event === undefined) return { done: true, value: undefined };
    this.#at += 1;
    return { done: false, value: event };
  }

  #end() {
    if (this.#ended) return;
    this.#ended = true;
    this.#read = [];
    if (this.#handle) this.#handle.release();
    else this.#opened.then((handle) => handle.release(), () => {});
  }
}
