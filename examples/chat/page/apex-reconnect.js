// What to do when a connection ends, and when: the table of close codes and the waiting times, without any IO.

/** The ways in that a page has, in the order in which they are tried. */
export const WAYS = Object.freeze(['subprotocol', 'query', 'hello']);

const BASE_MS = 500;
const MOST_MS = 30_000;

/**
 * What a close code asks of a client:
 * - `stop`: do not come back unchanged
 * - `next_way`: the next way of the chain, at once
 * - `new_ticket`: the same way again, once, with a new ticket; else the next way
 * - `resume`: wait, connect again and go on from the last position
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

/** How long to wait before try number `failures` (from 1), in milliseconds: exponential, with full jitter. */
export function backoff(failures, random) {
  const ceiling = Math.min(MOST_MS, BASE_MS * 2 ** Math.min(failures - 1, 16));
  return Math.round(ceiling * random);
}

/** What a close code means, for people. */
export function meaning(code) {
  switch (code) {
    case 1000:
      return 'The server closed the connection.';
    case 4401:
      return 'The login is no longer valid. Please log in again.';
    case 4403:
      return 'This page may not connect to the server.';
    case 4409:
      return 'A newer connection has taken over from this one.';
    case 4429:
      return 'You have too many connections open. Close other tabs, then connect again.';
    default:
      return `The server ended the connection for good (code ${code}). Reload the page to try again.`;
  }
}
