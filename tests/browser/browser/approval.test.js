// A run that waits for a decision, as the page shows it: the exact call, two buttons, and what came of it; its budget,
// what it cost, and its plan.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, ended, logIn, picture, seriousFindings, startBrowser, startChat } from '../support.js';

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

test('a run of the chat waits until its user has decided, also over a reload, and does what was decided', async () => {
  const page = await logIn(await browser.newContext(), chat, 'owner');
  const answer = async (run) => (await ended(run), run.locator('.answer').innerText());
  assert.match(await answer(await ask(page, 'Remember that I like otters.')), /I keep that/);

  let run = await ask(page, 'Forget everything.');
  const asked = page.getByRole('region', { name: 'A decision is needed' });
  await asked.getByRole('button', { name: 'Deny' }).click();
  assert.match(await answer(run), /Nothing is forgotten/);
  await run.getByText('Denied.').waitFor();
  assert.match(await answer(await ask(page, 'What do you remember?')), /I like otters/);

  run = await ask(page, 'Forget everything.');
  await asked.last().getByRole('button', { name: 'Approve' }).waitFor();
  await page.reload();
  await asked.last().getByRole('button', { name: 'Approve' }).click();
  run = page.locator('.run').last();
  assert.match(await answer(run), /One note is forgotten/);
  await run.getByText('Approved.').waitFor();
  assert.match(await answer(await ask(page, 'What do you remember?')), /nothing about you/);
  assert.deepEqual(page.faults, []);
});

test('the budget, the cost of each step and the plan are shown', async () => {
  const page = await logIn(await browser.newContext({ viewport: { width: 360, height: 740 } }), chat, 'payer');
  await page.evaluate(async () => {
    const { RunView } = await import('/run-view.js');
    const run = '00000000-0000-7000-8000-000000000002';
    const made = {};
    const view = new RunView({ run, api: null, onCancel: () => {}, onEnd: () => {}, onDecide: () => {} }).live();
    let seq = 0;
    made.tell = (type, data) => made.listener.onEvent({ type, data, seq: (seq += 1), at: new Date().toISOString() });
    view.follow({ listen: (listener) => (made.listener = listener), close: () => {} });
    document.getElementById('welcome').hidden = true;
    document.getElementById('conversation').hidden = false;
    document.getElementById('turns').append(view.element);
    const usage = (cost_usd) => ({ input_tokens: 900, cached_tokens: 0, output_tokens: 100, reasoning_tokens: 0, cost_usd });
    const step = (agent, needs, optional = false) => ({ agent, purpose: '', needs, optional });
    made.tell('run_started', { request_id: run, state: 'running', agents: [], budget: { tokens: 2000, usd: '0.5', steps: 9, seconds: 60 } });
    made.tell('agent_started', { step: 's1', agent: 'boss', purpose: 'Plans.', attempt: 1 });
    made.tell('agent_completed', { step: 's1', agent: 'boss', outcome: 'ok', elapsed_ms: 7, output: {}, usage: usage('0.1234'), models: [],
      plan: [step('reader', []), step('looker', []), step('<img src=x>', ['reader', 'looker'])] });
    made.tell('agent_started', { step: 's2', agent: 'reader', purpose: 'Reads.', attempt: 1 });
    made.tell('agent_completed', { step: 's2', agent: 'reader', outcome: 'error', elapsed_ms: 8, output: { message: 'no' }, usage: usage(null), models: [] });
    made.tell('agent_started', { step: 's3', agent: 'looker', purpose: 'Looks.', attempt: 1 });
    globalThis.made = made;
  });
  const run = page.locator('.run');
  const plan = run.locator('.plan');
  await plan.getByText('Plan: 1 of 4 steps done').click();
  assert.equal(await plan.locator('.plan-cost').innerText(), 'unpriced');
  const uses = await plan.getByRole('listitem').allInnerTexts();
  assert.deepEqual(uses.slice(0, 3), ['Cost: unpriced of $0.5000', 'Tokens: 2,000 of 2,000', 'Steps: 3 of 9']);
  assert.match(uses[3], /^Time: .* of 1 min 0 s$/);
  assert.deepEqual(await run.locator('.step-cost').allInnerTexts(), ['$0.1234', 'unpriced', '']);
  const states = await plan.locator('.plan-step').evaluateAll((steps) => steps.map(({ dataset }) => [dataset.agent, dataset.state]));
  assert.deepEqual(states, [['boss', 'ok'], ['reader', 'error'], ['looker', 'running'], ['<img src=x>', 'planned']]);
  assert.equal(await plan.locator('.plan-arrow').count(), 4);
  assert.match(await plan.getByRole('img').getAttribute('aria-label'), /Boss: done, 7 ms, \$0\.1234\. Reader: failed.* planned, after Reader, Looker\./);
  assert.equal(await plan.locator('img').count(), 0, 'a name is a text');
  assert.deepEqual(await seriousFindings(page), []);
  const [content, window] = await page.evaluate('[document.documentElement.scrollWidth, innerWidth]');
  assert.ok(content <= window, `${content} px wide in ${window} px`);
  await plan.locator('.plan-step').last().scrollIntoViewIfNeeded();
  await picture(page, 'phone-plan-budget');
  await page.evaluate("made.tell('run_cancelled', { elapsed_ms: 9, usage: { input_tokens: 0, output_tokens: 0, cost_usd: '0.25' }, by: 'u' })");
  await plan.getByText('$0.2500').first().waitFor();
});
