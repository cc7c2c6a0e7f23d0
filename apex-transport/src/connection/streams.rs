use crate::protocol::FrameId;
use apex_core::id::{Epoch, RunId};
use std::collections::HashMap;

/// What can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// A run.
    Run(RunId),
    /// The user's inbox.
    Inbox,
}

/// One following of a stream; following it again is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(pub(super) u64);

/// The streams of one connection; each is followed at most once.
#[derive(Debug, Default)]
pub(super) struct Streams {
    followed: HashMap<StreamKey, Followed>,
    by_stream: HashMap<Stream, StreamKey>,
    last: u64,
}

#[derive(Debug)]
pub(super) struct Followed {
    pub(super) stream: Stream,
    /// The frame that asked for it.
    pub(super) id: FrameId,
    /// Whether that frame still waits for its answer.
    pub(super) unanswered: bool,
    /// The life in which it is read, once that is known.
    pub(super) epoch: Option<Epoch>,
    /// The last number that was sent.
    pub(super) last: u64,
}

impl Streams {
    /// Begins to follow; whatever followed the same stream before is given back with its key.
    pub(super) fn follow(
        &mut self,
        stream: Stream,
        id: FrameId,
        unanswered: bool,
        last: u64,
    ) -> (StreamKey, Option<(StreamKey, Followed)>) {
        self.last += 1;
        let key = StreamKey(self.last);
        let before = self.by_stream.insert(stream, key);
        let replaced = before.and_then(|key| Some((key, self.followed.remove(&key)?)));
        self.followed.insert(key, Followed { stream, id, unanswered, epoch: None, last });
        (key, replaced)
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Followed> {
        self.followed.get_mut(&key)
    }

    pub(super) fn leave(&mut self, stream: Stream) -> Option<(StreamKey, Followed)> {
        let key = self.by_stream.remove(&stream)?;
        Some((key, self.followed.remove(&key)?))
    }

    pub(super) fn end(&mut self, key: StreamKey) -> Option<Followed> {
        let followed = self.followed.remove(&key)?;
        self.by_stream.remove(&followed.stream);
        Some(followed)
    }

    pub(super) fn contains(&self, stream: Stream) -> bool {
        self.by_stream.contains_key(&stream)
    }

    pub(super) fn len(&self) -> usize {
        self.followed.len()
    }

    pub(super) fn clear(&mut self) {
        self.followed.clear();
        self.by_stream.clear();
    }
}
