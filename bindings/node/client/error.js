/** @typedef {import('../types/errors.js').ErrorCode} ErrorCode */

/** Whatever goes wrong: a refusal of the server's, or a connection that is closed for good. */
export class ApexError extends Error {
  /**
   * @param {object} report as the server tells it in `error` frames and HTTP answers
   * @param {string} report.code
   * @param {string} report.message
   * @param {boolean} [report.retryable]
   * @param {string | null} [report.correlation]
   * @param {number | null} [report.retry_after_ms]
   * @param {unknown} [report.cause]
   */
  constructor({ code, message, retryable = false, correlation, retry_after_ms, cause }) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ApexError';
    /** The stable code of the catalogue. */
    this.code = /** @type {ErrorCode} */ (code);
    /** Whether the same call may help later. */
    this.retryable = retryable;
    /** Leads to the server's log. */
    this.correlation = correlation ?? null;
    /** How long to wait, in milliseconds, where that is known. */
    this.retryAfterMs = retry_after_ms ?? null;
  }
}
