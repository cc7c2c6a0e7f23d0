import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../../bindings/types/', import.meta.url));
const tsc = fileURLToPath(new URL('../node_modules/.bin/tsc', import.meta.url));

test('the generated types compile under the strictest rules', () => {
  const modules = readdirSync(folder).filter((name) => name.endsWith('.ts'));
  assert.ok(modules.length > 0);
  const rules = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'esnext', '--types', ''];
  execFileSync(tsc, [...rules, ...modules], { cwd: folder, encoding: 'utf8' });
});
