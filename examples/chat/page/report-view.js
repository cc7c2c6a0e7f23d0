// A run's report in the page: what of the files could not be used, and the report itself.

import { el } from './dom.js';
import { count } from './format.js';
import { inline } from './markdown.js';

/** Everything in it is fetched with the login's token. */
export function reportView(api, run) {
  const missing = el('div', {});
  const frame = el('div', { class: 'report-frame clipped' });
  const more = el('button', { type: 'button', class: 'more', hidden: true }, 'Show the whole report');
  const showAll = () => {
    frame.classList.remove('clipped');
    more.remove();
  };
  more.addEventListener('click', () => {
    showAll();
    frame.querySelector('iframe').focus({ preventScroll: true });
  });
  frame.addEventListener('focusin', showAll); // whoever reads on by keyboard
  const view = el('section', { class: 'report', 'aria-label': 'Report' },
    missing,
    frame,
    el('p', { class: 'downloads' }, more, 'Download: ',
      download(api, run, 'html', 'text/html', 'HTML'),
      download(api, run, 'json', 'application/json', 'JSON'),
      download(api, run, 'md', 'text/markdown', 'Markdown')));
  const failed = (error) => frame.replaceChildren(el('p', { class: 'error' }, `The report could not be loaded: ${error.message}`));
  api.report(run, 'json').then((report) => missing.append(...unusable(report)), failed);
  api.report(run, 'html').then((html) => {
    frame.append(reportFrame(html));
    more.hidden = false;
  }, failed);
  return view;
}

/** For each file of which something could not be used: how much, and the first reasons with their lines. */
function unusable({ sources }) {
  const MOST = 20;
  return sources
    .filter(({ rejected_rows, rejected, refused }) => (rejected_rows ?? rejected.length) > 0 || refused)
    .map(({ file, rows, rejected_rows, rejected, refused }) => {
      const missed = rejected_rows ?? rejected.length;
      const summary = refused && rows === 0
        ? `${file} could not be read: ${refused.reason}`
        : `${count(missed)} of ${count(rows)} rows of ${file} could not be used`;
      return el('details', { class: 'callout rejected', open: missed <= 5 },
        el('summary', {}, summary),
        el('ul', {}, ...[refused, ...rejected].filter(Boolean).slice(0, MOST)
          .map(({ line, reason }) => inline(`Line ${count(line)}: ${reason}`, el('li')))),
        missed > MOST ? el('p', { class: 'hint' }, `The first ${MOST}. The report as JSON has more.`) : null);
    });
}

/**
 * The report stands in a sandbox in which no script runs. The page's policy refuses inline styles to everybody, so the
 * page takes the report's out of the text and applies them itself; that, and the height, are why the sandbox keeps
 * the page's origin.
 */
function reportFrame(html) {
  const styles = [];
  const plain = html.replace(/<style[^>]*>([^]*?)<\/style>/g, (_, text) => {
    styles.push(text);
    return '';
  });
  const frame = el('iframe', { title: 'Report', srcdoc: plain });
  frame.setAttribute('sandbox', 'allow-same-origin');
  frame.addEventListener('load', () => {
    const { contentDocument: report, contentWindow: window } = frame;
    report.adoptedStyleSheets = styles.map((text) => {
      const sheet = new window.CSSStyleSheet();
      sheet.replaceSync(text);
      return sheet;
    });
    const fit = () => (frame.style.height = `${Math.ceil(report.documentElement.getBoundingClientRect().height)}px`);
    new ResizeObserver(fit).observe(report.documentElement);
    fit();
  });
  return frame;
}

function download(api, run, form, type, label) {
  const name = `report.${form}`;
  return el('a', {
    href: `/runs/${run}/${name}`,
    download: name,
    async onclick(event) {
      event.preventDefault();
      const content = await api.report(run, form);
      const text = typeof content === 'string' ? content : JSON.stringify(content, null, 2);
      const url = URL.createObjectURL(new Blob([text], { type }));
      el('a', { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    },
  }, label);
}
