// The ways in: what each carries, and which of them this client can go.

import { ApexError } from './error.js';

/** @typedef {import('./closing.js').Way} Way */

/**
 * What a fetched credential is wanted for: `lasting` when the connection's own runs out, so that a login that can be
 * renewed is renewed first.
 *
 * @callback Fetching
 * @param {{ lasting: boolean }} wish
 * @returns {Promise<string> | string}
 */

/**
 * What is used of a WebSocket, the platform's or the `ws` package's.
 *
 * @typedef {object} SocketLike
 * @property {(data: string) => void} send
 * @property {(code?: number) => void} close
 * @property {(() => void) | undefined} [terminate]
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {any} [on]
 */

/** @typedef {new (url: string, protocols: string[], options?: any) => SocketLike} SocketClass */

const PROTOCOL = 'apex.v1';

/** Where a service is: its HTTP address and that of its WebSocket. */
export class Place {
  /** @param {string | URL} url `http(s)://host[:port][/prefix]` */
  constructor(url) {
    const base = new URL(url);
    base.protocol = base.protocol.replace('ws', 'http');
    this.http = `${base.origin}${base.pathname.replace(/\/+$/, '')}`;
    this.ws = `${this.http.replace('http', 'ws')}/ws`;
  }
}

/** How this client proves who it is. */
export class Credentials {
  #place;
  #ticket;
  #token;
  #fetch;

  /**
   * @param {Place} place
   * @param {{ ticket?: Fetching, token?: Fetching | string, fetch?: typeof fetch }} from
   */
  constructor(place, { ticket, token, fetch: ask }) {
    this.#place = place;
    this.#ticket = ticket;
    this.#token = token;
    this.#fetch = ask ?? ((...request) => fetch(...request));
  }

  /**
   * The ways that these credentials can go, in their order.
   *
   * @param {SocketClass} Socket
   * @returns {Way[]}
   */
  ways(Socket) {
    if (this.#ticket) return ['subprotocol', 'query', 'hello'];
    if (!this.#token) return ['cookie'];
    // Only the `ws` package takes headers; a browser's WebSocket never does.
    return 'terminate' in Socket.prototype ? ['header', 'subprotocol', 'query', 'hello'] : ['subprotocol', 'query', 'hello'];
  }

  /**
   * A credential for one attempt on that way; none for a cookie, which the browser adds.
   *
   * @param {Way} way
   * @param {boolean} [lasting]
   * @returns {Promise<{ ticket: string } | { token: string } | null>}
   */
  async fresh(way, lasting = false) {
    if (way === 'cookie') return null;
    if (this.#ticket && way !== 'header') return { ticket: await this.#ticket({ lasting }) };
    const token = typeof this.#token === 'function' ? await this.#token({ lasting }) : this.#token;
    if (!token) throw new ApexError({ code: 'bad_request', message: `the way "${way}" needs a token` });
    return way === 'query' ? { ticket: await this.#buy(token) } : { token };
  }

  /** @param {string} token */
  async #buy(token) {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const answer = await this.#fetch(`${this.#place.http}/auth/ticket`, { method: 'POST', headers, body: '{}' });
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) return body.ticket;
    const { code = 'unavailable', message = `no ticket: status ${answer.status}`, retryable = answer.status >= 500 } = body;
    throw new ApexError({ ...body, code, message, retryable });
  }
}

/**
 * Opens a socket by a way.
 *
 * @param {SocketClass} Socket
 * @param {Place} place
 * @param {Way} way
 * @param {{ ticket?: string, token?: string } | null} credential
 */
export function open(Socket, place, way, credential) {
  const { ticket, token } = credential ?? {};
  switch (way) {
    case 'header':
      return new Socket(place.ws, [PROTOCOL], { headers: { authorization: `Bearer ${token}` } });
    case 'subprotocol':
      return new Socket(place.ws, [PROTOCOL, ticket ? `apex.ticket.${ticket}` : `apex.bearer.${token}`]);
    case 'query':
      return new Socket(`${place.ws}?ticket=${ticket}`, []);
    case 'cookie':
      return new Socket(place.ws, [PROTOCOL]);
    default:
      return new Socket(place.ws, []);
  }
}
