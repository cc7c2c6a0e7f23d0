// Starts a real browser on the built chat example, and a network that a test can break.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import { ROOT, freePort } from './chat.js';

export { freePort, startChat } from './chat.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** A browser; with `through`, whatever goes to the chat host's port goes through that port instead. */
export function startBrowser({ chat, through } = {}) {
  const args = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  if (through) args.push(`--host-resolver-rules=MAP 127.0.0.1:${chat.port} 127.0.0.1:${through}`);
  return chromium.launch({ executablePath: process.env.APEX_CHROMIUM ?? '/usr/bin/chromium', args });
}

/**
 * A stretch of network between a browser and the chat host. `cut()` breaks every connection at once, `down` refuses
 * new ones, `trickle` (bytes in a tenth of a second) makes what the host says slow to arrive, and `mangle` (pairs of
 * words of one length) changes what the browser says, as a proxy does that strips what it does not know.
 */
export async function startNetwork(to) {
  const port = await freePort();
  const network = { port, down: false, trickle: null, mangle: [] };
  const pairs = new Set();
  const server = net.createServer((near) => {
    if (network.down) return near.resetAndDestroy();
    const far = net.connect(to, '127.0.0.1');
    const pair = [near, far];
    pairs.add(pair);
    for (const [socket, other] of [[near, far], [far, near]]) {
      socket.on('error', () => {});
      socket.on('close', () => {
        other.destroy();
        pairs.delete(pair);
      });
    }
    near.on('data', (chunk) => far.write(mangled(chunk, network.mangle)));
    near.on('end', () => far.end());
    slowly(far, near, network);
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  network.cut = () => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
  };
  network.stop = () => {
    network.cut();
    return new Promise((resolve) => server.close(resolve));
  };
  return network;
}

function mangled(chunk, pairs) {
  if (pairs.length === 0) return chunk;
  return Buffer.from(pairs.reduce((text, [from, to]) => text.replaceAll(from, to), chunk.toString('latin1')), 'latin1');
}

function slowly(from, to, network) {
  from.on('data', async (chunk) => {
    if (network.trickle === null) {
      to.write(chunk);
      return;
    }
    from.pause();
    for (let at = 0; at < chunk.length && !to.destroyed; at += network.trickle ?? chunk.length) {
      to.write(chunk.subarray(at, at + (network.trickle ?? chunk.length)));
      await sleep(100);
    }
    from.resume();
  });
  from.on('end', () => to.end());
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Whether a program is here. */
export function installed(program) {
  return ['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/usr/local/bin'].some((folder) => existsSync(path.join(folder, program)));
}

/** `nginx` or `haproxy` with that configuration before the chat host; `stop()` ends it. */
export async function startProxy(kind, config, port = null) {
  const folder = mkdtempSync(path.join(tmpdir(), 'apex-proxy-'));
  const file = path.join(folder, 'proxy.conf');
  writeFileSync(file, config);
  port ??= await freePort();
  const child = spawn('python3', [path.join(ROOT, 'scripts', 'services'), 'serve', kind, '--config', file, '--port', port], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk) => (said += chunk));
  const gone = new Promise((resolve) => child.once('exit', resolve));
  const first = await Promise.race([new Promise((resolve) => createInterface({ input: child.stdout }).once('line', resolve)), gone.then(() => null)]);
  if (first === null) throw new Error(`${kind} did not start: ${said}`);
  return {
    port,
    stop: async () => {
      child.stdin.end();
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A page that is logged in as `user`; what goes wrong inside it is collected in `page.faults`. */
export async function logIn(context, { url }, user) {
  const page = await context.newPage();
  watch(page);
  await page.goto(url);
  await page.getByLabel('Your name').fill(user);
  await page.keyboard.press('Enter');
  await connected(page);
  return page;
}

/** Collects errors of the page; failed requests are no error where a test breaks the network itself. */
export function watch(page) {
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.stack));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/Failed to load resource|WebSocket connection/.test(message.text())) page.faults.push(message.text());
  });
}

export async function connected(page) {
  await page.locator('#connection[data-state=connected]').waitFor();
}

/** Asks with files, as a user does; gives the run's place on the page. */
export async function ask(page, question, files = []) {
  if (files.length > 0) {
    await page.locator('#file').setInputFiles(files);
    await page.locator('#send:enabled').waitFor({ timeout: 120_000 });
  }
  const before = await page.locator('.run').count();
  await page.getByRole('textbox', { name: 'Your question' }).fill(question);
  await page.keyboard.press('Enter');
  const run = page.locator('.run').nth(before);
  await run.waitFor();
  return run;
}

/** Waits until a run on the page has ended; gives its state. */
export async function ended(run, timeout = 120_000) {
  const states = ['completed', 'failed', 'cancelled'].map((state) => `[data-state=${state}]`).join(', ');
  await run.and(run.page().locator(states)).waitFor({ timeout });
  return run.getAttribute('data-state');
}

/**
 * What a run's part of the page shows of its events: `{ seq, says }`, as many times as it is there, beginnings in the
 * order of the page and ends where their numbers belong.
 */
export async function shown(run) {
  const found = await run.evaluate((article) => {
    const own = (selector, element) => element.querySelector(selector)?.textContent ?? '';
    const [begins, ends] = [[], []];
    const add = (list, seq, says) => seq && list.push({ seq: Number(seq), says });
    add(begins, article.dataset.seq, 'run_started');
    for (const element of article.querySelectorAll('.step, .note, .call, .notices li')) {
      const { seq, endSeq, outcome } = element.dataset;
      if (element.matches('.step')) {
        add(begins, seq, `agent_started ${own('.agent', element)}`);
        add(ends, endSeq, `agent_completed ${outcome}`);
      } else if (element.matches('.call')) {
        add(begins, seq, `tool_executing ${own('code', element)}`);
        add(ends, endSeq, `tool_completed ${outcome} ${own('.call-summary', element)}`);
      } else if (element.matches('.note')) {
        add(begins, seq, `agent_thinking ${element.textContent}`);
      } else {
        add(ends, seq, 'notice');
      }
    }
    add(ends, article.querySelector('.answer').dataset.seq, `run_${article.dataset.state}`);
    for (const end of ends) {
      const place = begins.findIndex(({ seq }) => seq > end.seq);
      begins.splice(place < 0 ? begins.length : place, 0, end);
    }
    return begins;
  });
  return found.map(plain);
}

/** Words without the marks of Markdown, which the page turns into looks. */
function plain({ seq, says }) {
  return { seq, says: says.replace(/[^\p{L}\p{N}]+/gu, ' ').trim() };
}

/** What the run's log says, in the same words, read by a plain WebSocket of its own. */
export async function logged(run) {
  const id = await run.getAttribute('data-run');
  const events = await run.page().evaluate(async (id) => {
    const { token } = JSON.parse(localStorage.getItem('apex.login'));
    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
    const { ticket } = await (await fetch('/auth/ticket', { method: 'POST', headers, body: '{}' })).json();
    const socket = new WebSocket('/ws', ['apex.v1', `apex.ticket.${ticket}`]);
    const events = [];
    await new Promise((resolve, reject) => {
      socket.onerror = () => reject(new Error('the log could not be read'));
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.frame === 'welcome') socket.send(JSON.stringify({ frame: 'subscribe', id: 'log', run: id }));
        if (frame.frame === 'error') reject(new Error(frame.message));
        if (frame.frame === 'event' && frame.seq) events.push(frame);
        if (/^run_(completed|failed|cancelled)$/.test(frame.type)) resolve();
      };
    });
    socket.close();
    return events;
  }, id);
  return events.map(({ seq, type, data }) => plain({ seq, says: say(type, data) }));
}

function say(type, data) {
  const title = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll('_', ' ');
  switch (type) {
    case 'agent_started': return `agent_started ${title(data.agent)}`;
    case 'agent_thinking': return `agent_thinking ${data.note}`;
    case 'agent_completed': return `agent_completed ${data.outcome}`;
    case 'tool_executing': return `tool_executing ${data.tool}`;
    case 'tool_completed': return `tool_completed ${data.outcome} ${data.summary}`;
    case 'run_started': case 'run_completed': case 'run_failed': case 'run_cancelled': return type;
    default: return 'notice';
  }
}

/** The findings of axe that are serious or critical, in words; none is what is wanted. */
export async function seriousFindings(page) {
  const { violations } = await page.evaluate(`${AXE}; axe.run(document, { iframes: false })`);
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target}: ${failureSummary}`).join('; ')}`);
}

/** A file of the real usage data, or null with a visible note when it is not here. */
export function usageFile(name, test) {
  const root = process.env.APEX_TEST_DATA ?? path.join(ROOT, '..', 'shared', 'data');
  const file = path.join(root, 'requests', name);
  if (existsSync(file)) return file;
  console.log(`skipped: ${name} is not here; name its folder in APEX_TEST_DATA`);
  test.skip(`${name} is not here`);
  return null;
}

/** Keeps a picture where `APEX_TEST_SCREENSHOTS` names a folder for them. */
export async function picture(page, name) {
  if (process.env.APEX_TEST_SCREENSHOTS) await page.screenshot({ path: path.join(process.env.APEX_TEST_SCREENSHOTS, `${name}.png`) });
}
