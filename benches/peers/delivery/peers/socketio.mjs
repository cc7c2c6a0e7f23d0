// Socket.IO with connection state recovery, its settings those of its documentation, over WebSocket alone.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { serve } from "./steps.mjs";

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true },
});
io.use((socket, next) => (socket.handshake.auth.token === "secret" ? next() : next(new Error("unauthorized"))));
io.on("connection", (socket) => socket.join("run"));
await new Promise((resolve) => http.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, resolve));
await serve(http.address().port, (event) => io.to("run").emit("event", event));
