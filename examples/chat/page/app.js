// The page: who is logged in, which conversation is open, and how the connection is.

import { Api } from './api.js';
import { connect } from './client/index.js';
import { Composer } from './composer.js';
import { announce, byId, el, setText } from './dom.js';
import { RunView } from './run-view.js';
import { ThreadList } from './threads.js';

const api = new Api();
const threads = new ThreadList({ api });
const composer = new Composer({ api, onAsk: ask });

let client = null;
let thread = null; // the conversation that is open; null for a new one
let runs = new Map(); // run -> RunView, of the open conversation
let opening = 0; // grows with each conversation that is opened, so that late answers for an earlier one are known
let catchingUp = null; // the timer of a look for runs that were begun elsewhere
let pinned = true; // whether the page follows the end of the conversation
let unloaded = null; // the conversation that could not be loaded, to be tried again when the connection is back

start();

function start() {
  byId('login-form').addEventListener('submit', logIn);
  byId('log-out').addEventListener('click', () => logOut());
  byId('new').addEventListener('click', () => go(null));
  byId('sample').addEventListener('click', () => composer.trySample());
  byId('menu').addEventListener('click', () => toggleMenu());
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && byId('menu').ariaExpanded === 'true') {
      toggleMenu(false);
      byId('menu').focus();
    }
  });
  window.addEventListener('hashchange', () => api.login && open(threadInAddress()));
  window.addEventListener('online', () => client?.wake());
  window.addEventListener('offline', () => client?.wake());
  document.addEventListener('visibilitychange', () => document.hidden || client?.wake());
  window.addEventListener('storage', () => api.reload() && location.reload()); // another tab logged in or out
  followTheEnd();
  if (api.login) enter();
  else showLogin();
}

// ---- login ----

async function logIn(event) {
  event.preventDefault();
  setText(byId('login-error'), '');
  const user = byId('user').value.trim();
  try {
    await api.logIn(user);
    enter();
    composer.focus();
  } catch (error) {
    const closed = error.status === 404;
    setText(byId('login-error'), closed ? 'The development login is closed: this server does not run as development.' : error.message);
  }
}

async function logOut() {
  client?.close();
  client = null;
  await api.logOut();
  history.replaceState(null, '', location.pathname);
  threads.clear();
  leave();
  showLogin();
  byId('user').focus();
}

function showLogin(message = '') {
  for (const id of ['chat', 'threads', 'account', 'menu', 'connection']) byId(id).hidden = true;
  byId('login').hidden = false;
  setText(byId('login-error'), message);
}

function enter() {
  byId('login').hidden = true;
  for (const id of ['chat', 'threads', 'account', 'menu', 'connection']) byId(id).hidden = false;
  setText(byId('who'), api.login.user);
  byId('operator').hidden = api.login.user !== 'operator'; // whom the development login makes an operator
  goOnline();
  threads.refresh();
  open(threadInAddress());
}

// ---- connection ----

function goOnline() {
  client = connect({ url: location.origin, ticket: (wish) => api.ticket(wish), storage: sessionStorage, onState: showConnection });
  client.inbox().listen({ onEvent: noteRun, onReset: noteLatest });
}

function showConnection({ name, error, retryInMs }) {
  if (name === 'closed') for (const view of runs.values()) view.close();
  if (name === 'closed' && error.code === 'unauthenticated') {
    api.forget();
    client = null;
    threads.clear();
    leave();
    showLogin('Your login has ended. Log in again to go on: nothing is lost.');
    return;
  }
  const status = byId('connection');
  const again = name === 'waiting' || (name === 'connecting' && client?.welcome);
  const offline = again && !navigator.onLine;
  const [state, words, label, act] = {
    connecting: ['connecting', 'Connecting…'],
    open: ['connected', 'Connected'],
    again: ['reconnecting', 'Reconnecting…', retryInMs > 3_000 ? 'Try now' : null, () => client.wake()],
    offline: ['offline', 'Offline. It goes on when the network is back.'],
    closed: ['stopped', error?.message, 'Connect', comeBack],
  }[offline ? 'offline' : again ? 'again' : name];
  status.dataset.state = state;
  // Said once, not at each try.
  if (status.firstChild?.textContent !== words) status.replaceChildren(el('span', {}, words));
  status.querySelector('button')?.remove();
  if (label) status.append(el('button', { type: 'button', class: 'quiet', onclick: act }, label));
  if (name === 'open' && unloaded) open(unloaded);
}

/** After the end of a connection for good: a new one, and with it what was shown. */
function comeBack() {
  goOnline();
  const id = thread;
  thread = null;
  if (id) open(id);
}

/** The inbox tells what begins, waits and ends, also what was begun in another tab. */
function noteRun(entry) {
  threads.note(entry);
  if (entry.thread !== thread || runs.has(entry.run)) return;
  // A little later: entries come in numbers, and this page may be about to show the run by itself.
  catchingUp ??= setTimeout(() => {
    catchingUp = null;
    if (thread !== null) open(thread, { keep: true });
  }, 150);
}

/** An inbox that was trimmed does not begin at its beginning: what is under way is among its last entries. */
async function noteLatest({ epoch, head }) {
  threads.refreshSoon();
  const { entries } = await api.inbox(epoch, Math.max(0, head - 200)).catch(() => ({ entries: [] }));
  entries.forEach(noteRun);
}

// ---- conversations ----

function threadInAddress() {
  return /^#\/t\/([0-9a-f-]{36})$/.exec(location.hash)?.[1] ?? null;
}

function go(id) {
  toggleMenu(false);
  if (threadInAddress() === id) open(id);
  else location.hash = id ? `#/t/${id}` : '#/';
  composer.focus();
}

/** Shows a conversation; with `keep`, only adds what is new in it. */
async function open(id, { keep = false } = {}) {
  if (id !== null && id === thread && !keep) return;
  const turn = keep ? opening : ++opening;
  if (!keep) {
    toggleMenu(false);
    leave();
    thread = id;
    threads.open = id;
    byId('welcome').hidden = id !== null;
    byId('conversation').hidden = id === null;
    byId('conversation').ariaBusy = String(id !== null);
    composer.reset({ follows: id !== null });
  }
  if (id === null) return;
  try {
    const [{ messages, title }, names] = await Promise.all([wholeThread(id), fileNames()]);
    if (turn !== opening) return;
    setText(byId('title'), title || 'Conversation');
    document.title = `${title || 'Conversation'} · Apex`;
    for (const message of messages.filter(({ role }) => role === 'user')) {
      if (runs.has(message.run)) continue;
      const files = message.attachments.map((file) => ({ file, name: names.get(file) ?? 'a file' }));
      const answer = messages.find(({ run, role }) => run === message.run && role === 'assistant');
      addTurn({ run: message.run, text: message.text, files, fallback: answer?.text }).follow(client.follow(message.run));
    }
    if (!keep) showLastTurn();
  } catch (error) {
    if (turn === opening && !keep) cannotLoad(id, error);
  } finally {
    if (turn === opening) byId('conversation').ariaBusy = 'false';
  }
}

function cannotLoad(id, error) {
  thread = null;
  if (error.retryable) unloaded = id;
  byId('turns').append(
    el('div', { class: 'callout failed', role: 'alert' },
      el('strong', {}, error.status === 404 ? 'There is no such conversation' : 'The conversation could not be loaded'),
      el('p', {}, error.retryable ? 'It is loaded as soon as the server answers again.' : 'It may have been deleted, or belong to another login.')));
}

async function wholeThread(id) {
  const first = await api.thread(id);
  const messages = [...first.messages.items];
  for (let { next } = first.messages; next; ) {
    const page = await api.thread(id, next);
    messages.push(...page.messages.items);
    next = page.messages.next;
  }
  return { ...first, messages };
}

async function fileNames() {
  const files = await api.files().catch(() => []); // names are a comfort, not a need
  return new Map((files.items ?? files).map(({ file, name }) => [file, name]));
}

function leave() {
  unloaded = null;
  thread = null;
  for (const view of runs.values()) view.close();
  runs = new Map();
  byId('turns').replaceChildren();
  setText(byId('title'), 'Conversation');
  document.title = 'Apex: where does your LLM money go?';
}

async function ask({ text, files }) {
  const turn = opening;
  const answer = client.ask(text, { thread, attachments: files.map(({ file }) => file) });
  const sent = await answer.accepted;
  if (turn !== opening) {
    answer.close(); // another conversation was opened meanwhile; this one is in the list
    return;
  }
  thread = sent.thread;
  threads.open = thread;
  threads.refreshSoon();
  history.replaceState(null, '', `#/t/${thread}`);
  byId('welcome').hidden = true;
  byId('conversation').hidden = false;
  // The inbox may have told of the run before: then it is on the page already.
  const view = runs.get(sent.run) ?? addTurn({ run: sent.run, text, files });
  view.live().follow(answer);
  announce('Your question is sent');
  showLastTurn();
  pinned = true;
}

/** Adds a question and the view of its run to the page; gives the view. */
function addTurn({ run, text, files, fallback }) {
  const view = new RunView({
    run,
    api,
    fallback,
    onCancel: () => client.cancel(run),
    onDecide: ({ id, digest }, decision) => api.decide(run, id, digest, decision),
    onEnd: () => pinned && showLastTurn(),
  });
  runs.set(run, view);
  byId('turns').append(
    el('article', { class: 'question', 'aria-label': 'Your question' },
      el('p', {}, text),
      files.length > 0 ? el('ul', { class: 'files', 'aria-label': 'Files' }, ...files.map(({ name }) => el('li', {}, name))) : null),
    view.element);
  return view;
}

// ---- scrolling ----

/** Keeps the newest step in sight while a run is at work, until the reader scrolls back. */
function followTheEnd() {
  const main = byId('main');
  let top = 0;
  main.addEventListener('scroll', () => {
    const atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 60;
    if (atEnd) pinned = true;
    else if (main.scrollTop < top) pinned = false;
    top = main.scrollTop;
  });
  new ResizeObserver(() => {
    const atWork = [...runs.values()].some((view) => !view.ended);
    if (pinned && atWork) main.scrollTop = main.scrollHeight;
  }).observe(byId('turns'));
}

/** Brings the last question, and with it the beginning of its answer, to the top. */
function showLastTurn() {
  byId('turns').lastElementChild?.previousElementSibling?.scrollIntoView({ block: 'start' });
}

function toggleMenu(show = byId('menu').ariaExpanded !== 'true') {
  byId('menu').ariaExpanded = String(show);
  document.documentElement.classList.toggle('menu-open', show);
  if (show) byId('new').focus();
}
