import { json, plain, request } from './bridge.js';
import { bytes } from './context.js';
import { kind, text } from './values.js';
import { fileURLToPath } from 'node:url';

/** @typedef {import('../types/native.js').Handle} Handle */
/** @typedef {import('../types/host.js').UsageFile} UsageFile */
/** @typedef {import('../types/wire.js').Report} Report */

/** What usage files say: every figure computed, and computed a second way before it is given. */
export class Analysis {
  #handle;

  /**
   * @param {string} json
   * @param {Handle} handle
   */
  constructor(json, handle) {
    this.#handle = handle;
    /** As JSON. */
    this.json = json;
    /** As values: money is text, so that it stays exact. */
    this.report = /** @type {Report} */ (JSON.parse(json));
  }

  /**
   * As Markdown.
   *
   * @returns {Promise<string>}
   */
  markdown() {
    return request('markdown', { on: this.#handle, read: plain });
  }

  /**
   * As a page that loads nothing.
   *
   * @returns {Promise<string>}
   */
  html() {
    return request('html', { on: this.#handle, read: plain });
  }

  /**
   * In a few sentences, as Markdown.
   *
   * @returns {Promise<string>}
   */
  summary() {
    return request('summary', { on: this.#handle, read: plain });
  }
}

/**
 * Analyses usage files, on a thread of its own.
 *
 * @param {UsageFile | UsageFile[]} files
 * @param {{ contract?: string, signal?: AbortSignal }} [options] prices that hold instead of the list's, as text of `contract.toml`
 * @returns {Promise<Analysis>}
 */
export async function analyse(files, { contract, signal } = {}) {
  const { names, contents } = told(files);
  const args = { files: names, contract: contract ?? null, look: false };
  return request('analyse', { args, bytes: contents, read: (json, handle) => new Analysis(json, handle), signal });
}

/**
 * A cheap look at the beginning of usage files: what they are, and what is missing.
 *
 * @param {UsageFile | UsageFile[]} files
 * @returns {Promise<import('../types/host.js').Inspection[]>}
 */
export async function look(files) {
  const { names, contents } = told(files);
  return request('analyse', { args: { files: names, contract: null, look: true }, bytes: contents, read: json });
}

/**
 * A small usage file of our own, with a few problems planted in it: `usage.csv`, to try things with.
 *
 * @returns {Promise<Uint8Array>}
 */
export function sample() {
  return request('sample', { read: plain });
}

/** @param {UsageFile | UsageFile[]} files */
function told(files) {
  /** @type {Uint8Array[]} */
  const contents = [];
  const names = (Array.isArray(files) ? files : [files]).map((file) => {
    if (typeof file === 'string') return { path: text(file, 'the path') };
    if (file instanceof URL) return { path: fileURLToPath(file) };
    if (typeof file !== 'object' || file === null) throw new TypeError(`a usage file is a path, or has a name and content; this is ${kind(file)}`);
    contents.push(bytes(file.content));
    return { name: text(file.name, 'the name of a usage file') };
  });
  return { names, contents };
}
