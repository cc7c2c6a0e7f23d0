// Pull the network and put it back: nothing is missing, nothing is doubled.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, connected, ended, logIn, logged, picture, shown, sleep, startBrowser, startChat, startNetwork, usageFile, watch } from '../support.js';
import { longUsage } from '../usage.js';

let chat, network, browser, long;

before(async () => {
  chat = await startChat();
  network = await startNetwork(chat.port);
  browser = await startBrowser({ chat, through: network.port });
  long = await longUsage(chat.folder, 150_000);
});

after(async () => {
  await browser?.close();
  await network?.stop();
  await chat?.stop();
});

async function user(name, act) {
  const context = await browser.newContext();
  const page = await logIn(context, chat, name);
  try {
    await act(page, context);
    assert.deepEqual(page.faults, []);
  } finally {
    Object.assign(network, { trickle: null, down: false, mangle: [] });
    await context.close();
  }
}

async function assertWhole(run) {
  const [page, log] = [await shown(run), await logged(run)];
  assert.deepEqual(log.map(({ seq }) => seq), log.map((_, place) => place + 1));
  assert.deepEqual(page, log);
}

describe('the network', () => {
  test('is pulled in the middle of a run and put back', () => user('offline', async (page, context) => {
    const run = await ask(page, 'What do we spend?', [long]);
    await run.locator('.step').first().waitFor();
    await context.setOffline(true);
    network.down = true;
    network.cut();
    await page.locator('#connection[data-state=offline]').waitFor();
    await picture(page, 'offline');
    await sleep(1_500);
    network.down = false;
    await context.setOffline(false);
    await connected(page);
    assert.equal(await ended(run), 'completed');
    await assertWhole(run);
  }));

  test('breaks at random moments while the events trickle in', () => user('cuts', async (page) => {
    for (let round = 0; round < 3; round += 1) {
      network.trickle = null;
      await connected(page);
      network.trickle = 1_500;
      const run = await ask(page, `What do we spend, round ${round}?`, round === 0 ? [usageFileOrSample()] : []);
      for (let cut = 0; cut < 3; cut += 1) {
        await sleep(200 + Math.random() * 900);
        network.cut();
      }
      network.trickle = null;
      assert.equal(await ended(run), 'completed');
      await connected(page);
      await assertWhole(run);
    }
    assert.equal(await page.locator('.run').count(), 3);
  }));

  test('breaks while a question is sent: it is asked once', () => user('once', async (page) => {
    network.down = true;
    network.cut();
    await page.locator('#connection:not([data-state=connected])').waitFor();
    await page.getByRole('textbox', { name: 'Your question' }).fill('Is this asked once?');
    await page.keyboard.press('Enter');
    await sleep(300);
    network.down = false;
    await page.locator('.run').waitFor({ timeout: 60_000 });
    await ended(page.locator('.run'));
    await page.reload();
    await ended(page.locator('.run'));
    assert.equal(await page.locator('.question').count(), 1);
  }));

  for (const [how, signal] of [['is killed', 'SIGKILL'], ['is ended by Ctrl-C', 'SIGINT']]) {
    test(`is there but the host ${how} and starts again: the page shows the whole log of the run`, () => user(how, async (page) => {
      const run = await ask(page, 'What do we spend?', [long]);
      await run.locator('.step').nth(1).waitFor();
      const status = await chat.end(signal);
      if (signal === 'SIGINT') assert.equal(status, 0);
      await page.locator('#connection[data-state=reconnecting]').waitFor();
      await picture(page, 'reconnecting');
      await chat.start();
      await connected(page);
      assert.equal(await ended(run), 'completed');
      await assertWhole(run);
    }));
  }
});

describe('a proxy', () => {
  const SUBPROTOCOL = ['Sec-WebSocket-Protocol:', 'Xec-WebSocket-Protocol:'];
  const QUERY = ['/ws?ticket=', '/ws?xicket='];

  for (const [what, mangle, way] of [['subprotocols', [SUBPROTOCOL], 'query'], ['subprotocols and queries', [SUBPROTOCOL, QUERY], 'hello']]) {
    test(`that strips ${what} is got past by the next way, which is remembered`, () => user(`strips ${way}`, async (page) => {
      network.mangle = mangle;
      network.cut();
      await page.locator('#connection:not([data-state=connected])').waitFor();
      await connected(page);
      assert.equal(await page.evaluate(() => sessionStorage.getItem('apex.way')), way);
      const run = await ask(page, 'What do we spend?');
      assert.equal(await ended(run), 'completed');
    }));
  }
});

describe('a page', () => {
  test('that is reloaded in the middle of a run shows all of it', () => user('reload', async (page) => {
    await ask(page, 'What do we spend?', [long]);
    await page.locator('.step').first().waitFor();
    await page.reload();
    const run = page.locator('.run');
    assert.equal(await ended(run), 'completed');
    await assertWhole(run);
    await page.reload();
    assert.equal(await ended(run), 'completed');
    await assertWhole(run);
    assert.equal(await page.locator('.question p').innerText(), 'What do we spend?');
  }));

  test('in a second tab finds the run that is under way', () => user('tabs', async (page, context) => {
    const run = await ask(page, 'What do we spend?', [long]);
    const second = await context.newPage();
    watch(second);
    await second.goto(chat.url);
    await second.locator('#running').getByRole('link').click();
    const same = second.locator('.run');
    assert.equal(await ended(same), 'completed');
    await assertWhole(same);
    assert.deepEqual(await shown(same), await shown(run));
    // A question of the first tab comes up in the second one, too.
    await ended(await ask(page, 'And then?'));
    await second.locator('.run').nth(1).waitFor();
    await ended(second.locator('.run').nth(1));
    assert.deepEqual(second.faults, []);
  }));
});

function usageFileOrSample() {
  return usageFile('tau2_airline_gpt4o.jsonl', { skip() {} }) ?? long;
}
