// Where the steps of a plan stand in its picture: in layers from the top, each below all that it needs.

/** The size of a step, and the room around it, in the picture's own units. */
export const BOX = { width: 176, height: 58, across: 22, down: 34 };

/**
 * Places `steps` (`{ agent, needs, by }`): `{ width, height, nodes: [{ step, x, y }], arrows: [{ from, to, planned }] }` with
 * places in `nodes`. A need that follows from others is left out; a step that needs nobody hangs on who planned it. Needs
 * that lead in a circle are drawn, and move nobody.
 */
export function layout(steps) {
  const places = new Map(steps.map(({ agent }, place) => [agent, place]));
  const needs = steps.map((step) => {
    const own = step.needs.map((agent) => places.get(agent)).filter((place) => place !== undefined);
    const planner = places.get(step.by);
    return own.length === 0 && planner !== undefined ? [planner] : own;
  });
  const before = steps.map((_, place) => everyoneBefore(place, needs));
  const layers = [];
  const layerOf = (place, seen = new Set()) => {
    if (layers[place] !== undefined) return layers[place];
    if (seen.has(place)) return -1;
    const deeper = new Set(seen).add(place);
    const layer = 1 + Math.max(-1, ...needs[place].map((need) => layerOf(need, deeper)));
    if (seen.size === 0) layers[place] = layer;
    return layer;
  };
  // In order of how much comes before them, so that what is needed has its place already.
  [...steps.keys()].sort((a, b) => before[a].size - before[b].size).forEach((place) => layerOf(place));

  const used = [...new Set(layers)].sort((a, b) => a - b);
  layers.forEach((layer, place) => (layers[place] = used.indexOf(layer)));
  const rows = [];
  layers.forEach((layer, place) => (rows[layer] ??= []).push(place));
  const widest = Math.max(1, ...rows.map((row) => row.length));
  const width = widest * BOX.width + (widest - 1) * BOX.across + 4;
  const nodes = steps.map((step, place) => {
    const row = rows[layers[place]];
    const free = width - row.length * BOX.width - (row.length - 1) * BOX.across;
    return {
      step,
      x: free / 2 + row.indexOf(place) * (BOX.width + BOX.across),
      y: 2 + layers[place] * (BOX.height + BOX.down),
    };
  });
  const arrows = steps.flatMap((step, to) =>
    needs[to]
      .filter((from) => !needs[to].some((other) => other !== from && before[other].has(from)))
      .map((from) => ({ from, to, planned: step.needs.length === 0 })));
  return { width, height: rows.length * (BOX.height + BOX.down) - BOX.down + 4, nodes, arrows };
}

/** All that have to end before this one can begin. */
function everyoneBefore(place, needs) {
  const seen = new Set();
  const next = [...needs[place]];
  while (next.length > 0) {
    const need = next.pop();
    if (seen.has(need)) continue;
    seen.add(need);
    next.push(...needs[need]);
  }
  return seen;
}
