//! The wire over what the host owns: its HTTP server, and its sockets.

use crate::{Host, Pipe};
use bytes::Bytes;
use futures_util::stream;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use netra_apex::core::error::{Error, Kind, Result};
use netra_apex::transport::{self, PeerAddress, ResponseBody};
use std::net::IpAddr;
use tokio::sync::{Mutex, mpsc};

/// A request of the host's server, without its body.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Such as `GET`.
    pub method: String,
    /// The path below where Apex is mounted, with the query.
    pub target: String,
    /// The headers, as they came.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The other end of the socket, where it is known.
    pub peer: Option<IpAddr>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, Vec<u8>)>,
    body: Mutex<ResponseBody>,
}

/// What the door says to the upgrade of a socket of the host's.
#[derive(Debug)]
pub enum Knocked {
    /// To be accepted with that subprotocol; the pipe's frames go over it.
    Accepted {
        /// To be echoed; `None` where none was offered.
        subprotocol: Option<&'static str>,
        /// The conversation.
        pipe: Pipe,
    },
    /// To be refused with that answer.
    Refused(Answer),
}

impl Host {
    /// Answers a request; `body` brings its pieces, in order, and ends by being closed. A piece that is an error breaks
    /// it off.
    ///
    /// # Errors
    /// `bad_request` for what is no HTTP.
    pub async fn respond(&self, head: Head, body: mpsc::Receiver<Result<Bytes>>) -> Result<Answer> {
        let pieces = stream::unfold(body, |mut body| async {
            let piece = body.recv().await?;
            Some((piece.map(Frame::data), body))
        });
        let request = Request::from_parts(head.parts()?, StreamBody::new(Box::pin(pieces)));
        Ok(self.apex().service().respond(request).await.into())
    }

    /// Checks who asks for the upgrade of a socket of the host's, as at Apex's own door.
    ///
    /// # Errors
    /// `bad_request` for what is no HTTP.
    pub async fn knock(&self, head: Head) -> Result<Knocked> {
        Ok(match self.apex().service().knock(&head.parts()?).await {
            transport::Knocked::Accepted { subprotocol, pipe } => {
                Knocked::Accepted { subprotocol, pipe: Pipe::new(pipe) }
            }
            transport::Knocked::Refused(answer) => Knocked::Refused(answer.into()),
        })
    }
}

impl Head {
    fn parts(self) -> Result<Parts> {
        let bad = |what| Error::new(Kind::BadRequest, "host.request", format!("{what} is none"));
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = Method::from_bytes(self.method.as_bytes()).map_err(|_| bad("the method"))?;
        parts.uri = self.target.parse::<Uri>().map_err(|_| bad("the path"))?;
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(&name).map_err(|_| bad("a header's name"))?;
            let value = HeaderValue::from_bytes(&value).map_err(|_| bad("a header"))?;
            parts.headers.append(name, value);
        }
        if let Some(peer) = self.peer {
            parts.extensions.insert(PeerAddress(peer));
        }
        Ok(parts)
    }
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// What broke it off.
    pub async fn next(&self) -> Result<Option<Bytes>> {
        let mut body = self.body.lock().await;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl From<Response<ResponseBody>> for Answer {
    fn from(response: Response<ResponseBody>) -> Self {
        let (head, body) = response.into_parts();
        let headers = head.headers.iter();
        Self {
            status: head.status.as_u16(),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            body: Mutex::new(body),
        }
    }
}
