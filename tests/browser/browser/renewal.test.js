// The page renews its login by itself: before the connection's credential runs out, and when a token has run out.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, connected, ended, logIn, startBrowser, startChat, watch } from '../support.js';

let chat, browser, context, page;

const token = (of) => of.evaluate(() => JSON.parse(localStorage.getItem('apex.login')).token);

before(async () => {
  // A connection is told a minute before its end.
  chat = await startChat({ APEX_AUTH_TOKEN_LIFE: '62s' });
  browser = await startBrowser();
  context = await browser.newContext();
  page = await logIn(context, chat, `nora ${Date.now()}`);
});
after(async () => {
  await browser?.close();
  await chat?.stop();
});

describe('a login that runs out', () => {
  test('is renewed in time, by one of all tabs, and every tab stays connected', async () => {
    const second = await context.newPage();
    watch(second);
    await second.goto(chat.url);
    await connected(second);
    const states = [page, second].map((tab) =>
      tab.evaluate(() => {
        const states = [];
        const shown = document.querySelector('#connection');
        new MutationObserver(() => states.push(shown.dataset.state)).observe(shown, { attributeFilter: ['data-state'] });
        window.states = states;
      }),
    );
    await Promise.all(states);
    for (let n = 0; n < 3; n += 1) {
      const before = await token(page);
      await page.waitForFunction((before) => JSON.parse(localStorage.getItem('apex.login')).token !== before, before, { timeout: 30_000 });
    }
    for (const tab of [page, second]) {
      assert.deepEqual(await tab.evaluate(() => window.states), [], 'it stayed connected');
      assert.deepEqual(tab.faults, []);
      assert.equal(await ended(await ask(tab, 'What can you do?')), 'completed');
    }
    await second.close();
  });

  test('is renewed when its token is no longer taken', async () => {
    await page.evaluate(() => {
      const login = JSON.parse(localStorage.getItem('apex.login'));
      localStorage.setItem('apex.login', JSON.stringify({ ...login, token: 'run-out' }));
    });
    await page.reload();
    await connected(page);
    assert.notEqual(await token(page), 'run-out');
    assert.equal(await ended(await ask(page, 'What can you do?')), 'completed');
    assert.deepEqual(page.faults, []);
  });

  test('is over when it cannot be renewed', async () => {
    await page.evaluate(() => {
      const login = JSON.parse(localStorage.getItem('apex.login'));
      localStorage.setItem('apex.login', JSON.stringify({ ...login, token: 'unknown', refresh: 'no.good' }));
    });
    await page.reload();
    await page.getByText('Your login has ended').waitFor();
  });
});
