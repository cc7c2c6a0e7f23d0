// JSON Schemas, given as such or as the schema of a library that knows Standard JSON Schema: zod from 4.2, and others.

import { ApexError } from '../client/error.js';
import { kind } from './values.js';

/** @typedef {import('../types/host.js').Schema} Schema */

const TARGET = 'draft-2020-12';

/**
 * The JSON Schema, and what brings a value that fits it into the form that the host's function expects.
 *
 * @param {Schema | undefined} schema
 * @param {string} what what it is the schema of, for errors
 * @returns {{ json: unknown, parse: ((value: unknown) => unknown) | null }}
 */
export function schemaOf(schema, what) {
  if (schema === undefined) return { json: true, parse: null };
  if (typeof schema === 'boolean') return { json: schema, parse: null };
  if (schema === null || (typeof schema !== 'object' && typeof schema !== 'function') || Array.isArray(schema)) {
    throw new TypeError(`the schema of ${what} has to be a JSON Schema or a schema of zod's, not ${kind(schema)}`);
  }
  const standard = /** @type {any} */ (schema)['~standard'];
  if (standard === undefined) return { json: schema, parse: null };
  if (typeof standard?.jsonSchema?.input !== 'function') {
    throw new TypeError(`the schema of ${what} is one of ${standard?.vendor}'s that cannot be made a JSON Schema: zod can from 4.2 on`);
  }
  let json;
  try {
    json = standard.jsonSchema.input({ target: TARGET });
  } catch (cause) {
    throw new TypeError(`the schema of ${what} has no JSON Schema: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
  return { json, parse: (value) => parsed(standard.validate(value), what) };
}

/**
 * @param {any} result of a Standard Schema's `validate`
 * @param {string} what
 * @returns {unknown}
 */
function parsed(result, what) {
  if (typeof result?.then === 'function') return result.then((/** @type {unknown} */ result) => parsed(result, what));
  if (!result.issues) return result.value;
  const issues = result.issues.map((/** @type {any} */ issue) => {
    const path = (issue.path ?? []).map((/** @type {any} */ part) => part?.key ?? part).join('.');
    return path ? `${path}: ${issue.message}` : issue.message;
  });
  throw new ApexError({ code: 'bad_arguments', kind: 'run', message: `${what} do not fit: ${issues.join('; ')}` });
}
