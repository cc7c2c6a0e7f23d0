//! Bodies of requests: bounded, and given up on when they bring nothing for too long.

use super::{BoxError, Call};
use apex_core::error::{Error, Kind, Result};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body;
use serde::de::DeserializeOwned;
use std::time::Duration;

const OPERATION: &str = "service.body";

/// What is read of a body that nobody wants, and for how long.
const DISCARD: usize = 64 * 1024 * 1024;
const DISCARD_WITHIN: Duration = Duration::from_secs(5);

/// A host's body, whatever its type.
///
/// One that is dropped before its end is read on for a while and thrown away: closing a socket under a client that
/// still sends would take the answer, which says why, down with it.
pub(super) struct RequestBody(Option<UnsyncBoxBody<Bytes, BoxError>>);

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // Without a runtime there is no socket either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DISCARD_WITHIN, discard(body)));
        }
    }
}

async fn discard(mut body: UnsyncBoxBody<Bytes, BoxError>) {
    let mut left = DISCARD;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl RequestBody {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Some(body.map_err(Into::into).boxed_unsync()))
    }

    /// The body itself, for a service that reads it by its own rules.
    pub(super) fn into_inner(mut self) -> UnsyncBoxBody<Bytes, BoxError> {
        self.0.take().unwrap_or_default()
    }

    /// The body as a stream of at most `limit` bytes.
    ///
    /// # Errors
    /// `too_large` when its length is told beforehand and too much; in the stream what goes wrong on the way.
    pub(super) fn stream(
        self,
        headers: &HeaderMap,
        limit: u64,
        idle: Duration,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let told =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|told| told > limit) {
            return Err(too_large(limit));
        }
        let state = Some((self, 0_u64));
        Ok(Box::pin(futures_util::stream::unfold(state, move |state| async move {
            let (mut body, so_far) = state?;
            match next_data(&mut body, idle).await {
                Ok(Some(data)) => {
                    let so_far = so_far + data.len() as u64;
                    if so_far > limit {
                        return Some((Err(too_large(limit)), None));
                    }
                    Some((Ok(data), Some((body, so_far))))
                }
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })))
    }
}

impl Call {
    /// The body as JSON; one without any bytes is `None`.
    ///
    /// # Errors
    /// `too_large`; `bad_request` says what is wrong and where.
    pub(super) async fn optional_json<T: DeserializeOwned>(
        &self,
        body: RequestBody,
    ) -> Result<Option<T>> {
        let config = &self.gateway.config.http;
        let bytes = body
            .stream(&self.head.headers, config.body_bytes as u64, config.body_idle)?
            .try_fold(BytesMut::new(), |mut all, data| async move {
                all.extend_from_slice(&data);
                Ok(all)
            })
            .await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let detail: String = error.to_string().chars().take(160).collect();
            let message = format!("the body is not the JSON that this route takes: {detail}");
            Error::new(Kind::BadRequest, OPERATION, message)
        })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// As [`Call::optional_json`]; `bad_request` when there is none.
    pub(super) async fn json<T: DeserializeOwned>(&self, body: RequestBody) -> Result<T> {
        self.optional_json(body)
            .await?
            .ok_or_else(|| Error::new(Kind::BadRequest, OPERATION, "this route takes a JSON body"))
    }
}

async fn next_data(body: &mut RequestBody, idle: Duration) -> Result<Option<Bytes>> {
    loop {
        let Some(open) = &mut body.0 else {
            return Ok(None);
        };
        let Ok(frame) = tokio::time::timeout(idle, open.frame()).await else {
            body.0 = None;
            return Err(broken("the body brought nothing for too long"));
        };
        match frame {
            None => {
                body.0 = None;
                return Ok(None);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers say nothing that any route wants to know.
                Err(_) => {}
            },
            Some(Err(cause)) => {
                body.0 = None;
                return Err(broken("the body broke off").with_source(cause));
            }
        }
    }
}

fn broken(message: &str) -> Error {
    Error::new(Kind::BadRequest, OPERATION, message)
}

fn too_large(limit: u64) -> Error {
    Error::new(
        Kind::TooLarge,
        OPERATION,
        format!("the body is too large; this route takes {limit} bytes"),
    )
}
