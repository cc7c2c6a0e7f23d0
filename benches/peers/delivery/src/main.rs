//! The parts of the comparison that are ours: the server of apex and the raw one, the clients of all of them, and the
//! faults that Socket.IO goes through. `run` beside this starts them, each on a processor of its own, and measures.

mod apex;
mod event;
mod faults;
mod load;
mod raw;
mod steps;

use std::error::Error;

/// What anything here may end with: the message is read by people.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", "apex", folder, users] => apex::serve(folder.as_ref(), users.parse()?).await,
        ["serve", "raw"] => raw::serve().await,
        ["load", kind, port] => load::run(kind.parse()?, port.parse()?).await,
        ["faults", folder, users, runs] => {
            faults::run(folder.as_ref(), users.parse()?, runs.parse()?).await
        }
        _ => Err("see `run` beside Cargo.toml".into()),
    }
}
