// Where a question is written and its files are brought.

import { announce, byId, el, setText } from './dom.js';
import { bytes } from './format.js';

const QUESTION = 'Where does our LLM money go, and what could we save?';
const FOLLOW_UP = 'Ask a follow-up about the same files';

/** `onAsk({ text, files })` sends; when it throws, the words and files stay. */
export class Composer {
  #api;
  #onAsk;
  #files = []; // { name, size, file (its id, once uploaded), abort, element }
  #busy = false;

  constructor({ api, onAsk }) {
    this.#api = api;
    this.#onAsk = onAsk;
    this.text = byId('text');
    this.input = byId('file');
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.ask();
    });
    this.text.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.ask();
    });
    this.text.addEventListener('input', () => this.#fit());
    for (const id of ['attach', 'pick']) byId(id).addEventListener('click', () => this.input.click());
    this.input.addEventListener('change', () => {
      for (const file of this.input.files) this.add(file.name, file);
      this.input.value = '';
    });
    this.#acceptDrops();
  }

  focus() {
    this.text.focus();
  }

  /** Begins anew, in a conversation that has questions already or in a new one. */
  reset({ follows }) {
    this.#clearFiles();
    this.text.value = '';
    this.text.placeholder = follows ? FOLLOW_UP : QUESTION;
    this.#fit();
    this.#fail('');
    this.#refresh();
  }

  /** Uploads a file, to go with the next question; true when that worked. */
  async add(name, content) {
    this.#fail('');
    const abort = new AbortController();
    const entry = this.#attach({ name, abort });
    this.#refresh();
    try {
      const { file } = await this.#api.upload(name, content, {
        onProgress: (sent, total) => entry.progress(sent, total),
        signal: abort.signal,
      });
      entry.file = file;
      entry.done(bytes(content.size));
      announce(`${name} is uploaded`);
      if (this.text.value === '') this.focus();
      return true;
    } catch (error) {
      this.#remove(entry);
      if (error.name !== 'AbortError') this.#fail(`${name} could not be uploaded: ${error.message}`);
      return false;
    } finally {
      this.#refresh();
    }
  }

  /** Fetches the sample, uploads it and asks the usual question. */
  async trySample() {
    this.#fail('');
    const response = await fetch('/sample.csv').catch(() => null);
    if (!response?.ok) return this.#fail('The sample could not be loaded. Try again in a moment.');
    if (await this.add('sample.csv', await response.blob())) await this.ask(QUESTION);
  }

  async ask(question = this.text.value.trim() || (this.#files.length > 0 ? QUESTION : '')) {
    if (this.#busy) return;
    if (!question) {
      this.#fail('Write a question, or add a usage file.');
      this.focus();
      return;
    }
    if (this.#files.some(({ file }) => !file)) {
      this.#fail('A file is still on its way. Ask again when it is there.');
      return;
    }
    this.#fail('');
    this.#busy = true;
    this.#refresh();
    const written = this.text.value;
    this.text.value = '';
    this.#fit();
    try {
      await this.#onAsk({ text: question, files: this.#files.map(({ file, name }) => ({ file, name })) });
      this.#clearFiles();
      this.text.placeholder = FOLLOW_UP;
      this.#fit();
    } catch (error) {
      this.text.value = written || question;
      this.#fit();
      this.#fail(error.message);
    } finally {
      this.#busy = false;
      this.#refresh();
    }
  }

  #attach({ name, abort }) {
    const bar = el('progress', { max: 1, value: 0, 'aria-label': `Upload of ${name}` });
    const note = el('span', { class: 'hint' }, 'uploading…');
    const entry = { name, file: null, abort };
    entry.element = el('li', { class: 'attachment' },
      el('span', { class: 'file-name' }, name), note, bar,
      el('button', { type: 'button', class: 'remove', 'aria-label': `Remove ${name}`, onclick: () => this.#dismiss(entry) }, '×'));
    entry.progress = (sent, total) => {
      bar.value = total ? sent / total : 0;
      setText(note, `${bytes(sent)} of ${bytes(total)}`);
    };
    entry.done = (text) => {
      bar.remove();
      setText(note, text);
    };
    this.#files.push(entry);
    byId('attachments').append(entry.element);
    return entry;
  }

  #dismiss(entry) {
    entry.abort.abort();
    this.#remove(entry);
    announce(`${entry.name} is removed`);
    this.focus();
  }

  #clearFiles() {
    for (const { abort, element } of this.#files) {
      abort.abort(); // of no effect on one that is there already
      element.remove();
    }
    this.#files = [];
  }

  #remove(entry) {
    this.#files = this.#files.filter((other) => other !== entry);
    entry.element.remove();
  }

  #refresh() {
    const uploading = this.#files.some(({ file }) => !file);
    byId('send').disabled = this.#busy || uploading;
    byId('sample').disabled = this.#busy || uploading;
  }

  #fail(message) {
    setText(byId('composer-error'), message);
  }

  #fit() {
    this.text.style.height = 'auto';
    this.text.style.height = `${Math.min(this.text.scrollHeight, 200)}px`;
  }

  #acceptDrops() {
    const page = document.documentElement;
    const hasFiles = (event) => event.dataTransfer?.types.includes('Files') && !byId('chat').hidden;
    let depth = 0; // dragenter and dragleave come for every element on the way
    page.addEventListener('dragenter', (event) => {
      if (!hasFiles(event)) return;
      depth += 1;
      page.classList.add('dragging');
    });
    page.addEventListener('dragleave', (event) => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth - 1);
      page.classList.toggle('dragging', depth > 0);
    });
    page.addEventListener('dragover', (event) => event.preventDefault());
    page.addEventListener('drop', (event) => {
      event.preventDefault();
      depth = 0;
      page.classList.remove('dragging');
      if (hasFiles(event)) for (const file of event.dataTransfer.files) this.add(file.name, file);
    });
  }
}
