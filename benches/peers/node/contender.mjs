// One contender, so often: node contender.mjs NAME GRAPHS. Prints the CPU time of a graph of five agents and its time on
// the clock, in microseconds, with the threads of whatever is native counted in.

const [name, graphs] = [process.argv[2], Number(process.argv[3])];

/** What the five do, each with what the one before it made. */
const NAMES = ['reads', 'counts', 'sorts', 'weighs', 'says'];
const work = (before) => ({ n: before.n + 1 });

const contenders = {
  async 'bare async'() {
    const agents = NAMES.map(() => async (before) => work(before));
    return async () => {
      let made = { n: 0 };
      for (const agent of agents) made = await agent(made);
      return made.n;
    };
  },

  async apex() {
    const { Apex, Plan, agent } = await import('netra-apex');
    const steps = NAMES.slice(1).map((name, at) => ({ agent: name, needs: [NAMES[at]] }));
    // The first one does its work and says who follows, so the second takes it from the plan's own beginning.
    const [first, ...others] = NAMES;
    const agents = [
      agent(first, 'Reads.', () => new Plan(steps.map((step, at) => (at === 0 ? { ...step, needs: [] } : step)))),
      ...others.map((name, at) => agent(name, 'Works.', (input) => (name === 'says' ? String(work(input[others[at - 1]]).n) : work(input[others[at - 1]] ?? { n: 1 })))),
    ];
    const apex = await Apex.build({ agents });
    const ada = await apex.user('ada');
    return async () => Number((await apex.ask(ada, 'go')).text);
  },

  async 'LangGraph.js'() {
    const { Annotation, END, START, StateGraph } = await import('@langchain/langgraph');
    const state = Annotation.Root({ n: Annotation() });
    let graph = new StateGraph(state);
    for (const name of NAMES) graph = graph.addNode(name, (before) => work(before));
    graph = graph.addEdge(START, NAMES[0]);
    NAMES.slice(1).forEach((name, at) => (graph = graph.addEdge(NAMES[at], name)));
    const compiled = graph.addEdge(NAMES.at(-1), END).compile();
    return async () => (await compiled.invoke({ n: 0 })).n;
  },

  async 'Mastra workflows'() {
    const { createStep, createWorkflow } = await import('@mastra/core/workflows');
    const { z } = await import('zod');
    const schema = z.object({ n: z.number() });
    const workflow = createWorkflow({ id: 'five', inputSchema: schema, outputSchema: schema });
    let chain = workflow;
    for (const id of NAMES) chain = chain.then(createStep({ id, inputSchema: schema, outputSchema: schema, execute: async ({ inputData }) => work(inputData) }));
    chain.commit();
    return async () => (await (await workflow.createRun()).start({ inputData: { n: 0 } })).result.n;
  },
};

const graph = await contenders[name]();
const once = async () => {
  const made = await graph();
  if (made !== NAMES.length) throw new Error(`${name} made ${made}`);
};
for (let n = 0; n < 50; n += 1) await once();
const cpu = process.cpuUsage();
const began = performance.now();
for (let n = 0; n < graphs; n += 1) await once();
const took = performance.now() - began;
const { user, system } = process.cpuUsage(cpu);
console.log(JSON.stringify({ cpu_us: (user + system) / graphs, took_us: (took * 1e3) / graphs }));
process.exit();
