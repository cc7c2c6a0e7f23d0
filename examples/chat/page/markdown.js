// The part of Markdown that answers use, as DOM nodes: nothing of a text is ever taken for HTML.

/**
 * Renders `text` into a fragment: headings, paragraphs, lists, tables, code, rules, quotes and inline marks. Its
 * highest heading becomes an `h2`: it stands in a page that has its first one.
 */
export function markdown(text) {
  const root = document.createDocumentFragment();
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  let at = 0;
  while (at < lines.length) at = block(lines, at, root);
  const headings = [...root.querySelectorAll('[data-level]')];
  const highest = Math.min(...headings.map(({ dataset }) => Number(dataset.level)));
  for (const heading of headings) {
    const level = Math.min(6, Number(heading.dataset.level) - highest + 2);
    const element = document.createElement(`h${level}`);
    element.append(...heading.childNodes);
    heading.replaceWith(element);
  }
  return root;
}

const HEADING = /^(#{1,6})\s+(.*)$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d+[.)])\s+(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** Renders the block that begins at line `at`; returns the line after it. */
function block(lines, at, parent) {
  const line = lines[at];
  if (line.trim() === '') return at + 1;
  if (line.trimStart().startsWith('```')) return code(lines, at, parent);
  const heading = HEADING.exec(line);
  if (heading) {
    add(parent, 'div', heading[2]).dataset.level = heading[1].length;
    return at + 1;
  }
  if (RULE.test(line)) {
    add(parent, 'hr');
    return at + 1;
  }
  if (line.startsWith('>')) {
    let end = at;
    while (end < lines.length && lines[end].startsWith('>')) end += 1;
    const quote = add(parent, 'blockquote');
    quote.append(markdown(lines.slice(at, end).map((l) => l.replace(/^>\s?/, '')).join('\n')));
    return end;
  }
  if (line.includes('|') && TABLE_RULE.test(lines[at + 1] ?? '') && lines[at + 1].includes('-')) return table(lines, at, parent);
  if (ITEM.test(line)) return list(lines, at, parent);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== '' && !opensBlock(lines[end])) end += 1;
  add(parent, 'p', lines.slice(at, end).map((l) => l.trim()).join(' '));
  return end;
}

function opensBlock(line) {
  return HEADING.test(line) || ITEM.test(line) || line.trimStart().startsWith('```') || line.startsWith('>');
}

function code(lines, at, parent) {
  let end = at + 1;
  while (end < lines.length && !lines[end].trimStart().startsWith('```')) end += 1;
  const pre = add(parent, 'pre');
  pre.tabIndex = 0; // it may scroll sideways, also by keyboard
  add(pre, 'code').textContent = lines.slice(at + 1, end).join('\n');
  return end + 1;
}

function list(lines, at, parent) {
  const [, indent, marker] = ITEM.exec(lines[at]);
  const element = add(parent, /\d/.test(marker) ? 'ol' : 'ul');
  if (/\d/.test(marker) && parseInt(marker, 10) !== 1) element.start = parseInt(marker, 10);
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length < indent.length || /\d/.test(item[2]) !== /\d/.test(marker)) break;
    const li = add(element, 'li');
    const words = [item[3]];
    at += 1;
    // Lines that are indented further belong to this item: words that go on, or a list inside.
    while (at < lines.length && lines[at].trim() !== '' && indentOf(lines[at]) > indent.length && !ITEM.test(lines[at])) {
      words.push(lines[at].trim());
      at += 1;
    }
    inline(words.join(' '), li);
    if (at < lines.length && ITEM.test(lines[at]) && indentOf(lines[at]) > indent.length) at = list(lines, at, li);
    if (lines[at]?.trim() === '' && ITEM.test(lines[at + 1] ?? '')) at += 1;
  }
  return at;
}

function table(lines, at, parent) {
  const box = add(parent, 'div');
  box.className = 'scroll';
  box.tabIndex = 0;
  box.role = 'region';
  box.ariaLabel = 'Table';
  const element = add(box, 'table');
  const head = add(add(element, 'thead'), 'tr');
  const aligned = cells(lines[at + 1]).map((rule) => rule.endsWith(':'));
  const row = (line, parentRow, tag) =>
    cells(line).forEach((cell, column) => {
      const td = add(parentRow, tag, cell);
      if (tag === 'th') td.scope = 'col';
      if (aligned[column]) td.className = 'number';
    });
  row(lines[at], head, 'th');
  const body = add(element, 'tbody');
  let end = at + 2;
  while (end < lines.length && lines[end].includes('|')) {
    row(lines[end], add(body, 'tr'), 'td');
    end += 1;
  }
  return end;
}

function cells(line) {
  return line
    .trim()
    .replace(/^\|/, '')
    .replace(/(?<!\\)\|$/, '')
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll('\\|', '|'));
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

const INLINE = /`([^`]+)`|\*\*(.+?)\*\*|(?<![\w*])\*([^*\s][^*]*?)\*(?![\w*])|(?<!\w)_([^_\s][^_]*?)_(?!\w)|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)|\\([\\`*_{}[\]()#+\-.!|<>])/;

/** Renders the marks inside a line into `parent`, and gives it back. */
export function inline(text, parent) {
  let rest = text;
  for (;;) {
    const match = INLINE.exec(rest);
    if (!match) break;
    parent.append(rest.slice(0, match.index));
    const [, codeText, strong, em, em2, label, href, escaped] = match;
    if (codeText) add(parent, 'code').textContent = codeText;
    else if (strong) inline(strong, add(parent, 'strong'));
    else if (em ?? em2) inline(em ?? em2, add(parent, 'em'));
    else if (href) {
      const link = add(parent, 'a', label);
      link.href = href;
      link.rel = 'noreferrer';
      link.target = '_blank';
    } else parent.append(escaped);
    rest = rest.slice(match.index + match[0].length);
  }
  parent.append(rest);
  return parent;
}

function add(parent, tag, text = null) {
  const element = document.createElement(tag);
  if (text !== null) inline(text, element);
  parent.append(element);
  return element;
}
