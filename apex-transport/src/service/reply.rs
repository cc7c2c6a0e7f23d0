use apex_core::error::Error;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The body of an answer.
#[derive(Debug, Default)]
pub struct ResponseBody(Content);

#[derive(Debug)]
enum Content {
    Whole(Full<Bytes>),
    /// That of a service that stands behind the same door.
    Mounted(BoxBody<Bytes, Infallible>),
    /// It comes piece by piece, for as long as somebody sends.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self(Content::Whole(Full::new(bytes)))
    }
}

impl From<BoxBody<Bytes, Infallible>> for ResponseBody {
    fn from(body: BoxBody<Bytes, Infallible>) -> Self {
        Self(Content::Mounted(body))
    }
}

impl From<mpsc::Receiver<Bytes>> for ResponseBody {
    fn from(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self(Content::Pieces(pieces))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Content::Whole(whole) => Pin::new(whole)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Content::Mounted(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Content::Pieces(pieces) => {
                pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(whole) => whole.is_end_stream(),
            Content::Mounted(body) => body.is_end_stream(),
            Content::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(whole) => whole.size_hint(),
            Content::Mounted(body) => body.size_hint(),
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A JSON answer. It is about one user and of this moment, so nobody may keep it.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<ResponseBody> {
    typed(status, "application/json", body)
}

/// A JSON answer of a more special type.
pub(super) fn typed(
    status: StatusCode,
    media_type: &'static str,
    body: &impl Serialize,
) -> Response<ResponseBody> {
    // Only maps with keys that are no strings can fail, and no answer has one.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = momentary(media_type, body.into());
    *response.status_mut() = status;
    response
}

/// An answer in words, of this moment as well.
pub(super) fn text(media_type: &'static str, body: String) -> Response<ResponseBody> {
    momentary(media_type, body.into())
}

fn momentary(media_type: &'static str, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The catalogue's answer to what went wrong.
pub(super) fn refusal(error: &Error) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(error.kind().row().status)
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, &error.report());
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"apex\""));
    }
    if let Some(after) = error.retry_after() {
        let seconds = after.as_millis().div_ceil(1_000).max(1);
        if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
            headers.insert(RETRY_AFTER, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::error::Kind;
    use std::time::Duration;

    #[test]
    fn every_code_of_the_wire_has_its_status() {
        let table: [(u16, &[&str]); 8] = [
            (400, &["bad_request", "bad_frame"]),
            (401, &["unauthenticated", "token_expired"]),
            (403, &["origin_denied", "csrf", "forbidden"]),
            (404, &["not_found"]),
            (409, &["conflict"]),
            (413, &["too_large"]),
            (429, &["rate_limited", "too_many_connections", "too_many_runs", "budget_exhausted"]),
            (503, &["unavailable", "pool_exhausted", "draining"]),
        ];
        for (status, codes) in table {
            for code in codes {
                let kind = Kind::ALL.iter().find(|kind| kind.row().code == *code);
                let error = Error::new(*kind.expect(code), "test", "no");
                let refused = refusal(&error);
                assert_eq!(refused.status(), status, "{code}");
                let asks_to_log_in = refused.headers().contains_key(WWW_AUTHENTICATE);
                assert_eq!(asks_to_log_in, status == 401, "{code}");
                assert!(!refused.headers().contains_key(RETRY_AFTER), "{code}");
                let passes = error.with_retry_after(Duration::from_millis(1_100));
                assert_eq!(refusal(&passes).headers()[RETRY_AFTER], "2", "{code}");
            }
        }
        assert_eq!(refusal(&Error::internal("test", "no")).status(), 500);
    }
}
