import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { forecast, overview, span } from '../../../examples/chat/page/operator-model.js';

const check = (status, observedValue, more = {}) => [{ status, observedValue, ...more }];

describe('what an operator is told', () => {
  test('the worst comes first, each under what it is about', () => {
    const seen = overview({
      status: 'warn',
      checks: {
        'runs:responseTime': check('pass', 3),
        'model openai:responseTime': check('warn', 1_200, { output: 'deadline_exceeded: too slow' }),
        'model openai:breaker': check('warn', 'open', { peers: 2 }),
        'listener:certificate': check('fail', 1),
        'postgres:certificate': check('warn', null, { output: 'it cannot be read' }),
      },
    });
    assert.equal(seen.words, 'This node serves, and someone should look.');
    assert.deepEqual(seen.dependencies.map(({ name, state, value, note }) => [name, state, value, note]), [
      ['model openai', 'look', '1.2 s', 'deadline_exceeded: too slow'],
      ['runs', 'well', '3 ms', ''],
    ]);
    assert.equal(seen.breakers[0].value, 'open: calls are refused, 2 other nodes have trouble with it');
    assert.deepEqual(seen.certificates.map(({ name, value }) => [name, value]), [['listener', '1 day left'], ['postgres', 'unknown']]);
  });

  test('levels say what was, what should be and how fast the budget burns', () => {
    const line = check('warn', 0.98765, { objective: 0.999, runs: 1_234, burn: 12.35, alert: 'page' });
    const quiet = check('pass', 1, { objective: 0.95, runs: 0, burn: 0, alert: null });
    const { levels } = overview({ status: 'warn', checks: { 'completion:serviceLevel': line, 'answer:serviceLevel': quiet } });
    assert.deepEqual(levels.map(({ name, value, objective, runs, burn, alert }) => [name, value, objective, runs, burn, alert]), [
      ['runs completed', '98.765%', '99.9%', '1,234', '12.3 times', 'page'],
      ['answer in time', 'no runs', '95%', '0', '0.0 times', 'none'],
    ]);
  });

  test('a forecast is told with its interval, and none is told as none', () => {
    assert.equal(forecast({ earliest_s: 3_600, expected_s: 9_000, latest_s: 500_000 }), 'full in about 3 h (8 times of 10 between 60 min and 6 d)');
    assert.equal(forecast({ earliest_s: 60, expected_s: 120, latest_s: null }), 'full in about 2 min (8 times of 10 between 1 min and further than can be seen)');
    assert.equal(forecast(null), 'no trend towards its limit');
    assert.deepEqual([30, 119, 7_199, 86_400 * 3].map(span), ['1 min', '2 min', '120 min', '3 d']);
    const { resources } = overview({ status: 'pass', checks: { 'disk_percent:utilization': check('pass', 41.25, { limit: 100 }), 'queue:utilization': check('pass', null, { limit: 10 }) } });
    assert.deepEqual(resources.map(({ name, value, limit, share }) => [name, value, limit, share]), [['disk percent', '41.3', '100', 0.4125], ['queue', 'unknown', '10', 0]]);
  });

  test('failures and alerts are those that were told, the latest alert first', () => {
    const seen = overview({
      status: 'fail',
      checks: {},
      failures: [{ operation: 'db.read', dependency: 'postgres', kind: 'unavailable', message: 'down', count: 1_000, users: 7, first: 'a', last: 'b' }],
      alerts: [
        { subject: 'postgres', severity: 'error', message: 'down', failures: 50, users: 7, number: 1, at: 'early' },
        { subject: 'disk_percent:utilization', severity: 'warning', message: 'reaches 100', number: 2, at: 'late' },
      ],
    });
    assert.deepEqual([seen.failures[0].name, seen.failures[0].count], ['db.read (postgres)', '1,000']);
    assert.deepEqual(seen.alerts.map(({ at, detail }) => [at, detail]), [['late', 'told 2 times'], ['early', '50 times, 7 users touched, told once']]);
  });

  test('an answer without details is no reason to fail', () => {
    const seen = overview({ status: 'fail', version: '1' });
    assert.equal(seen.words, 'This node cannot serve.');
    assert.deepEqual(seen.dependencies, []);
    assert.equal(overview({ status: 'fail', checks: { 'node:draining': check('fail', true) } }).words, 'This node is shutting down.');
  });
});
