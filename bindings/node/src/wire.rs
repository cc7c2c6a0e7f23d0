//! The wire over what JavaScript owns: its HTTP server and its sockets.

use crate::bridge::{Reply, Value};
use crate::handle::{Handle, Held, wrong};
use crate::operations::{text, unknown};
use crate::{read, write};
use apex_bindings::{Answer, Error, Frame, Head, Host, Kind, Knocked, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tokio::sync::mpsc::channel;

/// A request without its body. Text stands for bytes, a character each, as everywhere in Node's headers.
#[derive(Deserialize)]
struct Asked {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    peer: Option<IpAddr>,
}

#[derive(Serialize)]
struct Told {
    status: u16,
    headers: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Accepted {
    subprotocol: Option<&'static str>,
}

/// Answers a request; `body` brings its body, where it has one.
pub(crate) async fn respond(
    host: &Host,
    body: Option<&Held>,
    args: &str,
    handle: impl Fn(Held) -> Handle,
) -> Result<Reply> {
    let read = match body {
        Some(Held::Body(body)) => body.read.lock().take().ok_or_else(wrong)?,
        Some(_) => return Err(wrong()),
        None => channel(1).1,
    };
    let answer = host.respond(head(args)?, read).await?;
    refused(answer, handle)
}

/// Checks who asks for an upgrade: accepted with a pipe, or refused with an answer.
pub(crate) async fn knock(
    host: &Host,
    args: &str,
    handle: impl Fn(Held) -> Handle,
) -> Result<Reply> {
    match host.knock(head(args)?).await? {
        Knocked::Accepted { subprotocol, pipe } => {
            let told = write(&Accepted { subprotocol })?;
            Ok(Reply::handle(told, handle(Held::Pipe(pipe))))
        }
        Knocked::Refused(answer) => refused(answer, handle),
    }
}

/// What is done with a body, an answer or a pipe.
pub(crate) async fn carry(
    held: &Held,
    op: &str,
    args: String,
    bytes: Vec<Vec<u8>>,
) -> Result<Reply> {
    Ok(match (held, op) {
        (Held::Body(body), "push") => {
            let pieces = body.pieces.lock().clone();
            let piece = bytes.into_iter().next().unwrap_or_default();
            match pieces {
                Some(pieces) => Reply::flag(pieces.send(Ok(Bytes::from(piece))).await.is_ok()),
                None => Reply::flag(false),
            }
        }
        (Held::Body(body), "end") => {
            drop(body.pieces.lock().take());
            Reply::nothing()
        }
        (Held::Body(body), "break") => {
            let pieces = body.pieces.lock().take();
            if let Some(pieces) = pieces {
                let gone = Error::new(Kind::BadRequest, "host.body", "the body was broken off");
                // Whoever reads it may have gone too.
                let _ = pieces.send(Err(gone)).await;
            }
            Reply::nothing()
        }
        (Held::Answer(answer), "next") => match answer.next().await? {
            Some(piece) => Reply::bytes(piece),
            None => Reply::nothing(),
        },
        (Held::Pipe(pipe), "next") => match pipe.next().await {
            Some(Frame::Text(frame)) => Reply(Value::B(text(frame.into())?), Value::A(0)),
            Some(Frame::Ping) => Reply(Value::A(0), Value::A(1)),
            Some(Frame::Close(code, reason)) => Reply(Value::B(reason), Value::A(code.into())),
            None => Reply::nothing(),
        },
        (Held::Pipe(pipe), "text") => Reply::flag(pipe.text(args).await),
        (Held::Pipe(pipe), "binary") => Reply::flag(pipe.binary().await),
        (Held::Pipe(pipe), "alive") => Reply::flag(pipe.alive().await),
        (Held::Pipe(pipe), "close") => {
            pipe.close().await;
            Reply::nothing()
        }
        _ => return Err(unknown(op)),
    })
}

fn refused(answer: Answer, handle: impl Fn(Held) -> Handle) -> Result<Reply> {
    let headers = answer.headers.iter();
    let told = Told {
        status: answer.status,
        headers: headers.map(|(name, value)| (name.clone(), characters(value))).collect(),
    };
    Ok(Reply::handle(write(&told)?, handle(Held::Answer(answer))))
}

fn head(args: &str) -> Result<Head> {
    let Asked { method, target, headers, peer } = read(args, "request")?;
    let plain = headers.into_iter().map(|(name, value)| Ok((bytes(&name)?, bytes(&value)?)));
    let headers = plain.collect::<Result<_>>()?;
    Ok(Head { method, target, headers, peer: peer.map(|peer| peer.to_canonical()) })
}

/// Text whose characters are bytes.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let byte = |c| u8::try_from(u32::from(c));
    text.chars().map(byte).collect::<std::result::Result<_, _>>().map_err(|_| {
        Error::new(Kind::BadRequest, "host.request", "a header has characters that are no bytes")
    })
}

fn characters(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
