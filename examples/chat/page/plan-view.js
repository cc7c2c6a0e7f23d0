// What a run may use and has used, and the picture of its plan.

import { el, setText, svg } from './dom.js';
import { cost, count, elapsed, title } from './format.js';
import { BOX, layout } from './plan-layout.js';

const STATE = {
  planned: 'planned',
  running: 'at work',
  waiting: 'waits for you',
  ok: 'done',
  error: 'failed',
  cancelled: 'cancelled',
  skipped: 'skipped',
  interrupted: 'interrupted',
};

export class PlanView {
  #drawn = ''; // what the picture shows, to be drawn again only when it is something else

  constructor() {
    this.heading = el('span', { class: 'plan-heading' }, 'Plan and cost');
    this.cost = el('span', { class: 'plan-cost' });
    this.uses = el('ul', { class: 'uses', 'aria-label': 'What the run has used' });
    this.picture = el('div', { class: 'picture', tabIndex: 0, role: 'group', 'aria-label': 'The plan' });
    this.element = el('details', { class: 'plan', hidden: true },
      el('summary', {}, this.heading, this.cost), this.uses, this.picture);
    this.element.addEventListener('toggle', () => this.render(this.model));
  }

  render(model) {
    this.model = model;
    const steps = model.graph;
    this.element.hidden = steps.length === 0;
    if (steps.length === 0) return;
    const done = steps.filter(({ state }) => state === 'ok').length;
    setText(this.heading, `Plan: ${count(done)} of ${count(steps.length)} ${steps.length === 1 ? 'step' : 'steps'} done`);
    setText(this.cost, spent(model.usage));
    if (!this.element.open) return;
    this.#renderUses(model);
    const shows = JSON.stringify(steps);
    if (shows === this.#drawn) return;
    this.#drawn = shows;
    this.picture.replaceChildren(picture(steps));
  }

  #renderUses({ budget, usage, steps, startedAt, elapsedMs }) {
    const atWork = Math.floor((Date.now() - (startedAt ?? Date.now())) / 1_000);
    const seconds = elapsedMs === null ? Math.max(0, atWork) : elapsedMs / 1_000;
    const uses = [
      ['Cost', usage.cost_usd, budget?.usd, cost],
      ['Tokens', usage.input_tokens + usage.output_tokens, budget?.tokens, count],
      ['Steps', steps.length, budget?.steps, count],
      ['Time', seconds, budget?.seconds, (value) => elapsed(value * 1_000)],
    ];
    const lines = uses.map(([what, used, limit, say]) => {
      const text = limit === undefined || limit === null ? say(used) : `${say(used)} of ${say(limit)}`;
      return `${what}: ${text}`;
    });
    if (lines.join() === this.lines) return;
    this.lines = lines.join();
    this.uses.replaceChildren(...uses.map(([what, used, limit], place) => el('li', {}, lines[place],
      limit ? el('meter', { 'aria-label': `${what} used`, min: 0, max: Number(limit), high: Number(limit) * 0.8, value: Number(used ?? 0) }) : null)));
  }
}

/** What models cost; nothing where none was asked. */
function spent({ input_tokens: input, output_tokens: output, cost_usd: usd }) {
  return input + output === 0 && Number(usd) === 0 ? 'no model used' : cost(usd);
}

/** The cost of a step; nothing where it asked no model. */
export function stepCost(usage) {
  if (!usage || (usage.input_tokens + usage.output_tokens === 0 && Number(usage.cost_usd) === 0 && usage.cost_usd !== null)) return '';
  return cost(usage.cost_usd);
}

function picture(steps) {
  const { width, height, nodes, arrows } = layout(steps);
  const told = steps.map((step) => {
    const after = step.needs.length > 0 ? `, after ${step.needs.map(title).join(', ')}` : '';
    return `${title(step.agent)}: ${words(step).join(', ')}${after}.`;
  });
  const drawing = svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': told.join(' ') });
  for (const { from, to, planned } of arrows) drawing.append(arrow(nodes[from], nodes[to], planned));
  for (const { step, x, y } of nodes) drawing.append(box(step, x, y));
  return drawing;
}

function words(step) {
  return [
    STATE[step.state],
    step.tries > 1 ? `${step.tries} tries` : '',
    step.elapsedMs === null ? '' : elapsed(step.elapsedMs),
    stepCost(step.usage),
  ].filter((word) => word !== '');
}

function box(step, x, y) {
  const calls = step.calls === 0 ? '' : `${count(step.calls)} tool call${step.calls === 1 ? '' : 's'}`;
  const shown = title(step.agent);
  return svg('g', { class: 'plan-step', 'data-state': step.state, 'data-agent': step.agent, transform: `translate(${x} ${y})` },
    svg('rect', { width: BOX.width, height: BOX.height, rx: 10 }),
    text(12, 20, 'plan-agent', shown.length > 20 ? `${shown.slice(0, 19)}…` : shown),
    text(12, 36, 'plan-words', words(step).join(' · ')),
    text(12, 50, 'plan-words', calls));
}

function text(x, y, name, content) {
  return svg('text', { x, y, class: name }, content);
}

/** From the foot of one step to the head of another; a straight line with a head, bent where they stand apart. */
function arrow(from, to, planned) {
  const [x1, y1] = [from.x + BOX.width / 2, from.y + BOX.height];
  const [x2, y2] = [to.x + BOX.width / 2, to.y - 1];
  const middle = y1 + (y2 - y1) / 2;
  return svg('g', { class: planned ? 'plan-arrow planned' : 'plan-arrow' },
    svg('path', { d: `M${x1} ${y1} C${x1} ${middle} ${x2} ${middle} ${x2} ${y2 - 5}` }),
    svg('polygon', { points: `${x2 - 4},${y2 - 7} ${x2 + 4},${y2 - 7} ${x2},${y2}` }));
}
