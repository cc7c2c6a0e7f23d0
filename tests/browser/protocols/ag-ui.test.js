// AG-UI's own client and AG-UI's own models against the chat host: a front end that was made for neither of us.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { HttpAgent } from '@ag-ui/client';
import { startChat } from '../support.js';

const USAGE = `timestamp,model,user,input_tokens,output_tokens,cost_usd
${Array.from({ length: 40 }, (_, n) => `2026-05-0${1 + (n % 9)}T10:00:00Z,gpt-4o,user${n % 3},${1000 + n},200,0.00${450 + n}`).join('\n')}
`;

let chat, authorization;

before(async () => {
  chat = await startChat();
  const login = await fetch(`${chat.url}/auth/dev`, { method: 'POST', body: JSON.stringify({ user: 'ada' }) });
  authorization = `Bearer ${(await login.json()).token}`;
});

after(async () => {
  assert.equal(await chat?.stop(), 0, 'the host ends well when it is interrupted');
});

const get = async (path) => (await fetch(chat.url + path, { headers: { authorization } })).json();

async function upload(name, content) {
  const headers = { authorization, 'x-file-name': name };
  return (await (await fetch(`${chat.url}/files`, { method: 'POST', headers, body: content })).json()).file;
}

/** A front end; `events` is what came over the wire. */
function frontEnd() {
  const events = [];
  const agent = new HttpAgent({ url: `${chat.url}/ag-ui`, headers: { authorization }, threadId: randomUUID() });
  agent.subscribe({ onEvent: ({ event }) => void events.push(event) });
  return { agent, events };
}

const say = (agent, content) => agent.addMessage({ id: randomUUID(), role: 'user', content });

describe('AG-UI', () => {
  test('its client runs the golden path and goes on in the same conversation', async () => {
    const { agent, events } = frontEnd();
    const file = await upload('usage.csv', USAGE);
    say(agent, 'Where does our money go?');
    const { result, newMessages } = await agent.runAgent({ forwardedProps: { attachments: [file] } });
    assert.equal(result.status, 'answered');
    assert.match(newMessages.findLast(({ role }) => role === 'assistant').content, /\$\d/);
    const kinds = new Set(events.map(({ type }) => type));
    for (const kind of ['RUN_STARTED', 'SUBAGENT_STARTED', 'STEP_STARTED', 'REASONING_MESSAGE_CONTENT', 'TOOL_CALL_START', 'TOOL_CALL_ARGS', 'TOOL_CALL_END', 'TOOL_CALL_RESULT', 'STEP_FINISHED', 'SUBAGENT_FINISHED', 'TEXT_MESSAGE_CONTENT', 'RUN_FINISHED']) {
      assert.ok(kinds.has(kind), `${kind} is told`);
    }
    say(agent, 'And by user?');
    await agent.runAgent();
    const threads = await get('/threads');
    assert.equal(threads.items.length, 1);
    const { messages } = await get(`/threads/${threads.items[0].thread}`);
    assert.equal(messages.items.filter(({ role }) => role === 'user').length, 2);
  });

  test("the guide's front end works as it is written", async () => {
    const guide = await readFile(new URL('../../../docs/guide/clients.md', import.meta.url), 'utf8');
    const code = guide.match(/```js\n(import \{ HttpAgent .*?)```/s)?.[1] ?? assert.fail('the guide shows a front end');
    const module = `const { base, token, file } = globalThis.given;\n${code}\nexport { result, newMessages };`;
    const path = new URL(`./guide-${process.pid}.mjs`, import.meta.url);
    globalThis.given = { base: chat.url, token: authorization.slice(7), file: await upload('usage.csv', USAGE) };
    await writeFile(path, module);
    try {
      const { result, newMessages } = await import(path.href);
      assert.equal(result.status, 'answered');
      assert.ok(newMessages.some(({ role }) => role === 'assistant'));
    } finally {
      await rm(path);
    }
  });

  test('a run that needs an approval is interrupted, and goes on with what was decided', async () => {
    const { agent, events } = frontEnd();
    const told = async (content) => {
      say(agent, content);
      return (await agent.runAgent()).result?.text;
    };
    assert.match(await told('Remember that I like otters.'), /I keep that/);
    say(agent, 'Forget everything.');
    await agent.runAgent();
    const { type, outcome } = events.at(-1);
    assert.deepEqual([type, outcome.type, outcome.interrupts.length], ['RUN_FINISHED', 'interrupt', 1]);
    const resume = [{ interruptId: outcome.interrupts[0].id, status: 'resolved', payload: { decision: 'approve' } }];
    const { result } = await agent.runAgent({ resume });
    assert.match(result.text, /One note is forgotten/);
    assert.ok(events.some(({ type, name }) => type === 'CUSTOM' && name === 'approval_decided'));
  });

  test('every event passes the models that AG-UI publishes for Python', { skip: process.env.APEX_TEST_PYTHON ? false : 'APEX_TEST_PYTHON is not set' }, async () => {
    const file = await upload('usage.csv', USAGE);
    const body = JSON.stringify({ threadId: 't', runId: randomUUID(), messages: [{ id: '1', role: 'user', content: 'What was spent?' }], tools: [], context: [], state: {}, forwardedProps: { attachments: [file] } });
    const headers = { authorization, 'content-type': 'application/json' };
    const answer = await fetch(`${chat.url}/ag-ui`, { method: 'POST', headers, body });
    const lines = (await answer.text()).split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6));
    assert.ok(lines.length > 40);
    const check = [
      'import sys',
      'from pydantic import TypeAdapter',
      'from ag_ui.core import Event',
      'known = TypeAdapter(Event)',
      'for line in sys.stdin:',
      '    event = known.validate_json(line)',
      '    assert not event.model_extra, (event.type, event.model_extra)',
    ].join('\n');
    const ran = spawnSync(process.env.APEX_TEST_PYTHON, ['-c', check], { input: lines.join('\n'), encoding: 'utf8' });
    assert.equal(ran.status, 0, ran.stderr);
  });

  test('a refusal reaches the front end as what it is', async () => {
    const agent = new HttpAgent({ url: `${chat.url}/ag-ui`, headers: { authorization: 'Bearer nobody' }, threadId: 't' });
    say(agent, 'hello');
    await assert.rejects(agent.runAgent(), /401/);
  });
});
