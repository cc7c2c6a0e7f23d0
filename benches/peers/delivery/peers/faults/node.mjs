// A node with Socket.IO that does for its users what a node of apex does in the tests of delivery: a run says and does
// ten things, 200 ms apart, and every event of it goes to all connections of the user who asked.
//
//     node node.mjs JOURNAL [REDIS PREFIX]
//
// Recovery is on with the settings of its documentation. With a Redis the adapter is the one for Redis streams, which
// is the documented one that lets a client recover at another node; else the one in memory. Every event is written to
// the journal before it is emitted: that is what a reader is owed. It ends in order when its input does.
import { randomUUID } from "node:crypto";
import { openSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [journalPath, redisUrl, prefix] = process.argv.slice(2);
const STEPS = 10;
const PACE = 200;
const journal = openSync(journalPath, "a");
const options = {
  transports: ["websocket"],
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true },
};
let redis;
if (redisUrl) {
  redis = createClient({ url: redisUrl });
  redis.on("error", () => {});
  await redis.connect();
  const names = { streamName: `${prefix}:stream`, channelPrefix: prefix, sessionKeyPrefix: `${prefix}:session:` };
  options.adapter = createAdapter(redis, names);
}
const http = createServer();
const io = new Server(http, options);
const known = new Map();
let active = 0;
let leaving = false;

/** The run of a request; the same for the same request, at every node. */
async function begin(user, request) {
  const run = known.get(request) ?? randomUUID();
  const isNew = !known.has(request);
  known.set(request, run);
  if (redis && isNew) {
    const key = `${prefix}:request:${request}`;
    if ((await redis.set(key, run, { NX: true, EX: 600 })) === null) return await redis.get(key);
  }
  if (isNew) void work(user, run);
  return run;
}

async function work(user, run) {
  active += 1;
  let seq = 0;
  const emit = (type, data) => {
    const envelope = { v: 1, run, epoch: "only", seq: ++seq, at: new Date().toISOString(), type, data };
    writeSync(journal, JSON.stringify({ user, envelope }) + "\n");
    io.to(user).emit("event", envelope);
  };
  const step = { step: 1, agent: "clerk" };
  emit("run_started", { agents: ["clerk"] });
  emit("agent_started", { ...step, purpose: "to be measured", attempt: 1 });
  for (let n = 0; n < STEPS; n++) {
    emit("agent_thinking", { ...step, note: `round ${n}` });
    emit("tool_executing", { ...step, call: `${run}-${n}`, tool: "tick", arguments: n });
    await new Promise((resolve) => setTimeout(resolve, PACE));
    emit("tool_completed", { ...step, call: `${run}-${n}`, tool: "tick", outcome: "ok", elapsed_ms: PACE, summary: n });
  }
  emit("agent_completed", { ...step, outcome: "ok", output: "done" });
  emit("run_completed", { result: { status: "answered", text: "done" } });
  active -= 1;
}

io.on("connection", (socket) => {
  const { user } = socket.handshake.auth;
  // A connection that was recovered is in its rooms already.
  if (!socket.recovered) socket.join(user);
  socket.on("ask", async ({ request }, answer) => {
    if (leaving) return;
    try {
      answer({ run: await begin(user, request) });
    } catch {
      // Without an answer the client asks again.
    }
  });
});

await new Promise((resolve) => http.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, resolve));
process.stdout.write(`port ${http.address().port}\n`);
process.stdin.resume();
process.stdin.on("end", async () => {
  leaving = true;
  const by = Date.now() + 10_000;
  // What is under way is finished first, then clients are sent away.
  while (active > 0 && Date.now() < by) await new Promise((resolve) => setTimeout(resolve, 50));
  await io.close();
  process.exit(0);
});
