// npm `ws` as its documentation has it: a broadcast to all clients, and a heartbeat.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { serve } from "./steps.mjs";

const http = createServer();
const server = new WebSocketServer({ server: http, perMessageDeflate: false });
server.on("connection", (socket) => {
  socket.isAlive = true;
  socket.on("pong", () => (socket.isAlive = true));
  socket.on("error", () => {});
  socket.send('{"frame":"welcome"}');
});
setInterval(() => {
  for (const socket of server.clients) {
    if (!socket.isAlive) {
      socket.terminate();
      continue;
    }
    socket.isAlive = false;
    socket.ping();
  }
}, 20_000);
await new Promise((resolve) => http.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, resolve));
await serve(http.address().port, (event) => {
  const text = JSON.stringify(event);
  for (const socket of server.clients) socket.send(text);
});
