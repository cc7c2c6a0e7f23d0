// What is asked and what is followed, over connections that come and go.

import { ApexError } from './error.js';
import { Link } from './link.js';
import { Answer, Cursor, Stream } from './stream.js';

/** @typedef {import('../types/wire.js').ServerFrame} ServerFrame */
/** @typedef {import('../types/wire.js').Envelope & { frame: 'event' }} RunEvent */
/** @typedef {import('../types/wire.js').ServerInbox} ServerInbox */
/** @typedef {import('../types/wire.js').ServerError} ServerError */
/** @typedef {import('../types/wire.js').ServerReset} ServerReset */
/** @typedef {import('../types/wire.js').ServerSubscribed} ServerSubscribed */
/** @typedef {import('../types/wire.js').ServerAccepted} ServerAccepted */
/** @typedef {import('../types/wire.js').Welcome} Welcome */
/** @typedef {import('./link.js').Options} Options */
/** @typedef {import('./link.js').State} State */

const INBOX = 'inbox';

const MOST_REQUESTS = 1_024; // without an answer yet

const ENDED = new Set(['completed', 'failed', 'cancelled']);
const TERMINAL = new Set(['run_completed', 'run_failed', 'run_cancelled']);

/** What is followed: a stream, the id of the frame that asked for it last, and how that stands. */
class Followed {
  /** @type {string | null} */
  frame = null;
  /** Whether the answer to that frame is still to come; entries before it belong to an earlier one. */
  asking = false;
  /** Whether its reader is behind. */
  paused = false;
  /** How often asking failed since it last worked. */
  failures = 0;

  /** @param {Stream<any>} stream */
  constructor(stream) {
    this.stream = stream;
  }
}

/** A live connection, kept until `close` or a reason that no further try would change. Made by `connect`. */
export class Client {
  /** Kept at the first `welcome`; broken when the client is closed before it. @type {Promise<Welcome>} */
  opened;

  #link;
  #buffer;
  /** @type {Map<string, { frame: object, resolve: (frame: any) => void, reject: (error: unknown) => void }>} */
  #requests = new Map();
  /** @type {Map<string, Followed>} */
  #followed = new Map(); // by run, or INBOX
  /** @type {Map<string, Answer>} */
  #answers = new Map(); // by the id of their message, until it is accepted

  /** @param {Options} options */
  constructor(options) {
    const { signal, buffer = 256 } = options;
    this.#buffer = buffer;
    /** @type {(welcome: Welcome) => void} */
    let opened;
    /** @type {(error: ApexError) => void} */
    let failed;
    this.opened = new Promise((resolve, reject) => ([opened, failed] = [resolve, reject]));
    this.opened.catch(() => {}); // whoever does not wait for it is told by `onState`
    this.#link = new Link(options, {
      welcomed: (welcome) => {
        this.#askAgain();
        opened(welcome);
      },
      take: (frame) => this.#onFrame(frame),
      closed: (error) => {
        failed(error);
        this.#fail(error);
      },
    });
    this.#link.start();
    if (signal) watch(signal, () => void this.close());
  }

  /** Told each new state. */
  set onState(/** @type {((state: State) => void) | null} */ act) {
    this.#link.onState = act;
  }

  get onState() {
    return this.#link.onState;
  }

  /** Where the connection is: `connecting`, `open`, `waiting` (for the next try) or `closed` for good. */
  get state() {
    return this.#link.state;
  }

  /** The last `welcome`: who came in, until when, and what the server allows. */
  get welcome() {
    return this.#link.welcome;
  }

  /**
   * Sends a message, and follows its run from the start. Through reconnects it is sent again under the same id, which
   * makes no second run.
   *
   * @param {string} text
   * @param {object} [options]
   * @param {string} [options.thread] the conversation that it goes on; a new one by default
   * @param {string[]} [options.attachments] ids of files that were uploaded
   * @param {string} [options.requestId] the message's own id, for one that may have been sent before
   * @param {AbortSignal} [options.signal] ends the reading; the run goes on
   * @returns {Answer}
   */
  ask(text, { thread, attachments = [], requestId = uuid(), signal } = {}) {
    const id = this.#link.id();
    /** @type {Record<string, unknown>} */
    const frame = { frame: 'message', id, request_id: requestId, text, attachments: attachments.map((file) => ({ file })) };
    if (thread) frame.thread = thread;
    const accepted = this.#request(frame).then((/** @type {ServerAccepted} */ { run, thread: where }) => ({ run, thread: where, requestId }));
    const unread = new ApexError({ code: 'cancelled', message: 'the answer is no longer waited for' });
    const forget = () => {
      this.#answers.delete(id);
      this.#settle(id, ({ reject }) => reject(unread));
    };
    /** @type {Answer} */
    const answer = new Answer(accepted, this.#keeper(() => this.#keyOf(answer), forget), this.#buffer);
    this.#answers.set(id, answer);
    accepted.catch((error) => answer.end(error));
    if (signal) bind(answer, signal);
    return answer;
  }

  /**
   * Follows a run, from its start or from where an earlier reader was (`stream.cursor`). A run has one reader in a
   * client: the last one.
   *
   * @param {string} run
   * @param {{ epoch?: string | null, last?: number, signal?: AbortSignal }} [from]
   * @returns {Stream<RunEvent>}
   */
  follow(run, { epoch = null, last = 0, signal } = {}) {
    return this.#follow(run, new Cursor(epoch, last), signal);
  }

  /**
   * Follows the user's inbox: each run that begins, waits and ends.
   *
   * @param {{ epoch?: string | null, last?: number, signal?: AbortSignal }} [from]
   * @returns {Stream<ServerInbox>}
   */
  inbox({ epoch = null, last = 0, signal } = {}) {
    return this.#follow(INBOX, new Cursor(epoch, last), signal);
  }

  /**
   * Tells a run to end; kept when that is on record.
   *
   * @param {string} run
   * @param {{ signal?: AbortSignal }} [options]
   */
  cancel(run, { signal } = {}) {
    return this.#order({ frame: 'cancel', run }, signal);
  }

  /**
   * Ends one step of a run: the answer does without it.
   *
   * @param {string} run
   * @param {string} step
   * @param {{ signal?: AbortSignal }} [options]
   */
  stop(run, step, { signal } = {}) {
    return this.#order({ frame: 'stop', run, step }, signal);
  }

  /**
   * Answers an `approval_requested`: the first decision wins, a later one is refused with `conflict`.
   *
   * @param {{ run: string, approval: string, digest: string }} request
   * @param {'approve' | 'deny'} decision
   * @param {{ signal?: AbortSignal }} [options]
   */
  decide({ run, approval, digest }, decision, { signal } = {}) {
    return this.#order({ frame: 'decide', run, approval, digest, decision }, signal);
  }

  /** The network may have changed: tries now what would be tried later, and asks a silent connection for a sign. */
  wake() {
    this.#link.wake();
  }

  /** Ends the connection and all that waits for it; kept when the server has said goodbye, within two seconds. */
  close() {
    return this.#link.close();
  }

  /** For `await using`. */
  [Symbol.asyncDispose]() {
    return this.close();
  }

  // ---- frames out ----

  #askAgain() {
    for (const [key, followed] of this.#followed) if (!followed.paused) this.#subscribe(key, followed);
    for (const { frame } of this.#requests.values()) this.#link.send(frame);
  }

  /** @param {ApexError} error */
  #fail(error) {
    const waiting = [...this.#requests.values()];
    this.#requests.clear();
    for (const { reject } of waiting) reject(error);
    for (const [key, followed] of [...this.#followed]) this.#finish(key, followed, error);
  }

  /**
   * Sends a frame and waits for its answer, through reconnects: all requests of this client may be repeated.
   *
   * @param {Record<string, unknown>} frame
   * @returns {Promise<any>}
   */
  #request(frame) {
    const { state } = this;
    if (state.name === 'closed') return Promise.reject(state.error);
    if (this.#requests.size >= MOST_REQUESTS) {
      const message = `${MOST_REQUESTS} requests wait for their answers already`;
      return Promise.reject(new ApexError({ code: 'rate_limited', message, retryable: true }));
    }
    return new Promise((resolve, reject) => {
      this.#requests.set(/** @type {string} */ (frame.id), { frame, resolve, reject });
      if (this.#link.open) this.#link.send(frame);
    });
  }

  /**
   * @param {Record<string, unknown>} frame
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  async #order(frame, signal) {
    const request = { ...frame, id: this.#link.id() };
    const forget = signal && watch(signal, () => this.#settle(request.id, ({ reject }) => reject(signal.reason)));
    try {
      await this.#request(request);
    } finally {
      forget?.();
    }
  }

  /**
   * @param {string} key
   * @param {Cursor} cursor
   * @param {AbortSignal} [signal]
   */
  #follow(key, cursor, signal) {
    /** @type {Stream<any>} */
    const stream = new Stream(cursor, this.#keeper(() => this.#keyOf(stream)), this.#buffer);
    const { state } = this;
    if (state.name === 'closed') stream.end(state.error);
    else {
      const followed = this.#register(key, stream);
      if (this.#link.open) this.#subscribe(key, followed);
    }
    if (signal) bind(stream, signal);
    return stream;
  }

  /**
   * @param {string} key
   * @param {Stream<any>} stream
   */
  #register(key, stream) {
    const before = this.#followed.get(key);
    const followed = new Followed(stream);
    this.#followed.set(key, followed);
    before?.stream.close();
    return followed;
  }

  /** @param {Stream<any>} stream */
  #keyOf(stream) {
    for (const [key, followed] of this.#followed) if (followed.stream === stream) return key;
    return null;
  }

  /**
   * What a stream asks of this client.
   *
   * @param {() => string | null} keyOf
   * @param {() => void} [also] when it is over
   * @returns {import('./stream.js').Keeper}
   */
  #keeper(keyOf, also) {
    const leave = (/** @type {string} */ key) => {
      if (this.#link.open && key !== INBOX) this.#link.send({ frame: 'unsubscribe', id: this.#link.id(), run: key });
    };
    return {
      over: () => {
        const key = keyOf();
        if (key !== null) {
          this.#followed.delete(key);
          leave(key);
        }
        also?.();
      },
      // The inbox cannot be left: what it goes on to say is passed over until its reader is there again.
      behind: () => {
        const key = /** @type {string} */ (keyOf());
        /** @type {Followed} */ (this.#followed.get(key)).paused = true;
        leave(key);
      },
      caughtUp: () => {
        const key = /** @type {string} */ (keyOf());
        const followed = /** @type {Followed} */ (this.#followed.get(key));
        followed.paused = false;
        if (this.#link.open) this.#subscribe(key, followed);
      },
    };
  }

  /**
   * @param {string} key
   * @param {Followed} followed
   */
  #subscribe(key, followed) {
    const what = key === INBOX ? { frame: 'inbox' } : { frame: 'subscribe', run: key };
    followed.frame = this.#link.id();
    followed.asking = true;
    this.#link.send({ ...what, id: followed.frame, ...followed.stream.cursor.position() });
  }

  // ---- frames in ----

  /** @param {ServerFrame} frame */
  #onFrame(frame) {
    switch (frame.frame) {
      case 'event':
        this.#onEntry(frame.run, /** @type {RunEvent} */ (frame));
        break;
      case 'inbox':
        this.#onEntry(INBOX, frame);
        break;
      case 'subscribed':
        this.#onSubscribed(frame);
        break;
      case 'reset':
        this.#onReset(frame);
        break;
      case 'accepted':
        this.#onAccepted(frame);
        break;
      case 'ok':
        this.#settle(frame.id, ({ resolve }) => resolve(frame));
        break;
      case 'error':
        this.#onError(frame);
        break;
      default: // `pong`, and what later versions may add
    }
  }

  /**
   * @param {string} key
   * @param {RunEvent | ServerInbox} entry
   */
  #onEntry(key, entry) {
    const followed = this.#followed.get(key);
    if (!followed || followed.asking || followed.paused) return;
    const { stream } = followed;
    switch (stream.cursor.judge(entry)) {
      case 'apply':
        if (!stream.push(entry)) return;
        stream.cursor.moved(entry.epoch, entry.seq);
        if (entry.frame === 'event' && TERMINAL.has(entry.type)) this.#finish(key, followed);
        break;
      case 'gap':
        this.#subscribe(key, followed);
        break;
      default: // seen before
    }
  }

  /** @param {ServerSubscribed} frame */
  #onSubscribed(frame) {
    const [key, followed] = this.#askedBy(frame.id) ?? [];
    if (key === undefined || followed === undefined) return;
    followed.asking = false;
    followed.failures = 0;
    const { stream } = followed;
    stream.cursor.epoch ??= frame.epoch;
    stream.told(frame);
    if (ENDED.has(frame.state ?? '') && stream.cursor.last >= frame.head) this.#finish(key, followed);
  }

  /** @param {ServerReset} frame */
  #onReset(frame) {
    const key = frame.run ?? INBOX;
    const followed = this.#followed.get(key);
    if (!followed || followed.paused || (followed.asking && followed.frame !== frame.id)) return;
    followed.asking = false;
    if (!followed.stream.push(frame)) return;
    followed.stream.cursor.moved(frame.epoch, frame.head);
    if (ENDED.has(frame.snapshot?.state ?? '')) this.#finish(key, followed);
  }

  /** The sender is subscribed from the start; one whose answer was read before drops what it has. @param {ServerAccepted} frame */
  #onAccepted(frame) {
    const id = String(frame.id);
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    if (answer) this.#register(frame.run, answer).frame = id;
    else if (!this.#followed.has(frame.run)) this.#link.send({ frame: 'unsubscribe', id: this.#link.id(), run: frame.run });
    this.#settle(id, ({ resolve }) => resolve(frame));
  }

  /** @param {ServerError} frame */
  #onError(frame) {
    const error = new ApexError(frame);
    const [key, followed] = this.#askedBy(frame.id) ?? [];
    if (key === undefined || followed === undefined) {
      this.#settle(frame.id, ({ reject }) => reject(error));
    } else if (error.retryable) {
      followed.failures += 1;
      this.#link.later(`again ${key}`, followed.failures, error.retryAfterMs, () => {
        if (this.#followed.get(key) === followed && !followed.paused) this.#subscribe(key, followed);
      });
    } else {
      this.#finish(key, followed, error);
    }
  }

  /**
   * @param {string | number | null | undefined} id
   * @returns {[string, Followed] | undefined}
   */
  #askedBy(id) {
    for (const entry of this.#followed) if (id && entry[1].frame === id) return entry;
    return undefined;
  }

  /**
   * @param {string | number | null | undefined} id
   * @param {(request: { resolve: (frame: any) => void, reject: (error: unknown) => void }) => void} act
   */
  #settle(id, act) {
    const request = this.#requests.get(String(id));
    this.#requests.delete(String(id));
    if (request) act(request);
  }

  /**
   * @param {string} key
   * @param {Followed} followed
   * @param {ApexError} [error]
   */
  #finish(key, followed, error) {
    this.#followed.delete(key);
    followed.stream.end(error);
  }
}

/**
 * Acts once when the signal is given, also when it has been; gives what calls that off.
 *
 * @param {AbortSignal} signal
 * @param {() => void} act
 */
function watch(signal, act) {
  if (signal.aborted) queueMicrotask(act);
  signal.addEventListener('abort', act, { once: true });
  return () => signal.removeEventListener('abort', act);
}

/** @param {Stream<any>} stream @param {AbortSignal} signal */
function bind(stream, signal) {
  stream.onOver = watch(signal, () => stream.end(signal.reason));
}

/** `crypto.randomUUID` is missing on pages that came over plain HTTP from another machine. */
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.*)$/, '$1-$2-4$3-8$4-$5');
}
