// The few shorthands for building the page.

/** An element with properties (`class`, `dataset`, `aria-…` and `on…` included) and children; null ones are left out. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name === 'class') element.className = value;
    else if (name === 'dataset') Object.assign(element.dataset, value);
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of a picture, with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Changes the text only when it is another one, so that assistive technology hears no echo. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const byId = (id) => document.getElementById(id);

const live = { queue: [], timer: null };

/** Tells it politely to those who listen to the page: one sentence at a time, so that none is swallowed. */
export function announce(sentence) {
  live.queue.push(sentence);
  if (live.queue.length > 4) live.queue.splice(0, live.queue.length - 4);
  live.timer ??= setTimeout(say, 150);
}

function say() {
  const next = live.queue.shift();
  byId('announce').textContent = next ?? '';
  live.timer = next === undefined ? null : setTimeout(say, 1_200);
}
