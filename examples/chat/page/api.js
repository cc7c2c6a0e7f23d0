// The HTTP routes that the page uses. The login's token stays in this browser and goes nowhere but into the
// `Authorization` header; all tabs share it, so that a second one finds what the first one began.

const LOGIN_KEY = 'apex.login';

/** An answer that says no. */
export class ApiError extends Error {
  constructor(status, body = {}) {
    const { code = 'unavailable', message = 'The server does not answer.', retryable = true } = body;
    super(message);
    this.body = body;
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.retryable = retryable;
    /** The login is gone: trying again does not help. */
    this.fatal = status === 401;
  }
}

export class Api {
  #login = read(LOGIN_KEY);

  /** `{ user, token }` of the login in force, or null. */
  get login() {
    return this.#login;
  }

  /** Reads again what another tab may have changed; whether it did. */
  reload() {
    const before = this.#login?.token;
    this.#login = read(LOGIN_KEY);
    return before !== this.#login?.token;
  }

  async logIn(user) {
    const { token } = await this.#json('POST', '/auth/dev', { user });
    this.#login = { user, token };
    localStorage.setItem(LOGIN_KEY, JSON.stringify(this.#login));
  }

  async logOut() {
    await this.#json('POST', '/auth/logout', {}).catch(() => {}); // gone from here in any case
    this.forget();
  }

  forget() {
    this.#login = null;
    localStorage.removeItem(LOGIN_KEY);
  }

  async ticket() {
    return (await this.#json('POST', '/auth/ticket', {})).ticket;
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

  /** Streams a file to the user's own; `onProgress(sent, total)` in bytes. `signal` aborts it. */
  upload(name, content, { onProgress, signal }) {
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

  async #fetch(method, path, body) {
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

function read(key) {
  return parse(localStorage.getItem(key) ?? 'null') ?? null;
}
