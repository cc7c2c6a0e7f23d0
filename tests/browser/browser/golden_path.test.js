// What a user comes for: from a file and a question to the report, in a real browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';
import { ask, ended, logIn, logged, picture, shown, startBrowser, startChat, usageFile } from '../support.js';

let chat, browser, context, page;

before(async () => {
  chat = await startChat();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  assert.equal(await chat?.stop(), 0, 'the host ends well when it is interrupted');
});

beforeEach(async () => {
  context = await browser.newContext();
  page = await logIn(context, chat, `ada ${Date.now()}`);
});

afterEach(async () => {
  await context.close();
  assert.deepEqual(page.faults, []);
});

const report = (run) => run.frameLocator('iframe[title=Report]').locator('body');

describe('the golden path', () => {
  test('the sample needs one click, shows every event of its run, and ends in a report', async () => {
    await page.getByRole('button', { name: 'Try the sample' }).click();
    const run = page.locator('.run');
    await run.waitFor();
    assert.equal(await ended(run), 'completed');
    const events = await shown(run);
    assert.deepEqual(events, await logged(run));
    for (const kind of ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'agent_completed']) {
      assert.ok(events.some(({ says }) => says.startsWith(kind.replace('_', ' '))), `${kind} is shown`);
    }
    await report(run).getByRole('heading').first().waitFor();
    assert.match(await report(run).innerText(), /\$\d/);
    await picture(page, 'sample');
  });

  test('the steps can be opened again by keyboard, and the report be downloaded', async () => {
    await page.getByRole('button', { name: 'Try the sample' }).click();
    const run = page.locator('.run');
    await ended(run);
    await run.locator('.work > summary').focus();
    await page.keyboard.press('Enter');
    await run.locator('.step').first().waitFor({ state: 'visible' });
    for (const [label, name] of [['JSON', 'report.json'], ['Markdown', 'report.md'], ['HTML', 'report.html']]) {
      const [download] = await Promise.all([page.waitForEvent('download'), run.getByRole('link', { name: label }).click()]);
      assert.equal(download.suggestedFilename(), name);
    }
  });

  test('needs no mouse', async () => {
    const tabTo = async (name) => {
      for (let tabs = 0; tabs < 40; tabs += 1) {
        await page.keyboard.press('Tab');
        const focused = page.locator('a:focus, button:focus, summary:focus', { hasText: name });
        if (await focused.count() > 0) return;
      }
      assert.fail(`${name} cannot be reached by the Tab key`);
    };
    await tabTo('Try the sample');
    await page.keyboard.press('Enter');
    const run = page.locator('.run');
    await run.waitFor();
    await ended(run);
    await tabTo('Worked out in');
    await page.keyboard.press('Space');
    await run.locator('.step').first().waitFor({ state: 'visible' });
    await tabTo('Show the whole report');
    await page.keyboard.press('Enter');
    await run.locator('.report-frame:not(.clipped)').waitFor();
    await tabTo('JSON');
  });

  test('aider.csv: its totals and the one absurd row', async (t) => {
    const file = usageFile('aider.csv', t);
    if (!file) return;
    const run = await ask(page, 'Where does our LLM money go, and what could we save?', [file]);
    assert.equal(await ended(run), 'completed');
    const text = await report(run).innerText();
    assert.match(text, /5,522 requests/);
    assert.match(text, /\$10,182\.70/);
    assert.match(text, /\$9,990\.01/);
    assert.match(await run.locator('.prose').innerText(), /\$9,990\.01/);
    assert.deepEqual(await shown(run), await logged(run));
    await picture(page, 'aider');
  });

  test('tau2: the cost to the last digit', async (t) => {
    const file = usageFile('tau2_airline_gpt4o.jsonl', t);
    if (!file) return;
    const run = await ask(page, 'Where does our LLM money go, and what could we save?', [file]);
    assert.equal(await ended(run), 'completed');
    assert.match(await report(run).innerText(), /333 requests/);
    const [download] = await Promise.all([page.waitForEvent('download'), run.getByRole('link', { name: 'JSON' }).click()]);
    const { totals } = JSON.parse(await readFile(await download.path(), 'utf8'));
    assert.equal(totals.priced_cost_usd, '0.73177');
    assert.match(totals.recorded_cost_usd, /^0\.73177/);
  });

  test('a question that follows takes its place in the same conversation, and the file is still at hand', async () => {
    await page.getByRole('button', { name: 'Try the sample' }).click();
    await ended(page.locator('.run'));
    const second = await ask(page, 'And which model costs most?');
    assert.equal(await ended(second), 'completed');
    assert.equal(await second.locator('.callout.insufficient').count(), 0);
    assert.equal(await page.locator('.question').count(), 2);
    assert.equal(await page.locator('#thread-list li').count(), 1);
    await page.getByRole('button', { name: 'New conversation' }).click();
    await page.getByRole('button', { name: 'Try the sample' }).waitFor();
    assert.equal(await page.locator('.run').count(), 0);
  });
});
