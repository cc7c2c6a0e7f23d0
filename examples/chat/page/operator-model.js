// What `GET /health/ready` tells an operator, put in the order in which a person asks: is it well, what does it need,
// what does it promise, what runs out, what went wrong.

import { count, elapsed } from './format.js';

const WORDS = { pass: 'well', warn: 'look', fail: 'failing' };
const RANK = { fail: 0, warn: 1, pass: 2 };

/** `{ status, words, dependencies, breakers, certificates, levels, resources, failures, alerts }` of an answer. */
export function overview(document) {
  const lines = Object.entries(document.checks ?? {}).flatMap(([name, checks]) =>
    checks.map((check) => {
      const cut = name.lastIndexOf(':');
      return { ...check, subject: name.slice(0, cut), what: name.slice(cut + 1) };
    }),
  );
  const of = (what, row) => lines.filter((line) => line.what === what).map(row).sort(worstFirst);
  const draining = lines.some((line) => line.what === 'draining');
  return {
    status: document.status,
    words: draining ? 'This node is shutting down.' : wholeWords(document.status),
    dependencies: of('responseTime', dependency),
    breakers: of('breaker', breaker),
    certificates: of('certificate', certificate),
    levels: of('serviceLevel', level),
    resources: of('utilization', resource),
    failures: (document.failures ?? []).map(failure),
    alerts: [...(document.alerts ?? [])].reverse().map(alert),
  };
}

function wholeWords(status) {
  return {
    pass: 'This node is well.',
    warn: 'This node serves, and someone should look.',
    fail: 'This node cannot serve.',
  }[status] ?? 'This node says nothing about itself.';
}

function worstFirst(one, other) {
  return (RANK[one.status] ?? 3) - (RANK[other.status] ?? 3) || one.name.localeCompare(other.name);
}

function row(line, fields) {
  return { name: line.subject.replaceAll('_', ' '), status: line.status, state: WORDS[line.status] ?? line.status, note: line.output ?? '', ...fields };
}

function dependency(line) {
  return row(line, { value: elapsed(line.observedValue) });
}

function breaker(line) {
  const words = { closed: 'closed: calls go through', half_open: 'half open: a few calls try', open: 'open: calls are refused', forced_open: 'open by hand', disabled: 'off' };
  const peers = line.peers > 0 ? `, ${count(line.peers)} other ${line.peers === 1 ? 'node has' : 'nodes have'} trouble with it` : '';
  return row(line, { value: (words[line.observedValue] ?? String(line.observedValue)) + peers });
}

function certificate(line) {
  const days = line.observedValue;
  const value = days === null || days === undefined ? 'unknown' : `${count(days)} ${days === 1 ? 'day' : 'days'} left`;
  return row(line, { value });
}

function level(line) {
  const names = { completion: 'runs completed', first_event: 'first event in time', answer: 'answer in time' };
  const alerts = { page: 'page', ticket: 'ticket' };
  return row(line, {
    name: names[line.subject] ?? line.subject,
    value: line.runs === 0 ? 'no runs' : percent(line.observedValue),
    objective: percent(line.objective),
    runs: count(line.runs ?? 0),
    burn: `${(line.burn ?? 0).toFixed(1)} times`,
    alert: alerts[line.alert] ?? 'none',
  });
}

function resource(line) {
  const known = typeof line.observedValue === 'number';
  return row(line, {
    value: known ? figure(line.observedValue) : 'unknown',
    limit: figure(line.limit ?? 0),
    share: known && line.limit > 0 ? Math.min(1, line.observedValue / line.limit) : 0,
    forecast: forecast(line.reaches),
  });
}

/** `full in about 2 h (8 times of 10 between 1 h and 4 h)`, and what it means that nothing is said. */
export function forecast(reaches) {
  if (!reaches) return 'no trend towards its limit';
  const latest = reaches.latest_s === null || reaches.latest_s === undefined ? 'further than can be seen' : span(reaches.latest_s);
  return `full in about ${span(reaches.expected_s)} (8 times of 10 between ${span(reaches.earliest_s)} and ${latest})`;
}

/** Seconds in the one unit that a person would say. */
export function span(seconds) {
  const units = [[86_400, 'd'], [3_600, 'h'], [60, 'min']];
  const [size, unit] = units.find(([size]) => seconds >= 2 * size) ?? [60, 'min'];
  return `${count(Math.round(seconds / size))} ${unit}`;
}

function failure(group) {
  return {
    name: group.dependency ? `${group.operation} (${group.dependency})` : group.operation,
    code: group.kind,
    message: group.message,
    count: count(group.count),
    users: count(group.users),
    first: group.first,
    last: group.last,
    correlation: group.correlation ?? '',
  };
}

function alert(told) {
  const many = told.failures > 1 ? `${count(told.failures)} times, ` : '';
  const users = told.users > 0 ? `${count(told.users)} ${told.users === 1 ? 'user' : 'users'} touched, ` : '';
  return {
    at: told.at,
    severity: told.severity,
    subject: told.subject,
    message: told.message,
    detail: `${many}${users}told ${told.number === 1 ? 'once' : `${count(told.number)} times`}`,
  };
}

function percent(share) {
  if (typeof share !== 'number') return 'unknown';
  // Never rounded up: 99.9995% is not all.
  return `${Math.floor(share * 100_000 + 1e-6) / 1_000}%`;
}

function figure(number) {
  return count(Math.round(number * 10) / 10);
}
