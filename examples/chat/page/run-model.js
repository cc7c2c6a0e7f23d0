// A run as its events tell it: plain data, without a page.

const TERMINAL_STATE = { run_completed: 'completed', run_failed: 'failed', run_cancelled: 'cancelled' };

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
        break;
      case 'agent_started':
        this.state = 'running';
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
          progress: null,
          text: '',
        });
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
        this.#notice(seq, 'warning', `Most of the ${data.scope}'s budget is used: ${amount(data.used)} of ${amount(data.limit)}.`);
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
    const { startedAt } = this;
    this.clear();
    this.startedAt = startedAt;
    this.trimmed = true;
    this.state = snapshot.state;
    for (const { step, agent, outcome = null } of snapshot.steps) this.#open(step, agent, { outcome });
    for (const { step, call, tool } of snapshot.open_calls) {
      this.#step({ step }).items.push({ seq: null, endSeq: null, id: call, tool, outcome: null, summary: '' });
    }
    for (const asked of snapshot.approvals ?? []) this.#ask({ seq: null, ...asked });
    this.result = snapshot.result ?? null;
  }

  /** The calls that wait for a decision. */
  get undecided() {
    return this.ended ? [] : this.approvals.filter(({ decision }) => decision === null);
  }

  #ask({ seq, approval, tool, arguments: given, digest, expires_at }) {
    const expiresAt = Date.parse(expires_at);
    this.approvals.push({ seq, endSeq: null, id: approval, tool, arguments: given, digest, expiresAt, decision: null, lapsed: false });
  }

  #end(state, seq, data) {
    this.state = state;
    this.endSeq = seq;
    this.elapsedMs = data.elapsed_ms;
    this.degraded = data.degraded ?? [];
    this.result = data.result ?? null;
    this.error = data.error ?? null;
  }

  #open(id, agent, { seq = null, at = null, purpose = '', attempt = 1, outcome = null }) {
    const step = { id, agent, seq, purpose, attempt, outcome, startedAt: at && Date.parse(at) };
    Object.assign(step, { endSeq: null, elapsedMs: null, error: null, progress: null, text: '', textBytes: 0, items: [] });
    this.steps.push(step);
    return step;
  }

  /** The step that an event belongs to; after a trimmed history it may be one that was not seen to begin. */
  #step({ step: id, agent = '' }) {
    return this.steps.findLast((step) => step.id === id) ?? this.#open(id, agent, {});
  }

  #notice(seq, kind, text) {
    this.notices.push({ seq, kind, text });
  }
}

/** Such as `80000 tokens` of `{ tokens: 80000 }`. */
function amount(value) {
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value).map(([unit, number]) => (unit === 'usd' ? `$${number}` : `${number} ${unit}`)).join(', ');
}

function errorText(output) {
  if (typeof output === 'string') return output;
  return output?.message ?? output?.error?.message ?? 'It could not be completed.';
}
