// Figures and names as people read them.

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

/** `data_helper` as `Data helper`. */
export function title(name) {
  const words = name.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** What models cost, of exact decimals: `$0.0123`, `under $0.0001`; unpriced is no price, not none. */
export function cost(usd) {
  if (usd === null || usd === undefined) return 'unpriced';
  const amount = Number(usd);
  if (amount === 0) return '$0';
  if (amount < 0.0001) return 'under $0.0001';
  return `$${amount.toFixed(amount < 1 ? 4 : 2)}`;
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
