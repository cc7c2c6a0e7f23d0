use super::erase::{Erase, Erased};
use crate::error::Result;
use crate::id::UserId;
use crate::memory::{MOST_NOTES, MemoryStore, Note, check, full, missing};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Notes in memory.
#[derive(Debug)]
pub(super) struct MemoryNoteStore {
    pub(super) notes: Mutex<HashMap<UserId, BTreeMap<String, Note>>>,
    erased: Arc<Erased>,
}

impl MemoryNoteStore {
    pub(super) fn new(erased: Arc<Erased>) -> Self {
        Self { notes: Mutex::default(), erased }
    }
}

impl Erase for MemoryNoteStore {
    fn erase(&self, user: UserId) {
        self.notes.lock().remove(&user);
    }
}

#[async_trait]
impl MemoryStore for MemoryNoteStore {
    async fn keep(&self, principal: &Principal, note: Note) -> Result<()> {
        principal.require(Scope::Run, "memory.keep")?;
        check(&note)?;
        let mut all = self.notes.lock();
        self.erased.refuse(principal.user(), "memory.keep")?;
        let own = all.entry(principal.user()).or_default();
        if own.len() >= MOST_NOTES && !own.contains_key(&note.name) {
            return Err(full());
        }
        own.insert(note.name.clone(), note);
        Ok(())
    }

    async fn notes(&self, principal: &Principal) -> Result<Vec<Note>> {
        principal.require(Scope::Read, "memory.notes")?;
        let all = self.notes.lock();
        Ok(all.get(&principal.user()).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }

    async fn forget(&self, principal: &Principal, name: &str) -> Result<()> {
        principal.require(Scope::Run, "memory.forget")?;
        let mut all = self.notes.lock();
        let own = all.get_mut(&principal.user()).ok_or_else(missing)?;
        own.remove(name).map(drop).ok_or_else(missing)
    }

    async fn forget_all(&self, principal: &Principal) -> Result<u64> {
        principal.require(Scope::Run, "memory.forget")?;
        let gone = self.notes.lock().remove(&principal.user());
        Ok(gone.map_or(0, |gone| gone.len() as u64))
    }
}
