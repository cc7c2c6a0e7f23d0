// What goes wrong or is called off is told in a way that helps.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { ask, ended, logIn, logged, picture, shown, startBrowser, startChat } from '../support.js';
import { brokenUsage, foreignFile, longUsage } from '../usage.js';

let chat, browser, context, page;

before(async () => {
  chat = await startChat();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await chat?.stop();
});

beforeEach(async () => {
  context = await browser.newContext();
  page = await logIn(context, chat, `eve ${Date.now()}`);
});

afterEach(async () => {
  await context.close();
  assert.deepEqual(page.faults, []);
});

describe('trouble', () => {
  test('a run that is cancelled stops within a second and says so', async () => {
    const run = await ask(page, 'What do we spend?', [await longUsage(chat.folder, 1_500_000)]);
    await run.locator('.call[data-outcome=running]').first().waitFor();
    const began = Date.now();
    await run.getByRole('button', { name: 'Cancel' }).click();
    assert.equal(await ended(run), 'cancelled');
    assert.ok(Date.now() - began < 1_000, `it took ${Date.now() - began} ms`);
    assert.match(await run.locator('.callout').innerText(), /Cancelled/);
    assert.equal(await run.getByRole('button', { name: 'Cancel' }).count(), 0);
    assert.deepEqual(await shown(run), await logged(run));
    await picture(page, 'cancelled');
  });

  test('rows that cannot be used are told with line and reason; the others count', async () => {
    const run = await ask(page, 'What do we spend?', [brokenUsage(chat.folder)]);
    assert.equal(await ended(run), 'completed');
    const text = await run.locator('.rejected').innerText();
    assert.match(text, /3 of 5 rows of broken\.csv could not be used/);
    for (const line of [3, 4, 5]) assert.match(text, new RegExp(`Line ${line}: \\S+`));
    assert.match(await run.frameLocator('iframe[title=Report]').locator('body').innerText(), /\b2 requests/);
    await picture(page, 'broken');
  });

  test('a file that holds no usage at all gets an answer that says what is wrong and what to bring', async () => {
    const run = await ask(page, 'What do we spend?', [foreignFile(chat.folder)]);
    assert.equal(await ended(run), 'completed');
    await run.locator('.callout.insufficient').waitFor();
    assert.match(await run.locator('.answer').innerText(), /photo\.csv/);
    await picture(page, 'foreign');
  });

  test('a question without data is answered by what is missing and how to get it', async () => {
    const run = await ask(page, 'Where does our LLM money go, and what could we save?');
    assert.equal(await ended(run), 'completed');
    await run.locator('.callout.insufficient').waitFor();
    const text = await run.locator('.answer').innerText();
    for (const source of ['OpenAI', 'Anthropic', 'Gemini', 'LiteLLM', 'Langfuse']) assert.match(text, new RegExp(source));
    await picture(page, 'insufficient');
  });

  test('an empty question asks for one, and an upload can be taken back', async () => {
    await page.getByRole('textbox', { name: 'Your question' }).press('Enter');
    assert.match(await page.locator('#composer-error').innerText(), /Write a question/);
    await page.locator('#file').setInputFiles(brokenUsage(chat.folder));
    await page.locator('#send:enabled').waitFor();
    await page.getByRole('button', { name: 'Remove broken.csv' }).click();
    assert.equal(await page.locator('.attachment').count(), 0);
  });

  test('a file can be dropped', async () => {
    const data = await page.evaluateHandle(() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(['timestamp,model\n'], 'dropped.csv', { type: 'text/csv' }));
      return transfer;
    });
    for (const type of ['dragenter', 'dragover', 'drop']) await page.dispatchEvent('#drop', type, { dataTransfer: data });
    await page.locator('.attachment', { hasText: 'dropped.csv' }).waitFor();
  });

  test('two users see only their own', async () => {
    const run = await ask(page, 'What does Eve spend?', [brokenUsage(chat.folder)]);
    await ended(run);
    const other = await browser.newContext();
    const mallory = await logIn(other, chat, `mallory ${Date.now()}`);
    assert.equal(await mallory.locator('#thread-list li').count(), 0);
    assert.equal(await mallory.locator('#running').isVisible(), false);
    await mallory.goto(page.url());
    await mallory.reload();
    await mallory.getByText('There is no such conversation').waitFor();
    assert.doesNotMatch(await mallory.locator('body').innerText(), /Eve/);
    await other.close();
  });

  test('a login that is ended elsewhere asks for a new one, and then goes on where it was', async () => {
    const name = await page.locator('#who').innerText();
    const run = await ask(page, 'What do we spend?', [brokenUsage(chat.folder)]);
    await ended(run);
    await page.evaluate(() => {
      const { token } = JSON.parse(localStorage.getItem('apex.login'));
      return fetch('/auth/logout', { method: 'POST', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }, body: '{}' });
    });
    await page.getByText('Your login has ended').waitFor();
    assert.equal(await page.locator('.run').count(), 0);
    await page.getByLabel('Your name').fill(name);
    await page.keyboard.press('Enter');
    assert.equal(await ended(page.locator('.run')), 'completed');
  });

  test('who logs out is out, in every tab, and the login is of no more use', async () => {
    const second = await context.newPage();
    await second.goto(chat.url);
    await second.getByRole('textbox', { name: 'Your question' }).waitFor();
    const token = await page.evaluate(() => JSON.parse(localStorage.getItem('apex.login')).token);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('Your name').waitFor();
    await second.getByLabel('Your name').waitFor();
    const answer = await fetch(`${chat.url}/threads`, { headers: { Authorization: `Bearer ${token}` } });
    assert.equal(answer.status, 401);
  });
});
