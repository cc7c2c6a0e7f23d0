// The chat page behind nginx and HAProxy as they come from Debian, which take ever more out of its upgrades: it ends up
// connected by the next way of the chain, and a run is seen to its end.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ask, ended, installed, logIn, sleep, startBrowser, startChat, startProxy } from '../support.js';

const ALL = ['Authorization', 'Cookie', 'Sec-WebSocket-Protocol'];

const SETUPS = [
  { what: 'passes everything', strip: [], way: 'subprotocol' },
  { what: 'strips Authorization', strip: ['Authorization'], way: 'subprotocol' },
  { what: 'strips Authorization, cookies and subprotocols', strip: ALL, way: 'query' },
  { what: 'strips queries too', strip: ALL, query: true, way: 'hello' },
  { what: 'cuts what is idle for 2 s', strip: [], idle: 2, way: 'subprotocol' },
  { what: 'takes heads of 2 KiB', strip: [], head: 2_048, way: 'subprotocol' },
];

function nginx({ strip, query, idle = 60, head = 16_384 }, to) {
  return `events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path \${FOLDER}/body; proxy_temp_path \${FOLDER}/proxy;
  fastcgi_temp_path \${FOLDER}/f; uwsgi_temp_path \${FOLDER}/u; scgi_temp_path \${FOLDER}/s;
  large_client_header_buffers 4 ${head};
  server {
    listen 127.0.0.1:\${PORT};
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_read_timeout ${idle}s;
    location / { proxy_pass http://127.0.0.1:${to}; }
    location = /ws {
      ${query ? 'set $args "";' : ''}
      proxy_pass http://127.0.0.1:${to};
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      ${strip.map((name) => `proxy_set_header ${name} "";`).join(' ')}
    }
  }
}
`;
}

function haproxy({ strip, query, idle = 60, head = 16_384 }, to) {
  return `global
  maxconn 256
  tune.bufsize ${head + 1_024}
  tune.maxrewrite 1024
defaults
  mode http
  timeout connect 5s
  timeout client ${idle}s
  timeout server ${idle}s
  timeout tunnel ${idle}s
frontend all
  bind 127.0.0.1:\${PORT}
${strip.map((name) => `  http-request del-header ${name} if { path /ws }\n`).join('')}${query ? '  http-request set-uri /ws if { path /ws }\n' : ''}  default_backend chat
backend chat
  server one 127.0.0.1:${to}
`;
}

let chat;

before(async () => {
  chat = await startChat();
});

after(async () => {
  await chat?.stop();
});

for (const [kind, config] of [['nginx', nginx], ['haproxy', haproxy]]) {
  describe(kind, { skip: !installed(kind) && `${kind} is not installed` }, () => {
    for (const setup of SETUPS) {
      test(`that ${setup.what} leaves the way ${setup.way}`, async () => {
        const proxy = await startProxy(kind, config(setup, chat.port));
        const browser = await startBrowser({ chat, through: proxy.port });
        try {
          const page = await logIn(await browser.newContext(), chat, `${kind} ${setup.what}`);
          assert.equal(await page.evaluate(() => sessionStorage.getItem('apex.way') ?? 'subprotocol'), setup.way);
          if (setup.idle) await sleep((setup.idle + 1) * 1_000);
          const run = await ask(page, 'What do we spend?');
          assert.equal(await ended(run), 'completed');
          assert.deepEqual(page.faults, []);
        } finally {
          await browser.close();
          await proxy.stop();
        }
      });
    }
  });
}
