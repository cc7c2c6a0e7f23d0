// Installs the package into an empty folder, as npm does it from an archive and a package of this platform's addon, and
// runs the tests of an embedded Apex there. What they need beside it (express, zod and so on) is linked.
//
//     node test/embedded/run.js [PATTERN-OF-FILES]      after: cargo build -p apex-node

import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = fileURLToPath(new URL('../..', import.meta.url));
const ROOT = path.resolve(PACKAGE, '../..');
const BESIDE = ['@types', 'express', 'fastify', 'typescript', 'undici-types', 'ws', 'zod'];

const target = path.resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target');
const run = (program, args, cwd) => execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

const folder = mkdtempSync(path.join(tmpdir(), 'apex-embedded-'));
let status = 1;
try {
  run('npm', ['pack', '--silent', '--pack-destination', folder], PACKAGE);
  const archive = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
  run('npm', ['install', '--silent', '--offline', '--no-audit', '--no-fund', path.join(folder, archive)], folder);
  const modules = path.join(folder, 'node_modules');
  rmSync(path.join(modules, 'netra-apex/addon'), { recursive: true, force: true }); // what `archive` left there
  run(process.execPath, ['scripts/addon.js', path.join(target, 'debug'), '--package', modules], PACKAGE);
  for (const name of BESIDE) symlinkSync(path.join(PACKAGE, 'node_modules', name), path.join(modules, name));
  const playwright = path.join(ROOT, 'tests/browser/node_modules/playwright-core');
  if (existsSync(playwright)) symlinkSync(playwright, path.join(modules, 'playwright-core'));
  for (const [from, to] of [
    ['bindings/node/test/embedded', 'test'],
    ['bindings/embedded.json', 'embedded.json'],
    ['docs/guide', 'guide'],
    ['examples/node', 'examples/node'],
    ['examples/chat/page', 'examples/chat/page'],
  ]) {
    if (existsSync(path.join(ROOT, from))) cpSync(path.join(ROOT, from), path.join(folder, to), { recursive: true });
  }
  mkdirSync(path.join(folder, 'data'));
  const wanted = new RegExp(process.argv[2] ?? '.');
  const files = readdirSync(path.join(folder, 'test')).filter((name) => name.endsWith('.test.js') && wanted.test(name));
  const tests = ['--test', '--expose-gc', '--test-reporter=spec', ...files.map((name) => path.join('test', name))];
  status = spawnSync(process.execPath, tests, { cwd: folder, stdio: 'inherit' }).status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
