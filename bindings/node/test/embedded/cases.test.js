// What every binding has to do, by the list that all languages share.

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { describe, test } from 'node:test';
import { ApexError as ClientError, connect } from 'netra-apex/client';
import { Answer, Apex, ApexError, Plan, agent, analyse, attach, handler, look, sample, tool } from 'netra-apex';
import { WebSocket, WebSocketServer } from 'ws';
import { z } from 'zod';
import { counts } from '../node_modules/netra-apex/host/bridge.js';
import { act, build, coded, folder, one, until, whole } from './support.js';

const CASES = JSON.parse(readFileSync('embedded.json', 'utf8'));

const ofType = (events, type) => events.filter((event) => event.type === type);
const forever = (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

/** A server of this program's with Apex in it. */
async function mounted(apex) {
  const server = http.createServer(handler(apex));
  attach(server, apex, { WebSocketServer });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  return { url, [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(resolve).closeAllConnections()) };
}

async function using(resource, use) {
  try {
    return await use(resource);
  } finally {
    await resource[Symbol.asyncDispose]();
  }
}

const cases = {
  async golden_path() {
    const { apex, ada } = await build();
    const { file } = await apex.upload(ada, 'usage.csv', await sample());
    const run = await apex.start(ada, 'Where can we save?', { files: [file] });
    const events = await whole(run);
    const { result } = events.at(-1).data;
    assert.equal(result.status, 'answered');
    const report = result.artifacts.find(({ name }) => name === 'report.json');
    const { schema, headline } = JSON.parse(Buffer.from(await run.artifact(report.artifact)).toString());
    assert.equal(schema, 'apex.report/1');
    assert.ok(headline);
    assert.deepEqual(await run.result(), result);
    const next = await apex.start(ada, 'What do we spend by model?', { thread: run.thread });
    assert.equal(next.thread, run.thread);
    await whole(next);
  },

  async hello() {
    const shout = tool('shout', 'Louder.', z.object({ word: z.string() }), ({ word }) => `${word}!`);
    const hello = agent('hello', 'Greets.', ({ text }, { call }) => call('shout', { word: text }));
    const { apex, ada } = await build({ agents: [hello], tools: [shout] });
    assert.deepEqual(await apex.ask(ada, 'hello'), { status: 'answered', text: 'hello!', artifacts: [] });
    const events = await whole(await apex.start(ada, 'again'));
    const types = events.map(({ type }) => type);
    assert.deepEqual(types.slice(0, 1), ['run_started']);
    for (const type of ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'agent_completed']) assert.ok(types.includes(type), type);
    assert.deepEqual(ofType(events, 'tool_executing')[0].data.arguments, { word: 'again' });
    assert.equal(ofType(events, 'agent_completed')[0].data.outcome, 'ok');
  },

  async mixed() {
    let asked = 0;
    const counting = act(() => (asked += 1));
    const first = agent('first', 'Looks, then hands on to the team.', async (question, { call, plan, think }) => {
      await think('one moment');
      await call('act');
      const steps = await plan('reporter', ['supervisor']);
      return steps ? new Plan(steps.steps) : 'there is no plan';
    });
    const { apex, ada } = await build({ agents: [first], tools: [counting], team: true, entry: 'first' });
    const { file } = await apex.upload(ada, 'usage.csv', await sample());
    const events = await whole(await apex.start(ada, 'Where can we save?', { files: [file] }));
    const agents = ofType(events, 'agent_completed').map(({ data }) => data.agent);
    assert.equal(agents[0], 'first');
    assert.equal(agents.at(-1), 'reporter');
    assert.equal(asked, 1);
    assert.match(events.at(-1).data.result.text, /\$/);
  },

  async triggers() {
    const desk = agent('desk', 'Opens.', () => new Plan([{ agent: 'clerk' }], { question: 'a ticket about otters' }), { triggers: ['open a ticket'] });
    const clerk = agent('clerk', 'Writes.', ({ text }) => `opened: ${text}`);
    const { apex, ada } = await build({ agents: [desk, clerk], team: true });
    assert.equal((await apex.ask(ada, 'Please OPEN a ticket: otters!')).text, 'opened: a ticket about otters');
    assert.match((await apex.ask(ada, 'What do we spend?')).text, /No usage data/);
  },

  async plan() {
    const entry = agent('entry', 'Plans.', () => new Plan([{ agent: 'counts' }, { agent: 'says', needs: ['counts'], purpose: 'Says the number.' }]));
    const counts = agent('counts', 'Counts.', ({ text }) => ({ letters: text.length }), { output: z.object({ letters: z.number() }) });
    const input = z.object({ text: z.string(), counts: z.object({ letters: z.number() }) });
    const says = agent('says', 'Says.', ({ counts }) => `${counts.letters} letters`, { input, output: 'text' });
    const { apex, ada } = await build({ agents: [entry, counts, says] });
    assert.equal((await apex.ask(ada, 'four')).text, '4 letters');
    const wrong = agent('counts', 'Counts.', () => ({ letters: 'many' }), { output: z.object({ letters: z.number() }) });
    const other = await build({ agents: [entry, wrong, says] });
    await assert.rejects(other.apex.ask(other.ada, 'four'), coded('bad_output'));
  },

  async batches() {
    const many = one(async (_, { think }) => {
      for (let n = 0; n < 250; n += 1) await think(`thought ${n}`);
      return 'done';
    });
    const { apex, ada } = await build({ agents: [many] });
    const run = await apex.start(ada, 'go');
    const events = await whole(run);
    const notes = ofType(events, 'agent_thinking').map(({ data }) => data.note).filter((note) => note.startsWith('thought'));
    assert.deepEqual(notes, Array.from({ length: 250 }, (_, n) => `thought ${n}`));
    const reader = run.events();
    const [first, second] = await Promise.all([reader.next(), reader.next()]);
    assert.deepEqual([first.value.seq, second.value.seq], [1, 2]);
    await reader.return();
    assert.equal((await reader.next()).done, true);
  },

  async resume() {
    const { apex, ada } = await build({ agents: [one(() => 'done')] });
    const run = await apex.start(ada, 'go');
    const events = await whole(run);
    const { epoch, seq } = events[1];
    const rest = [];
    for await (const event of apex.run(ada, run.run).events({ epoch, after: seq })) rest.push(event.seq);
    assert.deepEqual(rest, events.filter((event) => event.seq > seq).map((event) => event.seq));
    const lost = [];
    for await (const event of run.events({ epoch: crypto.randomUUID(), after: 2 })) lost.push(event);
    assert.equal(lost[0].type, 'reset');
    assert.equal(lost[0].data.reason, 'epoch');
    assert.equal(lost[0].data.snapshot.state, 'completed');
    await assert.rejects(run.events({ after: 2 }).next(), coded('bad_request'));
  },

  async tickets() {
    const { apex, ada } = await build({ agents: [one(() => 'done')] });
    await using(await mounted(apex), async ({ url }) => {
      const { ticket, expires_at } = await apex.ticket(ada);
      assert.ok(Date.parse(expires_at) > Date.now());
      const client = connect({ url, ticket: async () => ticket, WebSocket });
      assert.equal((await client.opened).user, ada.id);
      const second = connect({ url, ticket: async () => ticket, WebSocket, random: () => 0.02 });
      await assert.rejects(second.opened, coded('unauthenticated'));
      await client.close();
    });
  },

  async limits() {
    const strict = tool('strict', 'Takes a number.', { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }, () => 1);
    const calls = one(async ({ text }, { call }) => String(await call(text, { n: 'x' })));
    const { apex, ada } = await build({ agents: [calls], tools: [strict] });
    await assert.rejects(apex.ask(ada, 'x'.repeat(2_000_000)), coded('too_large'));
    await assert.rejects(apex.ask(ada, 'nosuch'), coded('bad_arguments', /nosuch/));
    await assert.rejects(apex.ask(ada, 'strict'), coded('bad_arguments'));
    await assert.rejects(apex.ask(ada, 'x', { files: [crypto.randomUUID()] }), coded('not_found'));
  },

  async cancel() {
    const seen = {};
    const works = act(async (_, { signal }) => {
      seen.began = true;
      await forever(signal).catch((reason) => {
        seen.reason = reason;
        throw reason;
      });
    });
    const { apex, ada } = await build({ agents: [one((_, { call }) => call('act'))], tools: [works] });
    const run = await apex.start(ada, 'go');
    await until(() => seen.began);
    await run.cancel();
    await whole(run, 'run_cancelled');
    await until(() => seen.reason, 'the signal');
    coded('cancelled')(seen.reason);
    await assert.rejects(run.result(), coded('cancelled'));
    const waits = await apex.start(ada, 'go');
    await assert.rejects(waits.result({ signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
    assert.match((await waits.view()).state, /running|queued/);
    await waits.cancel();
    await whole(waits, 'run_cancelled');
  },

  async deadline() {
    let stopped = false;
    const slow = act(async (_, { signal }) => forever(signal).finally(() => (stopped = true)), { timeoutMs: 100 });
    const { apex, ada } = await build({ agents: [one((_, { call }) => call('act'))], tools: [slow] });
    const run = await apex.start(ada, 'go');
    await assert.rejects(run.result(), coded('deadline_exceeded'));
    await until(() => stopped, 'the end of the function');
    assert.equal(ofType(await whole(run, 'run_failed'), 'tool_completed')[0].data.outcome, 'timeout');
  },

  async raises() {
    class OwnError extends Error {
      name = 'OwnError';
    }
    const throwing = {
      now: () => {
        throw new OwnError('thrown at once');
      },
      later: async () => {
        await null;
        throw new OwnError('thrown later');
      },
      text: () => {
        throw 'only text';
      },
      nothing: () => Promise.reject(),
      odd: () => {
        throw new Proxy({}, { get: () => { throw new Error('no'); }, getPrototypeOf: () => { throw new Error('no'); } });
      },
      then: () => ({ get then() { throw new OwnError('no then'); } }),
      forged: () => ({ then: 5, is: 'no promise' }),
    };
    const tools = Object.entries(throwing).map(([name, work]) => tool(name, 'Throws.', true, work));
    const agents = [one(async ({ text }, { call }) => (text === 'self' ? throwing.now() : JSON.stringify(await call(text))))];
    const { apex, ada } = await build({ agents, tools });
    await assert.rejects(apex.ask(ada, 'now'), coded('tool_failed', /OwnError: thrown at once\n +at .*cases\.test\.js/));
    await assert.rejects(apex.ask(ada, 'later'), (error) => coded('tool_failed', /OwnError: thrown later\n +at .*cases\.test\.js/)(error) && !/netra-apex\/host/.test(error.message));
    await assert.rejects(apex.ask(ada, 'text'), coded('tool_failed', /only text/));
    await assert.rejects(apex.ask(ada, 'nothing'), coded('tool_failed'));
    await assert.rejects(apex.ask(ada, 'odd'), coded('tool_failed'));
    await assert.rejects(apex.ask(ada, 'then'), coded('tool_failed', /no then/));
    assert.match((await apex.ask(ada, 'forged')).text, /no promise/);
    const failed = await apex.start(ada, 'self');
    const events = await whole(failed, 'run_failed');
    assert.match(events.at(-1).data.error.message, /OwnError: thrown at once/);
    assert.equal(ofType(events, 'agent_completed')[0].data.outcome, 'error');
    assert.equal((await apex.ask(ada, 'forged')).status, 'answered');
  },

  async codes() {
    const raising = act(({ code }) => {
      throw new ApexError({ code, message: 'as the host says' });
    });
    const { apex, ada } = await build({ agents: [one(({ text }, { call }) => call('act', { code: text }))], tools: [raising] });
    for (const [code, kind] of [['denied', 'run'], ['bad_data', 'data'], ['not_found', 'request'], ['budget_exhausted', 'limit']]) {
      await assert.rejects(apex.ask(ada, code), (error) => coded(code, /as the host says/)(error) && assert.equal(error.kind, kind) === undefined);
    }
    await assert.rejects(apex.ask(ada, 'no_such_code'), coded('tool_failed', /as the host says/));
    await assert.rejects(apex.run(ada, crypto.randomUUID()).view(), (error) => {
      assert.ok(error instanceof ApexError && error instanceof ClientError && error instanceof Error);
      assert.deepEqual([error.code, error.kind, error.retryable, error.correlationId], ['not_found', 'request', false, null]);
      return true;
    });
  },

  async approval() {
    let made = 0;
    const pays = act(() => (made += 1), { needsApproval: ({ amount }) => amount > 10 });
    const agents = [one(async ({ text }, { call }) => `paid ${await call('act', { amount: Number(text) })}`)];
    const { apex, ada } = await build({ agents, tools: [pays] });
    assert.equal((await apex.ask(ada, '5')).text, 'paid 1');
    for (const decision of ['approve', 'deny']) {
      const run = await apex.start(ada, '50');
      const reader = run.events();
      let asked;
      for await (const event of reader) {
        if (event.type === 'approval_requested') asked = event.data;
        if (asked) break;
      }
      assert.equal((await until(async () => (await run.view()).state === 'waiting' && 'waiting')), 'waiting');
      await assert.rejects(run.decide(asked, 'perhaps'), coded('bad_request'));
      await run.decide(asked, decision);
      if (decision === 'approve') assert.equal((await run.result()).text, 'paid 2');
      else await assert.rejects(run.result(), coded('denied'));
    }
    assert.equal(made, 2);
  },

  async bad_configuration() {
    const place = folder();
    const config = { database: { url: `sqlite:${place}/never.db` }, runs: { running: 'many' }, server: { listen: 'here' }, nonsense: { a: 1 } };
    await assert.rejects(Apex.build({ config, env: { APEX_FILES_PER_FILE: '-3', OTHER: '1' } }), (error) => {
      coded('config_invalid')(error);
      assert.equal(error.kind, 'configuration');
      for (const key of ['runs.running', 'server.listen', 'nonsense']) assert.ok(error.faults.some((fault) => fault.key === key && fault.problem && fault.advice && fault.source), `${key}: ${JSON.stringify(error.faults)}`);
      return true;
    });
    assert.throws(() => readFileSync(path.join(place, 'never.db')), { code: 'ENOENT' });
    const twice = [one(() => 'a'), one(() => 'b'), agent('Big', 'Is named wrongly.', () => 'c')];
    await assert.rejects(Apex.build({ agents: twice }), (error) => coded('config_invalid', /twice/)(error) && coded('config_invalid', /Big/)(error));
    await assert.rejects(Apex.build({ configFile: path.join(place, 'nosuch.toml') }), coded('config_invalid'));
  },

  async bad_values() {
    const circle = {};
    circle.self = circle;
    const values = {
      nan: () => ({ deep: [NaN] }),
      infinite: () => Infinity,
      half: () => ({ text: '\ud800' }),
      name: () => ({ '\udc00': 1 }),
      circle: () => circle,
      big: () => ({ n: 10n }),
      fn: () => () => 1,
      symbol: () => Symbol('s'),
      getter: () => ({ get bad() { throw new Error('not this one'); } }),
      deep: () => Array.from({ length: 10_000 }).reduce((inner) => [inner], 0),
    };
    const tools = Object.entries(values).map(([name, work]) => tool(name, 'Gives it.', true, work));
    tools.push(tool('fine', 'Gives it.', true, () => ({ nothing: null, gone: undefined, list: [undefined], date: new Date(0), emoji: '😀', words: 'null \\ud800' })));
    tools.push(tool('void', 'Gives nothing.', true, () => {}));
    const agents = [one(async ({ text }, { call }) => JSON.stringify(await call(text)))];
    const { apex, ada } = await build({ agents, tools });
    const told = { nan: /NaN/, infinite: /Infinity/, half: /surrogate/, name: /surrogate/, circle: /circular/i, big: /BigInt/, fn: /function/, symbol: /symbol/, getter: /not this one/, deep: /./ };
    for (const [name, words] of Object.entries(told)) await assert.rejects(apex.ask(ada, name), (error) => /tool_failed|bad_output/.test(error.code) && coded(error.code, words)(error), name);
    assert.equal((await apex.ask(ada, 'fine')).text, '{"date":"1970-01-01T00:00:00.000Z","emoji":"😀","list":[null],"nothing":null,"words":"null \\\\ud800"}');
    assert.equal((await apex.ask(ada, 'void')).text, 'null');
    for (const bad of [undefined, null, 5, 10n, {}, 'half \ud800']) await assert.rejects(apex.ask(ada, bad), TypeError);
    for (const bad of [undefined, null, 'ada', {}, apex]) await assert.rejects(apex.ask(bad, 'hi'), TypeError);
    for (const bad of [undefined, 5, {}]) await assert.rejects(async () => apex.user(bad), TypeError);
    await assert.rejects(apex.user(''), coded('bad_request'));
    await assert.rejects(apex.ask(ada, 'hi', { requestId: 'no uuid' }), coded('bad_request'));
    await assert.rejects(apex.ask(ada, 'hi', { files: 'none' }), coded('bad_request'));
    await assert.rejects(apex.ask(ada, 'hi', { files: [NaN] }), TypeError);
    await assert.rejects(apex.threads(ada, { most: 'all' }), coded('bad_request'));
    await assert.rejects(apex.usage(ada, { by: 'weekday' }), coded('bad_request', /weekday/));
    assert.deepEqual(await apex.usage(ada, { by: 'step' }), []);
    for (const bad of [null, 5, { agents: {} }, { agents: [{}] }, { tools: ['a'] }, { nosuch: 1 }, { config: { a: 1n } }, { secrets: 'x' }, { doors: [{ headers: ['x'] }] }]) await assert.rejects(Apex.build(bad), TypeError, JSON.stringify(bad, (_, v) => (typeof v === 'bigint' ? `${v}n` : v)));
    for (const bad of [[], [1], ['a', 'b', 5, () => 1], ['a', 'b', z.string], ['a', 'b', true, 'c'], ['a', 'b', { x: NaN }, () => 1]]) assert.throws(() => tool(...bad), TypeError);
    assert.throws(() => new Answer(5), TypeError);
    assert.throws(() => new Plan('a'), TypeError);
  },

  async authenticate() {
    const seen = [];
    const users = { right: { user: 'grace', expiresIn: 60 }, strange: { user: 7 }, text: 'grace' };
    const authenticate = async (request) => {
      seen.push(request);
      if (request.headers['x-key'] === 'failing') throw new Error('the directory is away');
      return users[request.headers['x-key']];
    };
    const door = { headers: ['x-key'], authenticate };
    const { apex } = await build({ agents: [one(() => 'done')], doors: [door] });
    const grace = await apex.user('grace');
    await using(await mounted(apex), async ({ url }) => {
      const ask = (key) => fetch(`${url}/threads`, { headers: { 'x-key': key } });
      assert.equal((await ask('right')).status, 200);
      assert.equal((await ask('wrong')).status, 401);
      for (const key of ['strange', 'text', 'failing']) {
        const answer = await ask(key);
        assert.deepEqual([answer.status, (await answer.json()).code], [503, 'unavailable']);
      }
      assert.equal((await fetch(`${url}/threads`)).status, 401);
      assert.match(seen[0].address, /127\.0\.0\.1/);
      const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, 'apex.v1', { headers: { 'x-key': 'right' } });
      const welcome = JSON.parse(await new Promise((resolve, reject) => socket.once('message', resolve).once('error', reject)));
      assert.deepEqual([welcome.frame, welcome.user, socket.protocol], ['welcome', grace.id, 'apex.v1']);
      socket.close();
      const refused = new WebSocket(`${url.replace('http', 'ws')}/ws`, 'apex.v1', { headers: { 'x-key': 'wrong' } });
      assert.match(String(await new Promise((resolve) => refused.once('error', resolve))), /401/);
    });
  },

  async socket() {
    const { apex, ada } = await build({ agents: [one(({ text }) => `heard ${text}`)] });
    const { ticket } = await apex.ticket(ada);
    const request = { method: 'GET', url: '/ws', rawHeaders: ['Host', 'here', 'Sec-WebSocket-Protocol', `apex.v1, apex.ticket.${ticket}`], socket: null };
    const knocked = await apex.authenticate(request);
    assert.deepEqual([knocked.accepted, knocked.subprotocol], [true, 'apex.v1']);
    const { pipe } = knocked;
    assert.equal(JSON.parse((await pipe.next()).text).frame, 'welcome');
    await pipe.text(JSON.stringify({ frame: 'message', id: 1, request_id: crypto.randomUUID(), text: 'me' }));
    const types = [];
    for (let end = false; !end; ) {
      const next = await pipe.next();
      if (next.ping) assert.equal(await pipe.alive(), true);
      const frame = next.text ? JSON.parse(next.text) : {};
      if (frame.frame === 'event') types.push(frame.type);
      end = frame.type === 'run_completed';
    }
    assert.equal(types[0], 'run_started');
    assert.equal(await pipe.binary(), true);
    assert.equal((await pipe.next()).close, 1003);
    assert.equal(await pipe.next(), null);
    await pipe.close();
    const again = await apex.authenticate(request);
    assert.deepEqual([again.accepted, again.status], [false, 401]);
    assert.equal(JSON.parse(Buffer.from(await again.body()).toString()).code, 'unauthenticated');
  },

  async serve() {
    const { apex, ada } = await build({ agents: [one(() => 'served')] });
    const server = await apex.serve('127.0.0.1:0');
    assert.equal((await fetch(`${server.url}/health/live`)).status, 200);
    const client = connect({ url: server.url, ticket: async () => (await apex.ticket(ada)).ticket, WebSocket });
    const events = [];
    for await (const event of client.ask('hi')) events.push(event.type);
    assert.equal(events.at(-1), 'run_completed');
    await client.close();
    await server.close();
    await assert.rejects(fetch(`${server.url}/health/live`));
    await assert.rejects(apex.serve('nowhere'), coded('bad_request'));
    await assert.rejects(apex.serve('203.0.113.1:80'), coded('unavailable'));
  },

  async threads() {
    const { apex, ada } = await build({ agents: [one(({ text }) => `heard ${text}`)] });
    const grace = await apex.user('grace');
    for (const text of ['first', 'second', 'third']) await apex.ask(ada, text);
    const page = await apex.threads(ada, { most: 2 });
    assert.deepEqual(page.items.map(({ title }) => title), ['third', 'second']);
    const rest = await apex.threads(ada, { most: 2, cursor: page.next });
    assert.deepEqual(rest.items.map(({ title }) => title), ['first']);
    const [{ thread }] = rest.items;
    const said = await until(async () => (await apex.messages(ada, thread)).items.length === 2 && apex.messages(ada, thread));
    assert.deepEqual(said.items.map(({ role, text }) => [role, text]), [['user', 'first'], ['assistant', 'heard first']]);
    await assert.rejects(apex.messages(grace, thread), coded('not_found'));
    await assert.rejects(apex.forget(grace, thread), coded('not_found'));
    await assert.rejects(apex.run(grace, said.items[0].run).view(), coded('not_found'));
    assert.deepEqual((await apex.threads(grace)).items, []);
    await apex.forget(ada, thread);
    await assert.rejects(apex.messages(ada, thread), coded('not_found'));
    await assert.rejects(apex.run(ada, said.items[0].run).view(), coded('not_found'));
    const { file } = await apex.upload(ada, 'note.txt', 'words');
    assert.equal(Buffer.from(await apex.file(ada, file)).toString(), 'words');
    await assert.rejects(apex.file(ada, file, { most: 2 }), coded('too_large'));
    await assert.rejects(apex.file(grace, file), coded('not_found'));
    await apex.deleteFile(ada, file);
    assert.deepEqual(await apex.files(ada), []);
    assert.ok(await apex.usage(ada));
  },

  async secrets() {
    const asked = [];
    const secrets = async (key) => (asked.push(key), null);
    const { apex, ada } = await build({ secrets, agents: [one(() => 'done')] });
    assert.equal((await apex.ask(ada, 'hi')).text, 'done');
    assert.ok(asked.includes('models.openai.api_key'), asked.join());
    assert.ok(!asked.includes('runs.running'));
    const broken = (key) => {
      if (key.startsWith('models.openai')) throw new Error('the vault is shut');
    };
    await assert.rejects(Apex.build({ secrets: broken }), (error) => coded('config_invalid')(error) && error.faults.some(({ problem }) => problem.includes('the vault is shut')));
    await assert.rejects(Apex.build({ secrets: () => 5 }), coded('config_invalid', /something else than text/));
  },

  async alerts() {
    const failing = one(() => {
      throw new ApexError({ code: 'internal', kind: 'defect', message: 'a defect' });
    });
    const away = () => new Error('the pager is away');
    const pagers = [
      (told) => (said) => {
        told.push(said);
        throw away();
      },
      (told) => async (said) => {
        await null;
        told.push(said);
        throw away();
      },
    ];
    const warnings = [];
    const heard = ({ message }) => warnings.push(message);
    process.on('warning', heard);
    for (const pager of pagers) {
      const told = [];
      const { apex, ada } = await build({ agents: [failing], onAlert: pager(told) });
      await assert.rejects(apex.ask(ada, 'go'), coded('internal'));
      await until(() => told.length, 'the alert');
      assert.deepEqual([told[0].alert.kind, told[0].alert.number], ['internal', 1]);
      await assert.rejects(apex.ask(ada, 'go'), coded('internal'));
    }
    await until(() => warnings.filter((message) => message === away().message).length === 2, 'the warnings');
    process.off('warning', heard);
  },

  async memory() {
    const kept = new Map();
    const memory = {
      keep: async (user, note) => {
        if (note.name === 'fail') throw new Error('the disk is full');
        kept.set(`${user} ${note.name}`, note);
      },
      notes: (user) => [...kept].filter(([key]) => key.startsWith(user)).map(([, note]) => note).reverse(),
      forget: async (user, name) => kept.delete(`${user} ${name}`),
      forgetAll: (user) => [...kept.keys()].filter((key) => key.startsWith(user)).filter((key) => kept.delete(key)).length,
    };
    const notes = act(
      async ({ what, name }, { forget, recall, remember }) => {
        await (what === 'keep' ? remember(name, 'Graz') : forget(name));
        return (await recall()).map(({ name }) => name).join(' ');
      },
      { effect: 'idempotent' },
    );
    const asks = one(({ text }, { call }) => call('act', { what: text.split(' ')[0], name: text.split(' ').slice(1).join(' ') }));
    const door = { headers: ['x-key'], authenticate: () => ({ user: 'ada' }) };
    const { apex, ada } = await build({ agents: [asks], tools: [notes], memory, doors: [door] });
    const bob = await apex.user('bob');
    const said = async (text, user = ada) => (await apex.ask(user, text)).text;
    assert.deepEqual([await said('keep b'), await said('keep a'), await said('keep c', bob)], ['b', 'a b', 'c']);
    const note = kept.get(`${ada.id} a`);
    assert.equal(note.text, 'Graz');
    assert.ok(note.run && Date.parse(note.at));
    await assert.rejects(said('keep Wrongly named'), coded('bad_request'));
    assert.equal(kept.size, 3);
    await assert.rejects(said('keep fail'), coded('storage_failed'));
    assert.equal(await said('forget b'), 'a');
    await assert.rejects(said('forget b'), coded('not_found'));
    await using(await mounted(apex), async ({ url }) => {
      const ask = (method) => fetch(`${url}/memory`, { method, headers: { 'x-key': 'any' } });
      assert.deepEqual((await (await ask('GET')).json()).items.map(({ name }) => name), ['a']);
      assert.deepEqual([(await ask('DELETE')).status, kept.size], [204, 1]);
    });
    kept.set(`${ada.id} a`, 'no note');
    await assert.rejects(said('keep b'), coded('storage_failed'));
    for (const bad of [5, null, { keep() {} }]) await assert.rejects(Apex.build({ memory: bad }), TypeError);
  },

  async context() {
    const store = new AsyncLocalStorage();
    const seen = [];
    const looks = act(async () => {
      seen.push(store.getStore());
      await null;
      seen.push(store.getStore());
    });
    const agents = [one(async (_, { call }) => {
      seen.push(store.getStore());
      await call('act');
      seen.push(store.getStore());
      return 'done';
    })];
    const { apex, ada } = await build({ agents, tools: [looks] });
    await store.run('mine', () => apex.ask(ada, 'go'));
    assert.deepEqual(seen.splice(0), ['mine', 'mine', 'mine', 'mine']);
    await Promise.all(['a', 'b', 'c'].map((name) => store.run(name, () => apex.ask(ada, name))));
    for (const name of ['a', 'b', 'c']) assert.equal(seen.filter((one) => one === name).length, 4);
    seen.length = 0;
    await apex.ask(ada, 'go');
    assert.deepEqual(seen, [undefined, undefined, undefined, undefined]);
  },

  async context_ends() {
    const work = ({ text }) => {
      if (text === 'fail') throw new Error('no');
      return text === 'wait' ? forever(new AbortController().signal) : 'done';
    };
    const { apex, ada } = await build({ agents: [one(work)] });
    const before = counts().scopes;
    const gone = () => until(() => counts().scopes === before, 'the end of what was kept');
    for (const word of ['go', 'fail']) {
      await apex.start(ada, word);
      await gone();
    }
    await assert.rejects(apex.start(ada, 'go', { thread: crypto.randomUUID() }), coded('not_found'));
    await gone();
    const run = await apex.start(ada, 'wait');
    assert.equal(counts().scopes, before + 1);
    await run.cancel();
    await gone();
    await apex.start(ada, 'wait');
    await apex.close({ withinMs: 100 });
    await gone();
  },

  async analysis() {
    const content = await sample();
    const analysis = await analyse({ name: 'usage.csv', content });
    assert.equal(analysis.report.schema, 'apex.report/1');
    assert.deepEqual(JSON.parse(analysis.json), analysis.report);
    assert.match(await analysis.markdown(), /\$/);
    assert.match(await analysis.html(), /<!doctype html>/i);
    assert.ok((await analysis.summary()).length > 0);
    const file = path.join(folder(), 'usage.csv');
    writeFileSync(file, content);
    assert.deepEqual((await analyse([file])).report.totals, analysis.report.totals);
    const [looked] = await look(file);
    assert.deepEqual([looked.file, looked.format], ['usage.csv', 'csv']);
    await assert.rejects(analyse('nosuch.csv'), coded('bad_data'));
    await assert.rejects(analyse([{ name: 'a', content: 5 }]), TypeError);
    await assert.rejects(analyse(5), TypeError);
    await assert.rejects(analyse(file, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  },

  async health() {
    const { apex } = await build({ agents: [one(() => 'done')] });
    const health = await apex.health();
    assert.equal(health.status, 'pass', JSON.stringify(health));
  },

  async closed() {
    const { apex, ada } = await build({ agents: [one(() => 'done')] });
    const run = await apex.start(ada, 'hi');
    await run.result();
    assert.equal(await apex.close(), true);
    assert.equal(await apex.close(), true);
    await assert.rejects(apex.ask(ada, 'hi'), { name: 'TypeError', message: /closed/ });
    await assert.rejects(run.view(), /closed/);
    await assert.rejects(apex.health(), /closed/);
    const other = await Apex.build({ agents: [one(() => 'done')] });
    await other[Symbol.asyncDispose]();
    await assert.rejects(other.health(), /closed/);
  },
};

describe('the cases of all languages', { concurrency: 2 }, () => {
  for (const { name, what } of CASES) test(`${name}: ${what}`, { timeout: 60_000 }, () => cases[name]?.() ?? assert.fail('this language lacks the case'));
  test('there are no others', () => assert.deepEqual(Object.keys(cases).filter((name) => !CASES.some((one) => one.name === name)), []));
});
