// Lays the addon that cargo has built out as the package looks for it.
//
//     node scripts/addon.js TARGET-FOLDER FOLDER      as FOLDER/apex.<platform>.node, beside the package's own files
//     node scripts/addon.js TARGET-FOLDER --package FOLDER
//                                                     as the package FOLDER/netra-apex-<platform>, to be published

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { platform } from '../host/native.js';

const LIBRARY = { win32: 'apex_node.dll', darwin: 'libapex_node.dylib' }[process.platform] ?? 'libapex_node.so';

const [target, ...rest] = process.argv.slice(2);
const asPackage = rest[0] === '--package';
const folder = rest[asPackage ? 1 : 0];
if (!target || !folder) {
  console.error('usage: node scripts/addon.js TARGET-FOLDER [--package] FOLDER');
  process.exit(2);
}
const library = path.join(target, LIBRARY);
const name = platform();
if (asPackage) {
  const home = path.join(folder, `netra-apex-${name}`);
  mkdirSync(home, { recursive: true });
  copyFileSync(library, path.join(home, 'apex.node'));
  writeFileSync(path.join(home, 'package.json'), `${JSON.stringify(manifest(), null, 2)}\n`);
} else {
  mkdirSync(folder, { recursive: true });
  copyFileSync(library, path.join(folder, `apex.${name}.node`));
}

function manifest() {
  const { version, license, engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const [os, cpu, libc] = name.split('-');
  return {
    name: `netra-apex-${name}`,
    version,
    description: `The addon of netra-apex for ${name}.`,
    license,
    main: 'apex.node',
    files: ['apex.node'],
    os: [os],
    cpu: [cpu],
    ...(os === 'linux' ? { libc: [libc === 'gnu' ? 'glibc' : 'musl'] } : {}),
    engines,
  };
}
