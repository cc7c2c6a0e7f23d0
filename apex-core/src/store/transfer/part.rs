use super::rows::Rows;
use crate::auth::{AuditStore, SessionStore, UserStore};
use crate::budget::BudgetStore;
use crate::error::{Error, Kind, Result};
use crate::file::{ArtifactStore, FileStore};
use crate::memory::MemoryStore;
use crate::run::RunLog;
use crate::store::Stores;
use crate::thread::ThreadStore;
use crate::usage::UsageStore;
use std::fmt;
use std::sync::Arc;

/// What is kept together, wherever that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Accounts, and the record of the door.
    Accounts,
    /// Logins, and what was revoked of them.
    Logins,
    /// Conversations, usage, files, results and runs.
    Rest,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accounts => "accounts",
            Self::Logins => "logins",
            Self::Rest => "conversations and runs",
        })
    }
}

/// Where the parts of [`Stores`] are kept, for [`copy`](super::copy); only this crate's databases and Redis say so.
#[derive(Debug, Clone, Default)]
pub struct Portable {
    pub(crate) accounts: Option<Accounts>,
    pub(crate) logins: Option<Logins>,
    pub(crate) rest: Option<Rest>,
}

/// Rows, and the stores that are kept in them.
#[derive(Debug, Clone)]
pub(crate) struct Accounts(Arc<dyn Rows>, Arc<dyn UserStore>, Arc<dyn AuditStore>);

/// The same for logins.
#[derive(Debug, Clone)]
pub(crate) struct Logins(pub(crate) Arc<dyn Rows>, pub(crate) Arc<dyn SessionStore>);

/// The same for the rest.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    rows: Arc<dyn Rows>,
    runs: Arc<dyn RunLog>,
    threads: Arc<dyn ThreadStore>,
    files: Arc<dyn FileStore>,
    artifacts: Arc<dyn ArtifactStore>,
    usage: Arc<dyn UsageStore>,
    budgets: Arc<dyn BudgetStore>,
    memory: Arc<dyn MemoryStore>,
}

impl Portable {
    /// All of `stores` is kept in one place.
    pub(crate) fn whole(stores: &Stores, rows: Arc<dyn Rows>) -> Self {
        let Stores { users, audit, sessions, .. } = stores.clone();
        let Stores { runs, threads, files, artifacts, usage, budgets, memory, .. } = stores.clone();
        Self {
            accounts: Some(Accounts(Arc::clone(&rows), users, audit)),
            logins: Some(Logins(Arc::clone(&rows), sessions)),
            rest: Some(Rest { rows, runs, threads, files, artifacts, usage, budgets, memory }),
        }
    }

    /// The rows of a part, when the stores that it belongs to are still the ones that keep it.
    ///
    /// # Errors
    /// `bad_request` for stores in memory and stores of a host's.
    pub(crate) fn rows(stores: &Stores, part: Part) -> Result<Arc<dyn Rows>> {
        let Self { accounts, logins, rest } = &stores.portable;
        let found = match part {
            Part::Accounts => accounts.as_ref().and_then(|Accounts(rows, users, audit)| {
                let same = Arc::ptr_eq(users, &stores.users) && Arc::ptr_eq(audit, &stores.audit);
                same.then_some(rows)
            }),
            Part::Logins => logins.as_ref().and_then(|Logins(rows, sessions)| {
                Arc::ptr_eq(sessions, &stores.sessions).then_some(rows)
            }),
            Part::Rest => {
                rest.as_ref().and_then(|rest| rest.belongs_to(stores).then_some(&rest.rows))
            }
        };
        found.cloned().ok_or_else(|| unmovable(part))
    }
}

impl Rest {
    fn belongs_to(&self, stores: &Stores) -> bool {
        Arc::ptr_eq(&self.runs, &stores.runs)
            && Arc::ptr_eq(&self.threads, &stores.threads)
            && Arc::ptr_eq(&self.files, &stores.files)
            && Arc::ptr_eq(&self.artifacts, &stores.artifacts)
            && Arc::ptr_eq(&self.usage, &stores.usage)
            && Arc::ptr_eq(&self.budgets, &stores.budgets)
            && Arc::ptr_eq(&self.memory, &stores.memory)
    }
}

fn unmovable(part: Part) -> Error {
    let told = "this is kept in memory, which ends with its process, or in a store of the host's own, so there is \
        nothing that could be moved: keep it in sqlite:PATH or PostgreSQL from the beginning, logins also in Redis";
    Error::new(Kind::BadRequest, "transfer.open", told).with("part", part)
}
