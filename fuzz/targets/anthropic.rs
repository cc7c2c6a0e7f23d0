//! A stream of this provider's, whatever it holds: no panic, and no end without an answer or an error.

#![no_main]

use apex_agents::model::Format;

#[path = "run.rs"]
mod run;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = run::whole(Format::Anthropic, bytes);
});
