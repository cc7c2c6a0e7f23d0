//! Streamable HTTP to a server of others, over the same connections as model providers: TLS by rustls with the same
//! authorities, a proxy only where one is configured, no redirects.

use crate::http::{Client, Connector, NoResponse, describe, wrong};
use apex_core::config::{Secret, WebUrl};
use apex_core::error::Result;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, InsufficientScopeError, SseError, StreamableHttpClient,
    StreamableHttpClientTransportConfig, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::{Sse, SseStream};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The largest answer in one piece, and the largest event of a stream.
const MOST_BODY: usize = 8 << 20;

/// How much of a refusal is read.
const MOST_REFUSAL: usize = 4 << 10;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const SESSION: &str = "mcp-session-id";
const LAST_EVENT: &str = "last-event-id";

/// The headers that the protocol sets by itself.
const ITS_OWN: [&str; 6] =
    ["accept", "content-type", "content-length", "host", SESSION, LAST_EVENT];

/// The way to one server.
#[derive(Clone)]
pub(super) struct HttpLink(Arc<Inner>);

struct Inner {
    client: Client,
    url: String,
    path: String,
    /// What every request carries.
    headers: HeaderMap,
}

/// Why a request got no answer that is of use.
#[derive(Debug)]
pub(super) struct HttpFault(String);

impl std::fmt::Display for HttpFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HttpFault {}

type Fault = StreamableHttpError<HttpFault>;

impl HttpLink {
    /// # Errors
    /// `config_invalid` for an address, a proxy, a certificate or a header that is none.
    pub(super) fn new(
        url: &WebUrl,
        headers: &BTreeMap<String, Secret<String>>,
        proxy: Option<&Secret<String>>,
        roots: &[u8],
        connect: Duration,
    ) -> Result<Self> {
        let uri: Uri = url
            .as_str()
            .parse()
            .map_err(|error| wrong("url", "is no address").with_source(error))?;
        let connector = Connector::new(&uri, proxy.map(|proxy| proxy.reveal().as_str()), roots)?;
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name
                .parse()
                .map_err(|error| wrong("headers", "have a bad name").with_source(error))?;
            if ITS_OWN.contains(&name.as_str()) || name.as_str().starts_with("mcp-") {
                return Err(wrong("headers", "name one that the protocol sets by itself"));
            }
            let mut value: HeaderValue = value
                .reveal()
                .parse()
                // The source would repeat it.
                .map_err(|_| wrong("headers", "have a bad value"))?;
            value.set_sensitive(true);
            all.insert(name, value);
        }
        let host = connector
            .authority()
            .parse()
            .map_err(|error| wrong("url", "has no valid host").with_source(error))?;
        all.insert(HOST, host);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let client = Client::new(connector, connect);
        Ok(Self(Arc::new(Inner { client, url: url.to_string(), path, headers: all })))
    }

    pub(super) fn config(&self) -> StreamableHttpClientTransportConfig {
        StreamableHttpClientTransportConfig::with_uri(self.0.url.as_str())
            .max_sse_event_size(MOST_BODY)
            .max_json_response_size(MOST_BODY)
    }

    async fn send(
        &self,
        method: Method,
        accept: &'static str,
        session: Option<&str>,
        given: HashMap<HeaderName, HeaderValue>,
        body: Option<Vec<u8>>,
    ) -> std::result::Result<Answer, Fault> {
        let mut request = Request::builder().method(method).uri(self.0.path.as_str());
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.0.headers.clone());
            headers.extend(given);
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            if body.is_some() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
            }
            if let Some(session) = session {
                let session =
                    session.parse().map_err(|_| fault("the session's id is no header"))?;
                headers.insert(SESSION, session);
            }
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| fault(describe(&error)))?;
        let (response, connection) =
            self.0.client.send(request).await.map_err(|none| match none {
                NoResponse::Unreachable(why) => fault(why),
                NoResponse::ConnectTimedOut => fault("connecting took too long"),
                NoResponse::Broken(why) => fault(why),
            })?;
        Ok(Answer { response, connection })
    }
}

fn fault(why: impl Into<String>) -> Fault {
    Fault::Client(HttpFault(why.into()))
}

/// A response, whose connection is kept once it was read to its end.
struct Answer {
    response: Response<Incoming>,
    connection: SendRequest<Full<Bytes>>,
}

impl Answer {
    fn header(&self, name: impl http::header::AsHeaderName) -> Option<String> {
        self.response.headers().get(name)?.to_str().ok().map(str::to_owned)
    }

    /// Whether it is of this media type, whatever its parameters.
    fn is(&self, media_type: &str) -> bool {
        let sent = self.header(CONTENT_TYPE).unwrap_or_default();
        sent.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
    }

    async fn whole(self, link: &HttpLink, most: usize) -> std::result::Result<Bytes, Fault> {
        let body = Limited::new(self.response.into_body(), most).collect().await;
        let body = body.map_err(|error| fault(error.to_string()))?.to_bytes();
        link.0.client.keep(self.connection);
        Ok(body)
    }

    fn events(self) -> BoxStream<'static, std::result::Result<Sse, SseError>> {
        let bytes = self.response.into_body().into_data_stream();
        SseStream::from_bytes_stream(bounded(bytes, MOST_BODY)).boxed()
    }

    /// A refusal in the words of the protocol's client.
    async fn refused(self, link: &HttpLink, session: bool) -> Fault {
        let status = self.response.status();
        let challenge = self.header(WWW_AUTHENTICATE);
        match (status, challenge) {
            (StatusCode::UNAUTHORIZED, Some(challenge)) => {
                Fault::AuthRequired(AuthRequiredError::new(challenge))
            }
            (StatusCode::FORBIDDEN, Some(challenge)) => {
                Fault::InsufficientScope(InsufficientScopeError::new(challenge, None))
            }
            (StatusCode::NOT_FOUND, _) if session => Fault::SessionExpired,
            _ => {
                let told = self.whole(link, MOST_REFUSAL).await.unwrap_or_default();
                let told = String::from_utf8_lossy(&told);
                Fault::UnexpectedServerResponse(format!("HTTP {status}: {told}").into())
            }
        }
    }
}

/// The bytes of a stream of events, of which none may be larger than `most`: an event ends with an empty line.
fn bounded<E: std::error::Error + Send + Sync + 'static>(
    bytes: impl Stream<Item = std::result::Result<Bytes, E>> + Send + 'static,
    most: usize,
) -> impl Stream<Item = std::result::Result<Bytes, HttpFault>> + Send + 'static {
    let (mut event, mut line) = (0_usize, 0_usize);
    bytes.map(move |chunk| {
        let chunk = chunk.map_err(|error| HttpFault(describe(&error)))?;
        for byte in &chunk {
            match byte {
                b'\n' if line == 0 => event = 0,
                b'\n' => line = 0,
                b'\r' => {}
                _ => line += 1,
            }
            event += 1;
            if event > most {
                return Err(HttpFault(format!("an event is larger than {most} bytes")));
            }
        }
        Ok(chunk)
    })
}

impl StreamableHttpClient for HttpLink {
    type Error = HttpFault;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> std::result::Result<StreamableHttpPostResponse, Fault> {
        let body = serde_json::to_vec(&message)?;
        let accept = "application/json, text/event-stream";
        let answer =
            self.send(Method::POST, accept, session.as_deref(), headers, Some(body)).await?;
        let status = answer.response.status();
        let given = answer.header(SESSION);
        let waits = matches!(message, ClientJsonRpcMessage::Request(_));
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT)
            || (status.is_success() && !waits)
        {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if !status.is_success() {
            let json = answer.is(JSON)
                && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                && !(status == StatusCode::NOT_FOUND && session.is_some());
            let told = match json {
                true => serde_json::from_slice(&answer.whole(self, MOST_BODY).await?).ok(),
                false => {
                    return discovered(&message, session.is_some(), status)
                        .ok_or(())
                        .or(Err(answer.refused(self, session.is_some()).await));
                }
            };
            return match told {
                Some(ServerJsonRpcMessage::Error(error)) => {
                    let told = discovery(&message)
                        .filter(|_| session.is_none())
                        .map(|id| ServerJsonRpcMessage::error(error.error.clone(), Some(id)));
                    let told = told.unwrap_or(ServerJsonRpcMessage::Error(error));
                    Ok(StreamableHttpPostResponse::Json(told, given))
                }
                _ => discovered(&message, session.is_some(), status).ok_or_else(|| {
                    Fault::UnexpectedServerResponse(format!("HTTP {status}").into())
                }),
            };
        }
        if answer.is(EVENTS) {
            return Ok(StreamableHttpPostResponse::Sse(answer.events(), given));
        }
        if answer.is(JSON) {
            let told = serde_json::from_slice(&answer.whole(self, MOST_BODY).await?)?;
            return Ok(StreamableHttpPostResponse::Json(told, given));
        }
        Err(Fault::UnexpectedContentType(answer.header(CONTENT_TYPE)))
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> std::result::Result<(), Fault> {
        let answer = self.send(Method::DELETE, JSON, Some(&*session), headers, None).await?;
        match answer.response.status() {
            status if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED => Ok(()),
            _ => Err(answer.refused(self, false).await),
        }
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        mut headers: HashMap<HeaderName, HeaderValue>,
    ) -> std::result::Result<BoxStream<'static, std::result::Result<Sse, SseError>>, Fault> {
        if let Some(last) = last_event {
            let last = last.parse().map_err(|_| fault("the last event's id is no header"))?;
            headers.insert(HeaderName::from_static(LAST_EVENT), last);
        }
        let answer = self.send(Method::GET, EVENTS, session.as_deref(), headers, None).await?;
        match answer.response.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(Fault::ServerDoesNotSupportSse),
            status if !status.is_success() => Err(answer.refused(self, session.is_some()).await),
            _ if answer.is(EVENTS) => Ok(answer.events()),
            _ => Err(Fault::UnexpectedContentType(answer.header(CONTENT_TYPE))),
        }
    }
}

/// The id of the question whether a server knows the newer protocol.
fn discovery(message: &ClientJsonRpcMessage) -> Option<rmcp::model::RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::DiscoverRequest(_)) =>
        {
            Some(request.id.clone())
        }
        _ => None,
    }
}

/// The answer of an older server, which refuses that question: it is then met with the older handshake.
fn discovered(
    message: &ClientJsonRpcMessage,
    session: bool,
    status: StatusCode,
) -> Option<StreamableHttpPostResponse> {
    let barred = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if session || barred || !status.is_client_error() {
        return None;
    }
    let refused = ErrorData::invalid_request(format!("HTTP {status}"), None);
    let told = ServerJsonRpcMessage::error(refused, Some(discovery(message)?));
    Some(StreamableHttpPostResponse::Json(told, None))
}
