// A run as its events tell it: plain data, without a page.

const TERMINAL_STATE = { run_completed: 'completed', run_failed: 'failed', run_cancelled: 'cancelled' };

/** Whose budget a warning is about. */
const BUDGETS = { run: "the run's budget", user_day: 'your budget for today', user_month: 'your budget for this month' };

export class RunModel {
  constructor() {
    this.clear();
  }

  clear() {
    this.seq = null;
    this.endSeq = null;
    this.state = 'queued';
    this.startedAt = null;
    this.elapsedMs = null;
    this.steps = []; // { id, agent, purpose, attempt, startedAt, items, progress, text, outcome, … }; items are notes and calls in order
    this.approvals = []; // { seq, id, tool, arguments, digest, expiresAt, decision, lapsed }: calls that somebody decides on
    this.notices = []; // { seq, kind, text }: what belongs to the run as a whole
    this.budget = null; // { tokens?, usd?, steps, seconds }: what the run may use
    this.plan = new Map(); // agent -> { agent, needs, optional, by }, in the order in which they were planned or began
    this.total = null; // what the run used of models, once it has ended
    this.result = null;
    this.error = null;
    this.degraded = [];
    this.trimmed = false;
  }

  get ended() {
    return ['completed', 'failed', 'cancelled'].includes(this.state);
  }

  /** The step under way, if any. */
  get current() {
    return this.steps.findLast((step) => step.outcome === null) ?? null;
  }

  /** Goes on by one envelope. */
  apply({ type, seq = null, at, data }) {
    switch (type) {
      case 'run_started':
        this.seq = seq;
        this.state = data.state;
        this.startedAt = Date.parse(at);
        this.budget = data.budget ?? null;
        break;
      case 'agent_started':
        this.state = 'running';
        this.#planned({ agent: data.agent, needs: data.needs });
        this.#open(data.step, data.agent, { seq, at, purpose: data.purpose, attempt: data.attempt });
        break;
      case 'agent_thinking':
        this.#step(data).items.push({ seq, note: data.note });
        break;
      case 'tool_executing':
        this.#step(data).items.push({
          seq,
          endSeq: null,
          id: data.call,
          tool: data.tool,
          arguments: data.arguments,
          outcome: null,
          elapsedMs: null,
          summary: '',
        });
        break;
      case 'tool_completed': {
        const call = this.#step(data).items.find(({ id }) => id === data.call);
        if (call) {
          Object.assign(call, { endSeq: seq, outcome: data.outcome, elapsedMs: data.elapsed_ms, summary: data.summary });
        }
        break;
      }
      case 'agent_completed':
        Object.assign(this.#step(data), {
          endSeq: seq,
          outcome: data.outcome,
          elapsedMs: data.elapsed_ms,
          error: data.outcome === 'error' ? errorText(data.output) : null,
          usage: data.usage ?? null,
          progress: null,
          text: '',
        });
        for (const step of data.plan ?? []) this.#planned({ ...step, by: data.agent });
        break;
      case 'progress':
        this.#step(data).progress = { done: data.done, total: data.total ?? null, unit: data.unit };
        break;
      case 'delta': {
        // A piece may be missing: then the text so far stands, and the whole comes with the end of the step.
        const step = this.#step(data);
        if (data.offset === step.textBytes) {
          step.text += data.text;
          step.textBytes += new TextEncoder().encode(data.text).length;
        }
        break;
      }
      case 'approval_requested':
        this.state = 'waiting';
        this.#ask({ seq, ...data });
        break;
      case 'approval_decided': {
        this.state = 'running';
        const asked = this.approvals.find(({ id }) => id === data.approval);
        if (asked) Object.assign(asked, { endSeq: seq, decision: data.decision, lapsed: data.by === null });
        break;
      }
      case 'run_resumed':
        this.state = 'running';
        this.#notice(seq, 'resumed', `The work was interrupted and goes on (attempt ${data.attempt}).`);
        break;
      case 'budget_warning':
        this.#notice(seq, 'warning', `Most of ${BUDGETS[data.scope] ?? 'a budget'} is used: ${amount(data.used)} of ${amount(data.limit)}.`);
        break;
      case 'answer_retracted':
        Object.assign(this.#step(data), { text: '', textBytes: 0 });
        this.#notice(seq, 'warning', `A first answer was taken back: ${data.reason}`);
        break;
      default:
        if (TERMINAL_STATE[type]) this.#end(TERMINAL_STATE[type], seq, data);
        else if (seq !== null) this.#notice(seq, 'other', type.replaceAll('_', ' '));
    }
  }

  /** Begins anew from what is left of a history that was trimmed. */
  reset({ snapshot }) {
    const { startedAt, budget } = this;
    this.clear();
    Object.assign(this, { startedAt, budget });
    this.trimmed = true;
    this.state = snapshot.state;
    for (const { step, agent, outcome = null } of snapshot.steps) {
      this.#planned({ agent });
      this.#open(step, agent, { outcome });
    }
    for (const { step, call, tool } of snapshot.open_calls) {
      this.#step({ step }).items.push({ seq: null, endSeq: null, id: call, tool, outcome: null, summary: '' });
    }
    for (const asked of snapshot.approvals ?? []) this.#ask({ seq: null, ...asked });
    this.result = snapshot.result ?? null;
  }

  /** What the run used of models: all of it once it has ended, what its finished steps used before. */
  get usage() {
    return this.total ?? this.steps.reduce((sum, { usage }) => plus(sum, usage), NOTHING);
  }

  /**
   * The plan with what came of it: `{ agent, needs, optional, by, state, elapsedMs, usage, tries, calls }` for each
   * step, in an order in which none comes before what it needs began. `state` is that of its last try, or `planned`.
   */
  get graph() {
    return [...this.plan.values()].map((planned) => {
      const tries = this.steps.filter(({ agent }) => agent === planned.agent);
      const last = tries.at(-1);
      const waits = this.undecided.some(({ step }) => tries.some(({ id }) => id === step));
      return {
        ...planned,
        state: last ? (last.outcome ?? (waits ? 'waiting' : 'running')) : 'planned',
        elapsedMs: last?.elapsedMs ?? null,
        usage: tries.reduce((sum, { usage }) => plus(sum, usage), NOTHING),
        tries: tries.length,
        calls: tries.flatMap(({ items }) => items).filter(({ tool }) => tool).length,
      };
    });
  }

  /** The calls that wait for a decision. */
  get undecided() {
    return this.ended ? [] : this.approvals.filter(({ decision }) => decision === null);
  }

  #ask({ seq, step, approval, tool, arguments: given, digest, expires_at }) {
    const expiresAt = Date.parse(expires_at);
    this.approvals.push({ seq, endSeq: null, id: approval, step, tool, arguments: given, digest, expiresAt, decision: null, lapsed: false });
  }

  #end(state, seq, data) {
    this.state = state;
    this.endSeq = seq;
    this.elapsedMs = data.elapsed_ms;
    this.total = data.usage ?? null;
    this.degraded = data.degraded ?? [];
    this.result = data.result ?? null;
    this.error = data.error ?? null;
  }

  #open(id, agent, { seq = null, at = null, purpose = '', attempt = 1, outcome = null }) {
    const step = { id, agent, seq, purpose, attempt, outcome, startedAt: at && Date.parse(at) };
    Object.assign(step, { endSeq: null, elapsedMs: null, error: null, progress: null, usage: null, text: '', textBytes: 0, items: [] });
    this.steps.push(step);
    return step;
  }

  /** The step that an event belongs to; after a trimmed history it may be one that was not seen to begin. */
  #step({ step: id, agent = '' }) {
    return this.steps.findLast((step) => step.id === id) ?? this.#open(id, agent, {});
  }

  #planned({ agent, needs = [], optional, by }) {
    const known = this.plan.get(agent);
    this.plan.set(agent, { agent, needs, optional: optional ?? known?.optional ?? false, by: by ?? known?.by ?? null });
  }

  #notice(seq, kind, text) {
    this.notices.push({ seq, kind, text });
  }
}

/** No use at all: it cost nothing. */
const NOTHING = { input_tokens: 0, output_tokens: 0, cost_usd: '0' };

/** Both together; without a cost where one of them has none. */
function plus(one, other) {
  if (!other) return one;
  const unpriced = one.cost_usd === null || other.cost_usd === null;
  return {
    input_tokens: one.input_tokens + other.input_tokens,
    output_tokens: one.output_tokens + other.output_tokens,
    cost_usd: unpriced ? null : dollars(one.cost_usd, other.cost_usd),
  };
}

/** Sums of exact decimals stay exact: no two costs are added as doubles. */
function dollars(one, other) {
  const units = (text) => {
    const [whole, part = ''] = String(text).split('.');
    return BigInt(whole + part.padEnd(24, '0').slice(0, 24));
  };
  const sum = (units(one) + units(other)).toString().padStart(25, '0');
  return `${sum.slice(0, -24)}.${sum.slice(-24)}`.replace(/\.?0+$/, '');
}

/** Such as `80000 tokens` of `{ tokens: 80000 }`. */
function amount(value) {
  if (typeof value !== 'object' || value === null) return String(value);
  const { renews_at: renewed, ...units } = value;
  const renews = renewed ? `; it renews on ${renewed.slice(0, 10)}` : '';
  return Object.entries(units).map(([unit, number]) => (unit === 'usd' ? `$${number}` : `${number} ${unit}`)).join(', ') + renews;
}

function errorText(output) {
  if (typeof output === 'string') return output;
  return output?.message ?? output?.error?.message ?? 'It could not be completed.';
}
