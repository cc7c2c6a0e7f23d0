use async_trait::async_trait;
use std::fmt;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A client's way to a service: TCP, or whatever else leads to a host.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync {
    /// A connection to `host:port`.
    ///
    /// # Errors
    /// Why there is none.
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Stream>>;
}

/// The bytes of one connection, both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The way over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
