// The chat page over HTTP/2 and TLS, as it is behind a proxy on the internet: nginx takes WebSockets over HTTP/1.1 beside
// it, HAProxy over the same HTTP/2 connection (RFC 8441). The page ends up connected by either.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ask, ended, freePort, installed, logIn, startBrowser, startChat, startProxy } from '../support.js';

const ALL = ['Authorization', 'Cookie', 'Sec-WebSocket-Protocol'];

const SETUPS = [
  { what: 'passes everything', strip: [], way: 'subprotocol' },
  { what: 'strips Authorization, cookies and subprotocols', strip: ALL, way: 'query' },
];

function nginx({ strip }, to, { certificate, key }) {
  return `events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path \${FOLDER}/body; proxy_temp_path \${FOLDER}/proxy;
  fastcgi_temp_path \${FOLDER}/f; uwsgi_temp_path \${FOLDER}/u; scgi_temp_path \${FOLDER}/s;
  server {
    listen 127.0.0.1:\${PORT} ssl http2;
    ssl_certificate ${certificate};
    ssl_certificate_key ${key};
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    location / { proxy_pass http://127.0.0.1:${to}; }
    location = /ws {
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

function haproxy({ strip }, to, { both }) {
  return `global
  maxconn 256
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
frontend all
  bind 127.0.0.1:\${PORT} ssl crt ${both} alpn h2,http/1.1
${strip.map((name) => `  http-request del-header ${name} if { path /ws }\n`).join('')}  default_backend chat
backend chat
  server one 127.0.0.1:${to}
`;
}

/** A certificate for a day that nobody knows. */
function selfSigned() {
  const folder = mkdtempSync(path.join(tmpdir(), 'apex-tls-'));
  const [certificate, key, both] = ['cert.pem', 'key.pem', 'both.pem'].map((name) => path.join(folder, name));
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  execFileSync('openssl', ['req', '-x509', ...curve, '-keyout', key, '-out', certificate, '-days', '1', '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'], { stdio: 'ignore' });
  writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'), { mode: 0o600 });
  return { certificate, key, both, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

const ready = installed('openssl');
let chat, ports, tls;

before(async () => {
  if (!ready) return;
  ports = await Promise.all(['nginx', 'haproxy'].flatMap(() => SETUPS).map(freePort));
  tls = selfSigned();
  chat = await startChat({ APEX_SERVER_ORIGINS: ports.map((port) => `https://127.0.0.1:${port}`).join(',') });
});

after(async () => {
  tls?.remove();
  await chat?.stop();
});

for (const [kind, config, status] of [['nginx', nginx, 101], ['haproxy', haproxy, 200]]) {
  describe(kind, { skip: !(ready && installed(kind)) && `${kind} or openssl is not installed` }, () => {
    for (const setup of SETUPS) {
      test(`over HTTP/2 that ${setup.what} leaves the way ${setup.way}`, async () => {
        const port = ports.pop();
        const proxy = await startProxy(kind, config(setup, chat.port, tls), port);
        const browser = await startBrowser();
        try {
          const context = await browser.newContext({ ignoreHTTPSErrors: true });
          const url = `https://127.0.0.1:${port}`;
          const page = await logIn(context, { url }, `${kind} ${setup.what}`);
          const hop = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
          assert.equal(hop, 'h2');
          assert.equal(await page.evaluate(() => sessionStorage.getItem('apex.way') ?? 'subprotocol'), setup.way);
          assert.equal(await ended(await ask(page, 'What do we spend?')), 'completed');
          assert.deepEqual(page.faults, []);
          // How the socket was opened: an answer of 101 over HTTP/1.1, of 200 over HTTP/2.
          const cdp = await context.newCDPSession(page);
          await cdp.send('Network.enable');
          const answered = new Promise((resolve) => cdp.once('Network.webSocketHandshakeResponseReceived', ({ response }) => resolve(response.status)));
          await page.reload();
          assert.equal(await answered, status);
        } finally {
          await browser.close();
          await proxy.stop();
        }
      });
    }
  });
}
