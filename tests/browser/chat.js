// Starts the built chat example.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The example's executable: `APEX_CHAT`, or what `cargo build --example chat` made last. */
function executable() {
  if (process.env.APEX_CHAT) return process.env.APEX_CHAT;
  const target = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target');
  const built = ['debug', 'release'].map((profile) => path.join(target, profile, 'examples', 'chat')).find(existsSync);
  if (!built) throw new Error('the chat example is not built: cargo build --example chat');
  return built;
}

/** A port that is free now, below those that the system gives out by itself. */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = net.createServer();
    const free = await new Promise((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

/** The chat host on a port and a database of its own, with `settings` as variables of its environment; `stop()` ends it as Ctrl-C does and gives its exit status. */
export async function startChat(settings = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'apex-chat-'));
  const port = await freePort();
  const chat = { port, url: `http://127.0.0.1:${port}`, folder };
  let child;
  chat.start = async () => {
    // A server where one is named, and in it a schema of this chat's own.
    const name = `chat_${path.basename(folder).replace(/\W/g, '').toLowerCase()}`;
    const env = { ...process.env, APEX_DATABASE_SCHEMA: name, APEX_REDIS_PREFIX: name, ...settings };
    const file = process.env.APEX_DATABASE_URL ? [] : ['--db', path.join(folder, 'chat.db')];
    child = spawn(executable(), ['--listen', `127.0.0.1:${port}`, ...file], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const ready = new Promise((resolve, reject) => {
      const hear = (chunk) => {
        output += chunk;
        if (output.includes(chat.url)) resolve();
      };
      child.stdout.on('data', hear);
      child.stderr.on('data', hear);
      child.once('exit', (status) => reject(new Error(`the chat example ended with status ${status}:\n${output}`)));
    });
    await ready;
  };
  chat.end = (signal = 'SIGINT') =>
    new Promise((resolve) => {
      if (child.exitCode !== null) return resolve(child.exitCode);
      child.once('exit', (status) => resolve(status));
      child.kill(signal);
    });
  chat.stop = async () => {
    const status = await chat.end();
    rmSync(folder, { recursive: true, force: true });
    return status;
  };
  await chat.start();
  return chat;
}
