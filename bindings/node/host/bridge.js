// This thread's end of the way to Rust: requests that become promises, and functions that Rust calls.
//
// The addon keeps no process alive. A request that somebody waits for does, as any other in Node; a function that Rust
// calls does not, nor does an Apex that is only there.

import { AsyncLocalStorage } from 'node:async_hooks';
import { ApexError } from '../client/error.js';
import { load } from './native.js';
import { encode } from './values.js';

/** @typedef {import('../types/native.js').Batch} Batch */
/** @typedef {import('../types/native.js').Handle} Handle */
/** @typedef {import('../types/native.js').Native} Native */
/** @typedef {{ request?: string, input: any, [about: string]: unknown }} Input */
/**
 * What a function of the host's is called through: it gives the JSON of what came of it, or a promise of that.
 *
 * @typedef {(input: Input, work: Work) => string | PromiseLike<string>} Called
 */

const [ANSWER, FAILURE, CALL, CANCEL, TELL, FORGET] = [0, 1, 2, 3, 4, 5]; // and PAST

/** The longest stack that an error of the host's takes along, in characters. */
const LONGEST_STACK = 1_500;

/** Where the files are whose lines in a stack tell the host nothing. */
const HERE = new URL('.', import.meta.url).href;

/** So many runs keep what was around them when they were asked for; more at once than any node works on. */
const MOST_SCOPES = 10_000;

/** @type {Native | null} */
let native = null;
let last = 0;
/** @type {Map<number, Request>} */
const requests = new Map();
/** @type {Map<number, Called | ((said: any) => void)>} */
const functions = new Map();
/** Calls that are not answered yet. @type {Map<number, Work>} */
const calls = new Map();
/** @type {Map<string, ReturnType<typeof AsyncLocalStorage.snapshot>>} */
const scopes = new Map();
/** @type {NodeJS.Timeout | null} */
let alive = null;

/** Requests that somebody outside of Rust's own calls waits for. */
let waited = 0;

/** @typedef {{ resolve: (value: any) => void, reject: (error: unknown) => void, read: Read, leave: (() => void) | null, waited: boolean }} Request */
/** @typedef {(first: any, second: any) => any} Read */

/** Reads an answer that is JSON. @type {Read} */
export const json = (text) => JSON.parse(text);
/** Reads an answer that says nothing. @type {Read} */
export const nothing = () => undefined;
/** Reads an answer that is a yes or a no. @type {Read} */
export const flag = (yes) => yes === 1;
/** Reads an answer as it is. @type {Read} */
export const plain = (first) => first;

/** The addon, with its runtime, which begins at the first use and ends with this thread. */
export function addon() {
  return (native ??= new (load().Native)(deliver));
}

/**
 * Asks Rust for something.
 *
 * @param {string} op
 * @param {{ on?: Handle | null, with?: Handle | null, args?: unknown, text?: string, bytes?: Uint8Array[], read?: Read, signal?: AbortSignal | undefined }} asked
 * @returns {Promise<any>}
 */
export function request(op, { on = null, with: beside = null, args, text, bytes = [], read = json, signal }) {
  const json = text ?? (args === undefined ? '{}' : encode(args, op));
  return begin(true, read, signal, (id) => addon().request(id, op, on, beside, json, bytes));
}

/**
 * @param {boolean} waited whether the process stays alive for the answer; a function that Rust calls is no reason to
 * @param {Read} read
 * @param {AbortSignal | undefined} signal
 * @param {(id: number) => Batch | null | void} ask
 * @returns {Promise<any>}
 */
function begin(waited, read, signal, ask) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    last = (last + 1) >>> 0;
    const id = last;
    /** @type {(() => void) | null} */
    let leave = null;
    if (signal) {
      const aborted = () => {
        if (!ended(id)) return;
        addon().abort(id);
        reject(signal.reason);
      };
      signal.addEventListener('abort', aborted, { once: true });
      leave = () => signal.removeEventListener('abort', aborted);
    }
    keep(id, { resolve, reject, read, leave, waited });
    try {
      const answer = ask(id);
      if (answer) deliver(answer);
    } catch (error) {
      ended(id);
      reject(error);
    }
  });
}

/**
 * @param {number} id
 * @param {Request} request
 */
function keep(id, request) {
  requests.set(id, request);
  if (request.waited && (waited += 1) === 1) (alive ??= setInterval(() => {}, 0x7fffffff)).ref();
}

/**
 * @param {number} id
 * @returns {Request | undefined}
 */
function ended(id) {
  const request = requests.get(id);
  if (!request) return undefined;
  requests.delete(id);
  request.leave?.();
  if (request.waited && (waited -= 1) === 0) alive?.unref();
  return request;
}

/**
 * A number by which Rust calls the function.
 *
 * @param {Called} fn
 */
export function numbered(fn) {
  return number(fn);
}

/**
 * A number by which Rust tells the function something.
 *
 * @param {(said: any) => void} fn
 */
export function listening(fn) {
  return number(fn);
}

/** @param {Called | ((said: any) => void)} fn */
function number(fn) {
  last = (last + 1) >>> 0;
  functions.set(last, fn);
  return last;
}

/**
 * Lets the functions that a run will call see what is around this call (`AsyncLocalStorage`).
 *
 * @param {string} request the id of the run's message
 */
export function remember(request) {
  if (scopes.size >= MOST_SCOPES) {
    const [oldest] = scopes.keys();
    if (oldest !== undefined) scopes.delete(oldest);
  }
  scopes.set(request, AsyncLocalStorage.snapshot());
}

/**
 * The run of that message calls nothing any more.
 *
 * @param {string} request
 */
export function forget(request) {
  scopes.delete(request);
}

/**
 * Keeps the process alive, as an open server does, until the function that this gives is called.
 *
 * @returns {() => void}
 */
export function hold() {
  const id = -(last = (last + 1) >>> 0);
  keep(id, { resolve() {}, reject() {}, read: nothing, leave: null, waited: true });
  return () => void ended(id);
}

/**
 * A line of the log for each call, from a level on.
 *
 * @param {number} level
 * @param {(record: any) => void} fn
 * @returns {Promise<void>}
 */
export function logs(level, fn) {
  const told = listening(fn);
  return begin(true, nothing, undefined, (id) => addon().logs(id, level, told));
}

/** How many requests, functions, calls and scopes there are; for tests that nothing is left behind. */
export function counts() {
  return { requests: requests.size, functions: functions.size, calls: calls.size, scopes: scopes.size, open: native?.openCalls() ?? 0 };
}

/** @param {Batch} batch */
function deliver(batch) {
  for (let at = 0; at < batch.length; at += 4) {
    // Nothing may come out of here: there is nobody above.
    try {
      const id = /** @type {number} */ (batch[at + 1]);
      said(/** @type {number} */ (batch[at]), id, batch[at + 2], batch[at + 3]);
    } catch (error) {
      warn(error);
    }
  }
}

/**
 * A listener's error, which is nobody's: told as a warning, so that it does not end the process.
 *
 * @param {unknown} error
 */
export function warn(error) {
  process.emitWarning(error instanceof Error ? error : String(error));
}

/**
 * @param {number} what
 * @param {number} id
 * @param {any} first
 * @param {any} second
 */
function said(what, id, first, second) {
  switch (what) {
    case ANSWER: {
      const request = ended(id);
      if (!request) return;
      try {
        request.resolve(request.read(first, second));
      } catch (error) {
        request.reject(error);
      }
      return;
    }
    case FAILURE:
      return ended(id)?.reject(failure(first));
    case CALL:
      return called(id, first, second);
    case CANCEL:
      return calls.get(id)?.cancel();
    case TELL:
      return void Promise.resolve(/** @type {any} */ (functions.get(id))?.(JSON.parse(first))).catch(warn);
    case FORGET:
      return void functions.delete(id);
    default:
      forget(first);
  }
}

/**
 * An error of Rust's.
 *
 * @param {string} report
 */
export function failure(report) {
  const { category, ...told } = JSON.parse(report);
  return new ApexError({ ...told, kind: category });
}

/**
 * @param {number} call
 * @param {number} number
 * @param {string} text
 */
function called(call, number, text) {
  try {
    const input = JSON.parse(text);
    const fn = functions.get(number);
    if (!fn) throw new Error('this function is no longer there');
    const work = new Work(call, input);
    const within = input.request && scopes.get(input.request);
    const came = within ? within(fn, input, work) : fn(input, work);
    if (typeof came === 'string') return addon().gave(call, came);
    calls.set(call, work);
    came.then(
      (/** @type {string} */ json) => settled(call) && addon().gave(call, json),
      (/** @type {unknown} */ error) => settled(call) && addon().threw(call, thrown(error)),
    );
  } catch (error) {
    addon().threw(call, thrown(error));
  }
}

/** @param {number} call */
function settled(call) {
  return calls.delete(call);
}

/**
 * What a function threw, as JSON: its message and its own stack, and its code where it has one of the catalogue's.
 *
 * @param {unknown} error
 */
function thrown(error) {
  let message = 'what it threw cannot be shown';
  let code;
  try {
    if (error instanceof Error) {
      const head = error instanceof ApexError ? error.message : `${error.name}: ${error.message}`;
      message = head + frames(error);
      if (error instanceof ApexError) code = error.code;
    } else {
      message = typeof error === 'string' ? error : JSON.stringify(error) ?? String(error);
    }
  } catch {
    // A getter, a proxy or a `toString` that throws itself.
  }
  return JSON.stringify({ message: message.slice(0, 64 * 1024), code });
}

/**
 * The lines of a stack that are the host's own.
 *
 * @param {Error} error
 */
function frames(error) {
  if (error instanceof ApexError) return '';
  const lines = String(error.stack ?? '').split('\n').filter((line) => /^ {4}at /.test(line));
  const own = lines.filter((line) => !line.includes('node:') && !line.includes(HERE));
  return own.map((line) => `\n${line}`).join('').slice(0, LONGEST_STACK);
}

/** A call of a function of the host's: whom it is for, and what it may ask meanwhile. */
export class Work {
  #call;
  /** @type {AbortController | null} */
  #controller = null;
  #cancelled = false;

  /**
   * @param {number} call
   * @param {Input} input
   */
  constructor(call, input) {
    this.#call = call;
    this.about = /** @type {Record<string, string>} */ (/** @type {unknown} */ (input));
  }

  /** Aborted when the answer is no longer waited for. */
  get signal() {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#cancelled) this.cancel();
    }
    return this.#controller.signal;
  }

  cancel() {
    this.#cancelled = true;
    const reason = new ApexError({ code: 'cancelled', kind: 'run', message: 'this call is to stop: its run was cancelled, or it took too long' });
    this.#controller?.abort(reason);
  }

  /**
   * @param {string} op
   * @param {unknown} args
   * @param {Read} read
   * @param {Uint8Array[]} [bytes]
   * @returns {Promise<any>}
   */
  ask(op, args, read = json, bytes = []) {
    const text = encode(args, op);
    return begin(false, read, undefined, (id) => addon().work(id, this.#call, op, text, bytes));
  }

  /**
   * @param {string} op
   * @param {unknown} args
   */
  tell(op, args) {
    addon().tell(this.#call, op, encode(args, op));
  }
}
