import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { connect } from '../client/index.js';
import { FakeClock, event, fakeNetwork, settle } from './fakes.js';

let clock, network, client, states, tickets, ticket;

beforeEach(async () => {
  clock = new FakeClock();
  network = fakeNetwork();
  states = [];
  tickets = 0;
  ticket = async () => `ticket${(tickets += 1)}`;
});

async function start(options = {}) {
  const onState = ({ name }) => states.push(name);
  client = connect({ url: 'http://x', ticket: (wish) => ticket(wish), WebSocket: network.Socket, clock, random: () => 0.5, onState, ...options });
  await settle();
}

async function connected(options) {
  await start(options);
  network.socket.welcome();
}

/** Ends the connection and lets the client come back. */
async function cut(code = 1006) {
  network.socket.end(code);
  await clock.pass(client.state.retryInMs);
  network.socket.welcome();
}

function follow(run = 'r1', from) {
  const seen = [];
  const subscription = client.follow(run, from).listen({
    onEvent: ({ seq, type }) => seen.push(seq ?? type),
    onReset: ({ head }) => seen.push(`reset to ${head}`),
    onEnd: (error) => seen.push(error ? `error ${error.code}` : 'end'),
  });
  return { seen, subscription };
}

async function read(stream) {
  const seen = [];
  for await (const entry of stream) seen.push(entry.frame === 'reset' ? `reset to ${entry.head}` : (entry.seq ?? entry.type));
  return seen;
}

function answer(frame = {}) {
  const asked = network.socket.last('subscribe');
  network.socket.say({ frame: 'subscribed', id: asked.id, run: 'r1', epoch: 'e1', head: 9, oldest: 1, recovered: true, state: 'running', ...frame });
}

describe('the chain of ways', () => {
  test('a ticket goes as subprotocol first, and is in no address', async () => {
    await connected();
    assert.deepEqual(network.socket.protocols, ['apex.v1', 'apex.ticket.ticket1']);
    assert.equal(network.socket.url, 'ws://x/ws');
    assert.deepEqual(states, ['connecting', 'open']);
  });

  test('each way that ends before welcome leads to the next, with a new ticket', async () => {
    await start();
    network.socket.end(1006);
    await settle();
    assert.equal(network.socket.url, 'ws://x/ws?ticket=ticket2');
    assert.deepEqual(network.socket.protocols, []);
    network.socket.end(1006);
    await settle();
    assert.equal(network.socket.url, 'ws://x/ws');
    network.socket.open();
    assert.equal(network.socket.last('hello').ticket, 'ticket3');
    network.socket.welcome();
    assert.equal(states.at(-1), 'open');
  });

  test('a server that saw no credential is told it by the next way; one that missed the hello is waited for', async () => {
    await start();
    network.socket.end(4504);
    await settle();
    assert.match(network.socket.url, /\?ticket=/);
    network.socket.end(4504);
    await settle();
    network.socket.open();
    assert.equal(network.socket.last('hello').ticket, 'ticket3');
    network.socket.end(4504);
    assert.equal(client.state.name, 'waiting');
  });

  test('the way that worked is remembered, also by the next page', async () => {
    const kept = new Map();
    const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
    await start({ storage });
    network.socket.end(1006);
    await settle();
    network.socket.welcome();
    await cut();
    assert.match(network.socket.url, /\?ticket=/);
    await start({ storage });
    assert.match(network.socket.url, /\?ticket=/);
  });

  test('a bad credential gets a new ticket once, then the next way, and stops at the end of the chain', async () => {
    await start();
    const ways = [];
    for (let tries = 0; tries < 6; tries += 1) {
      ways.push(network.socket.protocols.length ? 'subprotocol' : network.socket.url.includes('?') ? 'query' : 'hello');
      network.socket.end(4401);
      await settle();
    }
    assert.deepEqual(ways, ['subprotocol', 'subprotocol', 'query', 'query', 'hello', 'hello']);
    assert.equal(client.state.name, 'closed');
    assert.equal(client.state.code, 4401);
    assert.equal(tickets, 6);
  });

  test('a login that is gone stops at once', async () => {
    ticket = async () => {
      throw Object.assign(new Error('log in again'), { retryable: false });
    };
    await start();
    assert.equal(client.state.name, 'closed');
    assert.equal(client.state.error.code, 'unauthenticated');
    await assert.rejects(client.opened, { message: 'log in again' });
    assert.equal(network.sockets.length, 0);
  });

  test('a network that is down is waited for, with growing pauses', async () => {
    ticket = async () => {
      tickets += 1;
      throw new Error('no network');
    };
    await start();
    const waits = [];
    for (let tries = 0; tries < 9; tries += 1) {
      waits.push(client.state.retryInMs);
      await clock.pass(client.state.retryInMs);
    }
    assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
    assert.equal(tickets, 10);
  });

  test('a socket that never answers is given up', async () => {
    await start();
    await clock.pass(10_000);
    assert.equal(network.sockets[0].closed, true);
    assert.equal(network.sockets.length, 2);
  });

  for (const code of [1000, 1002, 1008, 1009, 4400, 4403, 4409, 4429, 4499]) {
    test(`${code} stops`, async () => {
      await connected();
      network.socket.end(code);
      await clock.pass(120_000);
      assert.equal(client.state.name, 'closed');
      assert.equal(network.sockets.length, 1);
    });
  }

  for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4501, 4508, 4510]) {
    test(`${code} comes back`, async () => {
      await connected();
      network.socket.end(code);
      assert.equal(client.state.name, 'waiting');
      await clock.pass(30_000);
      assert.equal(network.sockets.length >= 2, true);
    });
  }

  test('draining says how long to wait', async () => {
    await connected();
    network.socket.say({ frame: 'draining', after_ms: 4_000, jitter_ms: 2_000 });
    network.socket.end(1012);
    assert.equal(client.state.retryInMs, 5_000);
  });

  test('close codes that come right after welcome do not become a fast loop', async () => {
    await connected();
    const waits = [];
    for (let tries = 0; tries < 4; tries += 1) {
      network.socket.end(4508);
      waits.push(client.state.retryInMs);
      await clock.pass(client.state.retryInMs);
      network.socket.welcome();
    }
    assert.deepEqual(waits, [250, 500, 1000, 2000]);
    await clock.pass(10_000);
    network.socket.end(4508);
    assert.equal(client.state.retryInMs, 250);
  });

  test('waking tries at once and leaves no second socket behind', async () => {
    await connected();
    network.socket.end(1006);
    client.wake();
    client.wake();
    await settle();
    network.socket.welcome();
    assert.equal(client.state.name, 'open');
    assert.equal(network.sockets.filter(({ closed }) => !closed).length, 1);
  });
});

describe('liveness', () => {
  test('silence is followed by a ping, and a pong by more patience', async () => {
    await connected();
    await clock.pass(20_000);
    const { n, id } = network.socket.last('ping');
    network.socket.say({ frame: 'pong', id, n });
    await clock.pass(10_000);
    assert.equal(client.state.name, 'open');
  });

  test('no pong within 10 s ends the connection and resumes', async () => {
    await connected();
    await clock.pass(30_000);
    assert.equal(network.sockets[0].closed, true);
    assert.equal(states.includes('waiting'), true);
  });

  test('a credential that runs out soon is renewed by a fresh ticket', async () => {
    const wishes = [];
    ticket = async ({ lasting }) => `ticket${wishes.push(lasting)}`;
    await connected();
    network.socket.say({ frame: 'expiring', at: '2026-11-22T10:00:00Z' });
    await settle();
    assert.equal(network.socket.last('hello').ticket, 'ticket2');
    assert.deepEqual(wishes, [false, true], 'the second one by a login that was renewed');
  });
});

describe('events', () => {
  test('come once and in order, whatever is sent twice', async () => {
    await connected();
    const { seen } = follow();
    answer();
    for (const seq of [1, 2, 2, 1, 3]) network.socket.say(event(seq));
    assert.deepEqual(seen, [1, 2, 3]);
  });

  test('volatile ones pass without a number', async () => {
    await connected();
    const { seen } = follow();
    answer();
    network.socket.say(event(1));
    network.socket.say(event(undefined, 'progress'));
    network.socket.say(event(2));
    assert.deepEqual(seen, [1, 'progress', 2]);
  });

  test('after a cut the rest is asked for from the last one applied', async () => {
    await connected();
    const { seen } = follow();
    answer();
    for (const seq of [1, 2, 3]) network.socket.say(event(seq));
    await cut();
    const { run, epoch, after } = network.socket.last('subscribe');
    assert.deepEqual({ run, epoch, after }, { run: 'r1', epoch: 'e1', after: 3 });
    answer();
    for (const seq of [3, 4]) network.socket.say(event(seq));
    assert.deepEqual(seen, [1, 2, 3, 4]);
  });

  test('a hole is never shown: what comes behind it waits for the rest', async () => {
    await connected();
    const { seen } = follow();
    answer();
    network.socket.say(event(1));
    network.socket.say(event(4));
    assert.equal(network.socket.last('subscribe').after, 1);
    network.socket.say(event(5)); // of the subscription that had the hole
    assert.deepEqual(seen, [1]);
    answer();
    for (const seq of [2, 3, 4, 5]) network.socket.say(event(seq));
    assert.deepEqual(seen, [1, 2, 3, 4, 5]);
  });

  test('another epoch without a reset is asked about', async () => {
    await connected();
    const { seen } = follow();
    answer();
    network.socket.say(event(1));
    network.socket.say(event(2, 'agent_thinking', { epoch: 'e2' }));
    const { id, epoch, after } = network.socket.last('subscribe');
    assert.deepEqual([epoch, after], ['e1', 1]);
    network.socket.say({ frame: 'reset', id, run: 'r1', reason: 'epoch', epoch: 'e2', head: 5, snapshot: { state: 'running', steps: [], open_calls: [] } });
    network.socket.say(event(6, 'agent_thinking', { epoch: 'e2' }));
    assert.deepEqual(seen, [1, 'reset to 5', 6]);
  });

  test('the terminal event ends the subscription; a cut afterwards does not begin it again', async () => {
    await connected();
    const { seen } = follow();
    answer();
    network.socket.say(event(1));
    network.socket.say(event(2, 'run_completed'));
    assert.deepEqual(seen, [1, 2, 'end']);
    await cut();
    assert.equal(network.socket.last('subscribe'), undefined);
  });

  test('a reset that shows an ended run ends the subscription', async () => {
    await connected();
    const { seen } = follow();
    const { id } = network.socket.last('subscribe');
    network.socket.say({ frame: 'reset', id, run: 'r1', reason: 'trimmed', epoch: 'e1', head: 7, snapshot: { state: 'completed', steps: [], open_calls: [] } });
    assert.deepEqual(seen, ['reset to 7', 'end']);
  });

  test('a refused subscription ends with its error; one that may work later is asked for again', async () => {
    await connected();
    const { seen } = follow();
    network.socket.say({ frame: 'error', id: network.socket.last('subscribe').id, code: 'unavailable', message: 'later', retryable: true, retry_after_ms: 700 });
    const asked = network.socket.sent.length;
    await clock.pass(700);
    assert.equal(network.socket.sent.length, asked + 1);
    network.socket.say({ frame: 'error', id: network.socket.last('subscribe').id, code: 'not_found', message: 'no such run', retryable: false });
    assert.deepEqual(seen, ['error not_found']);
  });

  test('can be read by for await', async () => {
    await connected();
    const subscription = client.follow('r1');
    answer();
    for (const [seq, type] of [[1], [2], [3, 'run_failed']]) network.socket.say(event(seq, type));
    const seen = [];
    for await (const { seq } of subscription) seen.push(seq);
    assert.deepEqual(seen, [1, 2, 3]);
  });

  test('the inbox has its own position', async () => {
    await connected();
    const seen = [];
    client.inbox().listen({ onEvent: ({ seq, state }) => seen.push([seq, state]) });
    network.socket.say({ frame: 'subscribed', id: network.socket.last('inbox').id, epoch: 'i1', head: 1, oldest: 1, recovered: true });
    network.socket.say({ frame: 'inbox', epoch: 'i1', seq: 1, run: 'r1', thread: 't1', state: 'running', at: '' });
    await cut();
    const { epoch, after } = network.socket.last('inbox');
    assert.deepEqual([epoch, after], ['i1', 1]);
    assert.deepEqual(seen, [[1, 'running']]);
  });
});

describe('messages', () => {
  const accept = () => {
    const { id, request_id } = network.socket.last('message');
    network.socket.say({ frame: 'accepted', id, request_id, thread: 't1', run: 'r1' });
  };

  test('no event between the answer and the reader is lost', async () => {
    await connected();
    const sending = client.ask('hi', { attachments: ['f1'] });
    assert.deepEqual(network.socket.last('message').attachments, [{ file: 'f1' }]);
    accept();
    for (const seq of [1, 2]) network.socket.say(event(seq)); // before the promise is looked at
    const { run, thread } = await sending.accepted;
    assert.deepEqual([run, thread], ['r1', 't1']);
    const seen = [];
    sending.listen({ onEvent: ({ seq }) => seen.push(seq) });
    assert.deepEqual(seen, [1, 2]);
  });

  test('one whose answer is lost is sent again under the same request id, and starts one reader', async () => {
    await connected();
    const sending = client.ask('hi');
    const first = network.socket.last('message').request_id;
    await cut();
    assert.equal(network.socket.last('message').request_id, first);
    accept();
    for (const seq of [1, 2]) network.socket.say(event(seq));
    await sending.accepted;
    const seen = [];
    sending.listen({ onEvent: ({ seq }) => seen.push(seq) });
    await cut();
    assert.equal(network.socket.last('message'), undefined);
    assert.equal(network.socket.last('subscribe').after, 2);
    assert.deepEqual(seen, [1, 2]);
  });

  test('one that is written while the network is down goes when it is back', async () => {
    await connected();
    network.socket.end(1006);
    const sending = client.ask('hi');
    await clock.pass(30_000);
    network.socket.welcome();
    accept();
    assert.equal((await sending.accepted).run, 'r1');
  });

  test('a refusal is an error with its code', async () => {
    await connected();
    const sending = client.ask('hi');
    network.socket.say({ frame: 'error', id: network.socket.last('message').id, code: 'too_many_runs', message: 'wait for one to end', retryable: true });
    const refusal = { code: 'too_many_runs', message: 'wait for one to end', retryable: true };
    await assert.rejects(sending.accepted, refusal);
    await assert.rejects(read(sending), refusal);
  });

  test('when the client stops, what waits is told', async () => {
    await connected();
    const sending = client.cancel('r1');
    const following = client.follow('r2');
    network.socket.end(4403);
    await assert.rejects(sending, { code: 'forbidden' });
    await assert.rejects(read(following), { code: 'forbidden' });
    await assert.rejects(client.cancel('r1'), { code: 'forbidden' });
    await assert.rejects(read(client.follow('r1')), { code: 'forbidden' });
  });

  test('frames keep under the limit of the server', async () => {
    await start();
    network.socket.welcome({ frames_per_s: 20, frames_burst: 40 });
    for (let run = 0; run < 60; run += 1) client.follow(`run${run}`);
    assert.equal(network.socket.sent.length, 30);
    await clock.pass(1_000);
    assert.ok([44, 45].includes(network.socket.sent.length), `${network.socket.sent.length}`);
    await clock.pass(1_100);
    assert.equal(network.socket.sent.length, 60);
  });
});

describe('a reader that does not read', () => {
  test('holds a bounded number of entries; the subscription pauses and goes on from where it was', async () => {
    await connected({ buffer: 3 });
    const stream = client.follow('r1');
    answer();
    for (const seq of [1, 2, 3]) network.socket.say(event(seq));
    network.socket.say(event(undefined, 'progress'));
    assert.equal(network.socket.last('unsubscribe'), undefined, 'volatile ones are dropped without a word');
    for (const seq of [4, 5]) network.socket.say(event(seq));
    assert.equal(network.socket.last('unsubscribe').run, 'r1');
    await cut();
    assert.equal(network.socket.last('subscribe'), undefined, 'nobody reads it');
    const reading = read(stream);
    await settle();
    assert.equal(network.socket.last('subscribe').after, 3);
    answer();
    for (const [seq, type] of [[4], [5], [6, 'run_completed']]) network.socket.say(event(seq, type));
    assert.deepEqual(await reading, [1, 2, 3, 4, 5, 6]);
  });

  test('of the inbox is passed over, and asks again', async () => {
    await connected({ buffer: 2 });
    const stream = client.inbox();
    const told = (epoch = 'i1') => network.socket.say({ frame: 'subscribed', id: network.socket.last('inbox').id, epoch, head: 1, oldest: 1, recovered: true });
    const entry = (seq) => network.socket.say({ frame: 'inbox', epoch: 'i1', seq, run: 'r1', thread: 't1', state: 'running', at: '' });
    told();
    for (const seq of [1, 2, 3, 4]) entry(seq);
    const seen = [];
    const reading = (async () => {
      for await (const { seq } of stream) if (seen.push(seq) === 4) break;
    })();
    await settle();
    assert.equal(network.socket.last('inbox').after, 2);
    told();
    for (const seq of [3, 4]) entry(seq);
    await reading;
    assert.deepEqual(seen, [1, 2, 3, 4]);
  });
});

describe('what a host does', () => {
  test('to leave a loop is an unsubscribe; the run goes on', async () => {
    await connected();
    const stream = client.follow('r1');
    answer();
    network.socket.say(event(1));
    for await (const { seq } of stream) if (seq === 1) break;
    assert.equal(network.socket.last('unsubscribe').run, 'r1');
    assert.equal(network.socket.last('cancel'), undefined);
  });

  test('by a signal ends what it was given for, with its reason', async () => {
    await connected();
    const aborter = new AbortController();
    const { signal } = aborter;
    const [asked, followed, cancelled] = [client.ask('hi', { signal }), client.follow('r1', { signal }), client.cancel('r2', { signal })];
    const all = [read(asked), read(followed), cancelled].map((one) => assert.rejects(one, { name: 'AbortError' }));
    const unread = assert.rejects(asked.accepted, { code: 'cancelled' });
    aborter.abort();
    await Promise.all([...all, unread]);
    const { id, request_id } = network.socket.last('message');
    network.socket.say({ frame: 'accepted', id, request_id, thread: 't1', run: 'r3' });
    assert.equal(network.socket.last('unsubscribe').run, 'r3', 'what nobody reads is not followed');
    await assert.rejects(read(client.follow('r4', { signal })), { name: 'AbortError' });
    assert.equal(client.state.name, 'open');
  });

  test('in a callback that throws is the host own affair', async () => {
    await connected();
    const thrown = [];
    const hear = (error) => thrown.push(error.message);
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', hear);
    try {
      client.follow('r1').listen({ onEvent: ({ seq }) => { throw new Error(`no ${seq}`); } });
      answer();
      for (const seq of [1, 2]) network.socket.say(event(seq));
      await settle();
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const other of others) process.on('uncaughtException', other);
    }
    assert.deepEqual(thrown, ['no 1', 'no 2']);
  });

  test('to close ends everything and leaves no timer', async () => {
    await connected();
    const { socket } = network;
    const following = read(client.follow('r1'));
    const closing = client.close();
    socket.end(1000);
    await closing;
    await assert.rejects(following, { code: 'cancelled' });
    assert.equal(client.state.name, 'closed');
    assert.equal(clock.waiting, 0);
    await client.close();
  });

  test('with more requests than can wait is told', async () => {
    await connected();
    network.socket.end(1006);
    const waiting = Array.from({ length: 1_024 }, () => client.cancel('r1').catch(({ code }) => code));
    await assert.rejects(client.cancel('r1'), { code: 'rate_limited', retryable: true });
    await client.close();
    assert.deepEqual(new Set(await Promise.all(waiting)), new Set(['cancelled']));
  });

  test('without a WebSocket is told where to get one', () => {
    const platform = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket');
    delete globalThis.WebSocket;
    try {
      assert.throws(() => connect({ url: 'http://x' }), { code: 'bad_request', message: /npm install ws/ });
    } finally {
      if (platform) Object.defineProperty(globalThis, 'WebSocket', platform);
    }
  });
});

describe('a token', () => {
  const withHeaders = () =>
    class extends network.Socket {
      terminate() {
        this.close();
      }
    };

  test('goes as a header where the platform can, then as subprotocol, as a bought ticket, and in the hello', async () => {
    const asked = [];
    const fetch = async (url, { headers }) => {
      asked.push([url, headers.authorization]);
      return new Response(JSON.stringify({ ticket: 'bought' }), { status: 201 });
    };
    await start({ WebSocket: withHeaders(), ticket: undefined, token: async () => 'j.w.t', fetch, url: 'https://x/chat/' });
    assert.equal(network.socket.options.headers.authorization, 'Bearer j.w.t');
    assert.equal(network.socket.url, 'wss://x/chat/ws');
    network.socket.end(1006);
    await settle();
    assert.deepEqual(network.socket.protocols, ['apex.v1', 'apex.bearer.j.w.t']);
    network.socket.end(1006);
    await settle();
    assert.equal(network.socket.url, 'wss://x/chat/ws?ticket=bought');
    assert.deepEqual(asked, [['https://x/chat/auth/ticket', 'Bearer j.w.t']]);
    network.socket.end(1006);
    await settle();
    network.socket.open();
    assert.equal(network.socket.last('hello').token, 'j.w.t');
  });

  test('that buys no ticket closes the client with what the server says', async () => {
    const refusal = { code: 'token_expired', message: 'it ran out', retryable: false };
    const fetch = async () => new Response(JSON.stringify(refusal), { status: 401 });
    await start({ ticket: undefined, token: 'j.w.t', fetch, ways: ['query'] });
    assert.equal(client.state.error.code, 'token_expired');
  });

  test('and no ticket leave the cookie, which the browser adds', async () => {
    await start({ ticket: undefined });
    assert.deepEqual([network.socket.url, network.socket.protocols], ['ws://x/ws', ['apex.v1']]);
  });
});
