// Every state of the page: no serious finding of axe, in light and dark, and no sideways scrolling on a phone.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ask, ended, logIn, picture, seriousFindings, startBrowser, startChat } from '../support.js';
import { brokenUsage, longUsage } from '../usage.js';

let chat, browser, long;

before(async () => {
  chat = await startChat();
  browser = await startBrowser();
  long = await longUsage(chat.folder, 600_000);
});

after(async () => {
  await browser?.close();
  await chat?.stop();
});

const DESK = { width: 1200, height: 820 };
const PHONE = { width: 360, height: 740 };

for (const [name, options] of [
  ['light', { viewport: DESK, colorScheme: 'light' }],
  ['dark', { viewport: DESK, colorScheme: 'dark' }],
  ['phone', { viewport: PHONE, colorScheme: 'light', hasTouch: true }],
  ['dark phone, no motion', { viewport: PHONE, colorScheme: 'dark', reducedMotion: 'reduce', hasTouch: true }],
]) {
  describe(name, () => {
    test('every state is in order', async () => {
      const context = await browser.newContext(options);
      const start = await context.newPage();
      const look = async (page, state) => {
        await picture(page, `${name} ${state}`.replaceAll(/[^a-z]+/g, '-'));
        assert.deepEqual(await seriousFindings(page), [], `${name}: ${state}`);
        const [content, window] = await page.evaluate('[document.documentElement.scrollWidth, innerWidth]');
        assert.ok(content <= window, `${name}: ${state} is ${content} px wide in ${window} px`);
      };
      await start.goto(chat.url);
      await start.getByLabel('Your name').waitFor();
      await look(start, 'login');
      await start.close();

      const page = await logIn(context, chat, name);
      await look(page, 'welcome');
      const running = await ask(page, 'What do we spend?', [long]);
      await running.locator('.call[data-outcome=running]').first().waitFor();
      await look(page, 'running');
      await running.getByRole('button', { name: 'Cancel' }).click();
      await ended(running);
      await look(page, 'cancelled');
      if (options.viewport === PHONE) await page.getByRole('button', { name: 'Conversations' }).click();
      await page.getByRole('button', { name: 'New conversation' }).click();
      await page.locator('.run').waitFor({ state: 'detached' });
      await ended(await ask(page, 'What do we spend?'));
      await page.locator('.callout.insufficient').waitFor();
      await look(page, 'insufficient');
      const answered = await ask(page, 'What do we spend?', [brokenUsage(chat.folder)]);
      await ended(answered);
      const report = answered.frameLocator('iframe[title=Report]').getByRole('heading').first();
      await report.waitFor();
      await look(page, 'answered');
      await report.scrollIntoViewIfNeeded();
      await look(page, 'report');
      await answered.locator('.work > summary').click();
      await answered.locator('.arguments summary').first().click();
      await look(page, 'steps');
      await answered.locator('.plan > summary').click();
      await answered.locator('.plan-step').nth(6).waitFor();
      await answered.locator('.plan').scrollIntoViewIfNeeded();
      await look(page, 'plan');
      if (options.viewport === PHONE) {
        await page.getByRole('button', { name: 'Conversations' }).click();
        await look(page, 'menu');
      }
      assert.deepEqual(page.faults, []);
      await context.close();
    });

    test('the report by itself is in order', async () => {
      const context = await browser.newContext(options);
      const page = await logIn(context, chat, `${name} report`);
      const run = await ask(page, 'What do we spend?', [brokenUsage(chat.folder)]);
      await ended(run);
      const [download] = await Promise.all([page.waitForEvent('download'), run.getByRole('link', { name: 'HTML' }).click()]);
      const file = path.join(chat.folder, 'report.html');
      await download.saveAs(file);
      const report = await context.newPage();
      await report.goto(`file://${file}`);
      assert.deepEqual(await seriousFindings(report), []);
      const [content, window] = await report.evaluate('[document.documentElement.scrollWidth, innerWidth]');
      assert.ok(content <= window, `the report is ${content} px wide in ${window} px`);
      await picture(report, `${name} report itself`.replaceAll(/[^a-z]+/g, '-'));
      await context.close();
    });
  });
}
