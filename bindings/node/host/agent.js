import { numbered } from './bridge.js';
import { AgentContext } from './context.js';
import { schemaOf } from './schema.js';
import { thenable } from './tool.js';
import { callable, encode, kind, text } from './values.js';

/** @typedef {import('../types/host.js').Schema} Schema */
/** @typedef {import('../types/host.js').Question} Question */
/** @typedef {import('../types/host.js').Made} Made */
/** @typedef {import('../types/wire.js').Payload} Payload */

/** What an agent takes that does not say so. */
const QUESTION = {
  type: 'object',
  properties: { text: { type: 'string' }, files: { type: 'array', items: { type: 'string' } } },
  required: ['text'],
};

/** @type {WeakMap<object, () => object>} */
const made = new WeakMap();

/** The user's answer, with what belongs to it. */
export class Answer {
  /**
   * @param {string} answer as Markdown
   * @param {{ artifacts?: Payload[], status?: 'answered' | 'insufficient_data' }} [options]
   */
  constructor(answer, { artifacts = [], status = 'answered' } = {}) {
    this.text = text(answer, 'an answer');
    this.artifacts = artifacts;
    this.status = status;
  }
}

/** The steps that follow; those whose needs are met run side by side. */
export class Plan {
  /**
   * @param {import('../types/host.js').NewStep[]} steps
   * @param {{ question?: string }} [options] the request in words that stand for themselves, for the steps to work on
   */
  constructor(steps, { question } = {}) {
    if (!Array.isArray(steps)) throw new TypeError(`a plan has an array of steps, not ${kind(steps)}`);
    this.steps = steps.map(({ agent, purpose = '', needs = [], optional = false }) => ({ agent: text(agent, 'the agent of a step'), purpose, needs, optional }));
    this.question = question;
  }
}

/**
 * An agent that is a function. Text that it returns is the user's answer, and so is an `Answer`; a `Plan` says which
 * steps follow; any other value is handed on to the steps that need it.
 *
 * @example
 * agent('hello', 'Greets.', ({ text }, { call }) => call('shout', { word: text }))
 *
 * @template {Schema} [S=import('../types/host.js').StandardSchema<Question>]
 * @param {string} name 1 to 64 of `a-z`, `0-9`, `_` and `-`
 * @param {string} purpose what it is for, in a sentence that users read
 * @param {(input: import('../types/host.js').Parsed<S>, context: AgentContext) => Made | PromiseLike<Made>} work
 * @param {import('../types/host.js').AgentOptions<S>} [options]
 * @returns {import('../types/host.js').Agent}
 */
export function agent(name, purpose, work, options = {}) {
  const { input, output, deadlineMs, triggers = [] } = options;
  const what = `agent ${text(name, 'the name of an agent')}`;
  text(purpose, `the purpose of ${what}`);
  callable(work, `the work of ${what}`);
  const { json, parse } = input === undefined ? { json: QUESTION, parse: null } : schemaOf(input, `the input of ${what}`);
  const makes = typeof output === 'string' ? output : output === undefined ? 'any' : { schema: schemaOf(output, `the output of ${what}`).json };
  const spec = { name, purpose, input: json, output: makes, deadline_ms: deadlineMs ?? null, triggers };
  encode(spec, what);

  const agent = Object.freeze({ name });
  made.set(agent, () => ({
    spec,
    work: numbered(({ input }, called) => {
      const context = new AgentContext(called);
      const parsed = parse ? parse(input) : input;
      const came = thenable(parsed) ? parsed.then((value) => work(value, context)) : work(/** @type {any} */ (parsed), context);
      const done = (/** @type {unknown} */ result) => encode(formOf(result), `what ${what} returned`);
      return thenable(came) ? Promise.resolve(came).then(done) : done(came);
    }),
  }));
  return agent;
}

/**
 * What the addon is told of an agent, with numbers for its functions.
 *
 * @param {unknown} agent
 */
export function toldAgent(agent) {
  const told = made.get(/** @type {object} */ (agent));
  if (!told) throw new TypeError('each of `agents` has to be made by agent(…)');
  return told();
}

/** @param {unknown} result */
function formOf(result) {
  if (typeof result === 'string') return { text: result };
  if (result instanceof Answer) return { result };
  if (result instanceof Plan) return { plan: result };
  // What JSON has no word for is found by its own name.
  return { value: result === undefined ? null : result };
}
