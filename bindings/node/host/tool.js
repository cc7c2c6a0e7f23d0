import { numbered } from './bridge.js';
import { ToolContext } from './context.js';
import { schemaOf } from './schema.js';
import { callable, encode, text } from './values.js';

/** @typedef {import('../types/host.js').Schema} Schema */
/** @typedef {import('./bridge.js').Called} Called */

/** @type {WeakMap<object, () => object>} */
const made = new WeakMap();

/**
 * A tool that is a function.
 *
 * @example
 * tool('shout', 'Louder.', z.object({ word: z.string() }), ({ word }) => `${word}!`)
 *
 * @template {Schema} S
 * @param {string} name 1 to 64 of `a-z`, `0-9`, `_` and `-`
 * @param {string} description what it does, in a sentence for users and models
 * @param {S} args the schema of its arguments; a call that does not fit never reaches the function
 * @param {(args: import('../types/host.js').Parsed<S>, context: ToolContext) => unknown} work gives the result, or a promise of it
 * @param {import('../types/host.js').ToolOptions<import('../types/host.js').Parsed<S>>} [options]
 * @returns {import('../types/host.js').Tool}
 */
export function tool(name, description, args, work, options = {}) {
  const { effect = 'once', timeoutMs, needsApproval = false, lookUp } = options;
  const what = `tool ${text(name, 'the name of a tool')}`;
  text(description, `the description of ${what}`);
  callable(work, `the work of ${what}`);
  if (lookUp !== undefined) callable(lookUp, `lookUp of ${what}`);
  if (typeof needsApproval !== 'boolean') callable(needsApproval, `needsApproval of ${what}`);
  const { json, parse } = schemaOf(args, `the arguments of ${what}`);
  const spec = { name, description, arguments: json, effect, timeout_ms: timeoutMs ?? null };
  encode(spec, what);

  /** @type {(fn: (args: any, context: ToolContext) => unknown) => Called} */
  const called = (fn) => ({ input }, work) => {
    const context = new ToolContext(work);
    const parsed = parse ? parse(input) : input;
    const came = thenable(parsed) ? parsed.then((value) => fn(value, context)) : fn(parsed, context);
    const done = (/** @type {unknown} */ result) => encode(result, `what ${what} returned`);
    return thenable(came) ? Promise.resolve(came).then(done) : done(came);
  };

  const tool = Object.freeze({ name });
  made.set(tool, () => ({
    spec,
    work: numbered(called(work)),
    approval: typeof needsApproval === 'function' ? numbered(({ input }) => encode(needsApproval(input) !== false, what)) : needsApproval,
    look_up: lookUp ? numbered(called(lookUp)) : null,
  }));
  return tool;
}

/**
 * What the addon is told of a tool, with numbers for its functions.
 *
 * @param {unknown} tool
 */
export function toldTool(tool) {
  const told = made.get(/** @type {object} */ (tool));
  if (!told) throw new TypeError('each of `tools` has to be made by tool(…)');
  return told();
}

/**
 * @param {unknown} value
 * @returns {value is PromiseLike<any>}
 */
export function thenable(value) {
  return typeof value === 'object' && value !== null && typeof (/** @type {any} */ (value).then) === 'function';
}
