// Values on their way to Rust: JSON, or a TypeError that says which value has none and where it is.

import { ApexError } from '../client/error.js';

/** The longest JSON of one value, in UTF-16 units. */
const LONGEST = 64 * 1024 * 1024;

/** `null` may have been a number that JSON does not know; `\ud8` to `\udf` are halves of a pair. */
const SUSPECT = /null|\\ud[89a-f]/;

const LONE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

/**
 * A value as JSON. `undefined` is `null`, as for a function that returns nothing.
 *
 * @param {unknown} value
 * @param {string} what what it is, for the error
 * @returns {string}
 */
export function encode(value, what) {
  if (value === undefined) return 'null';
  let json;
  try {
    json = JSON.stringify(value);
  } catch (error) {
    // BigInt, a circle, a value as deep as the stack, one whose `toJSON` or getter throws.
    throw new TypeError(`${what} cannot be made JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  if (json === undefined) throw new TypeError(`${what} is a ${typeof value}, which JSON does not have`);
  if (json.length > LONGEST) {
    throw new ApexError({ code: 'too_large', kind: 'request', message: `${what} is ${json.length} characters of JSON; ${LONGEST} are the most` });
  }
  if (SUSPECT.test(json)) examine(value, what);
  return json;
}

/**
 * Throws for what JSON would silently change: numbers that are none, and text that is no Unicode.
 *
 * @param {unknown} value
 * @param {string} what
 */
function examine(value, what) {
  JSON.stringify(value, function (key, inner) {
    const where = key === '' ? what : `${what} has at ${JSON.stringify(key)}`;
    const is = key === '' ? 'is' : '';
    if (typeof inner === 'number' && !Number.isFinite(inner)) throw new TypeError(`${[where, is, String(inner)].filter(Boolean).join(' ')}, which JSON does not have`);
    if (typeof inner === 'string' && LONE.test(inner)) throw new TypeError(`${where} ${is ? 'is ' : ''}text with half of a surrogate pair`);
    if (LONE.test(key)) throw new TypeError(`${what} has a name with half of a surrogate pair`);
    return inner;
  });
}

/**
 * Text, checked.
 *
 * @param {unknown} value
 * @param {string} what
 * @returns {string}
 */
export function text(value, what) {
  if (typeof value !== 'string') throw new TypeError(`${what} has to be a string, not ${kind(value)}`);
  if (LONE.test(value)) throw new TypeError(`${what} is text with half of a surrogate pair`);
  return value;
}

/**
 * A function, checked.
 *
 * @template {Function} F
 * @param {F} value
 * @param {string} what
 * @returns {F}
 */
export function callable(value, what) {
  if (typeof value !== 'function') throw new TypeError(`${what} has to be a function, not ${kind(value)}`);
  return value;
}

/**
 * What a value is, for errors.
 *
 * @param {unknown} value
 */
export function kind(value) {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : value === undefined ? 'undefined' : `a value of type ${typeof value}`;
}
