// Vercel's AI SDK: so many requests one after the other, then so many streams.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';

const [url, requests, streams, chunks] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const server = createOpenAICompatible({ name: 'peer', baseURL: url, apiKey: 'none', includeUsage: true });
const measured = { requests: [], streams: [] };

async function measure(into, work) {
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  await work();
  const took = Number(process.hrtime.bigint() - began) / 1e3;
  const used = process.cpuUsage(cpu);
  into.push([took, used.user + used.system]);
}

const ask = async () => {
  const { text } = await generateText({ model: server('plain'), prompt: 'hi', maxRetries: 0 });
  if (!text.startsWith('Hello')) throw new Error(text);
};
const stream = async () => {
  let pieces = 0;
  const { textStream } = streamText({ model: server(`chunks-${chunks}`), prompt: 'hi', maxRetries: 0 });
  for await (const _ of textStream) pieces += 1;
  if (pieces !== chunks) throw new Error(`${pieces} pieces`);
};

for (let i = 0; i < 20; i += 1) await ask();
for (let i = 0; i < requests; i += 1) await measure(measured.requests, ask);
for (let i = 0; i < streams; i += 1) await measure(measured.streams, stream);
const median = (all, what) => all.map((one) => one[what]).sort((a, b) => a - b)[Math.floor(all.length / 2)];
const mean = (all, what) => all.reduce((sum, one) => sum + one[what], 0) / all.length;
console.log(
  JSON.stringify({
    request_us: median(measured.requests, 0),
    request_cpu_us: mean(measured.requests, 1),
    chunk_us: median(measured.streams, 0) / chunks,
    chunk_cpu_us: mean(measured.streams, 1) / chunks,
  }),
);
