// Apex inside this process: agents and tools that are functions, runs on record, and the wire in one's own server.

export { ApexError } from '../client/error.js';
export { Answer, Plan, agent } from './agent.js';
export { Apex, Server, User, log } from './apex.js';
export { AgentContext, ToolContext } from './context.js';
export { Pipe, attach, carry, fastifyApex, handler, upgrader } from './http.js';
export { Analysis, analyse, look, sample } from './report.js';
export { Run } from './run.js';
export { tool } from './tool.js';

/** @typedef {import('../types/errors.js').ErrorCode} ErrorCode */
/** @typedef {import('../types/errors.js').ErrorKind} ErrorKind */
/** @typedef {import('../types/host.js').HostEvent} HostEvent */
/** @typedef {import('../types/host.js').MemoryStore} MemoryStore */
/** @typedef {import('../types/host.js').Note} Note */
/** @typedef {import('../types/host.js').Options} Options */
/** @typedef {import('../types/host.js').Question} Question */
/** @typedef {import('../types/host.js').Schema} Schema */
/** @typedef {import('../types/wire.js').Envelope} Envelope */
/** @typedef {import('../types/wire.js').Report} Report */
/** @typedef {import('../types/wire.js').RunResult} RunResult */
