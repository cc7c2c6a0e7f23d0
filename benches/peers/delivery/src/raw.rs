//! Raw tokio-tungstenite with 4 KiB buffers: no entry, no log, no numbers of its own; a channel and a socket.

use crate::steps::{Steps, tell};
use crate::{Outcome, event};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

const HEARTBEAT: Duration = Duration::from_secs(20);

/// Serves, and publishes when told to.
pub(crate) async fn serve() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell(&json!({ "port": listener.local_addr()?.port() }))?;
    let (events, _) = broadcast::channel::<Message>(4096);
    let sender = events.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, sender.subscribe()));
        }
    });
    let mut steps = Steps::new();
    let mut seq = 0;
    while let Some(step) = steps.next().await? {
        let words: Vec<&str> = step.iter().map(String::as_str).collect();
        match words[..] {
            ["publish", count, every_us] => {
                let every = Duration::from_micros(every_us.parse()?);
                let mut due = Instant::now();
                for _ in 0..count.parse::<u64>()? {
                    seq += 1;
                    let _ = events.send(Message::Text(Utf8Bytes::from(event::frame(seq))));
                    due += every;
                    match every.is_zero() {
                        true => tokio::task::yield_now().await,
                        false => sleep_until(due).await,
                    }
                }
                tell(&json!({ "published": seq }))?;
            }
            _ => return Err(format!("an unknown order: {step:?}").into()),
        }
    }
    Ok(())
}

async fn converse(stream: TcpStream, mut events: broadcast::Receiver<Message>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_message_size(Some(64 * 1024));
    let _ = stream.set_nodelay(true);
    let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await
    else {
        return;
    };
    if socket.send(Message::text(r#"{"frame":"welcome"}"#)).await.is_err() {
        return;
    }
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sent = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => socket.send(event).await,
                Err(_) => return,
            },
            came = socket.next() => match came {
                Some(Ok(message)) if !message.is_close() => Ok(()),
                _ => return,
            },
            _ = heartbeat.tick() => socket.send(Message::Ping(Bytes::new())).await,
        };
        if sent.is_err() {
            return;
        }
    }
}
