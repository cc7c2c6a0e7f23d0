// The chat host behind the relay, as a test of the client uses it.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Starts the relay with its host; `tell(command, fields)` gives its answer. */
export async function startHost() {
  const relay = fileURLToPath(new URL('relay.js', import.meta.url));
  const child = spawn(process.execPath, [relay], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the relay has ended');
    return JSON.parse(value);
  };
  const { url } = await next();
  let turn = Promise.resolve();
  return {
    url,
    tell: (command, fields = {}) =>
      (turn = turn.then(() => {
        child.stdin.write(`${JSON.stringify({ do: command, ...fields })}\n`);
        return next();
      })),
    stop: () =>
      new Promise((resolve) => {
        if (child.exitCode !== null) return resolve();
        child.once('exit', resolve);
        child.stdin.end();
      }),
  };
}

/** A login at the host: its bearer token, and what buys tickets for it. */
export async function logIn(url, user) {
  const answer = await fetch(`${url}/auth/dev`, { method: 'POST', body: JSON.stringify({ user }) });
  const { token } = await answer.json();
  const headers = { authorization: `Bearer ${token}` };
  const ask = async (method, path, body) => (await fetch(url + path, { method, headers, body })).json();
  return { token, ask, ticket: async () => (await ask('POST', '/auth/ticket', '{}')).ticket };
}
