// The list of the user's conversations, and which of them are at work.

import { byId, el } from './dom.js';
import { when } from './format.js';

const ACTIVE = new Set(['queued', 'running', 'waiting', 'cancelling']);

export class ThreadList {
  #api;
  #threads = []; // the user's, the one last written to first
  #next = null;
  #active = new Map(); // run -> { thread, state }, of those that have not ended
  #open = null;
  #loading = null;

  constructor({ api }) {
    this.#api = api;
    byId('more-threads').addEventListener('click', () => this.#more());
  }

  /** Which conversation the page shows; null for a new one. */
  set open(thread) {
    this.#open = thread;
    this.#render();
  }

  /** Takes an entry of the inbox. */
  note({ run, thread, state }) {
    if (ACTIVE.has(state)) this.#active.set(run, { thread, state });
    else this.#active.delete(run);
    this.refreshSoon();
  }

  clear() {
    this.#threads = [];
    this.#next = null;
    this.#active.clear();
    this.#render();
  }

  /** Loads the newest again, a little later: what happens at once is one request. */
  refreshSoon() {
    this.#loading ??= setTimeout(() => {
      this.#loading = null;
      this.refresh();
    }, 150);
  }

  async refresh() {
    const page = await this.#api.threads().catch(() => null); // the connection's state tells why
    if (!page) return;
    const known = new Set(page.items.map(({ thread }) => thread));
    const older = this.#threads.filter(({ thread }) => !known.has(thread));
    // What was paged in stays; without older pages the answer is the whole truth.
    this.#threads = page.next ? [...page.items, ...older] : page.items;
    if (older.length === 0 || !page.next) this.#next = page.next ?? null;
    this.#render();
  }

  async #more() {
    const page = await this.#api.threads(this.#next).catch(() => null);
    if (!page) return;
    this.#threads.push(...page.items.filter(({ thread }) => !this.#threads.some((t) => t.thread === thread)));
    this.#next = page.next ?? null;
    this.#render();
  }

  #render() {
    const atWork = new Set([...this.#active.values()].map(({ thread }) => thread));
    byId('thread-list').replaceChildren(
      ...this.#threads.map(({ thread, title, updated_at }) =>
        el('li', {},
          el('a', { href: `#/t/${thread}`, 'aria-current': thread === this.#open ? 'page' : null, dataset: { thread } },
            el('span', { class: 'thread-title' }, title || 'Untitled'),
            atWork.has(thread)
              ? el('span', { class: 'at-work' }, 'at work')
              : el('span', { class: 'thread-when' }, when(updated_at))))));
    byId('more-threads').hidden = this.#next === null;
    this.#renderBanner(atWork);
  }

  /** On the start page: what is going on elsewhere, so that a new tab leads there. */
  #renderBanner(atWork) {
    const banner = byId('running');
    const running = this.#threads.find(({ thread }) => atWork.has(thread));
    banner.hidden = !running;
    if (running) {
      banner.replaceChildren('An analysis is running: ', el('a', { href: `#/t/${running.thread}` }, running.title || 'open it'));
    }
  }
}
