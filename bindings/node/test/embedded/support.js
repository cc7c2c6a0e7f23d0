// What the tests of an embedded Apex share.

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import path from 'node:path';
import { after } from 'node:test';
import { Apex, agent, tool } from 'netra-apex';

const TERMINAL = /^run_(completed|failed|cancelled)$/;

const built = [];
after(async () => {
  await Promise.all(built.map((apex) => apex.close({ withinMs: 100 })));
});

/** An Apex that is closed after the tests of its file, and one of its users. */
export async function build(options) {
  const apex = await Apex.build(options);
  built.push(apex);
  return { apex, ada: await apex.user('ada') };
}

/** One agent that does `work`. */
export const one = (work, options) => agent('one', 'Works.', work, options);

/** A tool `act` that takes anything. */
export const act = (work, options) => tool('act', 'Acts.', { type: 'object' }, work, options);

/** All events of a run: its critical ones are 1, 2, 3 and so on, and one terminal one is the last. */
export async function whole(run, end = 'run_completed') {
  const events = [];
  for await (const event of run) events.push(event);
  const critical = events.filter(({ seq }) => seq);
  assert.deepEqual(critical.map(({ seq }) => seq), critical.map((_, place) => place + 1));
  assert.deepEqual(events.filter(({ type }) => TERMINAL.test(type)), [events.at(-1)]);
  assert.equal(events.at(-1).type, end, JSON.stringify(events.at(-1)));
  return events;
}

/** Waits until something is so, for a few seconds. */
export async function until(so, what = 'what is waited for') {
  for (const began = Date.now(); Date.now() - began < 10_000; await new Promise((go) => setTimeout(go, 5))) {
    const is = await so();
    if (is) return is;
  }
  return assert.fail(`${what} did not come`);
}

/** A folder of a test's own. */
export const folder = () => mkdtempSync(path.resolve('data', 'case-'));

/** An error of Apex's with that code, and with words in its message. */
export const coded = (code, words = /./) => (error) => {
  assert.equal(error.name, 'ApexError', String(error?.stack ?? error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, words);
  return true;
};
