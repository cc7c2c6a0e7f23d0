use crate::{Call, Callback};
use async_trait::async_trait;
use netra_apex::core::error::{Error, Kind, Result};
use netra_apex::core::memory::{MOST_NOTES, MemoryStore, Note, check, full, missing};
use netra_apex::core::principal::{Principal, Scope};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// Notes about users where the host keeps them, by four functions of its own. What may be kept, by whom and how much is
/// checked before any is called.
#[derive(Debug)]
pub struct HostMemory {
    /// Keeps `{"user", "note": {"name", "text", "run", "at"}}` in place of the note of that name, if there is one.
    pub keep: Arc<dyn Callback>,
    /// Gives the notes of `{"user"}`, in any order.
    pub notes: Arc<dyn Callback>,
    /// Forgets the note of `{"user", "name"}`; `false` where there was none.
    pub forget: Arc<dyn Callback>,
    /// Forgets all notes of `{"user"}`; says how many there were.
    pub forget_all: Arc<dyn Callback>,
}

#[async_trait]
impl MemoryStore for HostMemory {
    async fn keep(&self, principal: &Principal, note: Note) -> Result<()> {
        principal.require(Scope::Run, "memory.keep")?;
        check(&note)?;
        let kept = self.all_of(principal).await?;
        if kept.len() >= MOST_NOTES && kept.iter().all(|kept| kept.name != note.name) {
            return Err(full());
        }
        let asked = json!({ "user": principal.user(), "note": note });
        self.keep.call(asked, Call::Plain).await.map(drop)
    }

    async fn notes(&self, principal: &Principal) -> Result<Vec<Note>> {
        principal.require(Scope::Read, "memory.notes")?;
        self.all_of(principal).await
    }

    async fn forget(&self, principal: &Principal, name: &str) -> Result<()> {
        principal.require(Scope::Run, "memory.forget")?;
        let asked = json!({ "user": principal.user(), "name": name });
        let forgot = self.forget.call(asked, Call::Plain).await?;
        if read(forgot, "whether there was such a note")? { Ok(()) } else { Err(missing()) }
    }

    async fn forget_all(&self, principal: &Principal) -> Result<u64> {
        principal.require(Scope::Run, "memory.forget")?;
        let asked = json!({ "user": principal.user() });
        read(self.forget_all.call(asked, Call::Plain).await?, "how many notes there were")
    }
}

impl HostMemory {
    async fn all_of(&self, principal: &Principal) -> Result<Vec<Note>> {
        let asked = json!({ "user": principal.user() });
        let mut notes: Vec<Note> = read(self.notes.call(asked, Call::Plain).await?, "notes")?;
        notes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(notes)
    }
}

/// What a function of the store's answered.
fn read<T: DeserializeOwned>(answer: Value, what: &'static str) -> Result<T> {
    serde_json::from_value(answer).map_err(|error| {
        let told = format!("the host's memory store did not answer with {what}: {error}");
        Error::new(Kind::Storage, "host.memory", told)
    })
}
