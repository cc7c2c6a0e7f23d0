// The HTTP routes that the page uses. The login's token stays in this browser and goes nowhere but into the
// `Authorization` header; all tabs share it, so that a second one finds what the first one began.

const LOGIN_KEY = 'apex.login';

/** An answer that says no. */
export class ApiError extends Error {
  constructor(status, body = {}) {
    // A login that is gone is not helped by trying again.
    const { code = 'unavailable', message = 'The server does not answer.', retryable = status !== 401 } = body;
    super(message);
    this.body = body;
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.retryable = retryable;
  }
}

export class Api {
  #login = read(LOGIN_KEY);
  #ticketBy = null; // the token that bought the last ticket
  #renewing = null;

  /** `{ user, token, refresh }` of the login in force, or null. */
  get login() {
    return this.#login;
  }

  /** Reads again what another tab may have changed; whether somebody else is in now. A renewed login is the same one. */
  reload() {
    const before = this.#login?.user;
    this.#login = read(LOGIN_KEY);
    return before !== this.#login?.user;
  }

  async logIn(user) {
    const { token, refresh } = await this.#json('POST', '/auth/dev', { user });
    this.#keep({ user, token, refresh });
  }

  #keep(login) {
    this.#login = login;
    localStorage.setItem(LOGIN_KEY, JSON.stringify(login));
  }

  /**
   * Renews the login unless that was done since `used` was its token. One at a time over all tabs: a refresh token that
   * is used twice ends its login.
   */
  #renew(used) {
    const alone = (act) => (navigator.locks ? navigator.locks.request(LOGIN_KEY, act) : act());
    this.#renewing ??= alone(async () => {
      this.#login = read(LOGIN_KEY);
      // What another tab has just written may not have arrived in this one's storage.
      const last = await renewal();
      if (last && last.before === this.#login?.token) this.#keep(last.login);
      if (!this.#login) throw new ApiError(401, { code: 'unauthenticated', message: 'Logged out.', retryable: false });
      if (this.#login.token !== used) return;
      const kept = this.#login;
      const { token, refresh } = await this.#json('POST', '/auth/refresh', { refresh: kept.refresh });
      this.#keep({ ...kept, token, refresh });
      await renewal({ before: kept.token, login: this.#login });
    }).finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  async logOut() {
    await this.#json('POST', '/auth/logout', {}).catch(() => {}); // gone from here in any case
    this.forget();
  }

  forget() {
    this.#login = null;
    localStorage.removeItem(LOGIN_KEY);
    globalThis.caches?.delete(LOGIN_KEY);
  }

  /** A ticket; with `lasting` by a login that was renewed, for a connection whose credential runs out. */
  async ticket({ lasting = false } = {}) {
    if (lasting && this.#login?.refresh) await this.#renew(this.#ticketBy);
    const { ticket } = await this.#json('POST', '/auth/ticket', {});
    this.#ticketBy = this.#login?.token;
    return ticket;
  }

  threads(cursor = null) {
    return this.#json('GET', `/threads${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ''}`);
  }

  thread(id, cursor = null) {
    return this.#json('GET', `/threads/${id}${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ''}`);
  }

  /** How the node is doing; an operator's login gets the details. A node that cannot serve answers too. */
  async health() {
    try {
      return await this.#json('GET', '/health/ready');
    } catch (error) {
      if (error.body?.status) return error.body;
      throw error;
    }
  }

  /** The entries of the inbox after a position. */
  inbox(epoch, after) {
    return this.#json('GET', `/inbox?epoch=${epoch}&after=${after}`);
  }

  files() {
    return this.#json('GET', '/files');
  }

  /** A report of a run: `json` as a value, `md` and `html` as text. */
  async report(run, form) {
    const response = await this.#fetch('GET', `/runs/${run}/report.${form}`);
    return form === 'json' ? response.json() : response.text();
  }

  /** Decides on a call that waits for it: `approve` or `deny`, of the exact call that `digest` stands for. */
  decide(run, approval, digest, decision) {
    return this.#json('POST', `/runs/${run}/approvals/${approval}`, { digest, decision });
  }

  /** Streams a file to the user's own; `onProgress(sent, total)` in bytes. `signal` aborts it. */
  upload(name, content, options) {
    return this.#renewed(() => this.#upload(name, content, options));
  }

  #upload(name, content, { onProgress, signal }) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open('POST', '/files');
      request.setRequestHeader('Authorization', `Bearer ${this.#login.token}`);
      request.setRequestHeader('X-File-Name', encodeURIComponent(name));
      request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
      request.onload = () => {
        const body = parse(request.responseText);
        if (request.status === 201) resolve(body);
        else reject(new ApiError(request.status, body));
      };
      request.onerror = () => reject(new ApiError(0));
      request.onabort = () => reject(new DOMException('aborted', 'AbortError'));
      signal?.addEventListener('abort', () => request.abort());
      request.send(content);
    });
  }

  async #json(method, path, body) {
    const response = await this.#fetch(method, path, body);
    return response.status === 204 ? null : parse(await response.text());
  }

  #fetch(method, path, body) {
    if (path === '/auth/refresh') return this.#ask(method, path, body);
    return this.#renewed(() => this.#ask(method, path, body));
  }

  /** Asks; a login that has run out is renewed, once. */
  async #renewed(ask) {
    const used = this.#login?.token;
    try {
      return await ask();
    } catch (error) {
      if (error.status !== 401 || !this.#login?.refresh) throw error;
      await this.#renew(used);
      return ask();
    }
  }

  async #ask(method, path, body) {
    const headers = {};
    if (this.#login) headers.Authorization = `Bearer ${this.#login.token}`;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    let response;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: 'omit',
        cache: 'no-store',
      });
    } catch {
      throw new ApiError(0);
    }
    if (!response.ok) throw new ApiError(response.status, parse(await response.text()));
    return response;
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The last renewal of any tab, or a new one. Unlike `localStorage` this shows to all tabs what has been written. */
async function renewal(latest) {
  if (!globalThis.caches) return null;
  const shelf = await caches.open(LOGIN_KEY);
  if (latest) await shelf.put('/renewal', new Response(JSON.stringify(latest)));
  return (await shelf.match('/renewal'))?.json() ?? null;
}

function read(key) {
  return parse(localStorage.getItem(key) ?? 'null') ?? null;
}
