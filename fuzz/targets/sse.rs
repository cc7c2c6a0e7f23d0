//! Server-sent events cut into packets anywhere: the same comes of them as of the whole, in every format.

#![no_main]

use apex_agents::model::Format;

#[path = "run.rs"]
mod run;

const FORMATS: [Format; 4] =
    [Format::OpenAiChat, Format::OpenAiResponses, Format::Anthropic, Format::Gemini];

// The first byte chooses the format, the second how long the packets are.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [format, packet, bytes @ ..] = bytes else {
        return;
    };
    let format = FORMATS[usize::from(*format) % FORMATS.len()];
    let packets = bytes.chunks(usize::from(*packet) % 32 + 1);
    assert_eq!(run::packets(format, packets), run::whole(format, bytes));
});
