// A small client of the Apex protocol, version 1: it connects by the chain of ways, keeps the connection alive, and
// hands every event of a run to its reader once and in order, whatever the network does.
//
//   const client = new ApexClient({ url, ticket: async () => '…' });
//   client.onState = (state) => …;
//   client.connect();
//   const { run, thread, subscription } = await client.message({ text, attachments });
//   for await (const { event, reset } of subscription) …       // or subscription.listen({ onEvent, onReset })
//
// `ticket` fetches a new ticket each time, and with `{ lasting: true }` one by a login that was renewed, because the
// connection's credential runs out. When it throws an error whose `fatal` is true (the login is gone), the
// client stops; any other error is a reason to try again later.

import { WAYS, backoff, meaning, onClose } from './apex-reconnect.js';
import { Cursor, Subscription } from './apex-resume.js';

const PROTOCOL = 'apex.v1';
const WAY_KEY = 'apex.way';
const INBOX = 'inbox';

const WELCOME_MS = 10_000; // from opening the socket to `welcome`
const PONG_MS = 10_000; // from `ping` to any sign of life
const STEADY_MS = 10_000; // a connection that lasted this long forgets earlier failures

const SHARE = 0.75; // of the frames that the server allows, so that a clock's difference does no harm

const ENDED = new Set(['completed', 'failed', 'cancelled']);
const TERMINAL = new Set(['run_completed', 'run_failed', 'run_cancelled']);

/** An error that the server answered with, or `code: 'closed'` when the connection was given up. */
export class ApexError extends Error {
  constructor({ code, message, retryable = false, correlation, retry_after_ms }) {
    super(message);
    this.name = 'ApexError';
    this.code = code;
    this.retryable = retryable;
    this.correlation = correlation;
    this.retryAfterMs = retry_after_ms;
  }
}

const systemClock = {
  now: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
};

export class ApexClient {
  /** Called with each new state: `{ name, code?, reason?, retryInMs? }`. */
  onState = null;
  /** `idle`, `connecting`, `connected`, `reconnecting` or `stopped`. */
  state = { name: 'idle' };
  /** The last `welcome`. */
  welcome = null;

  #url;
  #ticket;
  #Socket;
  #clock;
  #random;
  #storage;

  #socket = null;
  #opening = 0; // grows with each try, so that what belongs to an earlier one is known
  #way = 0; // index into WAYS
  #waysLeft = WAYS.length;
  #secondTicket = false;
  #failures = 0;
  #drainDelayMs = null;
  #heardAt = 0;
  #timers = new Map(); // name -> cancel

  #nextId = 1;
  #requests = new Map(); // id -> { frame, resolve, reject }
  #subscriptions = new Map(); // run or INBOX -> Subscription
  #outbox = [];
  #pace = null; // { burst, perMs, tokens, at }

  constructor({ url, ticket, Socket = WebSocket, clock = systemClock, random = Math.random, storage = null }) {
    this.#url = url;
    this.#ticket = ticket;
    this.#Socket = Socket;
    this.#clock = clock;
    this.#random = random;
    this.#storage = storage;
    const known = WAYS.indexOf(storage?.getItem(WAY_KEY));
    if (known >= 0) this.#way = known;
  }

  /** Connects, and stays connected until `close` or a reason to stop. */
  connect() {
    if (this.state.name === 'connected' || this.state.name === 'connecting') return;
    this.#enter({ name: 'connecting' });
    this.#startChain();
  }

  /** Ends the connection and all that waits for it. */
  close() {
    this.#stop(1000, 'closed by the page');
  }

  /** The network may have changed: tries now what would be tried later, and asks a silent connection for a sign. */
  wake() {
    if (this.state.name === 'reconnecting') this.#startChain();
    else if (this.state.name === 'connected') this.#ping();
  }

  /**
   * Sends a message: `{ text, thread?, attachments? }`. The promise holds through reconnects, under one
   * `request_id`, so that it starts one run; it gives `{ run, thread, subscription }`.
   */
  async message({ text, thread, attachments = [], request_id = crypto.randomUUID() }) {
    const frame = { frame: 'message', request_id, text, attachments: attachments.map((file) => ({ file })) };
    if (thread) frame.thread = thread;
    const { run, thread: where, subscription } = await this.#request(frame);
    return { run, thread: where, subscription };
  }

  /** Follows a run, from its start or from `{ epoch, last }`. */
  subscribe(run, { epoch = null, last = 0 } = {}) {
    return this.#follow(run, new Cursor(epoch, last));
  }

  /** Follows the user's inbox. */
  inbox() {
    return this.#follow(INBOX, new Cursor());
  }

  /** Tells a run to stop; the promise is kept when that is on record. */
  async cancel(run) {
    await this.#request({ frame: 'cancel', run });
  }

  // ---- connecting ----

  #startChain() {
    this.#waysLeft = WAYS.length;
    this.#secondTicket = false;
    this.#open();
  }

  async #open() {
    this.#cancelTimers();
    this.#abandon();
    const opening = ++this.#opening;
    let ticket;
    try {
      ticket = await this.#ticket({ lasting: false });
    } catch (error) {
      if (opening !== this.#opening) return;
      if (error.fatal) this.#stop(4401, error.message);
      else this.#retryLater(error.message);
      return;
    }
    if (opening !== this.#opening) return;

    const way = WAYS[this.#way];
    const socket =
      way === 'subprotocol'
        ? new this.#Socket(this.#url, [PROTOCOL, `apex.ticket.${ticket}`])
        : new this.#Socket(way === 'query' ? `${this.#url}?ticket=${ticket}` : this.#url);
    this.#socket = socket;
    let welcomedAt = null;
    this.#timer('welcome', WELCOME_MS, () => this.#drop(socket));

    socket.onopen = () => {
      if (socket === this.#socket && way === 'hello') {
        socket.send(JSON.stringify({ frame: 'hello', id: this.#id(), ticket }));
      }
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#heardAt = this.#clock.now();
      const frame = JSON.parse(data);
      if (frame.frame === 'welcome' && welcomedAt === null) {
        welcomedAt = this.#clock.now();
        this.#onWelcome(frame);
      } else {
        this.#onFrame(frame);
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.#socket) return;
      this.#onClosed(code, reason, welcomedAt);
    };
  }

  /** Gives a socket up without waiting for its far end, which may be gone. */
  #drop(socket) {
    if (socket !== this.#socket) return;
    const welcomed = this.state.name === 'connected';
    this.#abandon();
    this.#onClosed(1006, 'no answer', welcomed ? this.#heardAt : null);
  }

  #abandon() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onclose = null;
    socket.close();
  }

  #onWelcome(frame) {
    this.welcome = frame;
    this.#cancelTimers();
    this.#storage?.setItem(WAY_KEY, WAYS[this.#way]);
    this.#timer('steady', STEADY_MS, () => (this.#failures = 0));
    this.#watch();
    const { frames_per_s = 20, frames_burst = 40 } = frame.limits ?? {};
    const burst = frames_burst * SHARE;
    this.#pace = { burst, perMs: (frames_per_s * SHARE) / 1_000, tokens: burst, at: this.#clock.now() };
    this.#outbox = [];
    for (const [key, subscription] of this.#subscriptions) this.#sendSubscribe(key, subscription);
    for (const { frame: request } of this.#requests.values()) this.#send(request);
    this.#enter({ name: 'connected' });
  }

  #onClosed(code, reason, welcomedAt) {
    this.#socket = null;
    this.#cancelTimers();
    let action = onClose(code, welcomedAt !== null, WAYS[this.#way]);
    if (action === 'new_ticket') {
      if (!this.#secondTicket) {
        this.#secondTicket = true;
        this.#open();
        return;
      }
      action = 'next_way';
    }
    if (action === 'next_way') {
      this.#way = (this.#way + 1) % WAYS.length;
      this.#waysLeft -= 1;
      this.#secondTicket = false;
      if (this.#waysLeft > 0) {
        this.#open();
        return;
      }
      if (code === 4401) action = 'stop';
    }
    if (action === 'stop') this.#stop(code, meaning(code), reason);
    else this.#retryLater(reason);
  }

  #retryLater(reason) {
    this.#socket = null;
    this.#failures += 1;
    const retryInMs = this.#drainDelayMs ?? backoff(this.#failures, this.#random());
    this.#drainDelayMs = null;
    this.#timer('retry', retryInMs, () => this.#startChain());
    this.#enter({ name: 'reconnecting', reason, retryInMs });
  }

  #stop(code, reason, detail) {
    this.#opening += 1;
    this.#cancelTimers();
    this.#abandon();
    const error = new ApexError({ code: 'closed', message: reason });
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
    this.#enter({ name: 'stopped', code, reason, detail });
  }

  #enter(state) {
    this.state = state;
    this.onState?.(state);
  }

  // ---- liveness ----

  /** Nothing heard for a heartbeat: asks for a sign of life. */
  #watch() {
    const heartbeat = (this.welcome.heartbeat_s ?? 20) * 1_000;
    const silent = this.#clock.now() - this.#heardAt;
    if (silent >= heartbeat) this.#ping();
    else this.#timer('silence', heartbeat - silent, () => this.#watch());
  }

  #ping() {
    if (this.#timers.has('pong')) return;
    const [socket, askedAt] = [this.#socket, this.#clock.now()];
    this.#send({ frame: 'ping', id: this.#id(), n: this.#nextId });
    this.#timer('pong', PONG_MS, () => {
      if (this.#heardAt >= askedAt) this.#watch();
      else this.#drop(socket);
    });
  }

  #timer(name, ms, act) {
    this.#timers.get(name)?.();
    const cancel = this.#clock.after(ms, () => {
      this.#timers.delete(name);
      act();
    });
    this.#timers.set(name, cancel);
  }

  #cancelTimers() {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }

  // ---- frames out ----

  #id() {
    return `c${this.#nextId++}`;
  }

  /** Sends a frame and waits for its answer, through reconnects: all requests of this client may be repeated. */
  #request(frame) {
    const request = { ...frame, id: this.#id() };
    if (this.state.name === 'stopped') {
      return Promise.reject(new ApexError({ code: 'closed', message: this.state.reason }));
    }
    return new Promise((resolve, reject) => {
      this.#requests.set(request.id, { frame: request, resolve, reject });
      if (this.state.name === 'connected') this.#send(request);
    });
  }

  #follow(key, cursor) {
    this.#subscriptions.get(key)?.close();
    const subscription = this.#register(key, cursor);
    if (this.state.name === 'connected') this.#sendSubscribe(key, subscription);
    return subscription;
  }

  #register(key, cursor) {
    const subscription = new Subscription(cursor, () => {
      if (this.#subscriptions.get(key) !== subscription) return;
      this.#subscriptions.delete(key);
      if (this.state.name === 'connected' && key !== INBOX) {
        this.#send({ frame: 'unsubscribe', id: this.#id(), run: key });
      }
    });
    this.#subscriptions.set(key, subscription);
    return subscription;
  }

  #sendSubscribe(key, subscription) {
    const what = key === INBOX ? { frame: 'inbox' } : { frame: 'subscribe', run: key };
    subscription.frame = this.#id();
    subscription.asking = true;
    this.#send({ ...what, id: subscription.frame, ...subscription.cursor.position() });
  }

  /** Sends at once, or as soon as the server's limit of frames allows. */
  #send(frame) {
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
      this.#socket.send(this.#outbox.shift());
    }
    if (this.#outbox.length > 0 && !this.#timers.has('pace')) {
      this.#timer('pace', Math.ceil((1 - pace.tokens) / pace.perMs), () => this.#flush());
    }
  }

  // ---- frames in ----

  #onFrame(frame) {
    switch (frame.frame) {
      case 'event':
        this.#onEntry(frame.run, frame);
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
      case 'welcome': // a credential was renewed
        this.welcome = frame;
        break;
      case 'expiring':
        this.#renew();
        break;
      case 'draining':
        this.#drainDelayMs = frame.after_ms + this.#random() * frame.jitter_ms;
        break;
      default: // `pong`, and what later versions may add
    }
  }

  #onEntry(key, entry) {
    const subscription = this.#subscriptions.get(key);
    if (!subscription || subscription.asking) return;
    switch (subscription.cursor.offer(entry)) {
      case 'apply':
        subscription.push({ event: entry });
        if (TERMINAL.has(entry.type)) this.#finish(key, subscription);
        break;
      case 'gap':
        this.#sendSubscribe(key, subscription);
        break;
      default: // seen before
    }
  }

  #onSubscribed(frame) {
    const [key, subscription] = this.#askedBy(frame.id);
    if (!subscription) return;
    subscription.asking = false;
    subscription.failures = 0;
    subscription.cursor.epoch ??= frame.epoch;
    subscription.push({ state: frame });
    if (ENDED.has(frame.state) && subscription.cursor.last >= frame.head) this.#finish(key, subscription);
  }

  #onReset(frame) {
    const key = frame.run ?? INBOX;
    const subscription = this.#subscriptions.get(key);
    if (!subscription || (subscription.asking && subscription.frame !== frame.id)) return;
    subscription.asking = false;
    subscription.cursor.reset(frame);
    subscription.push({ reset: frame });
    if (ENDED.has(frame.snapshot?.state)) this.#finish(key, subscription);
  }

  #onAccepted(frame) {
    // The sender is subscribed from the start. For a message that was sent again the reader may be there already.
    const subscription = this.#subscriptions.get(frame.run) ?? this.#register(frame.run, new Cursor());
    subscription.frame = frame.id;
    this.#settle(frame.id, ({ resolve }) => resolve({ ...frame, subscription }));
  }

  #onError(frame) {
    const error = new ApexError(frame);
    const [key, subscription] = this.#askedBy(frame.id);
    if (!subscription) {
      this.#settle(frame.id, ({ reject }) => reject(error));
    } else if (error.retryable) {
      subscription.failures += 1;
      const wait = error.retryAfterMs ?? backoff(subscription.failures, this.#random());
      this.#timer(`again ${key}`, wait, () => {
        if (this.#subscriptions.get(key) === subscription) this.#sendSubscribe(key, subscription);
      });
    } else {
      this.#finish(key, subscription, error);
    }
  }

  #askedBy(id) {
    for (const entry of this.#subscriptions) if (id !== undefined && entry[1].frame === id) return entry;
    return [];
  }

  #settle(id, act) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    if (request) act(request);
  }

  #finish(key, subscription, error) {
    this.#subscriptions.delete(key);
    subscription.end(error);
  }

  /** The credential ends soon: a fresh ticket extends the connection, or else it closes and the chain begins anew. */
  async #renew() {
    const socket = this.#socket;
    const ticket = await this.#ticket({ lasting: true }).catch(() => null);
    if (ticket && socket === this.#socket) this.#send({ frame: 'hello', id: this.#id(), ticket });
  }
}
