// What it costs to cross: an empty call of the addon, a request with its answer, and each event of a run that is read.

import { Apex, agent, tool } from 'netra-apex';
import { addon } from './node_modules/netra-apex/host/bridge.js';

const measure = async (times, work) => {
  const cpu = process.cpuUsage();
  const began = performance.now();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { took_us: ((performance.now() - began) * 1e3) / times, cpu_us: (user + system) / times };
};

const acts = tool('acts', 'Acts.', true, () => 1, { effect: 'read' });
const calls = agent('calls', 'Calls.', async (_, { call }) => {
  for (let n = 0; n < 200; n += 1) await call('acts');
  return 'done';
});
const apex = await Apex.build({ agents: [calls], tools: [acts] });
const ada = await apex.user('ada');
const native = addon();
const run = await apex.start(ada, 'go');
let events = 0;
for await (const _ of run) events += 1;

const told = {};
told['an empty call of the addon'] = await measure(1e6, () => {
  for (let n = 0; n < 1e6; n += 1) native.openCalls();
});
told['a request with its answer, one after the other'] = await measure(5_000, async () => {
  for (let n = 0; n < 5_000; n += 1) await apex.user('ada');
});
told['a request with its answer, a hundred at a time'] = await measure(20_000, async () => {
  for (let n = 0; n < 200; n += 1) await Promise.all(Array.from({ length: 100 }, () => apex.user('ada')));
});
told['a call of a tool by an agent, both of the host’s, with its two events'] = await measure(2_000, async () => {
  for (let n = 0; n < 10; n += 1) await apex.ask(ada, 'go');
});
told[`an event that is read (${events} in a run)`] = await measure(events * 50, async () => {
  for (let n = 0; n < 50; n += 1) for await (const _ of run);
});
for (const [what, { took_us, cpu_us }] of Object.entries(told)) console.log(`${took_us.toFixed(2).padStart(9)} µs, ${cpu_us.toFixed(2).padStart(9)} µs of CPU: ${what}`);
process.exit();
