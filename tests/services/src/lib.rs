//! What tests that talk to real servers share: [`Server`] starts one by `scripts/services` and does to it what goes
//! wrong in the world, [`Proxy`] does the same to its connections.
//!
//! A server that is not installed is skipped, and said; where the environment variable `APEX_TEST_EXPECT` (a list with
//! commas: `postgres,postgres18,redis,sentinel,cluster,nginx,haproxy,oidc-provider,fiu,kosoku,ag-ui-protocol,mcp`) names it, it
//! is a failure instead.

mod proxy;
mod server;

pub use proxy::{Proxy, Replies};
pub use server::{Kind, Node, Options, Problem, Server, Signal, Tls, signal};

/// The address of the shared server of `scripts/services run`: `postgres`, `postgres18` or `redis`. `None` where there
/// is none, after having said so.
///
/// # Panics
/// Where `APEX_TEST_EXPECT` names it.
#[must_use]
pub fn shared(name: &str) -> Option<String> {
    let variable = format!("APEX_TEST_{}_URL", name.to_uppercase());
    let url = std::env::var(&variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(name, &format!("{variable} is not set: run the test under scripts/services run"));
    }
    url
}

/// Says that what needs the server `name` is skipped.
///
/// # Panics
/// Where `APEX_TEST_EXPECT` names it.
#[allow(clippy::panic, reason = "it fails a test")]
pub fn skip(name: &str, why: &str) {
    let expected = std::env::var("APEX_TEST_EXPECT").unwrap_or_default();
    if expected.split(',').any(|each| each.trim() == name) {
        panic!("{name} was expected to run: {why}");
    }
    eprintln!("skipped: what needs {name}: {why}");
}
