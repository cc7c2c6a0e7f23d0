//! Two threads: one reads and decodes, this one prices and adds up.

use super::ledger::Ledger;
use super::row::{Interner, RouteName, Row};
use crate::cost::import::{Import, Progress};
use crate::cost::report::Rejection;
use apex_core::error::{Error, Kind, Result};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How many rows travel together, and how many such batches may wait. Small enough to stay in a cache.
const BATCH: usize = 2_048;
const WAITING: usize = 8;

/// Rows in their order, with the names that appear in them for the first time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    pub(super) rejected: Vec<Rejection>,
    pub(super) users: Vec<Box<str>>,
    pub(super) routes: Vec<RouteName>,
    pub(super) progress: Option<Progress>,
}

/// Passes all rows of a file to the ledger.
pub(super) fn run(
    import: &mut Import<'_>,
    interner: &mut Interner,
    ledger: &mut Ledger,
    observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<()> {
    let (full, batches) = sync_channel::<Batch>(WAITING);
    let (give_back, empty) = sync_channel::<Batch>(WAITING + 2);
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("apex-import".to_owned())
            .spawn_scoped(scope, move || read(import, interner, &full, &empty))
            .map_err(|e| {
                Error::new(
                    Kind::Unavailable,
                    "usage.import",
                    "no thread could be started; try again later",
                )
                .with_source(e)
            })?;
        let mut stopped = false;
        for mut batch in &batches {
            ledger.take(&mut batch);
            let progress = batch.progress.take();
            // The reader may be at its end already; then nobody needs the batch.
            let _ = give_back.try_send(batch);
            if progress.is_some_and(|progress| observe(progress).is_break()) {
                stopped = true;
                break;
            }
        }
        // Without a receiver the reader stops at its next batch.
        drop(batches);
        let read = reader.join().map_err(|_| {
            Error::internal("usage.import", "the thread that decodes records panicked")
        })?;
        if stopped {
            return Err(Error::new(Kind::Cancelled, "usage.import", "the analysis was cancelled"));
        }
        read
    })
}

fn read(
    import: &mut Import<'_>,
    interner: &mut Interner,
    full: &SyncSender<Batch>,
    empty: &Receiver<Batch>,
) -> Result<()> {
    let mut ended = false;
    while !ended {
        let mut batch = empty.try_recv().unwrap_or_default();
        batch.rows.clear();
        batch.rejected.clear();
        while batch.rows.len() + batch.rejected.len() < BATCH {
            let Some(row) = import.next()? else {
                ended = true;
                break;
            };
            match row.record {
                Ok(record) => batch.rows.push(interner.row(row.line, &record)),
                Err(reason) => batch.rejected.push(Rejection { line: row.line, reason }),
            }
        }
        batch.users.append(&mut interner.new_users);
        batch.routes.append(&mut interner.new_routes);
        batch.progress = Some(import.progress());
        if full.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}
