//! The wire over real loopback sockets: every frame, route, refusal and close code, bad input, cuts, and the walls
//! between users.
#![cfg(test)]

mod bad_input;
mod frames;
mod routes;
mod support;
mod ways_in;
