use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves until it is killed; says its address first.
pub async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}/v1", listener.local_addr().unwrap());
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { answer_all(socket).await.unwrap_or_default() });
    }
}

async fn answer_all(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let request = loop {
            if let Some(request) = take(&mut read) {
                break request;
            }
            if socket.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let request: serde_json::Value = serde_json::from_slice(&request).unwrap_or_default();
        let model = request["model"].as_str().unwrap_or_default();
        match model.strip_prefix("chunks-").and_then(|chunks| chunks.parse().ok()) {
            Some(chunks) if request["stream"] == true => stream(&mut socket, chunks).await?,
            _ => plain(&mut socket).await?,
        }
    }
}

/// A whole request's body, once it is there.
fn take(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    if read.len() < end + length {
        return None;
    }
    let body = read[end..end + length].to_vec();
    read.drain(..end + length);
    Some(body)
}

async fn plain(socket: &mut TcpStream) -> std::io::Result<()> {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_760_000_000, "model": "plain",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello, how can I help you today?"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
    })
    .to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    socket.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await
}

/// Each chunk in a write of its own, as a provider sends them.
async fn stream(socket: &mut TcpStream, chunks: usize) -> std::io::Result<()> {
    socket
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    let chunk = |choices: serde_json::Value, usage: serde_json::Value| {
        let data = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "chunks",
            "choices": choices, "usage": usage
        });
        let data = format!("data: {data}\n\n");
        format!("{:x}\r\n{data}\r\n", data.len())
    };
    let none = serde_json::Value::Null;
    // LiteLLM takes a word that is repeated for a model that is stuck.
    let texts = [" word", " next"].map(|word| {
        chunk(
            json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}]),
            none.clone(),
        )
    });
    for text in texts.iter().cycle().take(chunks) {
        socket.write_all(text.as_bytes()).await?;
    }
    let end = chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), none);
    let usage = chunk(
        json!([]),
        json!({"prompt_tokens": 9, "completion_tokens": chunks, "total_tokens": chunks + 9}),
    );
    socket.write_all(format!("{end}{usage}e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").as_bytes()).await
}
