/** @typedef {import('../types/errors.js').ErrorCode} ErrorCode */
/** @typedef {import('../types/errors.js').ErrorKind} ErrorKind */
/** One thing that is wrong with a configuration. @typedef {{ key: string, source: string, problem: string, advice: string, code: string }} Fault */

/** Whatever goes wrong: a refusal of the server's, a connection that is closed for good, what an Apex could not do. */
export class ApexError extends Error {
  /**
   * @param {object} report as the server tells it in `error` frames and HTTP answers
   * @param {string} report.code
   * @param {string} report.message
   * @param {string | null} [report.kind]
   * @param {boolean} [report.retryable]
   * @param {string | null} [report.correlation]
   * @param {number | null} [report.retry_after_ms]
   * @param {unknown[]} [report.faults]
   * @param {unknown} [report.cause]
   */
  constructor({ code, message, kind, retryable = false, correlation, retry_after_ms, faults, cause }) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ApexError';
    /** The stable code of the catalogue. */
    this.code = /** @type {ErrorCode} */ (code);
    /** Which kind of errors it is one of, such as `limit` or `run`; only an Apex in this process says. */
    this.kind = /** @type {ErrorKind | null} */ (kind ?? null);
    /** Whether the same call may help later. */
    this.retryable = retryable;
    /** Leads to the server's log. */
    this.correlationId = correlation ?? null;
    /** How long to wait, in milliseconds, where that is known. */
    this.retryAfterMs = retry_after_ms ?? null;
    /** Everything that is wrong with a configuration. */
    this.faults = /** @type {Fault[]} */ (faults ?? []);
  }
}
