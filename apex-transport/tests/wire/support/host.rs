//! A server of a host's own: it takes upgrades itself, asks the service who comes in, and carries frames between its
//! sockets and the service's pipes.

use apex_transport::pipe::{FramePipe, Sent};
use apex_transport::{GuardedSocket, Knocked, TransportService};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing::get};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Serves `/ws` over the host's own sockets, and `/echo`, over which the host speaks itself.
pub(crate) async fn start(service: TransportService) -> SocketAddr {
    let app = Router::new().route("/ws", get(upgrade)).route("/echo", get(echo));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app.with_state(service)).await });
    address
}

async fn echo(State(service): State<TransportService>, request: Request) -> Response {
    let answer = service.socket(request, |mut socket: GuardedSocket| async move {
        while let Some(said) = socket.next().await {
            if socket.send(said).await.is_err() {
                return;
            }
        }
    });
    answer.await.map(axum::body::Body::new)
}

async fn upgrade(State(service): State<TransportService>, request: Request) -> Response {
    let (mut head, _) = request.into_parts();
    let on_upgrade = head.extensions.remove::<OnUpgrade>().unwrap();
    let (subprotocol, pipe) = match service.knock(&head).await {
        Knocked::Accepted { subprotocol, pipe } => (subprotocol, pipe),
        Knocked::Refused(answer) => return answer.map(axum::body::Body::new),
    };
    tokio::spawn(async move {
        let stream = TokioIo::new(on_upgrade.await.unwrap());
        carry(WebSocketStream::from_raw_socket(stream, Role::Server, None).await, pipe).await;
    });
    let accept = derive_accept_key(head.headers["sec-websocket-key"].as_bytes());
    let mut answer = Response::builder()
        .status(101)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol {
        answer = answer.header(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    answer.body(axum::body::Body::empty()).unwrap().into_response()
}

async fn carry(socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, pipe: FramePipe) {
    let (mut write, mut read) = socket.split();
    let (sender, mut receiver) = pipe.split();
    let reading = async move {
        while let Some(Ok(message)) = read.next().await {
            let goes_on = match message {
                Message::Text(text) => sender.text(text.as_str()).await,
                Message::Binary(_) => sender.binary().await,
                Message::Close(_) => return,
                _ => sender.alive().await,
            };
            if !goes_on {
                // What is left to be read is the client's answer to the close.
                continue;
            }
        }
    };
    let writing = async move {
        while let Some(sent) = receiver.next().await {
            let message = match sent {
                Sent::Text(json) => Message::Text(Utf8Bytes::try_from(json).unwrap()),
                Sent::Ping => Message::Ping(Default::default()),
                Sent::Close(code, reason) => {
                    let close = CloseFrame { code: code.into(), reason: reason.into() };
                    let _ = write.send(Message::Close(Some(close))).await;
                    return;
                }
            };
            if write.send(message).await.is_err() {
                return;
            }
        }
    };
    // Either end is the end of both; a close that was sent is given time to be answered.
    let mut reading = std::pin::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        () = writing => {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), reading).await;
        }
    }
}
