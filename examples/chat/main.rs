//! A web host in one process: a chat page, and the routes of Apex behind it, on one listener.
//!
//! `cargo run --release --example chat [-- --listen 127.0.0.1:8000] [--config FILE] [--db FILE]`
//!
//! The page is plain HTML, CSS and JavaScript without a build step, in `page/` beside this file. It speaks to the
//! server by the client in `bindings/node/client`, whose files it loads as they are.
#![allow(clippy::print_stdout, clippy::print_stderr)] // what it has to say, it says in the terminal

mod arguments;
mod notes;
mod page;
#[path = "../shared/settings.rs"]
mod settings;

use arguments::Arguments;
use netra_apex::prelude::*;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long runs and clients may take to end after Ctrl-C; what is not done by then goes on at the next start.
const DRAIN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{}", arguments::USAGE);
            return ExitCode::SUCCESS;
        }
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
    let (listener, address) = listen(arguments.listen).await?;
    let (config, database) = (arguments.config.as_deref(), arguments.database.as_deref());
    let settings = settings::load(config, database, Path::new("apex-chat.db"), Vec::new())
        .map_err(|report| Error::new(Kind::Config, "chat.settings", report.to_string()))?;
    let own = [format!("http://{address}"), format!("http://localhost:{}", address.port())];
    let mut transport = settings.transport();
    transport.origins.extend(own);
    let builder = settings.builder()?.transport(transport);
    let apex = builder.team_agent(notes::agent()).tool(notes::forget_everything()).build().await?;

    // The page's routes first; whatever they do not know is the protocol's.
    let service = apex.service();
    let hub = service.hub().clone();
    let app = page::routes().fallback_service(service);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async {
        stopped.await.ok();
    });
    let mut serving = tokio::spawn(serving.into_future());
    println!("Apex chat: http://{address}  (Ctrl-C ends it)");
    println!("How it is doing: http://{address}/operator  (log in as \"operator\")");
    tokio::select! {
        _ = &mut serving => {
            return Err(Error::new(Kind::Unavailable, "chat.serve", "the listener failed"));
        }
        _ = tokio::signal::ctrl_c() => println!("Ending: what is not done goes on at the next start."),
    }

    hub.drain();
    stop.send(()).ok();
    let resting = async {
        serving.await.ok();
        hub.emptied().await;
    };
    tokio::time::timeout(DRAIN, resting).await.ok();
    apex.drain(DRAIN).await;
    Ok(())
}

/// Listens there; gives the address with the port that a `0` was turned into.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let fault = |error: std::io::Error| {
        let message = format!("{address} cannot be listened on; choose another port with --listen");
        Error::new(Kind::Unavailable, "chat.listen", message).with_source(error)
    };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok((listener, address))
}
