//! The bytes of a file as records are cut from them: decompressed where they are compressed, never all in memory.

use flate2::read::MultiGzDecoder;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The longest record, in bytes. What is longer is no usage record but a fault, such as a quote that never ends.
pub(super) const LONGEST_RECORD: usize = 1 << 20;

/// How much is asked of the source at a time.
const CHUNK: usize = 128 << 10;

/// A compressed file that expands beyond this and more than 500-fold is a trap. Logs expand 5- to 50-fold.
const BOMB_BYTES: u64 = 64 << 20;
const BOMB_RATIO: u64 = 500;

/// A window on the bytes of a file.
pub(super) struct Feed<'a> {
    source: Box<dyn Read + Send + 'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    meter: Arc<Meter>,
    compressed: bool,
    expanded: u64,
}

/// What the source itself did, below a decompressor.
#[derive(Debug, Default)]
struct Meter {
    bytes: AtomicU64,
    failed: AtomicBool,
}

/// Why there are no more bytes.
#[derive(Debug)]
pub(super) enum FeedError {
    /// The source failed: not the file's fault.
    Source(io::Error),
    /// The file is damaged, or too much.
    File(String),
}

impl<'a> Feed<'a> {
    /// Opens a source, looking through one layer of gzip.
    pub(super) fn open(source: impl Read + Send + 'a) -> io::Result<Self> {
        let meter = Arc::new(Meter::default());
        let mut source = Metered { source, meter: Arc::clone(&meter) };
        let mut magic = Vec::with_capacity(2);
        source.by_ref().take(2).read_to_end(&mut magic)?;
        let compressed = magic == [0x1f, 0x8b];
        let whole = Cursor::new(magic).chain(source);
        let source: Box<dyn Read + Send + 'a> = if compressed {
            Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(CHUNK, whole)))
        } else {
            Box::new(whole)
        };
        Ok(Self {
            source,
            buffer: vec![0; 2 * CHUNK],
            start: 0,
            end: 0,
            ended: false,
            meter,
            compressed,
            expanded: 0,
        })
    }

    /// The bytes at hand, from the first one that was not taken.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes the first `count` bytes away.
    pub(super) fn take(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Whether the bytes at hand are the last.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the file is compressed.
    pub(super) fn compressed(&self) -> bool {
        self.compressed
    }

    /// How many bytes were read of the file as it is stored.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.meter.bytes.load(Ordering::Relaxed)
    }

    /// Reads more bytes behind those at hand. At the end of the file it says so by [`Feed::ended`].
    pub(super) fn more(&mut self) -> Result<(), FeedError> {
        if self.ended {
            return Ok(());
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < CHUNK {
            self.buffer.resize(self.buffer.len() + CHUNK, 0);
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = loop {
            match self.source.read(space) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read {
            Ok(0) => self.ended = true,
            Ok(read) => {
                self.end += read;
                self.expanded += read as u64;
            }
            Err(e) => {
                self.ended = true;
                let own = self.compressed && !self.meter.failed.load(Ordering::Relaxed);
                if !own {
                    return Err(FeedError::Source(e));
                }
                self.drop_last_line();
                let reason = format!("the compressed data is damaged or ends early ({e})");
                return Err(FeedError::File(reason));
            }
        }
        if self.compressed
            && self.expanded > BOMB_BYTES
            && self.expanded / BOMB_RATIO > self.stored_bytes()
        {
            self.ended = true;
            self.drop_last_line();
            return Err(FeedError::File(format!(
                "the compressed data expands more than {BOMB_RATIO}-fold, which no usage file does"
            )));
        }
        Ok(())
    }

    /// Takes away a line that was cut off: half a number looks like a number.
    fn drop_last_line(&mut self) {
        let whole = memchr::memrchr(b'\n', self.bytes()).map_or(0, |at| at + 1);
        self.end = self.start + whole;
    }

    /// Reads until at least `count` bytes are at hand, or all that there are.
    pub(super) fn at_least(&mut self, count: usize) -> Result<(), FeedError> {
        while self.end - self.start < count && !self.ended {
            self.more()?;
        }
        Ok(())
    }
}

struct Metered<R> {
    source: R,
    meter: Arc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer);
        match &read {
            Ok(count) => {
                self.meter.bytes.fetch_add(*count as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.meter.failed.store(true, Ordering::Relaxed),
        }
        read
    }
}
