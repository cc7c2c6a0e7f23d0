// Where a reader stands in a stream of numbered entries, and the reader's end of it.

/** @typedef {import('../types/wire.js').Envelope & { frame: 'event' }} RunEvent */
/** @typedef {import('../types/wire.js').ServerInbox} ServerInbox */
/** @typedef {import('../types/wire.js').ServerReset} ServerReset */
/** @typedef {import('../types/wire.js').ServerSubscribed} ServerSubscribed */
/** @typedef {import('./error.js').ApexError} ApexError */

/** A position in a stream: what was applied so far, and whether the next entry may be. */
export class Cursor {
  /**
   * @param {string | null} [epoch]
   * @param {number} [last]
   */
  constructor(epoch = null, last = 0) {
    this.epoch = epoch;
    this.last = last;
  }

  /**
   * Judges an entry: `apply` it (and `moved` takes note), `drop` it (seen before), or subscribe again because of a
   * `gap`. Volatile events have no `seq` and do not move the position.
   *
   * @param {{ epoch: string, seq?: number | null }} entry
   * @returns {'apply' | 'drop' | 'gap'}
   */
  judge({ epoch, seq }) {
    if (this.epoch !== null && epoch !== this.epoch) return 'gap';
    if (seq === undefined || seq === null) return 'apply';
    if (seq <= this.last) return 'drop';
    return seq > this.last + 1 ? 'gap' : 'apply';
  }

  /**
   * An entry was applied, or a `reset`, after which the next one is `head + 1`.
   *
   * @param {string} epoch
   * @param {number | null | undefined} seq
   */
  moved(epoch, seq) {
    if (seq === undefined || seq === null) return;
    this.epoch = epoch;
    this.last = seq;
  }

  /** As the fields of a `subscribe` frame. */
  position() {
    return this.epoch === null ? {} : { epoch: this.epoch, after: this.last };
  }
}

/**
 * What reads a stream by callbacks.
 *
 * @template T
 * @typedef {object} Handlers
 * @property {(entry: T) => void} [onEvent] each entry, once and in order
 * @property {(frame: ServerReset) => void} [onReset] what lies between is not kept: this is where it stands
 * @property {(frame: ServerSubscribed) => void} [onState] each time that the server says where the stream is
 * @property {(error: ApexError | undefined) => void} [onEnd] once; with an error when the end was not reached
 */

/**
 * What a client does for a stream.
 *
 * @typedef {object} Keeper
 * @property {() => void} over the reader is gone, or has seen the end
 * @property {() => void} behind no more for now
 * @property {() => void} caughtUp what was left out, please
 */

/**
 * A run, or the inbox, as its reader sees it: `for await`, or `listen`, not both. A reader that does not read holds at
 * most `limit` entries: then the subscription pauses, and goes on from its position when these are read.
 *
 * @template T
 * @implements {AsyncIterable<T | ServerReset>}
 */
export class Stream {
  /** @type {{ value?: T | ServerReset, end?: true, error?: ApexError }[]} */
  #waiting = [];
  /** @type {Handlers<T> | null} */
  #handlers = null;
  /** @type {(() => void)[]} */
  #readers = [];
  /** @type {ServerSubscribed | null} */
  #state = null;
  #behind = false;
  #keeper;
  #limit;

  /**
   * @param {Cursor} cursor
   * @param {Keeper} keeper
   * @param {number} limit
   */
  constructor(cursor, keeper, limit) {
    /** Where the reader is; kept elsewhere, it begins there again: `follow(run, stream.cursor)`. */
    this.cursor = cursor;
    this.#keeper = keeper;
    this.#limit = limit;
    /** Whether nothing will follow. */
    this.ended = false;
    /** What to let go of at the end. @type {(() => void) | null} */
    this.onOver = null;
  }

  /**
   * Hands every entry to callbacks, those that wait first.
   *
   * @param {Handlers<T>} handlers
   * @returns {this}
   */
  listen(handlers) {
    this.#handlers = handlers;
    if (this.#state) guarded(handlers.onState, this.#state);
    for (let item = this.#waiting.shift(); item; item = this.#waiting.shift()) this.#hand(item);
    this.#drained();
    return this;
  }

  /** No more of it. The run goes on: `client.cancel` ends it. */
  close() {
    if (this.ended) return;
    this.#waiting = [];
    this.end();
  }

  [Symbol.asyncIterator]() {
    return {
      /** @returns {Promise<IteratorResult<T | ServerReset, undefined>>} */
      next: async () => {
        for (;;) {
          const item = this.#waiting[0];
          if (!item) {
            this.#drained();
            await new Promise((resolve) => this.#readers.push(() => resolve(undefined)));
            continue;
          }
          // The end stays, for whoever asks once more.
          if (!item.end) this.#waiting.shift();
          const { error } = item;
          delete item.error;
          if (error) throw error;
          return item.end ? { done: true, value: undefined } : { done: false, value: /** @type {T} */ (item.value) };
        }
      },
      /** @returns {Promise<IteratorResult<T | ServerReset, undefined>>} */
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
    };
  }

  // ---- the client's side ----

  /** @param {ServerSubscribed} frame */
  told(frame) {
    this.#state = frame;
    guarded(this.#handlers?.onState, frame);
  }

  /**
   * Takes an entry; `false` when there is no place for it.
   *
   * @param {T | ServerReset} value
   */
  push(value) {
    if (this.#behind) return false;
    if (!this.#handlers && this.#waiting.length >= this.#limit) {
      // A volatile one that nobody has time for is gone.
      const { seq, frame } = /** @type {{ seq?: number | null, frame?: string }} */ (value);
      if (frame !== 'reset' && (seq === undefined || seq === null)) return false;
      this.#behind = true;
      this.#keeper.behind();
      return false;
    }
    this.#take({ value });
    return true;
  }

  /**
   * Nothing will follow; with an error when that is not as it should be.
   *
   * @param {ApexError} [error]
   */
  end(error) {
    if (this.ended) return;
    this.ended = true;
    this.#keeper.over();
    this.onOver?.();
    this.#take({ end: true, error });
  }

  /** @param {{ value?: T | ServerReset, end?: true, error?: ApexError }} item */
  #take(item) {
    if (this.#handlers) this.#hand(item);
    else this.#waiting.push(item);
    for (const wake of this.#readers.splice(0)) wake();
  }

  #drained() {
    if (!this.#behind || this.ended) return;
    this.#behind = false;
    this.#keeper.caughtUp();
  }

  /** @param {{ value?: T | ServerReset, end?: true, error?: ApexError }} item */
  #hand({ value, end, error }) {
    const { onEvent, onReset, onEnd } = /** @type {Handlers<T>} */ (this.#handlers);
    if (end) guarded(onEnd, error);
    else if (/** @type {{ frame: string }} */ (value).frame === 'reset') guarded(onReset, /** @type {ServerReset} */ (value));
    else guarded(onEvent, /** @type {T} */ (value));
  }
}

/**
 * A run that was asked for.
 *
 * @extends {Stream<RunEvent>}
 */
export class Answer extends Stream {
  /**
   * @param {Promise<{ run: string, thread: string, requestId: string }>} accepted
   * @param {Keeper} keeper
   * @param {number} limit
   */
  constructor(accepted, keeper, limit) {
    super(new Cursor(), keeper, limit);
    /** The run and its conversation, when the message is on record. */
    this.accepted = accepted;
  }
}

/**
 * Calls what a host gave. What it throws is the host's to see, and does not stop what the client was doing.
 *
 * @template A
 * @param {((argument: A) => void) | null | undefined} callback
 * @param {A} argument
 */
export function guarded(callback, argument) {
  try {
    callback?.(argument);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
