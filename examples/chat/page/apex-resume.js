// Where a reader stands in a stream of numbered events, and the reader's end of it.

/** A position in a stream: what was applied so far, and whether the next envelope may be. */
export class Cursor {
  constructor(epoch = null, last = 0) {
    this.epoch = epoch;
    this.last = last;
  }

  /**
   * Judges an envelope: `apply` it (and the position moves), `drop` it (seen before), or subscribe again because of
   * a `gap`. Volatile events have no `seq` and do not move the position.
   */
  offer({ epoch, seq }) {
    if (this.epoch !== null && epoch !== this.epoch) return 'gap';
    if (seq === undefined || seq === null) return 'apply';
    if (seq <= this.last) return 'drop';
    if (seq > this.last + 1) return 'gap';
    this.epoch = epoch;
    this.last = seq;
    return 'apply';
  }

  /** Goes on after a `reset`: the next event is `head + 1`. */
  reset({ epoch, head }) {
    this.epoch = epoch;
    this.last = head;
  }

  /** As the fields of a `subscribe` frame. */
  position() {
    return this.epoch === null ? {} : { epoch: this.epoch, after: this.last };
  }
}

/**
 * One stream as its reader sees it. Until someone listens, items wait here; they are as many as the server keeps of
 * one stream at most. Read it by `listen` or by `for await`, not by both.
 */
export class Subscription {
  #waiting = [];
  #handlers = null;
  #wake = null;
  #close;

  constructor(cursor, close) {
    this.cursor = cursor;
    this.ended = false;
    /** The id of the frame that asked for it, the last one. */
    this.frame = null;
    /** Whether the answer to that frame is still to come; events before it belong to an earlier one. */
    this.asking = false;
    /** How often asking failed since it last worked. */
    this.failures = 0;
    this.#close = close;
  }

  /**
   * Hands every item to callbacks, those that wait first: `onEvent(envelope)`, `onReset(frame)`,
   * `onState(frame)` for each answer to a `subscribe`, `onEnd(error?)` once.
   */
  listen(handlers) {
    this.#handlers = handlers;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const item of waiting) this.#hand(item);
    return this;
  }

  /** No more of it. */
  close() {
    this.#close();
    this.end();
  }

  /** Takes an item from the connection: `{ event }`, `{ reset }` or `{ state }`. */
  push(item) {
    if (this.ended) return;
    if (this.#handlers) this.#hand(item);
    else this.#waiting.push(item);
    this.#wake?.();
  }

  /** Nothing will follow; with an error when that is not as it should be. */
  end(error) {
    if (this.ended) return;
    this.push({ end: { error } });
    this.ended = true;
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      const item = this.#waiting.shift();
      if (item?.end) {
        if (item.end.error) throw item.end.error;
        return;
      }
      if (item) yield item;
      else await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  #hand(item) {
    const { onEvent, onReset, onState, onEnd } = this.#handlers;
    if (item.event) onEvent?.(item.event);
    else if (item.reset) onReset?.(item.reset);
    else if (item.state) onState?.(item.state);
    else if (item.end) onEnd?.(item.end.error);
  }
}
