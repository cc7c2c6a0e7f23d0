// Apex in Express, Fastify and plain http: its routes, its events and its sockets.

import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, test } from 'node:test';
import express from 'express';
import fastify from 'fastify';
import { connect } from 'netra-apex/client';
import { attach, fastifyApex, handler } from 'netra-apex';
import { WebSocket, WebSocketServer } from 'ws';
import { build, one, until } from './support.js';

const listen = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`)));
const stop = (server) => new Promise((resolve) => server.close(resolve).closeAllConnections());

const hosts = {
  async 'plain http'(apex) {
    const server = http.createServer(handler(apex, { prefix: '/apex' }));
    attach(server, apex, { WebSocketServer, path: '/apex/ws' });
    return { url: await listen(server), stop: () => stop(server) };
  },
  async Express(apex) {
    const app = express();
    app.use('/apex', handler(apex));
    app.use(express.json());
    app.post('/own', (req, res) => res.json(req.body));
    const server = http.createServer(app);
    attach(server, apex, { WebSocketServer, path: '/apex/ws' });
    return { url: await listen(server), stop: () => stop(server), own: true };
  },
  async Fastify(apex) {
    const app = fastify({ forceCloseConnections: true });
    app.register(fastifyApex, { prefix: '/apex', apex, WebSocketServer });
    app.post('/own', async (request) => request.body);
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    return { url, stop: () => app.close(), own: true };
  },
};

for (const [name, start] of Object.entries(hosts)) {
  describe(name, () => {
    test('routes, files, events and sockets work, and the rest is the program’s own', async () => {
      const door = { headers: ['x-user'], authenticate: ({ headers }) => ({ user: headers['x-user'] }) };
      const slow = one(async ({ text }, { think }) => {
        await think('a moment');
        return `heard ${text}`;
      });
      const { apex, ada } = await build({ agents: [slow], doors: [door] });
      const host = await start(apex);
      try {
        const headers = { 'x-user': 'ada' };
        const at = (path, options = {}) => fetch(`${host.url}/apex${path}`, { headers, ...options });

        assert.equal((await at('/health/live')).status, 200);
        const refused = await fetch(`${host.url}/apex/threads`);
        assert.deepEqual([refused.status, (await refused.json()).code], [401, 'unauthenticated']);
        assert.equal((await at('/nosuch')).status, 404);

        const bytes = Buffer.alloc(3_000_000, 'abc\n');
        const brought = await at('/files', { method: 'POST', body: bytes, headers: { ...headers, 'x-file-name': 'big.txt' } });
        assert.equal(brought.status, 201);
        const { file } = await brought.json();
        assert.equal((await apex.file(ada, file)).length, bytes.length);

        const accepted = await at('/messages', { method: 'POST', body: JSON.stringify({ request_id: crypto.randomUUID(), text: 'me' }), headers: { ...headers, 'content-type': 'application/json' } });
        assert.equal(accepted.status, 202);
        const { run } = await accepted.json();
        const events = await (await at(`/runs/${run}/events`)).text();
        assert.match(events, /agent_thinking[^]*run_completed/);

        const client = connect({ url: `${host.url}/apex`, ticket: async () => (await apex.ticket(ada)).ticket, WebSocket });
        const seen = [];
        for await (const event of client.ask('you')) seen.push(event);
        assert.equal(seen.at(-1).data.result.text, 'heard you');
        await client.close();

        const elsewhere = new WebSocket(`${host.url.replace('http', 'ws')}/nosuch`);
        await new Promise((resolve) => elsewhere.once('error', resolve));

        if (host.own) {
          const own = await fetch(`${host.url}/own`, { method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json' } });
          assert.deepEqual(await own.json(), { a: 1 });
        }
        assert.equal((await fetch(`${host.url}/nosuch`)).status, 404);
      } finally {
        await host.stop();
      }
    });
  });
}

test('whoever leaves in the middle of an answer or of a body leaves nothing behind', async () => {
  const { apex, ada } = await build({ agents: [one((_, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))))], doors: [{ headers: ['x-user'], authenticate: ({ headers }) => ({ user: headers['x-user'] }) }] });
  const server = http.createServer(handler(apex));
  const url = await listen(server);
  const { counts } = await import('../node_modules/netra-apex/host/bridge.js');
  try {
    const run = await apex.start(ada, 'go');
    const leaving = new AbortController();
    const events = await fetch(`${url}/runs/${run.run}/events`, { headers: { 'x-user': 'ada' }, signal: leaving.signal });
    await events.body.getReader().read();
    leaving.abort();
    const half = http.request(`${url}/files`, { method: 'POST', headers: { 'x-user': 'ada', 'x-file-name': 'half', 'content-length': 1_000 } });
    half.on('error', () => {});
    half.write('a part');
    await new Promise((go) => setTimeout(go, 50));
    half.destroy();
    await run.cancel();
    await until(() => counts().requests === 0, 'the end of all requests');
    assert.deepEqual(await apex.files(ada), []);
  } finally {
    await stop(server);
  }
});
