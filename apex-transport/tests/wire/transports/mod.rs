//! One list of promises, kept by every way to carry a conversation: a WebSocket, server-sent events, a pipe within the
//! process, and a socket that the host owns.

mod cases;
mod clients;
