// Processes, threads and memory: what ends ends, and nothing is left behind.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { Apex } from 'netra-apex';
import { counts } from '../node_modules/netra-apex/host/bridge.js';
import { act, build, coded, folder, one, until, whole } from './support.js';

const FULL = process.env.APEX_FULL === '1';

/** By how much a process may have grown after any number of calls: the caches of the stores and of SQLite are resident. */
const MOST_GROWN = { heap: 2_000_000, resident: 64 << 20, threads: 4, handles: 8 };

const entries = (what) => readdirSync(`/proc/self/${what}`).length;

const run = promisify(execFile);
let scripts = 0;

/** Runs a program of its own; its status is 0, or that is the error. */
async function program(code, { type = 'mjs', args = [] } = {}) {
  const file = path.resolve('data', `program-${(scripts += 1)}.${type}`);
  writeFileSync(file, code);
  return (await run(process.execPath, [...args, file], { timeout: 30_000 })).stdout;
}

const hanging = (config) => `
  import { Apex, agent, tool } from 'netra-apex';
  const hangs = tool('hangs', 'Hangs.', true, () => new Promise(() => {}));
  const calls = agent('calls', 'Calls.', (_, { call }) => call('hangs'));
  const apex = await Apex.build({ agents: [calls], tools: [hangs], config: ${JSON.stringify(config)} });
  const ada = await apex.user('ada');
  const runs = [];
  for (let n = 0; n < 3; n += 1) runs.push(await apex.start(ada, 'go'));
`;

describe('processes', () => {
  test('sixty of them end in a row, with runs pending, in every way that a process ends', { timeout: 120_000 }, async () => {
    const place = folder();
    const ways = [
      (n) => hanging({ database: { url: `sqlite:${place}/${n}.db` } }),
      () => `${hanging()}; process.exit(0);`,
      () => `${hanging()}; runs[0].result(); setTimeout(() => process.exit(0), 5);`,
      () => `${hanging()}; for await (const event of runs[0]) if (event.type === 'tool_executing') break;`,
      () => `${hanging()}; await apex.serve('127.0.0.1:0').then((server) => server.unref());`,
      () => `${hanging()}; await apex.close({ withinMs: 10 });`,
    ];
    const all = Array.from({ length: 60 }, (_, n) => ways[n % ways.length](n));
    const next = async () => {
      for (let code = all.pop(); code; code = all.pop()) await program(code);
    };
    await Promise.all([next(), next()]);
  });

  test('a forgotten Apex, an abandoned reader and a run that nobody waits for keep no process alive', async () => {
    const said = await program(`${hanging()}; runs[0].events(); const reader = runs[1][Symbol.asyncIterator](); await reader.next(); console.log('idle');`);
    assert.equal(said, 'idle\n');
  });

  test('what somebody waits for keeps it alive, and so does a server until it is closed', async () => {
    const said = await program(`
      import { Apex, agent } from 'netra-apex';
      const slow = agent('slow', 'Waits.', async () => (await new Promise((go) => setTimeout(go, 100).unref()), 'waited'));
      const apex = await Apex.build({ agents: [slow] });
      const server = await apex.serve('127.0.0.1:0');
      console.log((await apex.ask(await apex.user('ada'), 'go')).text);
      setTimeout(() => server.close().then(() => console.log('closed')), 100).unref();
    `);
    assert.equal(said, 'waited\nclosed\n');
  });

  test('an error that nobody catches ends it as any other does', async () => {
    await assert.rejects(program(`${hanging()}; await apex.user('');`), (error) => error.code === 1 && /ApexError/.test(error.stderr) && /bad_request/.test(error.stderr));
  });

  test('a listener that throws is a warning, and the log is told once for a process', async () => {
    const code = `${hanging()}; const { log } = await import('netra-apex'); let told = 0;
      await log(async ({ target, message }) => { if (target.startsWith('apex') && message !== undefined) told += 1; throw new Error('a bad listener'); }, { level: 'trace' });
      await log(() => {}).catch((error) => console.log(error.code));
      await apex.start(ada, 'again');
      await apex.close({ withinMs: 10 });
      await new Promise((go) => setTimeout(go, 50));
      console.log(told > 0);`;
    assert.equal(await program(code, { args: ['--no-warnings'] }), 'conflict\ntrue\n');
  });

  test('it is required as well as imported, and is the same one', async () => {
    const said = await program("const { Apex, ApexError } = require('netra-apex'); const client = require('netra-apex/client'); import('netra-apex').then((other) => console.log(other.Apex === Apex, client.ApexError === ApexError));", { type: 'cjs' });
    assert.equal(said, 'true true\n');
  });

  test('a platform without an addon is told so, and the client works there', async () => {
    const said = await program(`
      Object.defineProperty(process, 'platform', { value: 'plan9' });
      const { connect } = await import('netra-apex/client');
      const { Apex } = await import('netra-apex');
      await Apex.build().catch((error) => console.log(typeof connect, error.code, /plan9/.test(error.message)));
    `);
    assert.equal(said, 'function unavailable true\n');
  });
});

describe('threads', () => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Apex, agent, tool } = require('netra-apex');
    (async () => {
      const hangs = tool('hangs', 'Hangs.', true, () => new Promise(() => {}));
      const answers = agent('answers', 'Answers.', ({ text }, { call }) => (text === 'hang' ? call('hangs') : 'worker ' + workerData));
      const apex = await Apex.build({ agents: [answers], tools: [hangs] });
      const ada = await apex.user('ada');
      await apex.start(ada, 'hang');
      parentPort.postMessage((await apex.ask(ada, 'hi')).text);
    })();
  `;

  test('each worker thread has an Apex of its own, ends by itself or is ended, and takes nothing along', async () => {
    const { apex, ada } = await build({ agents: [one(() => 'main')] });
    for (let round = 0; round < 3; round += 1) {
      const workers = [1, 2].map((n) => new Worker(code, { eval: true, workerData: n, filename: path.resolve('worker.cjs') }));
      const ends = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
      const said = await Promise.all(workers.map((worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))));
      assert.deepEqual(said, ['worker 1', 'worker 2']);
      if (round === 1) await Promise.all(workers.map((worker) => worker.terminate()));
      await Promise.all(ends);
      assert.equal((await apex.ask(ada, 'hi')).text, 'main');
    }
  });
});

describe('what is left behind', () => {
  test('nothing, after many calls, errors and cancellations', { timeout: FULL ? 1_800_000 : 60_000 }, async () => {
    const many = FULL ? 100_000 : 500;
    const acts = act(async ({ n }) => {
      if (n % 10 === 0) throw new Error('every tenth');
      return { n };
    });
    const batch = 50;
    const calls = one(async (_, { call, progress }) => {
      let failed = 0;
      for (let n = 1; n <= batch; n += 1) {
        progress(n, batch, 'calls');
        await call('act', { n }).catch(() => (failed += 1));
      }
      return `${failed} failed`;
    });
    const { apex, ada } = await build({ agents: [calls], tools: [acts], config: { database: { url: `sqlite:${folder()}/many.db` } } });
    const part = async () => {
      for (let done = 0; done < many / 5; done += batch) assert.equal((await apex.ask(ada, 'go')).text, '5 failed');
    };
    const now = () => {
      globalThis.gc();
      const { heapUsed: heap, rss: resident } = process.memoryUsage();
      return { heap, resident, ...counts(), threads: entries('task'), handles: entries('fd') };
    };
    await part();
    const before = now();
    for (let n = 1; n < 5; n += 1) await part();
    await until(() => counts().open === 0 && counts().calls === 0 && counts().scopes === 0);
    const after = now();
    if (FULL) console.log(before, after);
    const { requests, functions, calls: waiting, scopes, open } = after;
    assert.deepEqual({ requests, functions, waiting, scopes, open }, { requests: 0, functions: before.functions, waiting: 0, scopes: 0, open: 0 });
    const grown = Object.fromEntries(Object.entries(MOST_GROWN).map(([what, most]) => [what, after[what] - before[what] - most]));
    assert.ok(Object.values(grown).every((over) => over <= 0), JSON.stringify({ before, after }));
  });

  test('an Apex that is closed gives its functions back, and a signal its listeners', async () => {
    const { functions } = counts();
    const { signal } = new AbortController();
    for (let n = 0; n < 20; n += 1) {
      const apex = await Apex.build({ agents: [one(() => 'done')], tools: [act(() => 1)], doors: [{ headers: ['x'], authenticate: () => null }] });
      const ada = await apex.user('ada');
      assert.equal((await apex.ask(ada, 'hi', { signal })).text, 'done');
      await apex.close();
    }
    await until(() => counts().functions <= functions, 'the end of their functions');
    assert.equal((await import('node:events')).getEventListeners(signal, 'abort').length, 0);
  });

  test('several in one process know nothing of each other', async () => {
    const all = await Promise.all([1, 2, 3].map((n) => build({ agents: [one(() => `number ${n}`)] })));
    assert.deepEqual(await Promise.all(all.map(async ({ apex, ada }) => (await apex.ask(ada, 'who?')).text)), ['number 1', 'number 2', 'number 3']);
    const run = await all[0].apex.start(all[0].ada, 'hi');
    await whole(run);
    await assert.rejects(all[1].apex.run(all[1].ada, run.run).view(), coded('not_found'));
  });

  test('a run goes on in the next process, and its completed calls are not made again', async () => {
    const url = `sqlite:${folder()}/kept.db`;
    const made = [];
    const once = act(({ n }) => made.push(n));
    let crash = true;
    const steps = one(async (_, { call, now, random }) => {
      const seen = [(await now()).getTime(), await random()];
      await call('act', { n: 1 });
      if (crash) await new Promise(() => {});
      await call('act', { n: 2 });
      return JSON.stringify(seen);
    });
    const options = { agents: [steps], tools: [once], config: { database: { url } } };
    const first = await Apex.build(options);
    const ada = await first.user('ada');
    const { run } = await first.start(ada, 'go');
    await until(() => made.length === 1);
    await first.close({ withinMs: 10 });
    crash = false;
    const second = await build(options);
    const [at, number] = JSON.parse((await second.apex.run(second.ada, run).result()).text);
    assert.ok(Math.abs(at - Date.now()) < 60_000 && number >= 0 && number < 1);
    assert.deepEqual(made, [1, 2]);
  });
});
