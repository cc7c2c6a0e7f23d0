// A client of the Apex protocol, version 1, for browsers and Node: no dependency, no build step, no native code.

import { Client } from './client.js';

export { Client } from './client.js';
export { ApexError } from './error.js';
export { Answer, Cursor, Stream } from './stream.js';

/**
 * Connects, and stays connected: by the first way in that works, through every break, until `close` or a reason that
 * no further try would change. Every event of a run comes once and in order, or a `reset` says where the run stands.
 *
 * @example
 * const client = connect({ url: 'https://chat.example.com', ticket: async () => (await api.post('/auth/ticket')).ticket });
 * for await (const event of client.ask('Where does our money go?')) show(event);
 *
 * @param {import('./link.js').Options} options
 */
export function connect(options) {
  return new Client(options);
}

/** @typedef {import('./link.js').Options} Options */
/** @typedef {import('./link.js').State} State */
/** @typedef {import('./closing.js').Way} Way */
/** @typedef {import('../types/errors.js').ErrorCode} ErrorCode */
/** @typedef {import('../types/wire.js').Envelope & { frame: 'event' }} RunEvent */
/** @typedef {import('../types/wire.js').ServerInbox} ServerInbox */
/** @typedef {import('../types/wire.js').ServerReset} ServerReset */
/** @typedef {import('../types/wire.js').Envelope} Envelope */
/** @typedef {import('../types/wire.js').Report} Report */
