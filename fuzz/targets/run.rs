//! Feeds a decoder as a provider's connection does.

#![allow(dead_code, reason = "each target uses its part")]

use apex_agents::model::{Format, ModelEvent, ModelResponse};

/// The events, and the answer or the error's text.
pub type Came = (Vec<ModelEvent>, Result<ModelResponse, String>);

pub fn whole(format: Format, bytes: &[u8]) -> Came {
    packets(format, std::iter::once(bytes))
}

pub fn packets<'a>(format: Format, packets: impl Iterator<Item = &'a [u8]>) -> Came {
    let mut decoder = format.decoder("fuzz");
    let mut events = Vec::new();
    for packet in packets {
        let fed = decoder.feed(packet);
        events.extend(std::iter::from_fn(|| decoder.next()));
        if let Err(error) = fed {
            return (events, Err(error.to_string()));
        }
    }
    let response = decoder.finish().map_err(|error| error.to_string());
    events.extend(std::iter::from_fn(|| decoder.next()));
    (events, response)
}
