// Apex in this program's own HTTP server: its routes as a handler for plain `http`, Express and Fastify, and its
// WebSocket over sockets of the package `ws`.

import { addon, flag, nothing, plain, request } from './bridge.js';
import { text } from './values.js';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */
/** @typedef {import('node:http').Server} HttpServer */
/** @typedef {import('node:stream').Duplex} Duplex */
/** @typedef {import('../types/native.js').Handle} Handle */
/** @typedef {import('./apex.js').Apex} Apex */
/** @typedef {Pick<IncomingMessage, 'method' | 'url' | 'rawHeaders'> & { socket?: { remoteAddress?: string | undefined } | null }} Incoming */

/**
 * The socket is to be accepted.
 *
 * @typedef {{ accepted: true, subprotocol: string | null, pipe: Pipe }} Accepted
 */
/**
 * The upgrade is to be refused, with this answer.
 *
 * @typedef {{ accepted: false, status: number, headers: [string, string][], body: () => Promise<Uint8Array> }} Refused
 */

/** The largest message that a client's socket may bring; Apex's own limit is below it. */
const MOST_MESSAGE = 1024 * 1024;

/** The frames of one connection. */
export class Pipe {
  #handle;

  /** @param {Handle} handle */
  constructor(handle) {
    this.#handle = handle;
  }

  /**
   * A text message came; kept when there is room for the next one, with `false` when the conversation is over.
   *
   * @param {string} frame
   * @returns {Promise<boolean>}
   */
  text(frame) {
    return request('text', { on: this.#handle, text: text(frame, 'a frame'), read: flag });
  }

  /**
   * A binary message came, which is against the protocol.
   *
   * @returns {Promise<boolean>}
   */
  binary() {
    return request('binary', { on: this.#handle, read: flag });
  }

  /**
   * A ping or a pong came.
   *
   * @returns {Promise<boolean>}
   */
  alive() {
    return request('alive', { on: this.#handle, read: flag });
  }

  /**
   * What is to be sent next; `null` when the conversation is over.
   *
   * @returns {Promise<{ text: string } | { ping: true } | { close: number, reason: string } | null>}
   */
  next() {
    return request('next', {
      on: this.#handle,
      read: (first, second) => {
        if (second === 1) return { ping: true };
        if (typeof first !== 'string') return null;
        return second === 0 ? { text: first } : { close: second, reason: first };
      },
    });
  }

  /**
   * The client's socket is closed.
   *
   * @returns {Promise<void>}
   */
  async close() {
    await request('close', { on: this.#handle, read: nothing });
    this.#handle.release();
  }
}

/**
 * Apex's routes as a handler: `http.createServer(handler(apex))`, or `app.use('/apex', handler(apex))` in Express, before
 * whatever reads bodies.
 *
 * @param {Apex} apex
 * @param {{ prefix?: string }} [options] what paths begin with, where nobody has taken it off
 */
export function handler(apex, { prefix = '' } = {}) {
  /**
   * @param {IncomingMessage} req
   * @param {ServerResponse} res
   * @param {(error?: unknown) => void} [next] is called for a path without the prefix, and with errors
   */
  return (req, res, next) => {
    const url = req.url ?? '/';
    const inside = !prefix || url === prefix || url.startsWith(`${prefix}/`) || url.startsWith(`${prefix}?`);
    if (!inside) {
      if (next) return next();
      res.statusCode = 404;
      return void res.end();
    }
    const path = url.slice(prefix.length);
    respond(apex.handle, req, path.startsWith('/') ? path : `/${path}`, res).catch((error) => {
      if (next && !res.headersSent) return next(error);
      if (!res.headersSent) res.statusCode = 500;
      res.destroy(error instanceof Error ? error : undefined);
    });
  };
}

/**
 * Carries WebSocket clients that come to `path` of a server over sockets of the package `ws`. Gives a function that is
 * told of upgrades, for servers that share that event among several; it says whether it took one.
 *
 * @param {Apex} apex
 * @param {{ WebSocketServer: new (options: any) => any, path?: string }} options the class of the package `ws`
 * @returns {(req: IncomingMessage, socket: Duplex, head: Buffer) => boolean}
 */
export function upgrader(apex, { WebSocketServer, path = '/ws' }) {
  /** @type {WeakMap<IncomingMessage, string | null>} */
  const chosen = new WeakMap();
  const handleProtocols = (/** @type {Set<string>} */ _, /** @type {IncomingMessage} */ req) => chosen.get(req) ?? false;
  const sockets = new WebSocketServer({ noServer: true, clientTracking: false, perMessageDeflate: false, maxPayload: MOST_MESSAGE, handleProtocols });
  return (req, socket, head) => {
    if ((req.url ?? '').split('?', 1)[0] !== path) return false;
    socket.on('error', () => {}); // a client that is gone is no news
    knock(apex.handle, req).then(
      async (knocked) => {
        if (!knocked.accepted) return refuse(socket, knocked);
        chosen.set(req, knocked.subprotocol);
        if (socket.destroyed) return knocked.pipe.close();
        sockets.handleUpgrade(req, socket, head, (/** @type {any} */ ws) => carry(ws, knocked.pipe));
      },
    ).catch(() => socket.destroy());
    return true;
  };
}

/**
 * As `upgrader`, on the server's own event.
 *
 * @param {HttpServer} server
 * @param {Apex} apex
 * @param {{ WebSocketServer: new (options: any) => any, path?: string }} options
 */
export function attach(server, apex, options) {
  const upgrade = upgrader(apex, options);
  server.on('upgrade', (req, socket, head) => {
    // The last one asked refuses what nobody takes, as Node does where nobody listens.
    if (!upgrade(req, socket, head) && server.listenerCount('upgrade') === 1) socket.destroy();
  });
}

/**
 * A plugin for Fastify: `fastify.register(fastifyApex, { prefix: '/apex', apex, WebSocketServer })`.
 *
 * @param {any} fastify
 * @param {{ apex: Apex, WebSocketServer?: new (options: any) => any, prefix?: string }} options
 */
export async function fastifyApex(fastify, { apex, WebSocketServer, prefix = '' }) {
  const respond = handler(apex, { prefix });
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', (/** @type {any} */ _, /** @type {any} */ __, /** @type {any} */ done) => done(null));
  fastify.all('/*', (/** @type {any} */ request, /** @type {any} */ reply) => {
    reply.hijack();
    respond(request.raw, reply.raw);
  });
  if (WebSocketServer) attach(fastify.server, apex, { WebSocketServer, path: `${prefix}/ws` });
}

/**
 * @param {Handle} host
 * @param {Incoming} req
 * @returns {Promise<Accepted | Refused>}
 */
export async function knock(host, req) {
  const [told, handle] = await request('knock', { on: host, args: head(req, req.url ?? '/'), read: (told, handle) => [JSON.parse(told), handle] });
  if (told.status === undefined) return { accepted: true, subprotocol: told.subprotocol, pipe: new Pipe(handle) };
  const body = async () => {
    const all = [];
    for await (const piece of pieces(handle)) all.push(piece);
    return Buffer.concat(all);
  };
  return { accepted: false, status: told.status, headers: told.headers, body };
}

/**
 * @param {Incoming} req
 * @param {string} target
 */
function head({ method = 'GET', rawHeaders, socket }, target) {
  /** @type {[string, string][]} */
  const headers = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) headers.push([String(rawHeaders[at]), String(rawHeaders[at + 1])]);
  return { method, target, headers, peer: socket?.remoteAddress?.split('%', 1)[0] ?? null };
}

/**
 * @param {Handle} host
 * @param {IncomingMessage} req
 * @param {string} target
 * @param {ServerResponse} res
 */
async function respond(host, req, target, res) {
  const gone = new AbortController();
  res.once('close', () => gone.abort());
  const body = hasBody(req) ? addon().body() : null;
  if (body) bring(req, body).catch(() => {});
  const read = (/** @type {string} */ told, /** @type {Handle} */ handle) => ({ ...JSON.parse(told), handle });
  try {
    const answer = await request('respond', { on: host, with: body, args: head(req, target), read, signal: gone.signal });
    res.writeHead(answer.status, answer.headers.flat());
    for await (const piece of pieces(answer.handle, gone.signal)) {
      if (!res.write(piece)) await drained(res);
      if (gone.signal.aborted) break;
    }
    res.end();
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  } finally {
    body?.release();
  }
}

/** @param {IncomingMessage} req */
function hasBody(req) {
  return req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0;
}

/**
 * @param {IncomingMessage} req
 * @param {Handle} body
 */
async function bring(req, body) {
  try {
    for await (const piece of req.iterator({ destroyOnReturn: false })) {
      if (!(await request('push', { on: body, bytes: [piece], read: flag }))) {
        req.resume(); // nobody reads on: the answer is given without the rest
        return;
      }
    }
    await request('end', { on: body, read: nothing });
  } catch {
    await request('break', { on: body, read: nothing });
  }
}

/**
 * The pieces of an answer's body.
 *
 * @param {Handle} answer
 * @param {AbortSignal} [signal]
 * @returns {AsyncGenerator<Uint8Array, void, void>}
 */
async function* pieces(answer, signal) {
  try {
    for (;;) {
      const piece = await request('next', { on: answer, read: plain, signal });
      if (piece === 0) return;
      yield piece;
    }
  } finally {
    answer.release();
  }
}

/** @param {ServerResponse} res */
function drained(res) {
  return new Promise((resolve) => {
    const over = () => {
      res.off('drain', over).off('close', over);
      resolve(undefined);
    };
    res.on('drain', over).on('close', over);
  });
}

/**
 * @param {Duplex} socket
 * @param {Refused} refused
 */
async function refuse(socket, { status, headers, body }) {
  const content = await body();
  const own = new Set(['connection', 'content-length', 'transfer-encoding']);
  const lines = [`HTTP/1.1 ${status} Refused`, ...headers.filter(([name]) => !own.has(name)).map(([name, value]) => `${name}: ${value}`), `content-length: ${content.length}`, 'connection: close'];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  socket.end(content);
}

/**
 * Carries the frames of one connection over a socket of the package `ws`.
 *
 * @param {any} ws
 * @param {Pipe} pipe
 */
export function carry(ws, pipe) {
  let turn = Promise.resolve(true);
  let waiting = 0;
  // What came is taken in one by one; meanwhile the socket is not read.
  const take = (/** @type {() => Promise<boolean>} */ come) => {
    if (waiting++ === 0) ws.pause();
    turn = turn.then(come).catch(() => false).then((open) => {
      if (--waiting === 0) ws.resume();
      return open;
    });
  };
  ws.on('message', (/** @type {Buffer} */ data, /** @type {boolean} */ binary) => take(() => (binary ? pipe.binary() : pipe.text(data.toString('utf8')))));
  ws.on('ping', () => take(() => pipe.alive()));
  ws.on('pong', () => take(() => pipe.alive()));
  ws.on('error', () => {}); // `close` follows
  ws.once('close', () => void turn.then(() => pipe.close()).catch(() => {}));
  send(ws, pipe).catch(() => ws.terminate());
}

/**
 * @param {any} ws
 * @param {Pipe} pipe
 */
async function send(ws, pipe) {
  for (;;) {
    const next = await pipe.next();
    if (next === null) return ws.terminate();
    if ('close' in next) return ws.close(next.close, next.reason);
    // The next one is asked for when this one is on its way: a client that does not read is noticed.
    await new Promise((sent) => ('text' in next ? ws.send(next.text, sent) : ws.ping(sent)));
  }
}
