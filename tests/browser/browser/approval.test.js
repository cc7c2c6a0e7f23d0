// A run that waits for a decision, as the page shows it: the exact call, two buttons, and what came of it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { logIn, seriousFindings, startBrowser, startChat } from '../support.js';

let chat, browser;

before(async () => {
  chat = await startChat();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await chat?.stop();
});

test('who is asked sees the exact call and decides on it once', async () => {
  const page = await logIn(await browser.newContext(), chat, 'decider');
  await page.evaluate(async () => {
    const { RunView } = await import('/run-view.js');
    const run = '00000000-0000-7000-8000-000000000001';
    const made = { refuse: true, decided: [] };
    const view = new RunView({
      run,
      api: null,
      onCancel: () => {},
      onEnd: () => {},
      onDecide: async ({ id, digest }, decision) => {
        if (made.refuse) throw new Error('the server is away');
        made.decided.push([id, digest, decision]);
      },
    }).live();
    let seq = 0;
    made.tell = (type, data) => made.listener.onEvent({ type, data, seq: (seq += 1), at: new Date().toISOString() });
    view.follow({ listen: (listener) => (made.listener = listener), close: () => {} });
    document.getElementById('welcome').hidden = true;
    document.getElementById('conversation').hidden = false;
    document.getElementById('turns').append(view.element);
    made.tell('run_started', { request_id: run, state: 'running', agents: [] });
    made.tell('agent_started', { step: 's1', agent: 'clerk', purpose: 'Pays.', attempt: 1 });
    const call = { step: 's1', call: 'c1', tool: 'pay', digest: 'd5', expires_at: new Date(Date.now() + 60_000).toISOString() };
    made.tell('approval_requested', { ...call, approval: 'a1', arguments: { to: '<b>ACME</b>', usd: 5 } });
    globalThis.made = made;
  });
  const asked = page.getByRole('region', { name: 'A decision is needed' });
  await asked.getByRole('button', { name: 'Approve' }).waitFor();
  assert.match(await asked.innerText(), /May pay be called with exactly this\?/);
  assert.deepEqual(JSON.parse(await asked.locator('pre').innerText()), { to: '<b>ACME</b>', usd: 5 });
  assert.equal(await page.locator('.run-heading').innerText(), 'Waiting for your decision');
  assert.deepEqual(await seriousFindings(page), []);

  // A decision that did not arrive can be made again; one that did is shown when it is on record.
  await asked.getByRole('button', { name: 'Deny' }).click();
  await asked.getByText('It was not recorded: the server is away').waitFor();
  await page.evaluate('made.refuse = false');
  await asked.getByRole('button', { name: 'Approve' }).click();
  await page.waitForFunction('made.decided.length === 1');
  assert.deepEqual(await page.evaluate('made.decided'), [['a1', 'd5', 'approve']]);
  assert.equal(await asked.getByRole('button', { name: 'Approve' }).isDisabled(), true);
  await page.evaluate("made.tell('approval_decided', { approval: 'a1', decision: 'approve', by: 'u' })");
  await asked.getByText('Approved.').waitFor();
  assert.equal(await asked.getByRole('button').count(), 0);
});
