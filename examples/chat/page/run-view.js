// One run on the page: its steps as they happen, and what came of it.

import { announce, el, setText } from './dom.js';
import { count, elapsed, progress as progressText, title } from './format.js';
import { inline, markdown } from './markdown.js';
import { PlanView, stepCost } from './plan-view.js';
import { reportView } from './report-view.js';
import { RunModel } from './run-model.js';

const OUTCOME = {
  ok: 'done',
  error: 'failed',
  timeout: 'took too long',
  cancelled: 'cancelled',
  skipped: 'skipped',
  interrupted: 'interrupted',
};

export class RunView {
  #model = new RunModel();
  #api;
  #steps = new Map(); // step (the model's object) -> its elements
  #approvals = new Map(); // approval (the model's object) -> its elements
  #notices = 0;
  #stream = null;
  #pending = null;
  #ticker = null;
  #quietUpTo = Infinity; // events up to here are history, and not announced
  #shownEnd = false;

  /**
   * `onCancel()` asks for the run's end, `onDecide(approval, decision)` decides on a call, `onEnd()` is told when the end is shown; `fallback` is the answer as the
   * conversation keeps it.
   */
  constructor({ run, api, onCancel, onDecide, onEnd, fallback = null }) {
    this.run = run;
    this.onDecide = onDecide;
    this.#api = api;
    this.onEnd = onEnd;
    this.fallback = fallback;
    this.heading = el('span', { class: 'run-heading' });
    this.clock = el('span', { class: 'run-clock' });
    this.cancel = el('button', { type: 'button', class: 'cancel', onclick: () => this.#askCancel(onCancel) }, 'Cancel');
    this.list = el('ol', { class: 'steps' });
    this.notices = el('ul', { class: 'notices' });
    this.details = el('details', { class: 'work', open: true }, el('summary', {}, this.heading, this.clock), this.list, this.notices);
    this.plan = new PlanView();
    this.approvals = el('div', { class: 'approvals' });
    this.answer = el('div', { class: 'answer' });
    this.element = el('article', { class: 'run', dataset: { run }, 'aria-label': 'Answer' },
      el('div', { class: 'work-box' }, this.details, this.cancel, this.plan.element),
      this.approvals,
      this.answer);
    this.#render();
  }

  get ended() {
    return this.#model.ended;
  }

  /** Follows the run, from its start. */
  follow(stream) {
    this.#stream?.close();
    this.#stream = stream;
    this.#model.clear();
    this.#clear();
    stream.listen({
      onEvent: (envelope) => this.#onEvent(envelope),
      onReset: (frame) => {
        this.#model.reset(frame);
        this.#clear();
        this.#later();
      },
      onState: ({ head }) => (this.#quietUpTo = Math.min(this.#quietUpTo, head)),
      onEnd: (error) => error && this.#lost(error),
    });
    return this;
  }

  /** All that comes is new: the run was started from here. */
  live() {
    this.#quietUpTo = 0;
    return this;
  }

  /** The page shows something else now. */
  close() {
    this.#stream?.close();
    clearTimeout(this.#pending);
    clearInterval(this.#ticker);
  }

  #onEvent(envelope) {
    this.#model.apply(envelope);
    if (envelope.seq > this.#quietUpTo) this.#announce(envelope);
    this.#later();
  }

  #announce({ type, data }) {
    if (type === 'agent_started') announce(`${title(data.agent)} started`);
    else if (type === 'approval_requested') announce(`A decision is needed: may ${data.tool} be called?`);
    else if (type === 'run_completed') {
      announce(data.result.status === 'answered' ? 'The answer is ready' : 'More data is needed. The answer says which.');
    } else if (type === 'run_failed') announce(`The run failed: ${data.error.message}`);
    else if (type === 'run_cancelled') announce('The run was cancelled');
  }

  async #askCancel(onCancel) {
    this.cancel.disabled = true;
    setText(this.cancel, 'Cancelling…');
    try {
      await onCancel();
    } catch (error) {
      announce(`It could not be cancelled: ${error.message}`);
      this.cancel.disabled = false;
      setText(this.cancel, 'Cancel');
    }
  }

  #lost(error) {
    const gone = error.code === 'not_found';
    if (gone && this.fallback) {
      // The history of an old run may be gone; its answer stays with the conversation.
      this.#model.state = 'completed';
      this.#model.result = { status: 'answered', text: this.fallback, artifacts: [] };
    } else {
      this.#model.state = 'failed';
      this.#model.error = { message: gone ? 'The details of this run are no longer kept.' : error.message };
    }
    this.#later();
  }

  // Events come in bursts; the page changes at most once in a frame's time, also in a tab that is not seen.
  #later() {
    this.#pending ??= setTimeout(() => {
      this.#pending = null;
      this.#render();
    }, 16);
  }

  #clear() {
    this.#steps.clear();
    this.#approvals.clear();
    this.#notices = 0;
    this.approvals.replaceChildren();
    this.list.replaceChildren();
    this.notices.replaceChildren();
  }

  #render() {
    const model = this.#model;
    for (const step of model.steps) this.#renderStep(step);
    for (const approval of model.approvals) this.#renderApproval(approval);
    for (; this.#notices < model.notices.length; this.#notices += 1) {
      const { seq, kind, text } = model.notices[this.#notices];
      this.notices.append(el('li', { class: kind, dataset: { seq: seq ?? '' } }, text));
    }
    this.element.dataset.state = model.state;
    if (model.seq) this.element.dataset.seq = model.seq;
    this.element.ariaBusy = String(!model.ended);
    this.#renderHeading();
    if (model.ended) this.#renderEnd();
    else this.#ticker ??= setInterval(() => this.#renderHeading(), 1_000);
  }

  #renderHeading() {
    const model = this.#model;
    const { steps } = model;
    let heading = 'Waiting for a place';
    if (model.ended) {
      const calls = steps.flatMap(({ items }) => items).filter(({ tool }) => tool).length;
      const how = { completed: 'Worked out in', failed: 'Stopped by an error after', cancelled: 'Cancelled after' }[model.state];
      heading = `${how} ${plural(steps.length, 'step')}${calls ? `, ${plural(calls, 'tool call')}` : ''}`;
    } else if (model.undecided.length > 0) {
      heading = 'Waiting for your decision';
    } else if (model.state !== 'queued') {
      heading = model.current ? `${title(model.current.agent)} is at work` : 'Working';
    }
    setText(this.heading, heading);
    const ms = model.elapsedMs ?? (model.startedAt && !model.ended ? Math.max(0, Date.now() - model.startedAt) : null);
    setText(this.clock, model.ended || ms === null ? elapsed(ms) : `${Math.floor(ms / 1_000)} s`);
    for (const step of steps) if (step.outcome === null) this.#renderStepClock(step);
    this.plan.render(model);
  }

  #renderStep(step) {
    let view = this.#steps.get(step);
    if (!view) {
      view = this.#makeStep(step);
      this.#steps.set(step, view);
      this.list.append(view.element);
    }
    for (const item of step.items) this.#renderItem(view, item);
    this.#renderProgress(view, step.progress);
    setText(view.text, step.text);
    view.text.hidden = step.text === '';
    view.element.dataset.outcome = step.outcome ?? 'running';
    if (step.endSeq) view.element.dataset.endSeq = step.endSeq;
    setText(view.outcome, step.outcome ? OUTCOME[step.outcome] : 'at work');
    setText(view.cost, stepCost(step.usage));
    if (step.error) {
      setText(view.error, step.error);
      view.error.hidden = false;
    }
    this.#renderStepClock(step);
  }

  #makeStep(step) {
    const view = {
      items: new Map(), // item (the model's object) -> its elements
      outcome: el('span', { class: 'sr' }),
      cost: el('span', { class: 'step-cost' }),
      clock: el('span', { class: 'clock' }),
      body: el('div', { class: 'step-body' }),
      text: el('p', { class: 'streaming', hidden: true }),
      error: el('p', { class: 'error', hidden: true }),
      bar: null,
    };
    view.element = el('li', { class: 'step', dataset: { seq: step.seq ?? '', step: step.id } },
      el('div', { class: 'step-head' },
        el('span', { class: 'dot', 'aria-hidden': 'true' }),
        el('strong', { class: 'agent' }, title(step.agent)),
        el('span', { class: 'purpose' }, step.purpose),
        view.outcome,
        view.cost,
        view.clock),
      view.body, view.text, view.error);
    return view;
  }

  #renderItem(view, item) {
    let shown = view.items.get(item);
    if (!shown) {
      shown = item.tool ? makeCall(item) : { element: el('div', { class: 'note', dataset: { seq: item.seq } }, markdown(item.note)) };
      view.items.set(item, shown);
      view.body.append(shown.element);
    }
    if (!item.tool) return;
    if (item.endSeq) shown.element.dataset.endSeq = item.endSeq;
    shown.element.dataset.outcome = item.outcome ?? 'running';
    setText(shown.state, item.outcome ? `${OUTCOME[item.outcome]} · ${elapsed(item.elapsedMs)}` : 'running…');
    setText(shown.summary, item.summary);
  }

  #renderApproval(approval) {
    let view = this.#approvals.get(approval);
    if (!view) {
      view = this.#makeApproval(approval);
      this.#approvals.set(approval, view);
      this.approvals.append(view.element);
    }
    if (approval.endSeq) view.element.dataset.endSeq = approval.endSeq;
    const open = this.#model.undecided.includes(approval);
    view.element.dataset.decision = approval.decision ?? (open ? 'open' : 'over');
    const said = { approve: 'Approved.', deny: approval.lapsed ? 'Not approved: nobody decided in time.' : 'Denied. It was not called.' };
    setText(view.said, open ? '' : (said[approval.decision] ?? 'The run ended before a decision.'));
    if (!open) view.choice.remove();
  }

  #makeApproval(approval) {
    const said = el('p', { class: 'said', role: 'status' });
    const decide = (decision) => () => this.#decide(approval, decision, choice, said);
    const choice = el('div', { class: 'row' },
      el('button', { type: 'button', class: 'approve', onclick: decide('approve') }, 'Approve'),
      el('button', { type: 'button', class: 'deny', onclick: decide('deny') }, 'Deny'),
      el('span', { class: 'hint' }, `until ${new Date(approval.expiresAt).toLocaleString()}`));
    const given = JSON.stringify(approval.arguments ?? null, null, 2);
    const element = el('section', { class: 'approval callout', 'aria-label': 'A decision is needed', dataset: { seq: approval.seq ?? '', approval: approval.id } },
      el('strong', {}, 'May ', el('code', {}, approval.tool), ' be called with exactly this?'),
      el('pre', { tabIndex: 0 }, given), choice, said);
    return { element, choice, said };
  }

  async #decide(approval, decision, choice, said) {
    const buttons = choice.querySelectorAll('button');
    for (const button of buttons) button.disabled = true;
    try {
      await this.onDecide(approval, decision);
    } catch (error) {
      setText(said, `It was not recorded: ${error.message}`);
      for (const button of buttons) button.disabled = false;
    }
  }

  #renderProgress(view, progress) {
    if (!progress) {
      view.bar?.element.remove();
      view.bar = null;
      return;
    }
    if (!view.bar) {
      const bar = el('progress', { max: 1, 'aria-label': 'Progress of this step' });
      const text = el('span', { class: 'progress-text' });
      view.bar = { bar, text, element: el('div', { class: 'progress' }, bar, text) };
      view.element.append(view.bar.element);
    }
    if (progress.total) view.bar.bar.value = Math.min(1, progress.done / progress.total);
    else view.bar.bar.removeAttribute('value');
    setText(view.bar.text, progressText(progress));
  }

  #renderStepClock(step) {
    const view = this.#steps.get(step);
    if (!view) return;
    if (step.outcome !== null) setText(view.clock, elapsed(step.elapsedMs));
    else if (step.startedAt) {
      const seconds = Math.floor((Date.now() - step.startedAt) / 1_000);
      setText(view.clock, seconds >= 1 ? `${seconds} s` : '');
    }
  }

  #renderEnd() {
    clearInterval(this.#ticker);
    this.#ticker = null;
    if (this.#shownEnd) return;
    this.#shownEnd = true;
    const model = this.#model;
    const hadFocus = document.activeElement === this.cancel;
    this.cancel.remove();
    if (hadFocus) this.details.querySelector('summary').focus();
    // The answer comes first now; who reads in the steps is left in peace.
    if (model.state === 'completed' && !this.details.contains(document.activeElement)) this.details.open = false;
    if (model.endSeq) this.answer.dataset.seq = model.endSeq;
    this.answer.append(...this.#ending());
    this.onEnd();
  }

  #ending() {
    const { state, result, error, degraded, trimmed } = this.#model;
    if (state === 'cancelled') return [callout('cancelled', 'Cancelled', 'The run was stopped. Nothing more will happen in it.')];
    if (state === 'failed') {
      const reference = error?.correlation ? ` Reference: ${error.correlation}` : '';
      return [callout('failed', 'This did not work', `${error?.message ?? 'The run ended with an error.'}${reference}`)];
    }
    const parts = [];
    if (result?.status === 'insufficient_data') parts.push(el('p', { class: 'callout insufficient' }, el('strong', {}, 'More data is needed to answer this.')));
    if (result) parts.push(el('div', { class: 'prose' }, markdown(result.text)));
    if (result?.artifacts.some(({ name }) => name.startsWith('report.'))) parts.push(reportView(this.#api, this.run));
    if (trimmed) parts.push(el('p', { class: 'hint' }, 'The details of the steps are no longer kept.'));
    if (degraded.length > 0) {
      parts.push(el('div', { class: 'limits' }, el('strong', {}, 'Not done in full'),
        el('ul', {}, ...degraded.map((what) => inline(what, el('li'))))));
    }
    return parts;
  }
}

function makeCall(call) {
  const given = JSON.stringify(call.arguments ?? null, null, 2);
  const [state, summary] = [el('span', { class: 'call-state' }), el('span', { class: 'call-summary' })];
  const element = el('div', { class: 'call', dataset: { seq: call.seq ?? '', call: call.id } },
    el('div', { class: 'call-line' }, el('code', {}, call.tool), state, summary),
    ['null', '{}'].includes(given) ? null
      : el('details', { class: 'arguments' }, el('summary', {}, 'Arguments'), el('pre', { tabIndex: 0 }, given)));
  return { element, state, summary };
}

function callout(kind, heading, text) {
  return el('div', { class: `callout ${kind}` }, el('strong', {}, heading), el('p', {}, text));
}

function plural(number, what) {
  return `${count(number)} ${what}${number === 1 ? '' : 's'}`;
}
