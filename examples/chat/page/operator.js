// The operator's page: what this node tells about itself, looked at every five seconds.

import { Api } from './api.js';
import { announce, byId, el, setText } from './dom.js';
import { when } from './format.js';
import { overview } from './operator-model.js';

const EVERY = 5_000;
/** The name that the development login makes an operator of. */
const OPERATOR = 'operator';

const api = new Api();
let timer = null;
let told = null; // the words that were last said aloud

byId('log-in').addEventListener('click', logIn);
document.addEventListener('visibilitychange', () => document.hidden || look());
window.addEventListener('storage', () => api.reload() && look());
look();

async function logIn() {
  setText(byId('login-error'), '');
  try {
    await api.logIn(OPERATOR);
    await look();
    byId('main').focus();
  } catch (error) {
    const closed = error.status === 404;
    setText(byId('login-error'), closed ? 'The development login is closed here: log in as your operators do.' : error.message);
  }
}

async function look() {
  clearTimeout(timer);
  timer = null;
  try {
    const answer = await api.health();
    if (answer.checks) show(overview(answer));
    else refuse();
    setText(byId('fresh'), `Seen at ${new Date().toLocaleTimeString('en-GB')}; looked at every 5 seconds.`);
  } catch (error) {
    whole('fail', 'This node does not answer.');
    setText(byId('fresh'), error.message);
  }
  if (!document.hidden) timer = setTimeout(look, EVERY);
}

function refuse() {
  byId('panels').hidden = true;
  byId('login').hidden = false;
  whole('unknown', 'How this node is doing');
}

function whole(status, words) {
  byId('whole').dataset.status = status;
  setText(byId('words'), words);
  if (told !== null && told !== words) announce(words);
  told = words;
}

function show(seen) {
  byId('login').hidden = true;
  byId('panels').hidden = false;
  whole(seen.status, seen.words);
  const panels = [
    panel('alerts', 'Alerts', seen.alerts, 'No alert so far.', [
      ['About', (row) => name(row.subject, row.message), true],
      ['How bad', (row) => state({ status: { warning: 'warn' }[row.severity] ?? 'fail', state: row.severity })],
      ['When', (row) => when(row.at)],
      ['How often', (row) => row.detail],
    ]),
    panel('dependencies', 'What it needs', seen.dependencies, 'Nothing is watched.', [
      ['Dependency', (row) => name(row.name, row.note), true],
      ['State', state],
      ['Answers in', (row) => row.value],
    ]),
    panel('breakers', 'Breakers', seen.breakers, 'No call stands behind a breaker.', [
      ['Dependency', (row) => name(row.name, row.note), true],
      ['State', state],
      ['Calls', (row) => row.value],
    ]),
    panel('levels', 'What it promises, over the last hour', seen.levels, 'Nothing is promised.', [
      ['Level', (row) => name(row.name, row.note), true],
      ['State', state],
      ['Was', (row) => row.value],
      ['Objective', (row) => row.objective],
      ['Runs', (row) => row.runs],
      ['Budget burns', (row) => row.burn],
      ['Alert', (row) => row.alert],
    ]),
    panel('resources', 'What runs out', seen.resources, 'Nothing is watched.', [
      ['Resource', (row) => name(row.name), true],
      ['State', state],
      ['In use', (row) => [`${row.value} of ${row.limit}`, meter(row)]],
      ['Forecast', (row) => row.forecast],
    ]),
    panel('certificates', 'Certificates', seen.certificates, 'No TLS endpoint is watched.', [
      ['Endpoint', (row) => name(row.name, row.note), true],
      ['State', state],
      ['Left', (row) => row.value],
    ]),
    panel('failures', 'What went wrong', seen.failures, 'Nothing so far.', [
      ['Doing', (row) => name(row.name, row.message), true],
      ['Code', (row) => el('code', {}, row.code)],
      ['Times', (row) => row.count],
      ['Users', (row) => row.users],
      ['Last', (row) => when(row.last)],
      ['Leads to the log', (row) => el('code', {}, row.correlation)],
    ]),
  ];
  byId('panels').replaceChildren(...panels);
}

/** A table of rows; columns are `[heading, cell of a row, whether it names the row]`. */
function panel(id, title, rows, none, columns) {
  const heading = el('h2', { id: `${id}-title` }, title);
  if (rows.length === 0) return el('section', { class: 'panel', id, 'aria-labelledby': heading.id }, heading, el('p', { class: 'hint' }, none));
  const cell = (row, [label, content, names]) => {
    const children = [content(row)].flat();
    return names ? el('th', { scope: 'row' }, ...children) : el('td', { 'data-label': label }, ...children);
  };
  const table = el('table', { 'aria-labelledby': heading.id },
    el('thead', {}, el('tr', {}, ...columns.map(([label]) => el('th', { scope: 'col' }, label)))),
    el('tbody', {}, ...rows.map((row) => el('tr', {}, ...columns.map((column) => cell(row, column))))));
  // What can be scrolled can be reached by the keyboard.
  return el('section', { class: 'panel', id, 'aria-labelledby': heading.id }, heading,
    el('div', { class: 'scroll', tabIndex: 0, role: 'group', 'aria-labelledby': heading.id }, table));
}

function name(text, note = '') {
  return [text, note ? el('span', { class: 'note-text' }, note) : null].filter(Boolean);
}

function state(row) {
  return el('span', { class: 'state', dataset: { status: row.status } }, row.state);
}

/** A bar beside a figure that says the same; drawn, for the page allows no styles of its own in its elements. */
function meter({ share, status }) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'meter');
  svg.setAttribute('viewBox', '0 0 100 8');
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  svg.dataset.status = status;
  const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  bar.setAttribute('width', String(100 * share));
  bar.setAttribute('height', '8');
  svg.append(bar);
  return svg;
}
