// The connection: made by the first way in that works, kept alive, and made again when it breaks.

import { backoff, meaning, ofStatus, onClose } from './closing.js';
import { ApexError } from './error.js';
import { guarded } from './stream.js';
import { Credentials, Place, open } from './ways.js';

/** @typedef {import('../types/wire.js').ServerFrame} ServerFrame */
/** @typedef {import('../types/wire.js').Welcome} Welcome */
/** @typedef {import('./closing.js').Way} Way */
/** @typedef {import('./ways.js').Fetching} Fetching */
/** @typedef {import('./ways.js').SocketLike} SocketLike */
/** @typedef {import('./ways.js').SocketClass} SocketClass */

/**
 * Where the connection is: on its way in, in, before the next try, or at its end for good.
 *
 * @typedef {{ name: 'connecting' } | { name: 'open', way: Way } | { name: 'waiting', reason: string, retryInMs: number }
 *   | { name: 'closed', error: ApexError, code: number | null }} State
 */

/**
 * @typedef {object} Clock
 * @property {() => number} now in milliseconds
 * @property {(ms: number, act: () => void) => () => void} after gives what calls it off
 */

/**
 * @typedef {object} Options
 * @property {string | URL} url where the service is: `http(s)://host[:port][/prefix]`
 * @property {Fetching} [ticket] fetches a new ticket, once for each attempt. An error with `retryable: false` closes
 *   the client; any other is a reason to try again later
 * @property {Fetching | string} [token] the bearer token of a service, or what fetches it. Without `ticket` and `token`
 *   the session cookie is the way in
 * @property {Way[]} [ways] the ways to try, in this order
 * @property {any} [WebSocket] the platform's by default; Node 20 has none: give it that of the package `ws`
 * @property {typeof fetch} [fetch] buys tickets for a token; the platform's by default
 * @property {{ getItem(key: string): string | null, setItem(key: string, value: string): void } | null} [storage]
 *   remembers the way that worked, `sessionStorage` for one
 * @property {(state: State) => void} [onState] told each new state
 * @property {number} [buffer] how many entries of a stream may wait for its reader
 * @property {AbortSignal} [signal] closes the client
 * @property {Clock} [clock] for tests
 * @property {() => number} [random] for tests
 */

/**
 * What uses the connection.
 *
 * @typedef {object} User
 * @property {(welcome: Welcome) => void} welcomed everything has to be asked anew
 * @property {(frame: ServerFrame) => void} take a frame, but for those that the connection is kept by
 * @property {(error: ApexError) => void} closed for good
 */

const WAY_KEY = 'apex.way';

const WELCOME_MS = 10_000; // from opening the socket to `welcome`
const PONG_MS = 10_000; // from `ping` to any sign of life
const STEADY_MS = 10_000; // a connection that lasted this long forgets earlier failures
const GOODBYE_MS = 2_000; // from our close to the server's

const SHARE = 0.75; // of the frames that the server allows, so that a clock's difference does no harm

/** @type {Clock} */
const systemClock = {
  now: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
};

/** One connection after another, as if it were one. */
export class Link {
  /** @type {((state: State) => void) | null} */
  onState;
  /** @type {State} */
  state = { name: 'connecting' };
  /** @type {Welcome | null} */
  welcome = null;

  #place;
  #credentials;
  #Socket;
  #ways;
  #clock;
  #random;
  #storage;
  /** @type {User} */
  #user;

  /** @type {SocketLike | null} */
  #socket = null;
  #attempt = 0; // grows with each try, so that what belongs to an earlier one is known
  #way = 0; // index into #ways
  #waysLeft = 0;
  #second = false; // whether this way has had its second credential
  #failures = 0;
  /** @type {number | null} */
  #drainedAt = null; // when a server that drains may be come back to
  #heardAt = 0;
  /** @type {Map<string, () => void>} */
  #timers = new Map(); // name -> call off

  #nextId = 1;
  /** @type {string[]} */
  #outbox = [];
  #pace = { burst: 1, perMs: 1, tokens: 1, at: 0 };

  /**
   * @param {Options} options
   * @param {User} user
   */
  constructor(options, user) {
    const { url, clock = systemClock, random = Math.random, storage = null } = options;
    this.#Socket = /** @type {SocketClass} */ (options.WebSocket ?? globalThis.WebSocket);
    if (!this.#Socket) {
      const message = 'there is no WebSocket here: `npm install ws`, then connect({ WebSocket }) with its `WebSocket`';
      throw new ApexError({ code: 'bad_request', message });
    }
    this.#place = new Place(url);
    this.#credentials = new Credentials(this.#place, options);
    this.#ways = options.ways ?? this.#credentials.ways(this.#Socket);
    this.#clock = clock;
    this.#random = random;
    this.#storage = storage;
    this.#user = user;
    this.onState = options.onState ?? null;
    const known = this.#ways.indexOf(/** @type {Way} */ (storage?.getItem(WAY_KEY)));
    if (known >= 0) this.#way = known;
  }

  /** Whether frames can be sent now. */
  get open() {
    return this.state.name === 'open';
  }

  /** The id of the next frame. */
  id() {
    return `c${this.#nextId++}`;
  }

  /** Begins. */
  start() {
    this.#startChain();
  }

  /** Tries now what would be tried later, and asks a silent connection for a sign. */
  wake() {
    if (this.state.name === 'waiting') this.#startChain();
    else if (this.open) this.#ping();
  }

  /** Ends for good; kept when the server has said goodbye. */
  async close() {
    const socket = this.open ? this.#socket : null;
    if (socket) this.#socket = null;
    const gone = socket && this.#goodbye(socket);
    this.#stop(new ApexError({ code: 'cancelled', message: 'the client was closed' }), null);
    await gone;
  }

  /**
   * A wait that has to be over before it is begun again: for what is asked once more after a while.
   *
   * @param {string} name
   * @param {number} failures
   * @param {number | null} asked
   * @param {() => void} act
   */
  later(name, failures, asked, act) {
    this.#timer(name, asked ?? backoff(failures, this.#random()), act);
  }

  /** Sends at once, or as soon as the server's limit of frames allows. @param {object} frame */
  send(frame) {
    this.#outbox.push(JSON.stringify(frame));
    this.#flush();
  }

  #flush() {
    const pace = this.#pace;
    const now = this.#clock.now();
    pace.tokens = Math.min(pace.burst, pace.tokens + (now - pace.at) * pace.perMs);
    pace.at = now;
    while (this.#outbox.length > 0 && pace.tokens >= 1) {
      pace.tokens -= 1;
      this.#socket?.send(/** @type {string} */ (this.#outbox.shift()));
    }
    if (this.#outbox.length > 0 && !this.#timers.has('pace')) {
      this.#timer('pace', Math.ceil((1 - pace.tokens) / pace.perMs), () => this.#flush());
    }
  }

  // ---- connecting ----

  #startChain() {
    this.#waysLeft = this.#ways.length;
    this.#second = false;
    this.#enter({ name: 'connecting' });
    void this.#open();
  }

  async #open() {
    this.#cancelTimers();
    this.#abandon();
    const attempt = ++this.#attempt;
    const way = /** @type {Way} */ (this.#ways[this.#way]);
    let credential, socket;
    try {
      credential = await this.#credentials.fresh(way);
      if (attempt !== this.#attempt) return;
      socket = open(this.#Socket, this.#place, way, credential);
    } catch (error) {
      if (attempt === this.#attempt) this.#refused(/** @type {any} */ (error));
      return;
    }
    this.#socket = socket;
    let welcomed = false;
    this.#timer('welcome', WELCOME_MS, () => this.#drop(socket));

    socket.onopen = () => {
      if (socket === this.#socket && way === 'hello') socket.send(JSON.stringify({ frame: 'hello', id: this.id(), ...credential }));
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#heardAt = this.#clock.now();
      const frame = parsed(data);
      if (!frame) this.#drop(socket); // no frame of the protocol's: what followed could not be trusted
      else if (frame.frame === 'welcome' && !welcomed) {
        welcomed = true;
        this.#onWelcome(frame);
      } else this.#take(frame);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#onClosed(code, reason, welcomed);
    };
    socket.onerror = () => {}; // the close that follows says more
    // The `ws` package shows the status of a refusal, which no browser does.
    socket.on?.('unexpected-response', (/** @type {any} */ _, /** @type {any} */ response) => {
      if (socket !== this.#socket) return;
      this.#abandon();
      this.#onClosed(ofStatus(response.statusCode), `status ${response.statusCode}`, false);
    });
  }

  /** There is no credential to try with. @param {Error & { retryable?: boolean, code?: string, retryAfterMs?: number }} error */
  #refused(error) {
    if (error.retryable !== false) return this.#retryLater(error.message, error.retryAfterMs);
    const { code = 'unauthenticated', message } = error;
    this.#stop(error instanceof ApexError ? error : new ApexError({ code, message, cause: error }), null);
  }

  /** Gives a socket up without waiting for its far end, which may be gone. @param {SocketLike} socket */
  #drop(socket) {
    if (socket !== this.#socket) return;
    this.#abandon();
    this.#onClosed(1006, 'no answer', this.state.name === 'open');
  }

  #abandon() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onclose = null;
    if (socket.terminate) socket.terminate();
    else socket.close();
  }

  /** @param {SocketLike} socket */
  #goodbye(socket) {
    return new Promise((/** @type {(nothing: void) => void} */ resolve) => {
      const late = this.#clock.after(GOODBYE_MS, () => {
        socket.terminate?.();
        resolve();
      });
      socket.onclose = () => {
        late();
        resolve();
      };
      socket.close(1000);
    });
  }

  /** @param {Welcome} frame */
  #onWelcome(frame) {
    this.welcome = frame;
    this.#cancelTimers();
    const way = /** @type {Way} */ (this.#ways[this.#way]);
    this.#storage?.setItem(WAY_KEY, way);
    this.#timer('steady', STEADY_MS, () => (this.#failures = 0));
    this.#watch();
    const { frames_per_s = 20, frames_burst = 40 } = frame.limits ?? {};
    const burst = frames_burst * SHARE;
    this.#pace = { burst, perMs: (frames_per_s * SHARE) / 1_000, tokens: burst, at: this.#clock.now() };
    this.#outbox = [];
    this.#user.welcomed(frame);
    this.#enter({ name: 'open', way });
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {boolean} welcomed
   */
  #onClosed(code, reason, welcomed) {
    this.#socket = null;
    this.#cancelTimers();
    let action = onClose(code, welcomed, /** @type {Way} */ (this.#ways[this.#way]));
    if (action === 'new_ticket') {
      if (!this.#second) {
        this.#second = true;
        return void this.#open();
      }
      action = 'next_way';
    }
    if (action === 'next_way') {
      this.#way = (this.#way + 1) % this.#ways.length;
      this.#waysLeft -= 1;
      this.#second = false;
      if (this.#waysLeft > 0) return void this.#open();
      if (code === 4401) action = 'stop';
    }
    if (action === 'stop') this.#stop(meaning(code), code);
    else this.#retryLater(reason || `closed with ${code}`);
  }

  /**
   * @param {string} reason
   * @param {number | null} [asked] how long to wait at least, where somebody said so
   */
  #retryLater(reason, asked) {
    this.#socket = null;
    this.#failures += 1;
    const drained = this.#drainedAt === null ? null : Math.max(0, this.#drainedAt - this.#clock.now());
    const retryInMs = Math.max(drained ?? backoff(this.#failures, this.#random()), asked ?? 0);
    this.#drainedAt = null;
    this.#timer('retry', retryInMs, () => this.#startChain());
    this.#enter({ name: 'waiting', reason, retryInMs });
  }

  /**
   * @param {ApexError} error
   * @param {number | null} code
   */
  #stop(error, code) {
    if (this.state.name === 'closed') return;
    this.#attempt += 1;
    this.#cancelTimers();
    this.#abandon();
    this.#enter({ name: 'closed', error, code });
    this.#user.closed(error);
  }

  /** @param {State} state */
  #enter(state) {
    this.state = state;
    guarded(this.onState, state);
  }

  /** @param {ServerFrame} frame */
  #take(frame) {
    if (frame.frame === 'welcome') this.welcome = frame; // a credential was renewed
    else if (frame.frame === 'expiring') void this.#renew();
    else if (frame.frame === 'draining') {
      this.#drainedAt = this.#clock.now() + frame.after_ms + this.#random() * frame.jitter_ms;
    } else this.#user.take(frame);
  }

  // ---- liveness ----

  /** Nothing heard for a heartbeat: asks for a sign of life. */
  #watch() {
    const heartbeat = (this.welcome?.heartbeat_s ?? 20) * 1_000;
    const silent = this.#clock.now() - this.#heardAt;
    if (silent >= heartbeat) this.#ping();
    else this.#timer('silence', heartbeat - silent, () => this.#watch());
  }

  #ping() {
    if (this.#timers.has('pong')) return;
    const socket = /** @type {SocketLike} */ (this.#socket);
    const askedAt = this.#clock.now();
    this.send({ frame: 'ping', id: this.id(), n: this.#nextId });
    this.#timer('pong', PONG_MS, () => {
      if (this.#heardAt >= askedAt) this.#watch();
      else this.#drop(socket);
    });
  }

  /**
   * @param {string} name
   * @param {number} ms
   * @param {() => void} act
   */
  #timer(name, ms, act) {
    this.#timers.get(name)?.();
    const callOff = this.#clock.after(ms, () => {
      this.#timers.delete(name);
      act();
    });
    this.#timers.set(name, callOff);
  }

  #cancelTimers() {
    for (const callOff of this.#timers.values()) callOff();
    this.#timers.clear();
  }

  /** The credential ends soon: a fresh one extends the connection, or else it closes and the chain begins anew. */
  async #renew() {
    const socket = this.#socket;
    const credential = await this.#credentials.fresh(/** @type {Way} */ (this.#ways[this.#way]), true).catch(() => null);
    if (credential && socket === this.#socket) this.send({ frame: 'hello', id: this.id(), ...credential });
  }
}

/** @param {unknown} data @returns {ServerFrame | null} */
function parsed(data) {
  try {
    return JSON.parse(/** @type {string} */ (data));
  } catch {
    return null;
  }
}
