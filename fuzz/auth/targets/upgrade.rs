//! A request to the door of a whole service, whatever it holds: it is answered, never as a defect of ours but for the
//! one that this target provokes, never with a socket, and never with what it brought.

#![no_main]

#[path = "request.rs"]
mod request;

use apex_core::auth::{Auth, AuthConfig, AuthParts};
use apex_core::clock::{Clock, SystemClock};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Decision;
use apex_core::id::{ApprovalId, RunId, StepId};
use apex_core::principal::Principal;
use apex_core::run::{Accepted, Live, Message, Runner};
use apex_core::store::memory;
use apex_transport::{Chain, Transport, TransportConfig, TransportService};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use std::cell::LazyCell;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Nobody gets as far as to a run.
#[derive(Debug)]
struct NoRuns;

#[async_trait::async_trait]
impl Runner for NoRuns {
    async fn start(&self, _: &Principal, _: Message) -> Result<Accepted> {
        Err(Error::new(Kind::Internal, "fuzz", "somebody came in"))
    }
    async fn cancel(&self, _: &Principal, _: RunId) -> Result<()> {
        Err(Error::new(Kind::Internal, "fuzz", "somebody came in"))
    }
    async fn stop(&self, _: &Principal, _: RunId, _: StepId) -> Result<()> {
        Err(Error::new(Kind::Internal, "fuzz", "somebody came in"))
    }
    async fn decide(
        &self,
        _: &Principal,
        _: RunId,
        _: ApprovalId,
        _: &str,
        _: Decision,
    ) -> Result<()> {
        Err(Error::new(Kind::Internal, "fuzz", "somebody came in"))
    }
}

thread_local! {
    static HOUSE: LazyCell<(Runtime, TransportService)> = LazyCell::new(|| {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        let auth =
            Auth::new(stores.auth(), AuthParts::default(), Arc::clone(&clock), AuthConfig::default());
        let config = TransportConfig {
            origins: vec!["https://chat.example.com".into()],
            trusted_proxies: 1,
            ..TransportConfig::default()
        };
        let service = TransportService::new(Transport {
            stores,
            auth,
            runner: Arc::new(NoRuns),
            live: Live::default(),
            clock,
            chain: Chain::default(),
            config,
        });
        (runtime, service.unwrap())
    });
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (query, headers) = request::head(bytes);
    let target = query.map_or_else(|| "/ws".to_owned(), |query| format!("/ws?{query}"));
    HOUSE.with(|house| {
        let (runtime, service) = &**house;
        for (method, path) in [(Method::GET, target.as_str()), (Method::POST, "/auth/ticket")] {
            let Ok(mut request) =
                Request::builder().method(method).uri(path).body(Full::new(Bytes::new()))
            else {
                continue;
            };
            *request.headers_mut() = headers.clone();
            let (status, body) = runtime.block_on(async {
                let answer = service.respond(request).await;
                let status = answer.status().as_u16();
                (status, answer.into_body().collect().await.unwrap().to_bytes())
            });
            let text = String::from_utf8_lossy(&body);
            // There is no socket under this request, which a whole upgrade is told as a defect of the host's. A panic
            // ends the process.
            let no_socket = status == 500 && path != "/auth/ticket" && text.contains("internal");
            assert!(no_socket || matches!(status, 400 | 401 | 403 | 503), "{status} {text}");
        }
    });
});
