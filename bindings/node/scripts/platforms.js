// Names the packages with addons in package.json, so that npm installs the one of its platform: those in a folder, all of
// this version.
//
//     node scripts/platforms.js FOLDER

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const [folder] = process.argv.slice(2);
if (!folder) {
  console.error('usage: node scripts/platforms.js FOLDER');
  process.exit(2);
}
const file = new URL('../package.json', import.meta.url);
const manifest = JSON.parse(readFileSync(file, 'utf8'));
const packages = readdirSync(folder).map((name) => JSON.parse(readFileSync(path.join(folder, name, 'package.json'), 'utf8')));
for (const { name, version } of packages) {
  if (version !== manifest.version) throw new Error(`${name} has version ${version}, and netra-apex ${manifest.version}`);
}
manifest.optionalDependencies = Object.fromEntries(packages.map(({ name, version }) => [name, version]).sort());
writeFileSync(file, `${JSON.stringify(manifest, null, 2)}\n`);
