//! The guide's code for the Rust client, as it is written.

use crate::support::Wire;
use apex_core::clock::SystemClock;
use apex_core::error::Result;
use apex_transport::client::{Api, Client, ClientOptions, Update};
use std::sync::Arc;

#[allow(clippy::print_stdout)] // as the guide shows it
async fn shown(base: &str) -> Result<()> {
    let api = Api::new(base)?.log_in("ada").await?;
    let client = Client::connect(ClientOptions::new(api, Arc::new(SystemClock))).await?;
    let (accepted, mut updates) = client.ask("Where does our money go?", None, Vec::new()).await?;
    while let Some(update) = updates.next().await {
        match update? {
            Update::Event(event) => println!("{}", event.kind),
            Update::Reset(reset) => println!("no longer kept in detail: {:?}", reset.snapshot),
        }
    }
    let (_, mut more) = client.ask("And by user?", Some(accepted.thread), Vec::new()).await?;
    while let Some(update) = more.next().await {
        update?;
    }
    Ok(())
}

#[tokio::test]
async fn the_guide_shows_what_works() {
    let wire = Wire::start().await;
    shown(&format!("http://{}", wire.address)).await.unwrap();
    let guide = include_str!("../../../docs/guide/clients.md");
    let (_, code) = guide.split_once("```rust\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let indented: String = code.lines().map(|line| format!("    {line}\n")).collect();
    assert!(include_str!("client_guide.rs").contains(&indented), "the guide shows other code");
}
