//! Server-sent events, from bytes that arrive in any slices.

use std::str::Utf8Error;

/// The longest event. The largest recorded one is below 300 kB.
const MAX_EVENT: usize = 8 << 20;

/// Why bytes are no stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SseFault {
    TooLong,
    NotUtf8,
}

impl SseFault {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::TooLong => "an event is longer than 8 MiB",
            Self::NotUtf8 => "an event is not UTF-8",
        }
    }
}

impl From<Utf8Error> for SseFault {
    fn from(_: Utf8Error) -> Self {
        Self::NotUtf8
    }
}

/// Cuts bytes into events. Names, ids and comments are skipped: every provider says what an event is in its data.
#[derive(Debug, Default)]
pub(crate) struct SseDecoder {
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    /// The event's data so far.
    data: Vec<u8>,
    has_data: bool,
    /// A carriage return ended the last slice: a line feed that follows belongs to it.
    after_return: bool,
    begun: bool,
}

impl SseDecoder {
    /// Takes the next bytes and hands over each event's data that they complete.
    pub(crate) fn feed<E: From<SseFault>>(
        &mut self,
        mut bytes: &[u8],
        mut event: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return)
                && let Some(rest) = bytes.strip_prefix(b"\n")
            {
                bytes = rest;
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else {
                self.hold(bytes.len())?;
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            let (head, tail) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            let (stop, rest) = tail.split_first().unwrap_or((&b'\n', &[]));
            self.after_return = *stop == b'\r';
            bytes = rest;
            self.hold(head.len())?;
            if self.line.is_empty() {
                self.end_line(head, &mut event)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(head);
                self.end_line(&line, &mut event)?;
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }

    fn hold(&self, more: usize) -> Result<(), SseFault> {
        if self.line.len() + self.data.len() + more > MAX_EVENT {
            return Err(SseFault::TooLong);
        }
        Ok(())
    }

    fn end_line<E: From<SseFault>>(
        &mut self,
        line: &[u8],
        event: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let line = if std::mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                let done = std::str::from_utf8(&self.data)
                    .map_err(|error| E::from(SseFault::from(error)))
                    .and_then(event);
                self.data.clear();
                return done;
            }
            return Ok(());
        }
        let Some(value) = line.strip_prefix(b"data") else {
            return Ok(());
        };
        let value = match value.split_first() {
            None => value,
            Some((b':', value)) => value.strip_prefix(b" ").unwrap_or(value),
            // Another field whose name begins like this one.
            Some(_) => return Ok(()),
        };
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(slices: &[&[u8]]) -> Result<Vec<String>, SseFault> {
        let mut decoder = SseDecoder::default();
        let mut found = Vec::new();
        for slice in slices {
            decoder.feed(slice, |data| {
                found.push(data.to_owned());
                Ok::<_, SseFault>(())
            })?;
        }
        Ok(found)
    }

    #[test]
    fn line_ends_comments_and_other_fields() {
        let stream = b"\xef\xbb\xbfdata: a\r\n\r\n: ping\nevent: x\ndata:b\ndata: c\n\nid: 4\n\ndatabase: no\n\ndata\r\rdata: cut";
        assert_eq!(events(&[stream]).unwrap(), ["a", "b\nc", ""]);
    }

    #[test]
    fn what_is_not_utf8_or_has_no_end_is_refused() {
        assert_eq!(events(&[b"data: \xff\n\n"]), Err(SseFault::NotUtf8));
        let megabyte = vec![b'x'; 1 << 20];
        let endless: Vec<&[u8]> = std::iter::repeat_n(megabyte.as_slice(), 9).collect();
        assert_eq!(events(&endless), Err(SseFault::TooLong));
        let lines: Vec<&[u8]> = [b"data: ".as_slice(), &megabyte, b"\n"].repeat(9);
        assert_eq!(events(&lines), Err(SseFault::TooLong));
    }

    proptest! {
        #[test]
        fn slicing_changes_nothing(
            stream in "(data|event|data: é|:|\r|\n|\r\n|\u{feff}|x){0,40}",
            cuts in proptest::collection::vec(0_usize..200, 0..10),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let slices: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&slices), events(&[bytes]));
        }
    }
}
