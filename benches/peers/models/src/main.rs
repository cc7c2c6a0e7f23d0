//! `serve`: a server on loopback that speaks chat completions, as fast as it can. `bare URL REQUESTS STREAMS CHUNKS`
//! and `ours …`: so many requests one after the other, then so many streams, by a bare hyper client and by our
//! provider, on one thread. `crowd URL STREAMS CHUNKS`: our streams all at once. Each prints JSON.

mod server;

use apex_agents::model::{HttpOptions, HttpProvider, ModelEvent, ModelProvider, ModelRequest};
use apex_core::clock::SystemClock;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    match words.as_slice() {
        ["serve"] => server::serve().await,
        ["bare", url, requests, streams, chunks] => {
            let mut bare = Bare::connect(url).await;
            let (requests, streams, chunks) = (number(requests), number(streams), number(chunks));
            bare.request(0).await;
            let mut measured = Measured::default();
            for _ in 0..requests {
                measured.request(bare.request(0)).await;
            }
            for _ in 0..streams {
                measured.stream(bare.request(chunks)).await;
            }
            measured.print(chunks);
        }
        ["ours", url, requests, streams, chunks] => {
            let (requests, streams, chunks) = (number(requests), number(streams), number(chunks));
            let ours = provider(url);
            let hi = ModelRequest::user("hi");
            ours.complete("plain", &hi).await.unwrap();
            let mut measured = Measured::default();
            for _ in 0..requests {
                measured.request(async { drop(ours.complete("plain", &hi).await.unwrap()) }).await;
            }
            for _ in 0..streams {
                measured.stream(stream(&ours, chunks)).await;
            }
            measured.print(chunks);
        }
        ["crowd", url, streams, chunks] => {
            let (streams, chunks) = (number(streams), number(chunks));
            let ours = provider(url);
            let (began, cpu) = (Instant::now(), cpu());
            let tasks: Vec<_> = (0..streams)
                .map(|_| {
                    let ours = ours.clone();
                    tokio::spawn(async move { stream(&ours, chunks).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let cpu = self::cpu() - cpu;
            let per_chunk = cpu as f64 / 1e3 / (streams * chunks) as f64;
            let told = json!({"seconds": began.elapsed().as_secs_f64(), "cpu_us_per_chunk": per_chunk, "peak_kib": peak()});
            println!("{told}");
        }
        _ => panic!("serve | bare URL REQUESTS STREAMS CHUNKS | ours … | crowd URL STREAMS CHUNKS"),
    }
}

fn provider(url: &str) -> HttpProvider {
    let clock = Arc::new(SystemClock);
    HttpProvider::compatible("openai", url, None, HttpOptions::default(), clock).unwrap()
}

async fn stream(ours: &HttpProvider, chunks: usize) {
    let model = format!("chunks-{chunks}");
    let mut stream = ours.stream(&model, &ModelRequest::user("hi")).await.unwrap();
    let mut pieces = 0;
    while let Some(event) = stream.next().await {
        if let ModelEvent::Text(_) = event.unwrap() {
            pieces += 1;
        }
    }
    assert_eq!(pieces, chunks);
}

/// A hyper client that reads what comes and does nothing with it.
struct Bare {
    host: String,
    connection: SendRequest<Full<Bytes>>,
}

impl Bare {
    async fn connect(url: &str) -> Self {
        let host = url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
        let socket = tokio::net::TcpStream::connect(&host).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (connection, driver) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(driver);
        Self { host, connection }
    }

    /// A plain answer, or a stream of so many chunks.
    async fn request(&mut self, chunks: usize) {
        let model = if chunks == 0 { "plain".to_owned() } else { format!("chunks-{chunks}") };
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": chunks > 0});
        let request = hyper::Request::post("/v1/chat/completions")
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.connection.ready().await.unwrap();
        let mut body = self.connection.send_request(request).await.unwrap().into_body();
        while let Some(frame) = body.frame().await {
            drop(frame.unwrap());
        }
    }
}

#[derive(Default)]
struct Measured {
    requests: Vec<[u64; 3]>,
    streams: Vec<[u64; 3]>,
}

impl Measured {
    async fn request(&mut self, work: impl Future<Output = ()>) {
        self.requests.push(measure(work).await);
    }

    async fn stream(&mut self, work: impl Future<Output = ()>) {
        self.streams.push(measure(work).await);
    }

    fn print(self, chunks: usize) {
        let median = |all: &[[u64; 3]], what: usize| {
            let mut all: Vec<u64> = all.iter().map(|one| one[what]).collect();
            all.sort_unstable();
            all.get(all.len() / 2).map_or(0.0, |median| *median as f64)
        };
        let (requests, streams) = (&self.requests, &self.streams);
        let chunks = chunks as f64;
        let told = json!({
            "request_us": median(requests, 0) / 1e3,
            "request_cpu_us": median(requests, 1) / 1e3,
            "request_allocations": median(requests, 2),
            "chunk_us": median(streams, 0) / 1e3 / chunks,
            "chunk_cpu_us": median(streams, 1) / 1e3 / chunks,
            "chunk_allocations": median(streams, 2) / chunks,
        });
        println!("{told}");
    }
}

/// Nanoseconds, nanoseconds of this thread's CPU, allocations.
async fn measure(work: impl Future<Output = ()>) -> [u64; 3] {
    let (cpu, allocations, began) = (cpu(), ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    work.await;
    let took = began.elapsed().as_nanos() as u64;
    [took, self::cpu() - cpu, ALLOCATIONS.load(Ordering::Relaxed) - allocations]
}

fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
