// The users: each has two connections, asks so many times, two questions at once, and writes down what both get.
//
//     node crowd.mjs OUTPUT USERS RUNS PORT…
//
// The client is the official one with its own settings for coming back; a question that is not answered is asked again.
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { io } from "socket.io-client";

const [output, users, runs, ...ports] = process.argv.slice(2);
const ENDS = ["run_completed", "run_failed", "run_cancelled"];
/** After so long without any event a run is given up: whoever worked on it is gone. */
const SILENCE = 20_000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const connections = [];
let waiting = Number(users);

class Connection {
  constructor(user, port) {
    this.user = user;
    /** What came, in order: envelopes, and `null` for a connection that came back without its state. */
    this.came = [];
    this.ended = new Set();
    this.heard = Date.now();
    this.socket = io(`http://127.0.0.1:${port}`, { transports: ["websocket"], auth: { user }, forceNew: true });
    let first = true;
    this.socket.on("connect", () => {
      if (!first && !this.socket.recovered) this.came.push(null);
      first = false;
      this.heard = Date.now();
    });
    this.socket.on("event", (envelope) => {
      this.came.push(envelope);
      this.heard = Date.now();
      if (ENDS.includes(envelope.type)) this.ended.add(envelope.run);
    });
    // A server that closes in order says so, and then the client has to come back by itself.
    this.socket.on("disconnect", (reason) => {
      if (reason === "io server disconnect") this.socket.connect();
    });
    connections.push(this);
  }

  async connected() {
    while (!this.socket.connected) await sleep(50);
  }

  async ask() {
    const request = randomUUID();
    for (;;) {
      try {
        return (await this.socket.timeout(5_000).emitWithAck("ask", { request })).run;
      } catch {
        await sleep(200);
      }
    }
  }

  async end(run) {
    while (!this.ended.has(run) && Date.now() - this.heard < SILENCE) await sleep(20);
  }
}

async function one(number) {
  const port = ports[number % ports.length];
  const both = [new Connection(`user-${number}`, port), new Connection(`user-${number}`, port)];
  await Promise.all(both.map((connection) => connection.connected()));
  waiting -= 1;
  if (waiting === 0) process.stdout.write("everybody is there\n");
  for (let asked = 0; asked < runs; asked += 2) {
    const questions = Array.from({ length: Math.min(2, runs - asked) }, async () => {
      const run = await both[0].ask();
      for (const connection of both) connection.heard = Date.now();
      await Promise.all(both.map((connection) => connection.end(run)));
    });
    await Promise.all(questions);
  }
}

await Promise.all(Array.from({ length: Number(users) }, (_, number) => one(number)));
// Whatever is on its way still counts.
await sleep(3_000);
writeFileSync(output, JSON.stringify(connections.map(({ user, came }) => ({ user, came }))));
process.exit(0);
