// Figures and names as people read them. Money stays an exact decimal string until its last step.

/** `4210` as `4.2 s`, `95` as `95 ms`, `83000` as `1 min 23 s`. */
export function elapsed(ms) {
  if (ms === null || ms === undefined) return '';
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** `5522` as `5,522`. */
export function count(number) {
  return new Intl.NumberFormat('en-US').format(number);
}

/** `1536` as `1.5 KB`. */
export function bytes(number) {
  const units = ['B', 'KB', 'MB', 'GB'];
  let unit = 0;
  let value = number;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${units[unit]}`;
}

/** The decimal string `"10182.704"` as `$10,182.70`; small amounts keep enough digits to be told from zero. */
export function money(decimal) {
  if (decimal === null || decimal === undefined) return 'unpriced';
  const negative = decimal.startsWith('-');
  const [whole, fraction = ''] = decimal.replace('-', '').split('.');
  const firstDigit = fraction.search(/[1-9]/);
  const digits = BigInt(whole) === 0n && firstDigit >= 2 ? firstDigit + 2 : 2;
  const padded = fraction.padEnd(digits + 1, '0');
  let scaled = BigInt(whole + padded.slice(0, digits));
  if (padded[digits] >= '5') scaled += 1n;
  const text = scaled.toString().padStart(digits + 1, '0');
  const grouped = new Intl.NumberFormat('en-US').format(BigInt(text.slice(0, -digits)));
  return `${negative ? '−' : ''}$${grouped}.${text.slice(-digits)}`;
}

/** `data_helper` as `Data helper`. */
export function title(name) {
  const words = name.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** How far a long piece of work is, in words: `1.2 MB of 4.0 MB`, `12,000 rows`. */
export function progress({ done, total, unit }) {
  const say = unit === 'bytes' ? bytes : count;
  const suffix = unit === 'bytes' ? '' : ` ${unit}`;
  return total ? `${say(done)} of ${say(total)}${suffix}` : `${say(done)}${suffix}`;
}

/** A moment in the reader's own time: `14:02` for today, else `22 Nov`. */
export function when(timestamp, now = new Date()) {
  const moment = new Date(timestamp);
  if (Number.isNaN(moment.getTime())) return '';
  const today = moment.toDateString() === now.toDateString();
  const parts = today ? { hour: '2-digit', minute: '2-digit' } : { day: 'numeric', month: 'short' };
  return new Intl.DateTimeFormat('en-GB', parts).format(moment);
}
