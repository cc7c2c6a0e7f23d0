// A team of one agent with one tool of its own.

import { Apex, agent, tool } from 'netra-apex';
import { z } from 'zod';

const shout = tool('shout', 'Louder.', z.object({ word: z.string() }), ({ word }) => `${word}!`);
const hello = agent('hello', 'Greets.', ({ text }, { call }) => call('shout', { word: text }));
await using apex = await Apex.build({ agents: [hello], tools: [shout] });
console.log((await apex.ask(await apex.user('ada'), 'hello')).text);
