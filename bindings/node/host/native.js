// Finds and loads the addon of this platform: one beside this package's files (built from a checkout), else the package
// that has the one of this platform.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { ApexError } from '../client/error.js';

const require = createRequire(import.meta.url);

/** The name of this platform, as npm packages of addons have it: `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`. */
export function platform() {
  const { platform, arch } = process;
  if (platform === 'win32') return `win32-${arch}-msvc`;
  if (platform !== 'linux') return `${platform}-${arch}`;
  const report = /** @type {{ header?: { glibcVersionRuntime?: string } }} */ (process.report?.getReport() ?? {});
  return `linux-${arch}-${report.header?.glibcVersionRuntime ? 'gnu' : 'musl'}`;
}

/**
 * The addon.
 *
 * @returns {import('../types/native.js').Addon}
 */
export function load() {
  const name = platform();
  const own = fileURLToPath(new URL(`../addon/apex.${name}.node`, import.meta.url));
  const from = existsSync(own) ? own : `netra-apex-${name}`;
  try {
    return require(from);
  } catch (cause) {
    const advice = `Build it from a checkout of Apex: npm install "$(bindings/node/archive)"`;
    throw new ApexError({ code: 'unavailable', message: `there is no addon for ${name} in this installation. ${advice}`, cause });
  }
}
