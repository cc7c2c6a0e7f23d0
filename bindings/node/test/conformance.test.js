// What every client has to do, by the list that all languages share, against the real host behind a relay.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { WebSocket } from 'ws';
import { connect } from '../client/index.js';
import { logIn, startHost } from './host.js';

const CASES = JSON.parse(readFileSync(new URL('../../cases.json', import.meta.url), 'utf8'));
const TERMINAL = /^run_(completed|failed|cancelled)$/;
const QUESTION = 'What do we spend?';

const statesOf = new WeakMap();
let host, login, clients, wishes;
let users = 0;

before(async () => {
  host = await startHost();
});
after(() => host?.stop());
beforeEach(async () => {
  await host.tell('reset');
  clients = [];
  wishes = [];
  login = await logIn(host.url, `user ${(users += 1)}`);
});

function start(options = {}) {
  const ticket = (wish) => {
    wishes.push(wish.lasting);
    return login.ticket();
  };
  // Pauses of a few milliseconds: what is waited for is tested elsewhere, by a clock that is turned by hand.
  const states = [];
  const client = connect({ url: host.url, ticket, WebSocket, random: () => 0.02, onState: ({ name }) => states.push(name), ...options });
  clients.push(client);
  statesOf.set(client, states);
  return client;
}

async function started(options) {
  const client = start(options);
  await client.opened;
  return client;
}

async function read(stream) {
  const seen = [];
  for await (const entry of stream) seen.push(entry);
  return seen;
}

/** All of a run: its critical events are 1, 2, 3 and so on, and one terminal event is the last. */
function assertWhole(events, type = 'run_completed') {
  const critical = events.filter(({ seq }) => seq);
  assert.deepEqual(critical.map(({ seq }) => seq), critical.map((_, place) => place + 1));
  assert.equal(critical.at(-1).type, type);
  assert.equal(critical.filter((event) => TERMINAL.test(event.type)).length, 1);
}

/** Until the client has come back so many times. */
async function back(client, times) {
  const opened = () => statesOf.get(client).filter((name) => name === 'open').length;
  await until(() => opened() > times && client.state.name === 'open');
}

async function until(holds) {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10));
}

const sent = async (name) => (await host.tell('seen')).frames.filter(({ frame }) => frame === name);

const cases = {
  async golden_path() {
    const client = await started();
    const answer = client.ask(QUESTION);
    const events = await read(answer);
    assertWhole(events);
    assert.equal(events[0].type, 'run_started');
    assert.ok(events.at(-1).data.result.text.length > 0);
    const { run, thread } = await answer.accepted;
    assert.ok(events.every((event) => event.run === run));
    const next = client.ask('And by user?', { thread });
    assertWhole(await read(next));
    assert.equal((await next.accepted).thread, thread);
    assertWhole(await read(client.follow(run)));
  },

  async cancel() {
    const client = await started();
    const { file } = await host.tell('file', { token: login.token, rows: 40_000 });
    const answer = client.ask(QUESTION, { attachments: [file] });
    const { run } = await answer.accepted;
    await client.cancel(run);
    assertWhole(await read(answer), 'run_cancelled');
  },

  async cut() {
    await host.tell('rule', { on: 'server', frame: 'event', seq: 4, act: 'cut' });
    const states = [];
    const client = await started({ onState: ({ name }) => states.push(name) });
    assertWhole(await read(client.ask(QUESTION)));
    assert.deepEqual(states, ['connecting', 'open', 'waiting', 'connecting', 'open']);
    const [{ after: from }] = await sent('subscribe');
    assert.equal(from, 3);
  },

  async lost_answer() {
    await host.tell('rule', { on: 'server', frame: 'accepted', act: 'cut' });
    const client = await started();
    assertWhole(await read(client.ask(QUESTION)));
    const messages = await sent('message');
    assert.equal(messages.length, 2);
    assert.equal(messages[0].request_id, messages[1].request_id);
    assert.equal((await login.ask('GET', '/threads')).items.length, 1);
  },

  async gap() {
    await host.tell('rule', { on: 'server', frame: 'event', seq: 3, act: 'drop' });
    const client = await started();
    assertWhole(await read(client.ask(QUESTION)));
    assert.deepEqual((await sent('subscribe')).map(({ after: from }) => from), [2]);
  },

  async duplicate() {
    await host.tell('rule', { on: 'server', frame: 'event', act: 'double', times: 1_000 });
    const client = await started();
    assertWhole(await read(client.ask(QUESTION)));
    assert.deepEqual(await sent('subscribe'), []);
  },

  async other_epoch() {
    await host.tell('rule', { on: 'server', frame: 'event', seq: 3, act: 'merge', fields: { epoch: crypto.randomUUID() } });
    const client = await started();
    assertWhole(await read(client.ask(QUESTION)));
    assert.equal((await sent('subscribe')).length, 1);
  },

  async reset() {
    const client = await started();
    const answer = client.ask(QUESTION);
    const events = await read(answer);
    const { run } = await answer.accepted;
    const [reset, ...more] = await read(client.follow(run, { epoch: crypto.randomUUID(), last: 3 }));
    assert.deepEqual([reset.frame, reset.reason, reset.head], ['reset', 'epoch', events.at(-1).seq]);
    assert.equal(reset.snapshot.state, 'completed');
    assert.deepEqual(more, []);
  },

  async inbox() {
    const client = await started();
    const inbox = client.inbox();
    const { run } = await client.ask(QUESTION).accepted;
    const states = [];
    for await (const entry of inbox) {
      if (entry.run === run && states.push(entry.state) && entry.state === 'completed') break;
    }
    assert.ok(states.length >= 2, states.join());
  },

  async codes_that_stop() {
    const errors = { 1000: 'cancelled', 1002: 'unavailable', 1003: 'unavailable', 1007: 'unavailable', 1008: 'unavailable', 1009: 'too_large',
      4400: 'bad_frame', 4403: 'forbidden', 4409: 'conflict', 4429: 'too_many_connections' };
    for (const [code, name] of Object.entries(errors)) {
      const client = await started();
      const following = assert.rejects(read(client.inbox()), { code: name });
      await host.tell('close', { code: Number(code) });
      await following;
      assert.equal(client.state.name, 'closed');
      assert.equal(client.state.code, Number(code));
    }
    assert.equal((await host.tell('seen')).upgrades.length, Object.keys(errors).length, 'none came back');
  },

  async codes_that_resume() {
    const client = await started();
    const { run } = await client.ask(QUESTION).accepted;
    for (const [times, code] of [1001, 1005, 1006, 1011, 1012, 1013, 4401, 4501, 4508, 4510].entries()) {
      await host.tell('close', { code });
      await back(client, times + 1);
      assertWhole(await read(client.follow(run)));
    }
  },

  async ways() {
    await host.tell('strip', { what: ['authorization', 'subprotocol'] });
    const client = await started();
    assert.equal(client.state.way, 'query');
    await host.tell('strip', { what: ['authorization', 'subprotocol', 'query'] });
    // A server that sees no credential waits for the hello: the relay cuts that wait short.
    await host.tell('rule', { on: 'upgrade', way: 'query', close: 4504 });
    await host.tell('close', { code: 1006 });
    await back(client, 1);
    assert.equal(client.state.way, 'hello');
    const { upgrades } = await host.tell('seen');
    assert.deepEqual(upgrades, ['subprotocol', 'query', 'query', 'hello']);
    assert.equal(wishes.length, upgrades.length, 'each with a ticket of its own');
    assertWhole(await read(client.ask(QUESTION)));
  },

  async token() {
    const options = { ticket: undefined, token: async () => login.token };
    assert.equal((await started(options)).state.way, 'header');
    await clients[0].close();
    await host.tell('rule', { on: 'upgrade', way: 'header', close: 4504 });
    const client = await started(options);
    assert.equal(client.state.way, 'subprotocol');
    assertWhole(await read(client.ask(QUESTION)));
    await client.close();
    const bought = await started({ ...options, ways: ['query'] });
    assert.equal(bought.state.way, 'query');
  },

  async bad_ticket() {
    const client = start({ ticket: () => 'x'.repeat(43) });
    await assert.rejects(client.opened, { code: 'unauthenticated' });
    assert.deepEqual((await host.tell('seen')).upgrades, ['subprotocol', 'subprotocol', 'query', 'query', 'hello', 'hello']);
  },

  async no_login() {
    let failures = 2;
    const ticket = () => {
      if ((failures -= 1) >= 0) throw new Error('not now');
      return login.ticket();
    };
    await started({ ticket });
    assert.equal(failures, -1);
    const closed = start({ ticket: undefined, token: 'nobody', ways: ['query'] });
    await assert.rejects(closed.opened, { code: 'unauthenticated' });
  },

  async limits() {
    await Promise.all([started(), started(), started()]);
    const client = start();
    await assert.rejects(client.opened, { code: 'too_many_connections' });
    assert.equal(client.state.code, 4429);
  },

  async busy() {
    await host.tell('rule', { on: 'upgrade', status: 503 });
    await host.tell('rule', { on: 'upgrade', close: 1013 });
    await started();
    assert.deepEqual((await host.tell('seen')).upgrades, ['subprotocol', 'subprotocol', 'subprotocol']);
  },

  async bad_input() {
    const client = await started();
    await assert.rejects(read(client.ask('')), { code: 'bad_request', retryable: false });
    await assert.rejects(client.ask('hi', { thread: crypto.randomUUID() }).accepted, { code: 'not_found' });
    await assert.rejects(read(client.follow(crypto.randomUUID())), { code: 'not_found' });
    await assert.rejects(client.cancel('no run'), ({ code }) => code === 'bad_frame' || code === 'bad_request');
    await assert.rejects(client.stop(crypto.randomUUID(), 's1'), { code: 'not_found' });
    const decided = client.decide({ run: crypto.randomUUID(), approval: crypto.randomUUID(), digest: 'd' }, 'approve');
    await assert.rejects(decided, { code: 'not_found' });
    await host.tell('say', { text: '{"frame":"from another time"}' });
    assertWhole(await read(client.ask(QUESTION)));
    await host.tell('say', { text: 'no frame' });
    await back(client, 1);
    assertWhole(await read(client.ask(QUESTION)));
  },

  async draining() {
    const client = await started();
    const { file } = await host.tell('file', { token: login.token, rows: 40_000 });
    const answer = client.ask(QUESTION, { attachments: [file] });
    await answer.accepted;
    const reading = read(answer);
    await host.tell('restart');
    assertWhole(await reading);
    assert.ok((await host.tell('seen')).upgrades.length >= 2);
  },

  async expiring() {
    const client = await started();
    await host.tell('say', { text: JSON.stringify({ frame: 'expiring', at: new Date().toISOString() }) });
    await until(async () => (await sent('hello')).length === 1);
    assert.deepEqual(wishes, [false, true]);
    assertWhole(await read(client.ask(QUESTION)));
    assert.equal((await host.tell('seen')).upgrades.length, 1, 'it was one connection');
  },

  async slow_reader() {
    const client = await started({ buffer: 4 });
    const answer = client.ask(QUESTION);
    await answer.accepted;
    await until(async () => (await sent('unsubscribe')).length === 1);
    const events = await read(answer);
    assertWhole(events);
    assert.ok(events.length > 4);
    assert.equal((await sent('subscribe'))[0].after, 4);
  },

  async leaving() {
    const client = await started();
    const { file } = await host.tell('file', { token: login.token, rows: 40_000 });
    const answer = client.ask(QUESTION, { attachments: [file] });
    for await (const { seq } of answer) if (seq === 2) break;
    const { run } = await answer.accepted;
    await client.cancel(run);
    await until(async () => (await sent('unsubscribe')).length === 1);
    const following = assert.rejects(read(client.inbox()), { code: 'cancelled' });
    await client.close();
    await following;
    await until(async () => (await host.tell('seen')).live === 0);
  },
};

describe('the cases that all clients share', () => {
  test('are all here', () => assert.deepEqual(Object.keys(cases).sort(), CASES.map(({ name }) => name).sort()));

  for (const { name, what } of CASES) {
    test(`${name}: ${what}`, { timeout: 120_000 }, async () => {
      try {
        await cases[name]();
      } finally {
        await Promise.all(clients.map((client) => client.close()));
      }
    });
  }
});

describe('in Node', () => {
  for (const how of ['await client.close()', 'client.close()']) {
    test(`a process whose client was closed by ${how} ends by itself`, async () => {
      const script = `
        import { WebSocket } from 'ws';
        import { connect } from './client/index.js';
        const client = connect({ url: ${JSON.stringify(host.url)}, token: ${JSON.stringify(login.token)}, WebSocket });
        for await (const { type } of client.ask('What do we spend?')) if (type === 'agent_started') break;
        ${how};`;
      const cwd = fileURLToPath(new URL('..', import.meta.url));
      const ended = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { cwd, timeout: 20_000 });
      assert.equal(ended.stderr, '');
    });
  }
});
