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

/// A host's body, whatever its type.
pub(super) struct RequestBody(UnsyncBoxBody<Bytes, BoxError>);

impl RequestBody {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(body.map_err(Into::into).boxed_unsync())
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
        let told = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|told| told > limit) {
            return Err(too_large(limit));
        }
        let state = Some((self.0, 0_u64));
        Ok(Box::pin(futures_util::stream::unfold(
            state,
            move |state| async move {
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
            },
        )))
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
            .stream(
                &self.head.headers,
                config.body_bytes as u64,
                config.body_idle,
            )?
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

async fn next_data(
    body: &mut UnsyncBoxBody<Bytes, BoxError>,
    idle: Duration,
) -> Result<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(idle, body.frame())
            .await
            .map_err(|_| {
                Error::new(
                    Kind::BadRequest,
                    OPERATION,
                    "the body brought nothing for too long",
                )
            })?;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers say nothing that any route wants to know.
                Err(_) => {}
            },
            Some(Err(cause)) => {
                let error = Error::new(Kind::BadRequest, OPERATION, "the body broke off");
                return Err(error.with_source(cause));
            }
        }
    }
}

fn too_large(limit: u64) -> Error {
    Error::new(
        Kind::TooLarge,
        OPERATION,
        format!("the body is too large; this route takes {limit} bytes"),
    )
}
