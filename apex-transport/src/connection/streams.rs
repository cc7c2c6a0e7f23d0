use crate::protocol::FrameId;
use apex_core::id::{Epoch, RunId};

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

/// The streams of one connection; each is followed at most once. Few connections follow more than a handful, and all of
/// them are in memory: a list that is searched takes a fraction of what maps would.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// In the order of their keys, which only grow.
    followed: Vec<(StreamKey, Followed)>,
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
        let replaced = self.leave(stream);
        if self.followed.is_empty() {
            // The first growth would be by four.
            self.followed.reserve_exact(1);
        }
        self.followed.push((key, Followed { stream, id, unanswered, epoch: None, last }));
        (key, replaced)
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Followed> {
        let place = self.place(key)?;
        self.followed.get_mut(place).map(|(_, followed)| followed)
    }

    pub(super) fn leave(&mut self, stream: Stream) -> Option<(StreamKey, Followed)> {
        let place = self.followed.iter().position(|(_, followed)| followed.stream == stream)?;
        Some(self.followed.remove(place))
    }

    pub(super) fn end(&mut self, key: StreamKey) -> Option<Followed> {
        let place = self.place(key)?;
        Some(self.followed.remove(place).1)
    }

    pub(super) fn contains(&self, stream: Stream) -> bool {
        self.followed.iter().any(|(_, followed)| followed.stream == stream)
    }

    pub(super) fn len(&self) -> usize {
        self.followed.len()
    }

    pub(super) fn clear(&mut self) {
        self.followed.clear();
    }

    fn place(&self, key: StreamKey) -> Option<usize> {
        self.followed.binary_search_by_key(&key, |(key, _)| *key).ok()
    }
}
