use crate::id::UserId;
use crate::principal::Principal;
use uuid::Uuid;

/// Who gets a session first when there are not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Work that nobody waits for.
    Low,
    /// The work of users.
    Normal,
    /// Work on which others depend, such as renewing a lease.
    Critical,
}

impl Priority {
    /// Every priority, the least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::Critical];

    /// As in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::Critical => "critical",
        }
    }
}

/// In whose name and for what a session is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(super) user: Option<UserId>,
    pub(super) priority: Priority,
    pub(super) operation: &'static str,
    pub(super) preemptible: bool,
    pub(super) record: Option<Uuid>,
}

impl Access {
    /// A user's own work; it counts against the user's share.
    pub(crate) fn of(principal: &Principal, operation: &'static str) -> Self {
        Self::user(principal.user(), operation)
    }

    /// The same where only the user is known, such as before a login.
    pub(crate) fn user(user: UserId, operation: &'static str) -> Self {
        Self { user: Some(user), ..Self::system(operation) }
    }

    /// Work in nobody's name.
    pub(crate) fn system(operation: &'static str) -> Self {
        Self { user: None, priority: Priority::Normal, operation, preemptible: false, record: None }
    }

    /// Work of a run that is under way.
    pub(crate) fn of_a_run(operation: &'static str) -> Self {
        Self::system(operation).priority(Priority::Critical)
    }

    /// Whether others depend on it.
    pub(crate) fn is_critical(&self) -> bool {
        self.priority == Priority::Critical
    }

    /// With another priority than normal.
    pub(crate) fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// Critical work that waits may take this session's place while its commit was not sent. The work then fails
    /// with `pool_exhausted`, and nothing of it was applied.
    pub(crate) fn preemptible(self) -> Self {
        Self { preemptible: true, ..self }
    }

    /// Puts the write on record under an id made by its caller instead of one made for it, in the same transaction. When the answer to the
    /// commit is lost, the record says whether the write took effect; a second write under the same id is refused
    /// with [`Outcome::Applied`](crate::error::Outcome::Applied).
    #[cfg(test)]
    pub(crate) fn recorded(self, operation_id: [u8; 16]) -> Self {
        Self { record: Some(Uuid::from_bytes(operation_id)), ..self }
    }
}
