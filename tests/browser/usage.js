// Usage files that tests make for themselves.

import { createWriteStream, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import path from 'node:path';

const HEADER = 'timestamp,model,user,input_tokens,output_tokens,cost_usd\n';

/** A file of so many rows that a run over it can be met in the middle: 150,000 take seconds in a debug build. */
export async function longUsage(folder, rows) {
  const file = path.join(folder, 'long.csv');
  const stream = createWriteStream(file);
  stream.write(HEADER);
  let lines = '';
  for (let row = 0; row < rows; row += 1) {
    const at = new Date(Date.UTC(2026, 0, 1) + row * 7_000).toISOString();
    lines += `${at},gpt-4o,user${row % 40},${500 + (row % 977)},${50 + (row % 89)},0.0${1000 + (row % 900)}\n`;
    if (lines.length > 1 << 20) {
      if (!stream.write(lines)) await once(stream, 'drain');
      lines = '';
    }
  }
  stream.end(lines);
  await once(stream, 'close');
  return file;
}

/** A file of which some rows can be used and others cannot. */
export function brokenUsage(folder) {
  const file = path.join(folder, 'broken.csv');
  writeFileSync(file, `${HEADER}2026-05-01T10:00:00Z,gpt-4o,ann,1000,200,0.0045
2026-05-01T10:01:00Z,gpt-4o,ann,-5,200,0.0045
2026-05-01T10:02:00Z,gpt-4o,bob,many,200,0.0045
soon,gpt-4o,bob,1000,200,0.0045
2026-05-01T10:04:00Z,gpt-4o,bob,1000,200,0.0045
`);
  return file;
}

/** A file that holds nothing about usage. */
export function foreignFile(folder) {
  const file = path.join(folder, 'photo.csv');
  writeFileSync(file, Buffer.from(Array.from({ length: 4_096 }, (_, place) => (place * 7_919) % 256)));
  return file;
}
