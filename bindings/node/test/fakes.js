// A clock that a test turns by hand, and a server's end of a socket as objects.

export class FakeClock {
  #now = 0;
  #timers = [];

  now() {
    return this.#now;
  }

  /** How many timers are set. */
  get waiting() {
    return this.#timers.length;
  }

  after(ms, act) {
    const timer = { at: this.#now + ms, act };
    this.#timers.push(timer);
    return () => (this.#timers = this.#timers.filter((other) => other !== timer));
  }

  /** Lets time pass, timer by timer, with everything that each sets off. */
  async pass(ms) {
    const until = this.#now + ms;
    for (;;) {
      await settle();
      const [next] = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.act();
    }
    this.#now = until;
    await settle();
  }
}

/** Until everything that waits for nothing but itself is done. */
export function settle() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A network: `sockets` are those that a client opened, in order; `Socket` is what the client takes for WebSocket. */
export function fakeNetwork() {
  const sockets = [];
  class Socket {
    constructor(url, protocols = [], options = {}) {
      Object.assign(this, { url, protocols, options, sent: [], closed: false });
      sockets.push(this);
    }
    send(text) {
      if (this.closed) throw new Error('sent to a closed socket');
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.closed = true;
    }
    // What the far end does:
    open() {
      this.onopen?.();
    }
    say(frame) {
      this.onmessage?.({ data: JSON.stringify(frame) });
    }
    welcome(limits) {
      this.open();
      this.say({ frame: 'welcome', connection: 'k', user: 'u', heartbeat_s: 20, limits });
    }
    end(code, reason = '') {
      this.closed = true;
      this.onclose?.({ code, reason });
    }
    last(name) {
      return this.sent.findLast(({ frame }) => frame === name);
    }
  }
  return { Socket, sockets, get socket() { return sockets.at(-1); } };
}

export const event = (seq, type = 'agent_thinking', more = {}) => ({
  frame: 'event', v: 1, run: 'r1', thread: 't1', parent: null, epoch: 'e1', seq, at: '2026-11-22T10:00:00Z', type, data: {}, ...more,
});
