// Orders by standard input, one a line, each answered by one line; and what all of these servers send.
import { createInterface } from "node:readline";

const NOTE = "x".repeat(64);

/** An event as apex sends it, of the same size. */
export function event(seq) {
  return {
    frame: "event", v: 1,
    run: "019a0000-0000-7000-8000-000000000001", thread: "019a0000-0000-7000-8000-000000000002", parent: null,
    epoch: "019a0000-0000-7000-8000-000000000003", seq, at: "2026-11-22T10:00:00.123Z", type: "agent_thinking",
    data: { step: 1, agent: "triage", note: NOTE },
  };
}

export function tell(answer) {
  process.stdout.write(JSON.stringify(answer) + "\n");
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Publishes when it is told to, until its input ends. */
export async function serve(port, publish) {
  tell({ port });
  let seq = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const [order, count, everyUs] = line.split(" ");
    if (order !== "publish") throw new Error(`an unknown order: ${line}`);
    let due = performance.now();
    for (let n = 0; n < Number(count); n++) {
      publish(event(++seq));
      due += Number(everyUs) / 1000;
      const wait = due - performance.now();
      if (Number(everyUs) === 0 || wait <= 0) await turn();
      else await sleep(wait);
    }
    tell({ published: seq });
  }
  process.exit(0);
}
