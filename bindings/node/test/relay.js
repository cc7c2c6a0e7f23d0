// A relay before the built chat host: what a network and its proxies may do to a client, on command.
//
//   node relay.js          prints {"url"}, then answers each line of JSON that it is told by one line
//
//   {"do":"rule", …}       one more rule, for `times` (1 by default) of what it matches:
//       on: "upgrade"      [way]: with `close` (a code, after accepting), `status` (an HTTP refusal) or neither (cut)
//       on: "server"       [frame] [seq]: act "drop", "double", "cut" or "merge" (`fields` over the frame's own)
//   {"do":"strip","what"}  of upgrades: "authorization", "subprotocol", "query"
//   {"do":"close","code"}  every connection; 1006 cuts them, 1005 closes without a code
//   {"do":"say","text"}    to every client, as if the host had said it
//   {"do":"down","down"}   nobody gets through
//   {"do":"restart"}       the host, as Ctrl-C and a new start do
//   {"do":"file","token","rows"}  a long file of usage, uploaded: {"file"}
//   {"do":"seen"}          {"upgrades": ways in their order, "frames": what clients said, "live": open connections}
//   {"do":"reset"}         no rule, nothing seen
//
// It ends when its standard input does.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import { createInterface } from 'node:readline';
import { WebSocket, WebSocketServer } from 'ws';
import { freePort, startChat } from '../../../tests/browser/chat.js';
import { longUsage } from '../../../tests/browser/usage.js';

const chat = await startChat({ APEX_CONNECTIONS_PER_USER: '3', APEX_CONNECTIONS_DRAIN_AFTER: '300ms', APEX_CONNECTIONS_DRAIN_JITTER: '200ms' });
const pairs = new Set();
const door = new WebSocketServer({ noServer: true, handleProtocols: (_, request) => request.chosen });
let rules, strip, down, upgrades, frames;
const files = new Map(); // rows -> path

function reset() {
  [rules, strip, down, upgrades, frames] = [[], [], false, [], []];
}

/** The rule that matches, used up by one. */
function take(on, what) {
  const found = rules.find((rule) => rule.on === on && rule.times > 0 && Object.keys(what).every((key) => !(key in rule) || rule[key] === what[key]));
  if (found) found.times -= 1;
  return found;
}

function wayOf({ headers, url }) {
  if (headers.authorization) return 'header';
  if (/apex\.(ticket|bearer)\./.test(headers['sec-websocket-protocol'] ?? '')) return 'subprotocol';
  if (url.includes('ticket=')) return 'query';
  return /apex_session/.test(headers.cookie ?? '') ? 'cookie' : 'hello';
}

const server = http.createServer((request, response) => {
  const { method, url: path, headers } = request;
  const asked = http.request({ host: '127.0.0.1', port: chat.port, method, path, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  asked.on('error', () => response.destroy());
  request.pipe(asked);
});

server.on('upgrade', (request, socket, head) => {
  const way = wayOf(request);
  upgrades.push(way);
  socket.on('error', () => {});
  const rule = take('upgrade', { way });
  const protocols = (request.headers['sec-websocket-protocol'] ?? '').split(/,\s*/).filter(Boolean);
  if (down || (rule && !rule.close && !rule.status)) return socket.destroy();
  if (rule?.status) return socket.end(`HTTP/1.1 ${rule.status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  if (rule) {
    request.chosen = protocols.length > 0 && 'apex.v1';
    return door.handleUpgrade(request, socket, head, (near) => near.close(rule.close));
  }
  const kept = strip.includes('subprotocol') ? [] : protocols;
  const headers = {};
  for (const name of ['authorization', 'cookie', 'origin']) if (request.headers[name] && !strip.includes(name)) headers[name] = request.headers[name];
  const url = strip.includes('query') ? '/ws' : request.url;
  const far = new WebSocket(`ws://127.0.0.1:${chat.port}${url}`, kept, { headers });
  far.on('unexpected-response', (_, { statusCode }) => {
    far.terminate();
    socket.end(`HTTP/1.1 ${statusCode} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  });
  far.on('error', () => socket.destroy());
  far.on('open', () => {
    request.chosen = far.protocol || false;
    door.handleUpgrade(request, socket, head, (near) => join(near, far));
  });
});

function join(near, far) {
  const pair = { near, far };
  pairs.add(pair);
  near.on('message', (data) => {
    frames.push(JSON.parse(data));
    if (far.readyState === WebSocket.OPEN) far.send(data.toString());
  });
  far.on('message', (data) => {
    const frame = JSON.parse(data);
    const { act, fields } = take('server', { frame: frame.frame, seq: frame.seq }) ?? {};
    if (act === 'drop') return;
    if (act === 'cut') return shut(pair, 1006);
    near.send(JSON.stringify({ ...frame, ...fields }));
    if (act === 'double') near.send(data.toString());
  });
  far.on('close', (code) => shut(pair, code));
  near.on('close', () => shut(pair, 1000));
  near.on('error', () => {});
  far.on('error', () => {});
}

function shut(pair, code) {
  if (!pairs.delete(pair)) return;
  if (code === 1006) pair.near.terminate();
  else if (code === 1005) pair.near.close();
  else pair.near.close(code);
  pair.far.terminate();
}

async function upload(token, rows) {
  if (!files.has(rows)) files.set(rows, await longUsage(chat.folder, rows));
  const headers = { authorization: `Bearer ${token}`, 'x-file-name': 'usage.csv' };
  const answer = await fetch(`${chat.url}/files`, { method: 'POST', headers, body: readFileSync(files.get(rows)) });
  return (await answer.json()).file;
}

const commands = {
  rule: ({ times = 1, ...rule }) => void rules.push({ times, ...rule }),
  strip: ({ what }) => void (strip = what),
  close: ({ code }) => [...pairs].forEach((pair) => shut(pair, code)),
  say: ({ text }) => pairs.forEach(({ near }) => near.send(text)),
  down: (to) => void ({ down } = to),
  restart: async () => {
    await chat.end('SIGINT');
    await chat.start();
  },
  file: async ({ token, rows }) => ({ file: await upload(token, rows) }),
  seen: () => ({ upgrades, frames, live: pairs.size }),
  reset,
};

reset();
const port = await freePort();
await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
console.log(JSON.stringify({ url: `http://127.0.0.1:${port}` }));
for await (const line of createInterface({ input: process.stdin })) {
  const { do: command, ...rest } = JSON.parse(line);
  console.log(JSON.stringify((await commands[command](rest)) ?? {}));
}
await chat.stop();
process.exit(0);
