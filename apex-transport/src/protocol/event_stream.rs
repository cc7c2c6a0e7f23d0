use super::Since;
use bytes::{BufMut as _, BytesMut};
use std::fmt::{self, Write as _};

/// What shows a listener, and every proxy before it, that the stream lives: a comment.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// Writes one event of an event stream (WHATWG HTML, section 9.2), with LF only. `json` is one line, as encoders of
/// JSON write it; neither `id` nor `name` may have a line break.
pub fn write_event(
    id: Option<fmt::Arguments<'_>>,
    name: Option<&str>,
    json: &[u8],
    into: &mut BytesMut,
) {
    into.reserve(json.len() + 80);
    if let Some(name) = name {
        into.put_slice(b"event: ");
        into.put_slice(name.as_bytes());
        into.put_u8(b'\n');
    }
    if let Some(id) = id {
        // Into memory nothing can fail.
        let _ = writeln!(into, "id: {id}");
    }
    into.put_slice(b"data: ");
    into.put_slice(json);
    into.put_slice(b"\n\n");
}

/// Tells a listener after how many milliseconds it comes back when it was cut off.
pub fn write_retry(millis: u64, into: &mut BytesMut) {
    let _ = write!(into, "retry: {millis}\n\n");
}

impl Since {
    /// From the `id` of an event of a run, `EPOCH:SEQ`, with which a listener comes back as its `Last-Event-ID`.
    #[must_use]
    pub fn from_event_id(id: &str) -> Option<Self> {
        let (epoch, seq) = id.split_once(':')?;
        Some(Self { epoch: Some(epoch.parse().ok()?), after: Some(seq.parse().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::id::Epoch;

    #[test]
    fn an_event_has_its_fields_in_lines_and_ends_with_an_empty_one() {
        let mut stream = BytesMut::new();
        write_retry(1_000, &mut stream);
        write_event(Some(format_args!("a:{}", 7)), Some("reset"), b"{}", &mut stream);
        write_event(None, None, b"[1]", &mut stream);
        stream.put_slice(HEARTBEAT);
        assert_eq!(
            stream,
            "retry: 1000\n\nevent: reset\nid: a:7\ndata: {}\n\ndata: [1]\n\n:\n\n".as_bytes()
        );
    }

    #[test]
    fn a_listener_comes_back_with_the_id_that_it_saw() {
        let epoch = Epoch::from_bytes([7; 16]);
        let since = Since { epoch: Some(epoch), after: Some(u64::MAX) };
        assert_eq!(Since::from_event_id(&format!("{epoch}:{}", u64::MAX)), Some(since));
        for bad in ["", ":", "7", "x:1", &format!("{epoch}:"), &format!("{epoch}:-1")] {
            assert_eq!(Since::from_event_id(bad), None, "{bad}");
        }
    }
}
