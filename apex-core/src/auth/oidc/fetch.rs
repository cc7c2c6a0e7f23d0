//! Requests to a provider: one at a time, no redirects, bounded in time and size.

use crate::config::WebUrl;
use crate::error::{Error, Kind, Result};
use crate::tls;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

const OPERATION: &str = "oidc.fetch";

/// How long a provider may take, and how much it may say.
const WITHIN: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 256 * 1024;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The address of something at a provider: HTTPS, or plain HTTP to this machine itself.
pub(super) fn check_address(address: &str) -> Result<Uri> {
    let wrong = || {
        Error::new(
            Kind::Config,
            OPERATION,
            "an address of the provider must be https, or http on this machine itself",
        )
        .with("address", address)
    };
    let (place, _) = address.split_once('?').unwrap_or((address, ""));
    let url: WebUrl = place.parse().map_err(|_| wrong())?;
    if !url.is_private() {
        return Err(wrong());
    }
    address.parse().map_err(|_| wrong())
}

pub(super) async fn get(address: &str) -> Result<Bytes> {
    let (status, body) = send(address, None, None).await?;
    if status != StatusCode::OK {
        return Err(down(format!("it answered {status}")));
    }
    Ok(body)
}

/// Sends a form; what came back, whatever its status.
pub(super) async fn post(
    address: &str,
    form: String,
    authorization: HeaderValue,
) -> Result<(StatusCode, Bytes)> {
    send(address, Some(form), Some(authorization)).await
}

async fn send(
    address: &str,
    form: Option<String>,
    authorization: Option<HeaderValue>,
) -> Result<(StatusCode, Bytes)> {
    let uri = check_address(address)?;
    let exchange = exchange(&uri, form, authorization);
    let answered = tokio::time::timeout(WITHIN, exchange).await;
    let (status, body) = answered.map_err(|_| down("it took too long".to_owned()))??;
    // Following one could lead anywhere, with our secret in hand.
    if status.is_redirection() {
        return Err(down("it answered with a redirect, which is not followed".to_owned()));
    }
    Ok((status, body))
}

async fn exchange(
    uri: &Uri,
    form: Option<String>,
    authorization: Option<HeaderValue>,
) -> Result<(StatusCode, Bytes)> {
    let failed = |error: &dyn std::error::Error| down(error.to_string());
    let io = connect(uri).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|error| failed(&error))?;
    let driving = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let mut request = Request::builder()
        .method(if form.is_some() { "POST" } else { "GET" })
        .uri(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json");
    if form.is_some() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request
        .body(Full::new(Bytes::from(form.unwrap_or_default())))
        .map_err(|error| Error::internal(OPERATION, "a request that is none").with_source(error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    driving.abort();
    let body = body.map_err(|error| down(format!("its answer cannot be read: {error}")))?;
    Ok((status, body.to_bytes()))
}

/// The certificates that the host of an address shows.
pub(super) async fn certificates(address: &str) -> Result<Vec<u8>> {
    let uri = check_address(address)?;
    let (stream, name) = dial(&uri).await?;
    tls::shown(Arc::new(tls::web_roots()), name, stream).await
}

async fn dial(uri: &Uri) -> Result<(TcpStream, ServerName<'static>)> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(usual);
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let name = ServerName::try_from(host).map_err(|error| down(error.to_string()))?;
    Ok((stream.map_err(|error| down(error.to_string()))?, name))
}

async fn connect(uri: &Uri) -> Result<Box<dyn Io>> {
    let failed = |error: std::io::Error| down(error.to_string());
    let (stream, name) = dial(uri).await?;
    if uri.scheme_str() != Some("https") {
        return Ok(Box::new(stream));
    }
    let connector = TLS.as_ref().map_err(|error| down(error.to_string()))?;
    Ok(Box::new(connector.connect(name, stream).await.map_err(failed)?))
}

static TLS: LazyLock<Result<TlsConnector>> =
    LazyLock::new(|| tls::client_config(Arc::new(tls::web_roots())).map(TlsConnector::from));

pub(super) fn down(cause: String) -> Error {
    Error::new(
        Kind::Unavailable,
        OPERATION,
        "the login provider cannot be reached or does not answer as it should; try again",
    )
    .with("cause", cause)
    .with_retry_after(Duration::from_secs(5))
}
