//! A web host in one process: a chat page, and the routes of Apex behind it, on one listener.
//!
//! `cargo run --release --example chat [-- --listen 127.0.0.1:8000] [--db FILE]`
//!
//! The page is plain HTML, CSS and JavaScript without a build step, in `page/` beside this file; its
//! `apex-client.js` is a client of the protocol that other pages may take as it is.

mod arguments;
mod page;

use arguments::Arguments;
use netra_apex::core::config::Environment;
use netra_apex::prelude::*;
use netra_apex::transport::TransportConfig;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long runs and clients may take to end after Ctrl-C; what is not done by then goes on at the next start.
const DRAIN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(fault) => {
            eprintln!("{fault}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    match host(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until Ctrl-C, then lets everything come to rest.
async fn host(arguments: Arguments) -> Result<()> {
    let listener = TcpListener::bind(arguments.listen).await.map_err(|error| {
        let message = format!("{} cannot be listened on; choose another port with --listen", arguments.listen);
        Error::new(Kind::Unavailable, "chat.listen", message).with_source(error)
    })?;
    let port = arguments.listen.port();
    let origins = [arguments.listen.to_string(), format!("localhost:{port}")];
    let apex = Apex::builder()
        .environment(Environment::Development)
        .database(arguments.database)
        .transport(TransportConfig { origins: origins.map(|host| format!("http://{host}")).into(), ..TransportConfig::default() })
        .build()
        .await?;

    // The page's routes first; whatever they do not know is the protocol's.
    let service = apex.service();
    let hub = service.hub().clone();
    let app = page::routes().fallback_service(service);
    println!("Apex chat: http://{}  (Ctrl-C ends it)", arguments.listen);
    let interrupted = async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            println!("Ending: runs under way are saved and go on at the next start.");
        }
        hub.drain();
    };
    let served = axum::serve(listener, app).with_graceful_shutdown(interrupted).await;
    apex.drain(DRAIN).await;
    served.map_err(|error| Error::new(Kind::Unavailable, "chat.serve", "the listener failed").with_source(error))
}
