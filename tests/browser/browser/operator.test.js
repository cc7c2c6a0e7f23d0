// The operator's page: what it shows of a real node, of one in trouble, and to whom.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { picture, seriousFindings, startBrowser, startChat, watch } from '../support.js';

let chat, browser;

before(async () => {
  chat = await startChat();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await chat?.stop();
});

const line = (status, observedValue, more = {}) => [{ componentType: 'component', status, observedValue, observedUnit: '', ...more }];

/** A node with a trouble of each kind. */
const TROUBLE = {
  status: 'warn',
  version: '1',
  checks: {
    'runs:responseTime': line('pass', 2),
    'model openai:responseTime': line('fail', 1_000, { output: 'deadline_exceeded: no answer in time' }),
    'model openai:breaker': line('warn', 'open', { output: '19 of 20 calls were bad', calls: 20, bad: 19, peers: 1 }),
    'model offline:breaker': line('pass', 'closed', { calls: 4, bad: 0, peers: 0 }),
    'completion:serviceLevel': line('warn', 0.981, { output: 'the error budget burns 19.0 times too fast', objective: 0.999, runs: 2_100, burn: 19, alert: 'page' }),
    'answer:serviceLevel': line('pass', 0.97, { objective: 0.95, runs: 2_100, burn: 0.6, alert: null }),
    'connections:utilization': line('warn', 8_400, { limit: 10_000, reaches: { earliest_s: 1_020, expected_s: 1_560, latest_s: 3_300 } }),
    'disk_percent:utilization': line('pass', 42.7, { limit: 100, reaches: null }),
    'listener:certificate': line('fail', 2, { output: 'private_key: does not belong to the certificate; name the key that the certificate was made for' }),
  },
  failures: [
    { fingerprint: '0f', kind: 'unavailable', failure: null, operation: 'model.openai.generate', dependency: 'model openai', message: 'openai does not answer; another model is asked', count: 1_204, first: '2026-11-23T08:00:00.000Z', last: '2026-11-23T08:41:00.000Z', users: 87, correlation: '01a207c8-015f-7d70-b7cf-35203923e22e' },
  ],
  alerts: [
    { reason: 'rate', kind: 'unavailable', severity: 'error', subject: 'model openai', message: 'openai does not answer', failures: 50, users: 12, number: 1, at: '2026-11-23T08:00:09.000Z' },
    { subject: 'connections:utilization', severity: 'warning', message: 'reaches 10000 in 26 min (80%: 17 to 55)', number: 1, at: '2026-11-23T08:30:00.000Z' },
  ],
};

async function operatorsPage(context) {
  const page = await context.newPage();
  watch(page);
  await page.goto(`${chat.url}/operator`);
  return page;
}

const DESK = { width: 1200, height: 820 };
const PHONE = { width: 360, height: 740 };

for (const [name, options] of [
  ['light', { viewport: DESK, colorScheme: 'light' }],
  ['dark', { viewport: DESK, colorScheme: 'dark' }],
  ['phone', { viewport: PHONE, colorScheme: 'light', hasTouch: true }],
  ['dark phone', { viewport: PHONE, colorScheme: 'dark', reducedMotion: 'reduce', hasTouch: true }],
]) {
  describe(`the operator's page, ${name}`, () => {
    test('a stranger, a real node and one in trouble are in order', async () => {
      const context = await browser.newContext(options);
      const page = await operatorsPage(context);
      const look = async (state) => {
        await picture(page, `operator-${name}-${state}`.replaceAll(/[^a-z]+/g, '-'));
        assert.deepEqual(await seriousFindings(page), [], `${name}: ${state}`);
        const [content, window] = await page.evaluate('[document.documentElement.scrollWidth, innerWidth]');
        assert.ok(content <= window, `${name}: ${state} is ${content} px wide in ${window} px`);
      };
      await page.getByRole('heading', { name: 'This page is for operators' }).waitFor();
      assert.equal(await page.locator('#panels').isVisible(), false, 'a stranger sees nothing');
      await look('stranger');

      await page.getByRole('button', { name: /Log in as/ }).click();
      await page.getByRole('heading', { name: 'This node is well.' }).waitFor();
      const needs = page.getByRole('region', { name: 'What it needs' });
      for (const store of ['runs', 'threads', 'files', 'artifacts', 'tickets', 'sessions', 'users']) {
        const row = needs.getByRole('row', { name: new RegExp(`^${store} `) });
        assert.match(await row.innerText(), /well/);
        assert.match(await row.innerText(), /\d+ ms/);
      }
      assert.match(await page.getByRole('region', { name: 'What runs out' }).innerText(), /connections[^]*0 of 10,000[^]*no trend towards its limit/);
      await look('well');

      await page.route('**/health/ready', (route) => route.fulfill({ status: 200, contentType: 'application/health+json', body: JSON.stringify(TROUBLE) }));
      await page.getByRole('heading', { name: 'This node serves, and someone should look.' }).waitFor();
      for (const [region, words] of [
        ['Alerts', /model openai[^]*error[^]*50 times, 12 users touched, told once/],
        ['What it needs', /model openai[^]*no answer in time[^]*failing[^]*1\.0 s/],
        ['Breakers', /open: calls are refused, 1 other node has trouble with it/],
        ['What it promises', /runs completed[^]*page|98\.1%/],
        ['What runs out', /full in about 26 min \(8 times of 10 between 17 min and 55 min\)/],
        ['Certificates', /does not belong to the certificate[^]*2 days left/],
        ['What went wrong', /1,204[^]*87[^]*01a207c8-015f-7d70-b7cf-35203923e22e/],
      ]) {
        assert.match(await page.getByRole('region', { name: region }).innerText(), words, region);
      }
      assert.equal(await page.locator('#announce').evaluate((live) => live.getAttribute('aria-live')), 'polite');
      await look('trouble');

      // A node that cannot serve answers 503 with the same details.
      await page.unroute('**/health/ready');
      await page.route('**/health/ready', (route) => route.fulfill({ status: 503, contentType: 'application/health+json', body: JSON.stringify({ ...TROUBLE, status: 'fail' }) }));
      await page.getByRole('heading', { name: 'This node cannot serve.' }).waitFor();
      await page.unroute('**/health/ready');
      await page.route('**/health/ready', (route) => route.abort());
      await page.getByRole('heading', { name: 'This node does not answer.' }).waitFor();
      assert.deepEqual(page.faults, []);
      await context.close();
    });
  });
}

test('a user is no operator, and the chat leads an operator there', async () => {
  const context = await browser.newContext({ viewport: DESK });
  const page = await context.newPage();
  await page.goto(chat.url);
  await page.getByLabel('Your name').fill('ada');
  await page.keyboard.press('Enter');
  await page.getByText('ada', { exact: true }).waitFor();
  assert.equal(await page.getByRole('link', { name: 'Operator' }).isVisible(), false);
  await page.goto(`${chat.url}/operator`);
  await page.getByRole('heading', { name: 'This page is for operators' }).waitFor();
  await page.evaluate('localStorage.clear()');
  await page.goto(chat.url);
  await page.getByLabel('Your name').fill('operator');
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Operator' }).click();
  await page.getByRole('heading', { name: 'This node is well.' }).waitFor();
  await context.close();
});
