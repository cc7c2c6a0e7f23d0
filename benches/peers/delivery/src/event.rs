//! What the others send: the frame of apex, made once for all who get it.

/// The words of an event.
pub(crate) fn note() -> String {
    "x".repeat(64)
}

/// A frame as apex sends it, of the same size.
pub(crate) fn frame(seq: u64) -> String {
    let note = note();
    format!(
        r#"{{"frame":"event","v":1,"run":"019a0000-0000-7000-8000-000000000001","thread":"019a0000-0000-7000-8000-000000000002","parent":null,"epoch":"019a0000-0000-7000-8000-000000000003","seq":{seq},"at":"2026-11-22T10:00:00.123Z","type":"agent_thinking","data":{{"step":1,"agent":"triage","note":"{note}"}}}}"#
    )
}
