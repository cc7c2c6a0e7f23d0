use crate::http::{Body, Client, Connector, NoResponse, describe, wrong};
use crate::model::answer::{ModelEvent, ModelResponse};
use crate::model::fault::{FaultReason, ModelFault};
use crate::model::format::Format;
use crate::model::limits::{RateLimits, retry_after};
use crate::model::request::Part;
use crate::model::stream::{ModelStream, Writer};
use crate::model::{ModelProvider, ModelRequest};
use apex_core::clock::Clock;
use apex_core::config::{BadWebUrl, Secret, WebUrl};
use apex_core::error::{Error, Result};
use apex_core::health::CertificateSource;
use apex_core::trace;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The largest answer in one piece.
const MAX_BODY: usize = 32 << 20;

/// How much of a refusal is read.
const MAX_REFUSAL: usize = 64 << 10;

/// How long the end of a stream may take once all of it was said, for the connection to be kept.
const TAIL: Duration = Duration::from_millis(20);

/// How a provider is reached.
#[derive(Clone)]
pub struct HttpOptions {
    /// Another address than the provider's own, with the path before `/chat/completions` and the like.
    pub base_url: Option<String>,
    /// The time to connect, TLS included.
    pub connect: Duration,
    /// The time from the request to the first sign that the model is at work; pings are none.
    pub first_token: Duration,
    /// The time from one such sign to the next.
    pub between_tokens: Duration,
    /// The time for all of it.
    pub whole: Duration,
    /// Headers to send with each request. Their values are never shown.
    pub headers: Vec<(String, String)>,
    /// A proxy that opens tunnels: `http://[user:password@]host:port`, or `https://`.
    pub proxy: Option<String>,
    /// Certificates (PEM) of authorities to trust beside those of the web.
    pub roots: Vec<u8>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            base_url: None,
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(120),
            between_tokens: Duration::from_secs(60),
            whole: Duration::from_secs(600),
            headers: Vec::new(),
            proxy: None,
            roots: Vec::new(),
        }
    }
}

/// Headers and proxy may hold secrets.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpOptions")
            .field("base_url", &self.base_url)
            .field("connect", &self.connect)
            .field("first_token", &self.first_token)
            .field("between_tokens", &self.between_tokens)
            .field("whole", &self.whole)
            .field("headers", &names)
            .field("proxy", &self.proxy.is_some())
            .finish_non_exhaustive()
    }
}

/// A provider over HTTP.
#[derive(Clone)]
pub struct HttpProvider {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    format: Format,
    /// The path of the base URL, without a slash at its end.
    path: String,
    headers: HeaderMap,
    key: Option<Secret<String>>,
    options: HttpOptions,
    client: Client,
    /// For those who watch its certificate; empty without TLS.
    endpoint: String,
    clock: Arc<dyn Clock>,
}

impl HttpProvider {
    /// OpenAI, by its responses.
    ///
    /// # Errors
    /// `config_invalid` when an option or the key cannot be used.
    #[cfg(feature = "openai")]
    pub fn openai(
        key: Secret<String>,
        options: HttpOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let base = "https://api.openai.com/v1";
        Self::new("openai", Format::OpenAiResponses, base, Some(key), options, clock)
    }

    /// OpenAI, by its chat completions.
    ///
    /// # Errors
    /// As [`openai`](Self::openai).
    #[cfg(feature = "openai")]
    pub fn openai_chat(
        key: Secret<String>,
        options: HttpOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let base = "https://api.openai.com/v1";
        Self::new("openai", Format::OpenAiChat, base, Some(key), options, clock)
    }

    /// A server that speaks chat completions: Ollama, vLLM, LiteLLM, OpenRouter and many more. `name` is under what
    /// prices are looked up, such as `openrouter`, or `openai` for OpenAI's own service elsewhere; `base_url` is what stands before `/chat/completions`.
    ///
    /// # Errors
    /// As [`openai`](Self::openai).
    #[cfg(feature = "openai")]
    pub fn compatible(
        name: &str,
        base_url: &str,
        key: Option<Secret<String>>,
        options: HttpOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Self::new(name, Format::OpenAiChat, base_url, key, options, clock)
    }

    /// Anthropic.
    ///
    /// # Errors
    /// `config_invalid` when an option or the key cannot be used.
    #[cfg(feature = "anthropic")]
    pub fn anthropic(
        key: Secret<String>,
        options: HttpOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let base = "https://api.anthropic.com/v1";
        Self::new("anthropic", Format::Anthropic, base, Some(key), options, clock)
    }

    /// Google's Gemini.
    ///
    /// # Errors
    /// `config_invalid` when an option or the key cannot be used.
    #[cfg(feature = "gemini")]
    pub fn gemini(
        key: Secret<String>,
        options: HttpOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let base = "https://generativelanguage.googleapis.com/v1beta";
        Self::new("google", Format::Gemini, base, Some(key), options, clock)
    }

    fn new(
        name: &str,
        format: Format,
        base: &str,
        key: Option<Secret<String>>,
        options: HttpOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let base: WebUrl = options
            .base_url
            .as_deref()
            .unwrap_or(base)
            .parse()
            .map_err(|error: BadWebUrl| wrong("base_url", &error.to_string()))?;
        let base: Uri = base
            .as_str()
            .parse()
            .map_err(|error| wrong("base_url", "is no address").with_source(error))?;
        let connector = Connector::new(&base, options.proxy.as_deref(), &options.roots)?;
        let client = Client::new(connector, options.connect);
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                format,
                path: base.path().trim_end_matches('/').to_owned(),
                headers: headers(format, key.as_ref(), &options, &client.connector().authority())?,
                key,
                options,
                endpoint: client.connector().endpoint().unwrap_or_default(),
                client,
                clock,
            }),
        })
    }
}

#[async_trait]
impl ModelProvider for HttpProvider {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn certificate(&self) -> Option<Arc<dyn CertificateSource>> {
        (!self.inner.endpoint.is_empty()).then(|| Arc::new(self.clone()) as _)
    }

    async fn complete(&self, model: &str, request: &ModelRequest) -> Result<ModelResponse> {
        let inner = &self.inner;
        let deadline = Instant::now() + inner.options.whole;
        let answer = inner.send(model, request, false, deadline).await?;
        inner.whole(answer, deadline).await
    }

    async fn stream(&self, model: &str, request: &ModelRequest) -> Result<ModelStream> {
        let inner = Arc::clone(&self.inner);
        let began = Instant::now();
        let whole = began + inner.options.whole;
        let first = whole.min(began + inner.options.first_token);
        let answer = inner.send(model, request, true, first).await?;
        if answer.is_json() {
            // Some servers do not stream everything, and some say their errors with a 200.
            let response = inner.whole(answer, whole).await?;
            return Ok(ModelStream::new(|writer| async move {
                for part in response.parts.clone() {
                    match part {
                        Part::Text(text) => writer.send(ModelEvent::Text(text)).await,
                        Part::ToolCall(call) => writer.send(ModelEvent::ToolCall(call)).await,
                        _ => {}
                    }
                }
                writer.send(ModelEvent::Done(Box::new(response))).await;
                Ok(())
            }));
        }
        Ok(ModelStream::new(
            |writer| async move { inner.follow(answer, writer, first, whole).await },
        ))
    }
}

/// The certificate of the host that it asks, seen by a connection of its own.
#[async_trait]
impl CertificateSource for HttpProvider {
    fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    fn is_required(&self) -> bool {
        false
    }

    async fn chain(&self) -> Result<Vec<u8>> {
        self.inner.client.connector().certificates().await
    }
}

/// A response whose body is still to come.
struct Answer {
    response: Response<Incoming>,
    connection: SendRequest<Body>,
    request: Option<String>,
    limits: RateLimits,
}

impl Answer {
    fn is_json(&self) -> bool {
        let kind = self.response.headers().get(CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
    }

    fn complete(
        request: Option<String>,
        limits: RateLimits,
        answer: ModelResponse,
    ) -> ModelResponse {
        ModelResponse { request, limits, ..answer }
    }
}

impl Inner {
    /// Sends a request; a refusal is an error.
    async fn send(
        &self,
        model: &str,
        request: &ModelRequest,
        stream: bool,
        deadline: Instant,
    ) -> Result<Answer> {
        let mut body = self.format.encode(model, request, stream)?;
        // Imitators know OpenAI's older name for it.
        if self.name != "openai"
            && let Some(fields) = body.as_object_mut()
            && let Some(most) = fields.remove("max_completion_tokens")
        {
            fields.insert("max_tokens".to_owned(), most);
        }
        let mut message = Request::post(self.target(model, stream)?)
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| Error::internal("model.call", "no request").with_source(error))?;
        *message.headers_mut() = self.headers.clone();
        // The provider's part of the trace hangs under ours.
        if let Some(place) = trace::outgoing().and_then(|place| place.to_string().parse().ok()) {
            message.headers_mut().insert("traceparent", place);
        }
        let sent = timeout_at(deadline, self.client.send(message))
            .await
            .map_err(|_| self.fault(FaultReason::TimedOut, "no response began"))?;
        let (response, connection) = sent.map_err(|error| match error {
            NoResponse::Unreachable(words) => self.fault(FaultReason::Unreachable, &words),
            NoResponse::ConnectTimedOut => self.fault(FaultReason::TimedOut, "while connecting"),
            NoResponse::Broken(words) => self.fault(FaultReason::Broken, &words),
        })?;
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let request = header("x-request-id").or_else(|| header("request-id"));
        let answer = Answer {
            request: request.map(str::to_owned),
            limits: RateLimits::read(header, self.clock.now()),
            response,
            connection,
        };
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(answer, deadline).await)
    }

    /// The rest of the way, from the base URL.
    fn target(&self, model: &str, stream: bool) -> Result<Uri> {
        let tail = match self.format {
            #[cfg(feature = "openai")]
            Format::OpenAiChat => "/chat/completions".to_owned(),
            #[cfg(feature = "openai")]
            Format::OpenAiResponses => "/responses".to_owned(),
            #[cfg(feature = "anthropic")]
            Format::Anthropic => "/messages".to_owned(),
            #[cfg(feature = "gemini")]
            Format::Gemini => {
                let fits = |c: char| c.is_ascii_alphanumeric() || "-._/@".contains(c);
                if !model.chars().all(fits) || model.contains("..") {
                    return Err(wrong("model", "has characters that no model's name has"));
                }
                let folder = if model.contains('/') { "" } else { "models/" };
                if stream {
                    format!("/{folder}{model}:streamGenerateContent?alt=sse")
                } else {
                    format!("/{folder}{model}:generateContent")
                }
            }
        };
        let _ = (model, stream);
        format!("{}{tail}", self.path)
            .parse()
            .map_err(|error| wrong("base_url", "is no address").with_source(error))
    }

    /// Reads an answer in one piece.
    async fn whole(&self, answer: Answer, deadline: Instant) -> Result<ModelResponse> {
        let status = answer.response.status().as_u16();
        let body = Limited::new(answer.response.into_body(), MAX_BODY).collect();
        let body = timeout_at(deadline, body)
            .await
            .map_err(|_| self.fault(FaultReason::TimedOut, "the answer took too long"))?
            .map_err(|error| {
                let long = error.is::<LengthLimitError>();
                let reason = if long { FaultReason::Malformed } else { FaultReason::Broken };
                self.fault(reason, &describe(&*error))
            })?
            .to_bytes();
        self.client.keep(answer.connection);
        let response = self.format.decode(&self.name, status, &body)?;
        Ok(Answer::complete(answer.request, answer.limits, response))
    }

    async fn refusal(&self, answer: Answer, deadline: Instant) -> Error {
        let status = answer.response.status();
        let header = |name: &str| answer.response.headers().get(name)?.to_str().ok();
        let wait = retry_after(header, self.clock.now()).or_else(|| answer.limits.exhausted_for());
        if status.is_redirection() {
            return ModelFault {
                status: Some(status.as_u16()),
                ..ModelFault::new(&self.name, FaultReason::Redirected)
            }
            .error("", None);
        }
        let body = Limited::new(answer.response.into_body(), MAX_REFUSAL).collect();
        // What cannot be read is a refusal all the same.
        let body = match timeout_at(deadline, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        let text = String::from_utf8_lossy(&body);
        let text = match &self.key {
            Some(key) if !key.reveal().is_empty() => text.replace(key.reveal(), "…"),
            _ => text.into_owned(),
        };
        let error = match self.format.decode(&self.name, status.as_u16(), text.as_bytes()) {
            Err(error) => error,
            Ok(_) => self.fault(FaultReason::Malformed, "an answer with a status that is none"),
        };
        let error = with_request(error, answer.request.as_deref());
        match wait {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }

    /// Hands a stream's events over as they come.
    async fn follow(
        &self,
        answer: Answer,
        writer: Writer<ModelEvent>,
        first: Instant,
        whole: Instant,
    ) -> Result<()> {
        let request = answer.request;
        let named = |error| with_request(error, request.as_deref());
        let mut body = answer.response.into_body();
        let mut decoder = self.format.decoder(&self.name);
        let mut deadline = first;
        let ended = loop {
            let frame = match timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break true,
                Ok(Some(Err(error))) => {
                    return Err(named(decoder.fault(FaultReason::Broken, &describe(&error))));
                }
                Err(_) => {
                    return Err(named(
                        decoder.fault(FaultReason::TimedOut, "the model fell silent"),
                    ));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let fed = decoder.feed(&data);
            // What came before an error came all the same, however the bytes were cut.
            while let Some(event) = decoder.next() {
                writer.send(event).await;
            }
            let at_work = fed.map_err(named)?;
            if decoder.is_complete() {
                break false;
            }
            if at_work {
                deadline = whole.min(Instant::now() + self.options.between_tokens);
            }
        };
        let response = decoder.finish().map_err(named)?;
        while let Some(event) = decoder.next() {
            writer.send(event).await;
        }
        let response = Answer::complete(request.clone(), answer.limits, response);
        writer.send(ModelEvent::Done(Box::new(response))).await;
        let ended = ended || {
            let tail = Instant::now() + TAIL;
            matches!(timeout_at(tail, body.frame()).await, Ok(None))
        };
        if ended {
            self.client.keep(answer.connection);
        }
        Ok(())
    }

    fn fault(&self, reason: FaultReason, words: &str) -> Error {
        ModelFault::new(&self.name, reason).error(words, None)
    }
}

fn with_request(error: Error, request: Option<&str>) -> Error {
    // Some repeat it in the body.
    let known = ModelFault::of(&error).and_then(|fault| fault.request.as_deref());
    match request {
        Some(request) if known != Some(request) => error.with("request", request),
        _ => error,
    }
}

fn headers(
    format: Format,
    key: Option<&Secret<String>>,
    options: &HttpOptions,
    authority: &str,
) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    let (name, prefix) = match format {
        #[cfg(feature = "openai")]
        Format::OpenAiChat | Format::OpenAiResponses => (http::header::AUTHORIZATION, "Bearer "),
        #[cfg(feature = "anthropic")]
        Format::Anthropic => {
            let version = HeaderName::from_static("anthropic-version");
            headers.insert(version, HeaderValue::from_static("2023-06-01"));
            (HeaderName::from_static("x-api-key"), "")
        }
        #[cfg(feature = "gemini")]
        Format::Gemini => (HeaderName::from_static("x-goog-api-key"), ""),
    };
    if let Some(key) = key {
        let value = format!("{prefix}{}", key.reveal());
        let value = HeaderValue::try_from(value)
            .map_err(|_| wrong("key", "has characters that no key has: a line end?"))?;
        headers.insert(name, sensitive(value));
    }
    for (name, value) in &options.headers {
        let name = HeaderName::try_from(name)
            .map_err(|error| wrong("headers", "have a bad name").with_source(error))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| wrong("headers", "have a bad value").with("header", &name))?;
        headers.insert(name, sensitive(value));
    }
    let host = HeaderValue::try_from(authority)
        .map_err(|error| wrong("base_url", "has no valid host").with_source(error))?;
    headers.insert(HOST, host);
    Ok(headers)
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Without key and headers.
impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProvider")
            .field("name", &self.inner.name)
            .field("format", &self.inner.format)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}
