// What to do when a connection ends, and when: the table of close codes and the waiting times, without any IO.

import { ApexError } from './error.js';

/** @typedef {'header' | 'subprotocol' | 'query' | 'hello' | 'cookie'} Way */
/** @typedef {'stop' | 'next_way' | 'new_ticket' | 'resume'} Action */

const BASE_MS = 500;
const MOST_MS = 30_000;

/**
 * What a close code asks of a client:
 * - `stop`: do not come back unchanged
 * - `next_way`: the next way of the chain, at once
 * - `new_ticket`: the same way again, once, with a new credential; else the next way
 * - `resume`: wait, connect again and go on from the last position
 *
 * @param {number} code
 * @param {boolean} welcomed whether the connection had come as far as `welcome`
 * @param {Way} way
 * @returns {Action}
 */
export function onClose(code, welcomed, way) {
  switch (code) {
    case 1001:
    case 1005:
    case 1006:
      return welcomed ? 'resume' : 'next_way';
    case 4401:
      return welcomed ? 'resume' : 'new_ticket';
    case 4504:
      // The server saw no credential: one that went another way than by `hello` was stripped.
      return way === 'hello' ? 'resume' : 'next_way';
    case 1000:
    case 1002:
    case 1003:
    case 1007:
    case 1008:
    case 1009:
      return 'stop';
    default:
      return code >= 4400 && code < 4500 ? 'stop' : 'resume';
  }
}

/**
 * How long to wait before try number `failures` (from 1), in milliseconds: exponential, with full jitter.
 *
 * @param {number} failures
 * @param {number} random from 0 to 1
 */
export function backoff(failures, random) {
  return Math.round(Math.min(MOST_MS, BASE_MS * 2 ** Math.min(failures - 1, 16)) * random);
}

/** @type {Record<number, [string, string]>} */
const MEANING = {
  1000: ['cancelled', 'The server closed the connection.'],
  1009: ['too_large', 'A frame was larger than the server takes.'],
  4400: ['bad_frame', 'The server understood too many frames not at all.'],
  4401: ['unauthenticated', 'The login is no longer valid: log in again.'],
  4403: ['forbidden', 'This client may not connect to the server.'],
  4409: ['conflict', 'A newer connection has taken over from this one.'],
  4429: ['too_many_connections', 'You have too many connections open: close others, then connect again.'],
};

/**
 * A close code that is the end, as an error.
 *
 * @param {number} code
 */
export function meaning(code) {
  const [name, message] = MEANING[code] ?? ['unavailable', `The server ended the connection for good (code ${code}).`];
  return new ApexError({ code: name, message });
}

/**
 * The close code that stands for an HTTP refusal of the upgrade, where a client can see it.
 *
 * @param {number} status
 */
export function ofStatus(status) {
  if (status === 401 || status === 403 || status === 429) return 4000 + status;
  return status >= 500 ? 1013 : 1006;
}
