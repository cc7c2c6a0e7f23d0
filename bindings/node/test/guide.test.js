// The guide's code for this client, as it is written.

import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { logIn, startHost } from './host.js';

const GUIDE = new URL('../../../docs/guide/clients.md', import.meta.url);

let host;

before(async () => {
  host = await startHost();
});
after(() => host?.stop());

describe('the guide', () => {
  for (const what of ['a browser', 'Node']) {
    test(`shows what works in ${what}`, async () => {
      const blocks = [...(await readFile(GUIDE, 'utf8')).matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code);
      const own = blocks.filter((code) => code.includes("from 'netra-apex/client'"));
      const code = own.find((code) => code.includes("from 'ws'") === (what === 'Node')) ?? assert.fail('the guide shows it');
      const said = [];
      globalThis.given = { base: host.url, token: (await logIn(host.url, what)).token, console: { log: (...words) => said.push(words.join(' ')) } };
      if (what === 'a browser') globalThis.WebSocket ??= WebSocket;
      const module = new URL(`./guide-${process.pid}.mjs`, import.meta.url);
      await writeFile(module, `const { base, token, console } = globalThis.given;\n${code}`);
      try {
        await import(`${module.href}?${what}`);
      } finally {
        await rm(module);
      }
      const expected = what === 'Node' ? ['run_started', 'agent_completed', 'run_completed'] : ['connecting', 'open', 'triage', 'closed'];
      for (const words of expected) assert.ok(said.includes(words), `${words} in ${said.join()}`);
    });
  }
});
