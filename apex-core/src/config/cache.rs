use super::{Fault, FaultCode, Loaded, Loader, Report, Section};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// The configuration in force, which an explicit reload replaces whole or not at all.
///
/// Readers take a snapshot and keep it for one piece of work, so that no work sees two configurations. There is no
/// watching of files and no timer: the host reloads on its own sign (a signal, an operator's request).
pub struct Cache<T> {
    loader: Loader,
    current: watch::Sender<Arc<Loaded<T>>>,
    /// Reloads take turns, so that the later one wins.
    turn: Mutex<()>,
}

impl<T: Section> Cache<T> {
    /// Loads for the first time.
    ///
    /// # Errors
    /// Every fault there is.
    pub fn load(loader: Loader) -> Result<Self, Report> {
        let first = Arc::new(loader.load()?);
        Ok(Self { loader, current: watch::Sender::new(first), turn: Mutex::new(()) })
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Loaded<T>> {
        Arc::clone(&self.current.borrow())
    }

    /// Reads the sources again. When they do not pass nothing changes; when they do and a value or its source is
    /// another, subscribers are told. Says whether something changed.
    ///
    /// The environment is the one that the loader was given: a process does not see changes to it anyway.
    ///
    /// # Errors
    /// Every fault there is; what was in force stays.
    pub async fn reload(&self) -> Result<bool, Report> {
        let _turn = self.turn.lock().await;
        let loader = self.loader.clone();
        // Files, and perhaps a vault, are read: not on a thread that serves.
        let loaded = tokio::task::spawn_blocking(move || loader.load::<T>()).await;
        let result = loaded.unwrap_or_else(|_| {
            let fault = Fault {
                key: "reload".to_owned(),
                source: "host".to_owned(),
                problem: "a rule or a secret source of the host's panicked".to_owned(),
                advice: "see the log for the panic; it is a defect of the host's".to_owned(),
                code: FaultCode::Unreadable,
            };
            Err(Report { faults: vec![fault] })
        });
        match result {
            Ok(loaded) => {
                let changed = self.replace(loaded);
                tracing::info!(changed, "configuration reloaded");
                Ok(changed)
            }
            Err(report) => {
                metrics::counter!("apex_config_reload_failures_total").increment(1);
                tracing::warn!(
                    faults = report.faults.len(),
                    "configuration not reloaded: it does not pass"
                );
                Err(report)
            }
        }
    }

    /// Hears of each configuration that comes into force from now on; a slow subscriber sees the latest.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Loaded<T>>> {
        self.current.subscribe()
    }

    fn replace(&self, loaded: Loaded<T>) -> bool {
        // A secret's change cannot be seen in the listing, so a field that holds one counts as changed.
        let secret = loaded.listed.iter().any(|entry| entry.secret && entry.value != "(not set)");
        let changed = secret || self.current.borrow().listed != loaded.listed;
        if changed {
            self.current.send_replace(Arc::new(loaded));
        }
        changed
    }
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("current", &*self.current.borrow()).finish_non_exhaustive()
    }
}
