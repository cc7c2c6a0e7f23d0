import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bytes, cost, elapsed, progress, title } from '../../../examples/chat/page/format.js';
import { BOX, layout } from '../../../examples/chat/page/plan-layout.js';
import { RunModel } from '../../../examples/chat/page/run-model.js';

const AT = '2026-11-22T10:00:00.000Z';

function modelOf(...events) {
  const model = new RunModel();
  let seq = 0;
  for (const [type, data] of events) {
    const volatile = type === 'progress' || type === 'delta';
    model.apply({ type, data, at: AT, ...(volatile ? {} : { seq: (seq += 1) }) });
  }
  return model;
}

const STARTED = ['run_started', { request_id: 'q', state: 'queued', agents: [] }];
const STEP = ['agent_started', { step: 's1', agent: 'triage', purpose: 'read', attempt: 1 }];
const CALL = ['tool_executing', { step: 's1', agent: 'triage', call: 'c1', tool: 'look', arguments: { a: 1 } }];
const CALLED = ['tool_completed', { step: 's1', agent: 'triage', call: 'c1', tool: 'look', outcome: 'ok', elapsed_ms: 5, summary: 'seen' }];
const ENDED = ['agent_completed', { step: 's1', agent: 'triage', outcome: 'ok', elapsed_ms: 9, output: {}, usage: {}, models: [] }];

describe('a run as its events tell it', () => {
  test('steps, thoughts and calls stand where they belong', () => {
    const model = modelOf(STARTED, STEP, CALL, CALLED, ['agent_thinking', { step: 's1', agent: 'triage', note: 'hm' }]);
    assert.equal(model.state, 'running');
    assert.equal(model.current.agent, 'triage');
    assert.deepEqual(model.steps[0].items.map(({ seq, tool, note }) => [seq, tool ?? note]), [[3, 'look'], [5, 'hm']]);
  });

  test('a call and a step end once, and then nothing is under way', () => {
    const model = modelOf(STARTED, STEP, CALL, CALLED, ENDED);
    assert.deepEqual(model.steps[0].items.map(({ outcome, seq, endSeq }) => [outcome, seq, endSeq]), [['ok', 3, 4]]);
    assert.equal(model.steps[0].endSeq, 5);
    assert.equal(model.current, null);
  });

  test('a call that waits for a decision is there with its exact arguments until it is decided', () => {
    const asked = (approval, usd) => ['approval_requested', { step: 's1', approval, call: 'c1', tool: 'pay', arguments: { usd }, digest: `d${usd}`, expires_at: AT }];
    const model = modelOf(STARTED, STEP, asked('a', 5), asked('b', 6), ['approval_decided', { approval: 'a', decision: 'deny', by: null }]);
    assert.deepEqual(model.undecided.map(({ id, tool, digest, arguments: given }) => [id, tool, digest, given.usd]), [['b', 'pay', 'd6', 6]]);
    const [first] = model.approvals;
    assert.deepEqual([first.decision, first.lapsed, first.endSeq], ['deny', true, 5]);
    // What is left of a trimmed history names what waits.
    const { type: _, ...open } = { type: '', ...asked('c', 7)[1] };
    model.reset({ snapshot: { state: 'waiting', steps: [], open_calls: [], approvals: [open] } });
    assert.deepEqual(model.undecided.map(({ id, arguments: given }) => [id, given.usd]), [['c', 7]]);
    model.apply({ type: 'run_cancelled', seq: 9, at: AT, data: { elapsed_ms: 1, by: 'u' } });
    assert.deepEqual(model.undecided, [], 'nobody is asked after the end');
  });

  test('a budget is told in its units', () => {
    const model = modelOf(STARTED, ['budget_warning', { scope: 'run', used: { tokens: 800 }, limit: { tokens: 1000 } }]);
    assert.equal(model.notices[0].text, "Most of the run's budget is used: 800 tokens of 1000 tokens.");
    const day = { scope: 'user_day', used: { tokens: 800 }, limit: { tokens: 1000, renews_at: AT } };
    const warned = modelOf(STARTED, ['budget_warning', day]);
    assert.match(warned.notices[0].text, /^Most of your budget for today is used: 800 tokens of 1000 tokens; it renews on \d{4}-\d\d-\d\d\.$/);
  });

  test('the plan is known with what came of it, what it needs and what it cost', () => {
    const usage = (cost_usd) => ({ input_tokens: 90, cached_tokens: 0, output_tokens: 10, reasoning_tokens: 0, cost_usd });
    const ended = (step, agent, outcome, cost, plan) => ['agent_completed', { step, agent, outcome, elapsed_ms: 9, output: {}, usage: usage(cost), models: [], plan }];
    const begun = (step, agent, needs) => ['agent_started', { step, agent, purpose: '', attempt: 1, needs }];
    const plan = [{ agent: 'a', purpose: '', needs: [], optional: true }, { agent: 'b', purpose: '', needs: ['a'], optional: false }];
    const model = modelOf(['run_started', { request_id: 'q', state: 'running', agents: [], budget: { usd: '0.5', steps: 9, seconds: 60 } }],
      begun('s1', 'boss'), ended('s1', 'boss', 'ok', '0.1', plan),
      begun('s2', 'a'), CALL.with(1, { ...CALL[1], step: 's2' }), ended('s2', 'a', 'interrupted', '0.2'), begun('s3', 'a'));
    const shown = () => model.graph.map(({ agent, needs, by, optional, state, tries, calls, usage: { cost_usd: cost } }) => [agent, needs.join(), by, optional, state, tries, calls, cost]);
    assert.deepEqual(shown(), [
      ['boss', '', null, false, 'ok', 1, 0, '0.1'],
      ['a', '', 'boss', true, 'running', 2, 1, '0.2'],
      ['b', 'a', 'boss', false, 'planned', 0, 0, '0'],
    ]);
    assert.equal(model.usage.cost_usd, '0.3', 'exact: 0.1 and 0.2 are no doubles');
    assert.equal(model.budget.usd, '0.5');
    model.apply({ type: 'approval_requested', seq: 90, at: AT, data: { step: 's3', approval: 'x', call: 'c2', tool: 'pay', arguments: {}, digest: 'd', expires_at: AT } });
    assert.equal(model.graph[1].state, 'waiting');
    const [type, last] = ended('s3', 'a', 'ok', null);
    model.apply({ type, seq: 91, at: AT, data: last });
    assert.equal(model.usage.cost_usd, null, 'what has no price makes no sum');
    model.apply({ type: 'run_failed', seq: 92, at: AT, data: { elapsed_ms: 1, usage: usage('7'), error: { message: 'so' } } });
    assert.equal(model.usage.cost_usd, '7');
  });

  test('progress goes with its step and leaves no trace', () => {
    const going = modelOf(STARTED, STEP, ['progress', { step: 's1', done: 3, total: 9, unit: 'rows' }]);
    assert.deepEqual(going.steps[0].progress, { done: 3, total: 9, unit: 'rows' });
    const gone = modelOf(STARTED, STEP, ['progress', { step: 's1', done: 3, total: 9, unit: 'rows' }], ENDED);
    assert.equal(gone.steps[0].progress, null);
  });

  test('streamed text with a missing piece is not put together wrongly; offsets are bytes', () => {
    const model = modelOf(STARTED, STEP,
      ['delta', { step: 's1', offset: 0, text: 'Zürich' }],
      ['delta', { step: 's1', offset: 7, text: ' is' }],
      ['delta', { step: 's1', offset: 40, text: 'lost' }]);
    assert.equal(model.steps[0].text, 'Zürich is');
  });

  test('an answer that is taken back is gone, and the next one is shown from its beginning', () => {
    const model = modelOf(STARTED, STEP,
      ['delta', { step: 's1', offset: 0, text: 'half of an ans' }],
      ['answer_retracted', { step: 's1', reason: 'it broke off' }]);
    assert.equal(model.steps[0].text, '');
    for (const [offset, text] of [[14, 'wer'], [0, 'All of '], [7, 'another']]) {
      model.apply({ type: 'delta', at: AT, data: { step: 's1', offset, text } });
    }
    assert.equal(model.steps[0].text, 'All of another');
    assert.deepEqual(model.notices, [{ seq: 3, kind: 'warning', text: 'A first answer was taken back: it broke off' }]);
  });

  for (const [type, state] of [['run_completed', 'completed'], ['run_failed', 'failed'], ['run_cancelled', 'cancelled']]) {
    test(`${type} ends it as ${state}`, () => {
      const model = modelOf(STARTED, [type, { elapsed_ms: 7 }]);
      assert.deepEqual([model.ended, model.state, model.elapsedMs, model.endSeq], [true, state, 7, 2]);
    });
  }

  test('a type of a later version is shown, not dropped', () => {
    const model = modelOf(STARTED, ['agent_dreaming', {}]);
    assert.deepEqual(model.notices, [{ seq: 2, kind: 'other', text: 'agent dreaming' }]);
  });

  test('a reset brings what is left, and later events go on from there', () => {
    const model = modelOf(STARTED, STEP);
    model.reset({ snapshot: { state: 'running', steps: [{ step: 's1', agent: 'triage', outcome: 'ok' }, { step: 's2', agent: 'reporter' }], open_calls: [{ step: 's2', call: 'c4', tool: 'write' }] } });
    model.apply({ type: 'tool_completed', seq: 12, at: AT, data: { step: 's2', agent: 'reporter', call: 'c4', tool: 'write', outcome: 'ok', elapsed_ms: 1, summary: '' } });
    assert.deepEqual(model.steps.map(({ agent, outcome }) => [agent, outcome]), [['triage', 'ok'], ['reporter', null]]);
    assert.equal(model.steps[1].items[0].outcome, 'ok');
    assert.equal(model.trimmed, true);
  });
});

describe('the picture of a plan', () => {
  const step = (agent, needs = [], by = null) => ({ agent, needs, by });

  test('each step stands below all that it needs, and no two stand in one place', () => {
    const steps = [step('boss'), step('a', [], 'boss'), step('b', ['a'], 'boss'), step('c', ['a', 'b', 'gone'], 'boss'), step('d', ['a'], 'boss')];
    const { nodes, arrows, width, height } = layout(steps);
    assert.deepEqual(nodes.map(({ y }) => (y - 2) / (BOX.height + BOX.down)), [0, 1, 2, 3, 2]);
    assert.equal(new Set(nodes.map(({ x, y }) => `${x} ${y}`)).size, 5);
    assert.deepEqual(arrows.map(({ from, to, planned }) => [from, to, planned]), [[0, 1, true], [1, 2, false], [2, 3, false], [1, 4, false]]);
    assert.ok(nodes.every(({ x, y }) => x >= 0 && x + BOX.width <= width && y + BOX.height <= height));
  });

  test('needs in a circle, one step and none are drawn as well', () => {
    const { nodes, arrows } = layout([step('x', ['y']), step('y', ['x'])]);
    assert.ok(nodes.every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y)) && arrows.length === 2);
    assert.equal(layout([step('x')]).nodes.length, 1);
    assert.equal(layout([]).nodes.length, 0);
  });
});

describe('figures as people read them', () => {
  test('times, sizes, names and progress', () => {
    assert.deepEqual([95, 4_210, 59_949, 83_000].map(elapsed), ['95 ms', '4.2 s', '59.9 s', '1 min 23 s']);
    assert.deepEqual([999, 1_500, 2_000_000_000].map(bytes), ['999 B', '1.5 KB', '2.0 GB']);
    assert.deepEqual(['0', '0.00000001', '0.01234', '12.5', null].map(cost), ['$0', 'under $0.0001', '$0.0123', '$12.50', 'unpriced']);
    assert.equal(title('data_helper'), 'Data helper');
    assert.equal(progress({ done: 1_200_000, total: 4_000_000, unit: 'bytes' }), '1.2 MB of 4.0 MB');
    assert.equal(progress({ done: 12_000, total: null, unit: 'rows' }), '12,000 rows');
  });
});
