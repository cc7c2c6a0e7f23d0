//! Connections: to the host or through a proxy's tunnel, plain or with TLS.

use apex_core::error::{Error, Kind, Result};
use apex_core::tls;
use base64::Engine as _;
use http::Uri;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

/// The longest answer of a proxy to a request for a tunnel.
const MAX_PROXY_ANSWER: usize = 8 << 10;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How a host is reached.
pub(crate) struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    proxy: Option<Proxy>,
    roots: Arc<RootCertStore>,
}

/// A proxy that opens tunnels (`CONNECT`).
struct Proxy {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<String>,
}

impl Connector {
    pub(crate) fn new(base: &Uri, proxy: Option<&str>, roots: &[u8]) -> Result<Self> {
        let (host, port) = host_and_port(base)?;
        let roots = Arc::new(store(roots)?);
        let tls = secured(base, "base_url", &roots)?;
        let proxy = proxy.map(|proxy| Proxy::parse(proxy, &roots)).transpose()?;
        Ok(Self { host, port, tls, proxy, roots })
    }

    /// The endpoint whose certificate can be looked at; none without TLS.
    pub(crate) fn endpoint(&self) -> Option<String> {
        self.tls.is_some().then(|| format!("model {}:{}", bracketed(&self.host), self.port))
    }

    /// The certificates that the host shows.
    pub(crate) async fn certificates(&self) -> Result<Vec<u8>> {
        let unreached = |error: io::Error| {
            Error::new(Kind::Unavailable, "http.certificate", error.to_string()).with_source(error)
        };
        match &self.tls {
            None => Ok(Vec::new()),
            Some((_, name)) => {
                let io = self.dial().await.map_err(unreached)?;
                tls::shown(Arc::clone(&self.roots), name.clone(), io).await
            }
        }
    }

    /// What stands in the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let host = bracketed(&self.host);
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Io>> {
        shake_hands(self.tls.as_ref(), self.dial().await?).await
    }

    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        match &self.proxy {
            None => dial(&self.host, self.port).await,
            Some(proxy) => proxy.tunnel(&self.host, self.port).await,
        }
    }
}

async fn dial(host: &str, port: u16) -> io::Result<Box<dyn Io>> {
    let tcp = TcpStream::connect((host, port)).await?;
    // Requests are written whole; waiting to fill a packet only delays them.
    tcp.set_nodelay(true)?;
    Ok(Box::new(tcp))
}

async fn shake_hands(
    tls: Option<&(TlsConnector, ServerName<'static>)>,
    io: Box<dyn Io>,
) -> io::Result<Box<dyn Io>> {
    match tls {
        None => Ok(io),
        Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), io).await?)),
    }
}

/// How an address is secured; that it is not has to be said by `http://`.
fn secured(
    address: &Uri,
    option: &'static str,
    roots: &Arc<RootCertStore>,
) -> Result<Option<(TlsConnector, ServerName<'static>)>> {
    match address.scheme_str() {
        Some("https") => {
            let (host, _) = host_and_port(address)?;
            let name = ServerName::try_from(host)
                .map_err(|error| wrong(option, "has no valid host").with_source(error))?;
            Ok(Some((TlsConnector::from(tls::client_config(Arc::clone(roots))?), name)))
        }
        Some("http") => Ok(None),
        _ => Err(wrong(option, "begins with neither https:// nor http://")),
    }
}

impl Proxy {
    fn parse(text: &str, roots: &Arc<RootCertStore>) -> Result<Self> {
        let uri: Uri = text
            .parse()
            // The source would repeat a password.
            .map_err(|_| wrong("proxy", "is no address such as http://host:port"))?;
        let tls = secured(&uri, "proxy", roots)?;
        let (host, port) = host_and_port(&uri)?;
        let credentials = uri
            .authority()
            .and_then(|authority| authority.as_str().rsplit_once('@'))
            .map(|(credentials, _)| credentials);
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        Ok(Self { host, port, tls, authorization: credentials.map(encode) })
    }

    async fn tunnel(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>> {
        let mut io = shake_hands(self.tls.as_ref(), dial(&self.host, self.port).await?).await?;
        let target = format!("{}:{port}", bracketed(host));
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request += &format!("Proxy-Authorization: Basic {authorization}\r\n");
        }
        request += "\r\n";
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        // Byte by byte: what follows the answer belongs to the tunnel.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MAX_PROXY_ANSWER {
                return Err(io::Error::other("the proxy's answer has no end"));
            }
            answer.push(io.read_u8().await?);
        }
        let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if status != b"200" {
            let status = String::from_utf8_lossy(status);
            return Err(io::Error::other(format!("the proxy answered {status}")));
        }
        Ok(io)
    }
}

/// The authorities of the web, and those of one's own in PEM.
fn store(own: &[u8]) -> Result<RootCertStore> {
    let mut store = tls::web_roots();
    for certificate in CertificateDer::pem_slice_iter(own) {
        let bad = |error: Box<dyn std::error::Error + Send + Sync>| {
            wrong("roots", "has something that is no certificate in PEM").with_source(error)
        };
        let certificate = certificate.map_err(|error| bad(Box::new(error)))?;
        store.add(certificate).map_err(|error| bad(Box::new(error)))?;
    }
    Ok(store)
}

fn host_and_port(uri: &Uri) -> Result<(String, u16)> {
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| wrong("base_url", "names no host"))?;
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), uri.port_u16().unwrap_or(usual)))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

pub(crate) fn wrong(option: &'static str, what: &str) -> Error {
    Error::new(Kind::Config, "http.options", format!("the server's {option} {what}"))
}
