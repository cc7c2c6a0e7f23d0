// The client as it is installed: small, typed, without native code, for `import`, `require`, bundlers and pages.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MOST = 10_240;

const run = (program, args, cwd) => execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

test(`the client is at most ${MOST} bytes, minified and gzipped`, async () => {
  const options = { bundle: true, minify: true, write: false, format: 'esm', platform: 'browser', target: 'es2022', metafile: true };
  const { outputFiles, metafile } = await build({ ...options, entryPoints: [path.join(ROOT, 'client/index.js')] });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  console.log(`netra-apex/client: ${bytes} bytes gzipped, ${outputFiles[0].contents.length} minified`);
  assert.ok(bytes <= MOST, `${bytes} bytes`);
  assert.deepEqual(Object.keys(metafile.inputs).filter((file) => file.includes('node_modules')), [], 'nothing of others is in it');
});

test('the version is that of the crate', () => {
  const crate = /^\[workspace\.package\][^[]*?^version = "(.*?)"/ms.exec(readFileSync(path.join(ROOT, '../../Cargo.toml'), 'utf8'))[1];
  assert.equal(JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')).version, crate);
});

describe('installed from its archive', () => {
  let folder;

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'apex-package-'));
    run('npm', ['pack', '--silent', '--pack-destination', folder], ROOT);
    const home = path.join(folder, 'node_modules');
    mkdirSync(path.join(home, 'netra-apex'), { recursive: true });
    const archive = readdirSync(folder).find((name) => name.endsWith('.tgz'));
    run('tar', ['-xzf', archive, '--strip-components=1', '-C', 'node_modules/netra-apex'], folder);
    mkdirSync(path.join(home, '@types'));
    symlinkSync(path.join(ROOT, 'node_modules/@types/node'), path.join(home, '@types/node'));
    symlinkSync(path.join(ROOT, 'node_modules/undici-types'), path.join(home, 'undici-types'));
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  test('it is imported and required, and is the same one', () => {
    const script = "import { createRequire } from 'node:module'; import { ApexError, connect } from 'netra-apex/client';"
      + "const other = createRequire(import.meta.url)('netra-apex/client'); console.log(typeof connect, other.ApexError === ApexError);";
    writeFileSync(path.join(folder, 'use.mjs'), script);
    assert.equal(run('node', ['use.mjs'], folder), 'function true\n');
    writeFileSync(path.join(folder, 'use.cjs'), "console.log(typeof require('netra-apex/client').connect);");
    assert.equal(run('node', ['use.cjs'], folder), 'function\n');
  });

  test('its types are whole: events are told apart by their type, errors by their code', () => {
    writeFileSync(path.join(folder, 'use.mts'), `
      import { ApexError, connect, type ErrorCode } from 'netra-apex/client';
      async function use(): Promise<void> {
        await using client = connect({ url: 'https://chat.example.com', ticket: async ({ lasting }) => (lasting ? 'a' : 'b'), onState: (state) => state.name === 'closed' && state.error.code });
        const answer = client.ask('hi', { signal: AbortSignal.timeout(1_000) });
        const { run } = await answer.accepted;
        for await (const event of answer) {
          if (event.frame === 'reset') console.log(event.snapshot?.steps.length);
          else if (event.type === 'tool_completed') console.log(event.seq, event.data.elapsed_ms.toFixed());
          else if (event.type === 'run_failed') console.log(event.data.error.message);
          // @ts-expect-error there is no such event
          else if (event.type === 'tool_done') console.log();
        }
        for await (const entry of client.inbox()) if (entry.frame === 'inbox') console.log(entry.state);
        await client.cancel(run).catch((error: unknown) => {
          const code: ErrorCode | null = error instanceof ApexError ? error.code : null;
          // @ts-expect-error the catalogue has no such code
          if (code === 'oops') throw error;
        });
      }
      void use;
    `);
    const rules = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,dom,esnext.disposable', '--types', 'node'];
    try {
      run(path.join(ROOT, 'node_modules/.bin/tsc'), [...rules, 'use.mts'], folder);
    } catch (error) {
      assert.fail(error.stdout);
    }
  });

  test('nothing but what it is made of is in it', () => {
    const files = run('tar', ['-tzf', readdirSync(folder).find((name) => name.endsWith('.tgz'))], folder).trim().split('\n');
    for (const file of files) assert.match(file, /^package\/(package\.json|README\.md|addon\/apex\.[\w-]+\.node|(client|host)\/\w+\.js|dist\/(client|host|types)\/\w+\.d\.ts)$/);
  });
});
