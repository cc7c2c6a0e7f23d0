// A service of one's own in Express, with an agent and a tool, and chat in the browser: node service.js [PORT]
//
// What its agent does not know, it hands on to Apex's own team, which reads usage files. The page is that of the chat
// example, and speaks to Apex by the client in the package.

import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { Apex, Plan, agent, attach, handler, sample, tool } from 'netra-apex';
import { WebSocketServer } from 'ws';
import { z } from 'zod';

const port = Number(process.argv[2] ?? 8000);
const url = `http://127.0.0.1:${port}`;

/** @type {Record<string, number>} */
const shelf = { apples: 12, pears: 0 };

const stock = tool('stock', 'Says how many of an article there are.', z.object({ article: z.string() }), ({ article }) => shelf[article] ?? 0, { effect: 'read' });

const desk = agent('desk', 'Answers what is in stock, and hands on the rest.', async ({ text }, { call, think }) => {
  const article = Object.keys(shelf).find((article) => text.toLowerCase().includes(article));
  if (!article) return new Plan([{ agent: 'supervisor' }]);
  await think(`I look how many ${article} there are.`);
  return `There are **${await call('stock', { article })}** ${article}.`;
});

// The development login lets anyone in under any name: `doors` is where a service brings its own.
const config = { environment: 'development', database: { url: 'sqlite::memory:' }, server: { origins: [url] } };
const apex = await Apex.build({ agents: [desk], tools: [stock], team: true, entry: 'desk', config });

const app = express();
app.get('/sample.csv', async (_, res) => void res.type('csv').send(Buffer.from(await sample())));
app.use(express.static(fileURLToPath(new URL('../chat/page', import.meta.url)), { extensions: ['html'] }));
app.use('/client', express.static(fileURLToPath(new URL('.', import.meta.resolve('netra-apex/client')))));
app.use(handler(apex));

const server = createServer(app);
attach(server, apex, { WebSocketServer });
server.listen(port, '127.0.0.1', () => console.log(`${url}  (Ctrl-C ends it)`));

process.once('SIGINT', async () => {
  server.close();
  await apex.close(); // what is not done is saved
  process.exit();
});
