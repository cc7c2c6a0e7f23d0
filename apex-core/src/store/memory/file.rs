use super::erase::{Erase, Erased};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::file::{Body, Content, FileInfo, FileLimits, FileStore, check_name, hex, id_taken};
use crate::id::{FileId, UserId};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

/// Files in memory.
#[derive(Debug)]
pub(super) struct MemoryFileStore {
    limits: FileLimits,
    clock: Arc<dyn Clock>,
    erased: Arc<Erased>,
    pub(super) files: Mutex<HashMap<FileId, Entry>>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    user: UserId,
    info: FileInfo,
    content: Bytes,
}

impl MemoryFileStore {
    pub(super) fn new(limits: FileLimits, clock: Arc<dyn Clock>, erased: Arc<Erased>) -> Self {
        Self { limits, clock, erased, files: Mutex::default() }
    }

    fn own<T>(
        &self,
        principal: &Principal,
        file: FileId,
        operation: &'static str,
        take: impl FnOnce(&Entry) -> T,
    ) -> Result<T> {
        self.files
            .lock()
            .get(&file)
            .filter(|entry| entry.user == principal.user())
            .map(take)
            .ok_or_else(|| Error::not_found(operation, "file"))
    }
}

impl Erase for MemoryFileStore {
    fn erase(&self, user: UserId) {
        self.files.lock().retain(|_, entry| entry.user != user);
    }
}

#[async_trait]
impl FileStore for MemoryFileStore {
    async fn put(
        &self,
        principal: &Principal,
        file: FileId,
        name: &str,
        mut body: Body,
    ) -> Result<FileInfo> {
        principal.require(Scope::Run, "file.put")?;
        check_name(name, "file.put")?;
        let (used, count) = used_by(&self.files.lock(), principal.user());
        self.limits.check(0, used, count)?;
        let mut content = BytesMut::new();
        while let Some(piece) = body.next().await {
            let piece = piece?;
            self.limits.check((content.len() + piece.len()) as u64, used, count)?;
            content.extend_from_slice(&piece);
        }
        let content = content.freeze();
        let info = FileInfo {
            file,
            name: name.to_owned(),
            bytes: content.len() as u64,
            sha256: hex(&Sha256::digest(&content)),
            at: self.clock.now(),
        };
        let mut files = self.files.lock();
        self.erased.refuse(principal.user(), "file.put")?;
        if files.contains_key(&file) {
            return Err(id_taken());
        }
        // Others of the user's may have arrived in the meantime.
        let (used, count) = used_by(&files, principal.user());
        self.limits.check(info.bytes, used, count)?;
        let entry = Entry { user: principal.user(), info: info.clone(), content };
        files.insert(file, entry);
        Ok(info)
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<FileInfo>> {
        principal.require(Scope::Read, "file.list")?;
        let mut found: Vec<FileInfo> = self
            .files
            .lock()
            .values()
            .filter(|entry| entry.user == principal.user())
            .map(|entry| entry.info.clone())
            .collect();
        found.sort_unstable_by_key(|info| Reverse((info.at, info.file)));
        Ok(found)
    }

    async fn info(&self, principal: &Principal, file: FileId) -> Result<FileInfo> {
        principal.require(Scope::Read, "file.info")?;
        self.own(principal, file, "file.info", |entry| entry.info.clone())
    }

    async fn open(&self, principal: &Principal, file: FileId) -> Result<Content> {
        principal.require(Scope::Read, "file.open")?;
        let content = self.own(principal, file, "file.open", |entry| entry.content.clone())?;
        Ok(Box::new(Cursor::new(content)))
    }

    async fn delete(&self, principal: &Principal, file: FileId) -> Result<()> {
        principal.require(Scope::Run, "file.delete")?;
        self.own(principal, file, "file.delete", |_| ())?;
        self.files.lock().remove(&file);
        Ok(())
    }
}

fn used_by(files: &HashMap<FileId, Entry>, user: UserId) -> (u64, usize) {
    files
        .values()
        .filter(|entry| entry.user == user)
        .fold((0, 0), |(bytes, count), entry| (bytes + entry.info.bytes, count + 1))
}
