import { toldAgent } from './agent.js';
import { flag, forget, hold, json, logs, nothing, numbered, plain, remember, request, warn } from './bridge.js';
import { bytes } from './context.js';
import { knock } from './http.js';
import { Run } from './run.js';
import { toldTool } from './tool.js';
import { callable, encode, kind, text } from './values.js';

/** @typedef {import('../types/native.js').Handle} Handle */
/** @typedef {import('../types/host.js').Options} Options */
/** @typedef {import('../types/host.js').AskOptions} AskOptions */
/** @typedef {import('../types/wire.js').RunResult} RunResult */
/**
 * @template T
 * @typedef {import('../types/host.js').Page<T>} Page
 */

/** How long `close` waits for runs under way, in milliseconds. */
const CLOSE_WITHIN_MS = 5_000;

/** Somebody whom this program has verified; `apex.user` gives it. */
export class User {
  #handle;

  /**
   * @param {string} id
   * @param {Handle} handle
   */
  constructor(id, handle) {
    this.#handle = handle;
    /** The id of the account. */
    this.id = id;
  }

  /**
   * @param {unknown} user
   * @returns {Handle}
   */
  static handleOf(user) {
    if (typeof user === 'object' && user !== null && #handle in user) return user.#handle;
    throw new TypeError(`the user has to be one that apex.user(…) gave, not ${kind(user)}`);
  }
}

/** Agents at work on recorded runs, and the wire that serves them, in this process. */
export class Apex {
  /** @type {Handle | null} */
  #handle;

  /** @param {Handle} handle */
  constructor(handle) {
    this.#handle = handle;
  }

  /**
   * Checks everything, opens the stores, and begins to work on runs, also on those that an earlier process left behind.
   *
   * @param {Options} [options]
   * @returns {Promise<Apex>} broken by `config_invalid` with all `faults` at once
   */
  static async build(options = {}) {
    return new Apex(await request('build', { text: told(options), read: (_, handle) => handle }));
  }

  /**
   * Vouches for a user whom this program has verified, by its own name for them.
   *
   * @param {string} name
   * @returns {Promise<User>}
   */
  user(name) {
    return this.#ask('user', { name: text(name, 'the name of a user') }, (id, handle) => new User(id, handle));
  }

  /**
   * Asks a question and waits for the answer.
   *
   * @param {User} user
   * @param {string} question
   * @param {AskOptions} [options]
   * @returns {Promise<RunResult>} broken by the error with which the run failed
   */
  async ask(user, question, options = {}) {
    const run = await this.start(user, question, options);
    return run.result({ signal: options.signal });
  }

  /**
   * Puts a message on record and starts its run.
   *
   * @param {User} user
   * @param {string} question
   * @param {AskOptions} [options]
   * @returns {Promise<Run>}
   */
  async start(user, question, { thread, files = [], requestId = crypto.randomUUID(), signal } = {}) {
    const handle = User.handleOf(user);
    const args = { text: text(question, 'the question'), thread: thread ?? null, files, request: text(requestId, 'the id of the request') };
    remember(requestId);
    try {
      const accepted = await request('start', { on: this.handle, with: handle, args, signal });
      return new Run(() => this.handle, handle, accepted);
    } catch (error) {
      forget(requestId);
      throw error;
    }
  }

  /**
   * A run of the user's, by its id.
   *
   * @param {User} user
   * @param {string} run
   */
  run(user, run) {
    return new Run(() => this.handle, User.handleOf(user), { run: text(run, 'the run') });
  }

  /**
   * The user's conversations, the one last written to first.
   *
   * @param {User} user
   * @param {{ shared?: boolean, cursor?: string, most?: number }} [options] those that others share instead; a page
   * @returns {Promise<Page<import('../types/host.js').ThreadInfo>>}
   */
  threads(user, { shared = false, cursor, most = 50 } = {}) {
    return this.#of(user, 'threads', { shared, cursor: cursor ?? null, most });
  }

  /**
   * What was said in a conversation, oldest first.
   *
   * @param {User} user
   * @param {string} thread
   * @param {{ cursor?: string, most?: number }} [options]
   * @returns {Promise<Page<import('../types/host.js').Said>>}
   */
  messages(user, thread, { cursor, most = 200 } = {}) {
    return this.#of(user, 'messages', { thread: text(thread, 'the thread'), cursor: cursor ?? null, most });
  }

  /**
   * Deletes a conversation with its runs and what they made.
   *
   * @param {User} user
   * @param {string} thread
   * @returns {Promise<void>}
   */
  forget(user, thread) {
    return this.#of(user, 'forget', { thread: text(thread, 'the thread') }, nothing);
  }

  /**
   * Keeps a file of the user's, to be named in a question: content, or a file of this machine's by its path.
   *
   * @param {User} user
   * @param {string} name
   * @param {Uint8Array | string | { path: string }} content
   * @returns {Promise<import('../types/host.js').FileInfo>}
   */
  async upload(user, name, content) {
    const path = typeof content === 'object' && content !== null && 'path' in content ? text(content.path, 'the path') : null;
    const pieces = path === null ? [bytes(content)] : [];
    return this.#of(user, 'upload', { name: text(name, 'the name of a file'), path }, json, pieces);
  }

  /**
   * The user's files.
   *
   * @param {User} user
   * @returns {Promise<import('../types/host.js').FileInfo[]>}
   */
  files(user) {
    return this.#of(user, 'files', {});
  }

  /**
   * The content of a file of the user's.
   *
   * @param {User} user
   * @param {string} file
   * @param {{ most?: number }} [options] the most bytes
   * @returns {Promise<Uint8Array>}
   */
  file(user, file, { most = 64 * 1024 * 1024 } = {}) {
    return this.#of(user, 'file', { file: text(file, 'the file'), most }, plain);
  }

  /**
   * Deletes a file of the user's.
   *
   * @param {User} user
   * @param {string} file
   * @returns {Promise<void>}
   */
  deleteFile(user, file) {
    return this.#of(user, 'delete_file', { file: text(file, 'the file') }, nothing);
  }

  /**
   * What the user's runs, or one of them, used of models: one sum of all, or one for each
   * model, outcome, run, step or day.
   *
   * @param {User} user
   * @param {{ run?: string, by?: 'all' | 'model' | 'outcome' | 'run' | 'step' | 'day' }} [options]
   * @returns {Promise<any>}
   */
  usage(user, { run, by = 'all' } = {}) {
    return this.#of(user, 'usage', { run: run ?? null, by });
  }

  /**
   * A ticket with which a client of this user's connects once.
   *
   * @param {User} user
   * @returns {Promise<import('../types/host.js').Ticket>}
   */
  ticket(user) {
    return this.#of(user, 'ticket', {});
  }

  /**
   * How this node is doing, and the failures so far.
   *
   * @returns {Promise<any>}
   */
  health() {
    return this.#ask('health', {});
  }

  /**
   * Serves on a listener of Apex's own: that of the configuration where none is named. As other servers do, it keeps the
   * process alive until it is closed, unless `unref` is called.
   *
   * @param {string} [address] such as `127.0.0.1:8000`; with the port 0 the system chooses one
   * @returns {Promise<Server>}
   */
  serve(address) {
    const args = { address: address === undefined ? null : text(address, 'the address') };
    return this.#ask('serve', args, (address, handle) => new Server(address, handle));
  }

  /**
   * Checks who asks for the upgrade of a socket of this program's own, as at Apex's own door: accepted, with a pipe for
   * the frames that go over the socket, or refused with an answer.
   *
   * @param {import('./http.js').Incoming} request
   * @returns {Promise<import('./http.js').Accepted | import('./http.js').Refused>}
   */
  authenticate(request) {
    return knock(this.handle, request);
  }

  /**
   * Takes no more work, gives runs under way a while to end, saves the rest where they are, and lets go of everything.
   *
   * @param {{ withinMs?: number }} [options]
   * @returns {Promise<boolean>} whether all of them ended or were saved
   */
  async close({ withinMs = CLOSE_WITHIN_MS } = {}) {
    const handle = this.#handle;
    if (!handle) return true;
    this.#handle = null;
    try {
      return await request('drain', { on: handle, args: { within_ms: withinMs }, read: flag });
    } finally {
      handle.release();
    }
  }

  /** @returns {Promise<void>} */
  async [Symbol.asyncDispose]() {
    await this.close();
  }

  /** What the addon holds of it; for the adapters. */
  get handle() {
    if (!this.#handle) throw new TypeError('this Apex is closed');
    return this.#handle;
  }

  /**
   * @param {string} op
   * @param {object} args
   * @param {import('./bridge.js').Read} [read]
   */
  async #ask(op, args, read = json) {
    return request(op, { on: this.handle, args, read });
  }

  /**
   * @param {User} user
   * @param {string} op
   * @param {object} args
   * @param {import('./bridge.js').Read} [read]
   * @param {Uint8Array[]} [bytes]
   */
  async #of(user, op, args, read = json, bytes = []) {
    return request(op, { on: this.handle, with: User.handleOf(user), args, read, bytes });
  }
}

/** Apex on a listener of its own. */
export class Server {
  #handle;
  #letGo = hold();

  /**
   * @param {string} address
   * @param {Handle} handle
   */
  constructor(address, handle) {
    this.#handle = handle;
    /** Where it listens. */
    this.address = address;
    this.url = `http://${address}`;
  }

  /** Does not keep the process alive any more. */
  unref() {
    this.#letGo();
    return this;
  }

  /**
   * Takes nobody new, tells clients to come back elsewhere, and waits until they are gone.
   *
   * @returns {Promise<void>}
   */
  async close() {
    try {
      await request('stop', { on: this.#handle, read: nothing });
    } finally {
      this.#letGo();
    }
  }

  /** @returns {Promise<void>} */
  [Symbol.asyncDispose]() {
    return this.close();
  }
}

/**
 * Tells a function each line of Apex's log; once for a process.
 *
 * @param {(record: import('../types/host.js').LogRecord) => void} fn
 * @param {{ level?: 'trace' | 'debug' | 'info' | 'warn' | 'error' }} [options] from which level on
 * @returns {Promise<void>}
 */
export async function log(fn, { level = 'info' } = {}) {
  const levels = { trace: 5, debug: 10, info: 20, warn: 30, error: 40 };
  if (!(level in levels)) throw new TypeError(`there is no level ${String(level)}`);
  await logs(levels[level], callable(fn, 'the function that is told the log'));
}

/**
 * What the addon is told, with numbers for functions.
 *
 * @param {Options} options
 */
function told(options) {
  if (typeof options !== 'object' || options === null) throw new TypeError(`the options have to be an object, not ${kind(options)}`);
  const { config, configFile, env, envPrefix, secretsDir, secrets, agents = [], tools = [], entry, team = false, doors = [], onAlert, memory, contract, ...rest } = options;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw new TypeError(`there is no option ${unknown}`);
  for (const [name, list] of Object.entries({ agents, tools, doors })) {
    if (!Array.isArray(list)) throw new TypeError(`${name} has to be an array, not ${kind(list)}`);
  }
  if (secrets !== undefined) callable(secrets, 'secrets');
  if (onAlert !== undefined) callable(onAlert, 'onAlert');
  const configured = [config, configFile, env, secretsDir, secrets].some((value) => value !== undefined);
  const environment = Object.fromEntries(Object.entries(env ?? {}).filter(([, value]) => value !== undefined));
  const settings = { values: config ?? {}, file: configFile ?? null, environment, prefix: envPrefix ?? null, secrets_dir: secretsDir ?? null };
  const whole = {
    settings: configured ? settings : null,
    secrets: secrets ? numbered(async ({ input }) => encode((await secrets(input)) ?? null, 'a secret')) : null,
    agents: agents.map(toldAgent),
    tools: tools.map(toldTool),
    entry: entry ?? null,
    team,
    doors: doors.map(toldDoor),
    watcher: onAlert ? numbered(async ({ input }) => (await Promise.resolve(input).then(onAlert).catch(warn), 'null')) : null,
    memory: memory === undefined ? null : toldMemory(memory),
    contract: contract ?? null,
  };
  return encode(whole, 'the options');
}

/** @param {import('../types/host.js').Door} door */
function toldDoor({ headers, ambient = false, authenticate }) {
  callable(authenticate, 'authenticate of a door');
  const verify = numbered(async ({ input }) => {
    const known = await authenticate(input);
    if (known === null || known === undefined) return 'null';
    return encode({ user: known.user, ...(known.expiresIn === undefined ? {} : { expires_in: known.expiresIn }) }, 'what authenticate returned');
  });
  return { headers, ambient, verify };
}

/** @param {import('../types/host.js').MemoryStore} store */
function toldMemory(store) {
  if (typeof store !== 'object' || store === null) throw new TypeError(`memory has to be an object, not ${kind(store)}`);
  for (const name of /** @type {const} */ (['keep', 'notes', 'forget', 'forgetAll'])) callable(store[name], `${name} of memory`);
  return {
    keep: numbered(async ({ input: { user, note } }) => (await store.keep(user, note), 'null')),
    notes: numbered(async ({ input: { user } }) => encode(await store.notes(user), 'what notes of memory returned')),
    forget: numbered(async ({ input: { user, name } }) => encode(await store.forget(user, name), 'what forget of memory returned')),
    forget_all: numbered(async ({ input: { user } }) => encode(await store.forgetAll(user), 'what forgetAll of memory returned')),
  };
}
