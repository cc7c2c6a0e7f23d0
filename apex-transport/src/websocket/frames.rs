use crate::protocol::event_frame;
use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;

/// How many are kept, and how large one that is kept may be: together at most 1 MiB.
const KEPT: usize = 64;
const LARGEST: usize = 8 * 1024;

/// The longest header of a frame (RFC 6455, section 5.2).
const HEADER: usize = 10;

/// Events as they go over a WebSocket, header and all. Of many connections that are sent the same event one makes it, and
/// all write the same bytes.
#[derive(Debug)]
pub(crate) struct Frames([Mutex<Option<Framed>>; KEPT]);

#[derive(Debug)]
struct Framed {
    /// Kept, so that nothing else can come to lie where it lies.
    envelope: Bytes,
    frame: Bytes,
}

impl Default for Frames {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Frames {
    /// An encoded envelope as an `event` frame in a WebSocket's frame; `None` where it is no text.
    pub(crate) fn of(&self, envelope: &Bytes) -> Option<Bytes> {
        let place = self.0.get(envelope.as_ptr().addr() / 16 % KEPT)?;
        if envelope.len() > LARGEST {
            return frame(envelope);
        }
        let mut kept = place.lock();
        if let Some(framed) = &*kept
            && framed.envelope.as_ptr() == envelope.as_ptr()
            && framed.envelope.len() == envelope.len()
        {
            return Some(framed.frame.clone());
        }
        let frame = frame(envelope)?;
        *kept = Some(Framed { envelope: envelope.clone(), frame: frame.clone() });
        Some(frame)
    }
}

fn frame(envelope: &Bytes) -> Option<Bytes> {
    const TEXT: u8 = 0x81;
    let payload = event_frame(envelope);
    std::str::from_utf8(&payload).ok()?;
    let mut frame = BytesMut::with_capacity(HEADER + payload.len());
    frame.put_u8(TEXT);
    // A server's frames are not masked.
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => frame.put_u8(length),
        (_, Ok(length)) => {
            frame.put_u8(126);
            frame.put_u16(length);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(payload.len() as u64);
        }
    }
    frame.put_slice(&payload);
    Some(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

    fn envelope(bytes: usize) -> Bytes {
        format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes)).into()
    }

    #[test]
    fn a_frame_of_any_size_is_read_as_it_was_meant() {
        for bytes in [0, 90, 100, 101, 200, 60_000, 65_510, 65_520, 70_000] {
            let envelope = envelope(bytes);
            let frame = Frames::default().of(&envelope).unwrap();
            let wire = std::io::Cursor::new(frame.to_vec());
            let mut client = WebSocket::from_raw_socket(wire, Role::Client, None);
            let Message::Text(text) = client.read().unwrap() else { panic!("no text") };
            assert_eq!(text.as_bytes(), event_frame(&envelope), "{bytes}");
        }
    }

    #[test]
    fn the_same_event_is_framed_once_and_another_one_anew() {
        let frames = Frames::default();
        let (one, other) = (envelope(100), envelope(100));
        let first = frames.of(&one).unwrap();
        assert_eq!(frames.of(&one.clone()).unwrap().as_ptr(), first.as_ptr());
        assert_ne!(frames.of(&other).unwrap().as_ptr(), first.as_ptr());
        // A part that begins at the same place is another one.
        let part = one.slice(..2);
        assert_eq!(frames.of(&part), Frames::default().of(&part));
        let large = envelope(LARGEST);
        assert_ne!(frames.of(&large).unwrap().as_ptr(), frames.of(&large).unwrap().as_ptr());
    }

    #[test]
    fn what_is_no_text_is_not_framed() {
        assert_eq!(Frames::default().of(&Bytes::from_static(b"{\xff}")), None);
    }
}
