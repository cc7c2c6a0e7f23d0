// The examples and the guide, as they are: typed strictly, and run.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { connect } from 'netra-apex/client';
import { load } from '../node_modules/netra-apex/host/native.js';
import { WebSocket } from 'ws';

const EXAMPLES = path.resolve('examples/node');
const CHROMIUM = process.env.APEX_CHROMIUM ?? '/usr/bin/chromium';

const run = (args, cwd = EXAMPLES) => execFileSync(process.execPath, args, { cwd, encoding: 'utf8', timeout: 60_000 });

/** TypeScript, as strict as it gets. */
function tsc(...args) {
  const rules = ['--strict', '--noUncheckedIndexedAccess', '--exactOptionalPropertyTypes', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,esnext.disposable,dom', '--types', 'node', '--allowJs', '--checkJs', '--skipLibCheck'];
  try {
    return run([path.resolve('node_modules/typescript/bin/tsc'), ...rules, ...args], path.resolve('.'));
  } catch (error) {
    return assert.fail(error.stdout);
  }
}

test('they pass tsc --strict, and hello has at most ten lines', () => {
  tsc('--outDir', 'built', 'examples/node/hello.ts', 'examples/node/report.js', 'examples/node/service.js');
  const lines = readFileSync(path.join(EXAMPLES, 'hello.ts'), 'utf8').split('\n').filter((line) => line && !line.startsWith('//'));
  assert.ok(lines.length <= 10, `${lines.length} lines`);
  assert.equal(run([path.resolve('built/hello.js')]), 'hello!\n');
});

test('types tell what fits from what does not', () => {
  writeFileSync('types.mts', `
    import { Answer, Apex, Plan, agent, tool, type ErrorCode, ApexError } from 'netra-apex';
    import { z } from 'zod';
    const add = tool('add', 'Adds.', z.object({ a: z.number(), b: z.number().default(1) }), ({ a, b }, { signal, progress }) => {
      progress(1, 2, 'numbers');
      signal.throwIfAborted();
      // @ts-expect-error there is no c
      a.c;
      return a.toFixed() + b.toFixed();
    }, { effect: 'read', needsApproval: ({ a }) => a > 3 });
    tool('any', 'Anything.', { type: 'object' }, (args) => args.whatever, { effect: 'once' });
    // @ts-expect-error there is no such effect
    tool('any', 'Anything.', true, () => 1, { effect: 'twice' });
    const one = agent('one', 'One.', async ({ text, files }, { call, think, model, now, random, plan }) => {
      await think(text.toUpperCase() + files.length);
      const at: Date = await now();
      const number: number = await random();
      const { text: said } = await model.ask('What?', { show: true });
      const sum: number = await call('add', { a: 1 });
      // @ts-expect-error a thought is text
      await think(5);
      return sum > number ? new Answer(said + at.toISOString()) : new Plan([{ agent: 'one', needs: ['two'] }]);
    }, { output: 'text', deadlineMs: 5 });
    agent('two', 'Two.', ({ one }) => one.n.toFixed(), { input: z.object({ one: z.object({ n: z.number() }) }) });
    // @ts-expect-error its input has no such field
    agent('two', 'Two.', ({ three }) => 'x', { input: z.object({ one: z.number() }) });
    async function use(): Promise<void> {
      await using apex = await Apex.build({ agents: [one], tools: [add], env: process.env, doors: [{ headers: ['x'], authenticate: ({ headers }) => ({ user: headers['x'] ?? '' }) }] });
      // @ts-expect-error there is no such option
      await Apex.build({ agent: [one] });
      const ada = await apex.user('ada');
      const run = await apex.start(ada, 'hi', { signal: AbortSignal.timeout(5) });
      for await (const event of run) {
        if (event.type === 'reset') console.log(event.data.snapshot.state);
        else if (event.type === 'tool_completed') console.log(event.data.elapsed_ms.toFixed());
        else if (event.type === 'approval_requested') await run.decide(event.data, 'approve');
        // @ts-expect-error there is no such event
        else if (event.type === 'tool_done') console.log();
      }
      // @ts-expect-error a user is no text
      await apex.ask('ada', 'hi').catch((error: unknown) => {
        const code: ErrorCode | null = error instanceof ApexError ? error.code : null;
        // @ts-expect-error the catalogue has no such code
        if (code === 'oops') throw error;
      });
    }
    void use;
  `);
  tsc('--noEmit', 'types.mts');
});

test('the addon has the functions that its types say, and no others', () => {
  const types = readFileSync('node_modules/netra-apex/dist/types/native.d.ts', 'utf8');
  const { Native } = load();
  for (const [name, prototype] of Object.entries({ Native: Native.prototype, Handle: Object.getPrototypeOf(new Native(() => {}).body()) })) {
    const [, body] = new RegExp(`interface ${name} \\{(.*?)\n\\}`, 's').exec(types) ?? assert.fail(name);
    const said = [...body.matchAll(/^ +(\w+)\(/gm)].map(([, method]) => method);
    assert.deepEqual(said.sort(), Object.getOwnPropertyNames(prototype).filter((method) => method !== 'constructor').sort());
  }
});

test('what the guide shows is typed strictly, and its first program says what it says', () => {
  const blocks = [...readFileSync('guide/node.md', 'utf8').matchAll(/```(?:ts|js)\n(.*?)```/gs)].map(([, code]) => code);
  assert.ok(blocks.length >= 5);
  const files = blocks.map((code, n) => {
    writeFileSync(`guide-${n}.mts`, code);
    return `guide-${n}.mts`;
  });
  tsc('--outDir', 'built', ...files);
  assert.equal(run([path.resolve('built/guide-0.mjs')]), 'hello!\n');
});

test('the report script writes a page', () => {
  const said = run(['report.js']);
  assert.match(said, /\$/);
  assert.match(readFileSync(path.join(EXAMPLES, 'report.html'), 'utf8'), /<!doctype html>/i);
});

describe('the Express service', () => {
  let service, url;

  before(async () => {
    const port = await new Promise((resolve) => {
      const server = createServer().listen(0, '127.0.0.1', () => {
        const { port } = server.address();
        server.close(() => resolve(port));
      });
    });
    url = `http://127.0.0.1:${port}`;
    service = spawn(process.execPath, ['service.js', String(port)], { cwd: EXAMPLES, stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve, reject) => service.stdout.once('data', resolve).once('end', reject));
  });

  after(async () => {
    if (!service) return;
    const ended = new Promise((resolve) => service.once('exit', resolve));
    service.kill('SIGINT');
    assert.equal(await ended, 0, 'it ends well when it is interrupted');
  });

  test('answers by its agent and its tool, and by Apex’s team', async () => {
    const login = await (await fetch(`${url}/auth/dev`, { method: 'POST', body: '{"user":"ada"}' })).json();
    const headers = { authorization: `Bearer ${login.token}` };
    const ticket = async () => (await (await fetch(`${url}/auth/ticket`, { method: 'POST', headers })).json()).ticket;
    const client = connect({ url, ticket, WebSocket });
    const ask = async (text, options) => {
      let last;
      for await (const event of client.ask(text, options)) last = event;
      assert.equal(last.type, 'run_completed', JSON.stringify(last));
      return last.data.result;
    };
    assert.equal((await ask('How many apples are there?')).text, 'There are **12** apples.');
    const brought = await fetch(`${url}/files`, { method: 'POST', headers: { ...headers, 'x-file-name': 'sample.csv' }, body: await (await fetch(`${url}/sample.csv`)).text() });
    const { file } = await brought.json();
    const { text, artifacts } = await ask('Where can we save?', { attachments: [file] });
    assert.match(text, /\$/);
    assert.ok(artifacts.some(({ name }) => name === 'report.html'));
    await client.close();
  });

  const browser = existsSync(CHROMIUM) && existsSync('node_modules/playwright-core') ? {} : { skip: 'there is no Chromium, or no playwright-core in tests/browser' };

  test('chats in the browser', browser, async () => {
    const { chromium } = await import('playwright-core');
    const args = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
    const chrome = await chromium.launch({ executablePath: CHROMIUM, args });
    try {
      const page = await chrome.newPage();
      const faults = [];
      page.on('pageerror', (error) => faults.push(error));
      await page.goto(url);
      await page.getByLabel('Your name').fill('ada');
      await page.getByRole('button', { name: 'Continue' }).click();
      await page.getByRole('textbox', { name: 'Your question' }).fill('How many pears are there?');
      await page.keyboard.press('Enter');
      await page.getByText('There are 0 pears.').waitFor({ timeout: 15_000 });
      await page.locator('.run').getByText('stock').first().waitFor({ state: 'attached' });
      assert.deepEqual(faults, []);
    } finally {
      await chrome.close();
    }
  });
});
