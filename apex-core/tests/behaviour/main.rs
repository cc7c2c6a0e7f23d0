//! Runs the behaviour suite against every backend that is built in, and what only a file on a disk can show. The
//! run ends by naming the backends that ran.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a trial fails by panicking, and the run says which backends ran"
)]

mod backend;
mod crash;
mod database;
mod moves;
mod postgres;
mod transfer;

use apex_core::testkit::{Backend, suite};
use libtest_mimic::{Arguments, Trial};
use std::sync::Arc;

fn main() {
    if let Ok(place) = std::env::var(crash::CHILD) {
        crash::child(&place);
    }
    let mut backends: Vec<Arc<dyn Backend>> = vec![
        Arc::new(backend::Memory),
        Arc::new(backend::Replicated),
        Arc::new(backend::Sqlite::default()),
    ];
    let mut trials = Vec::new();
    for name in ["postgres", "postgres18"] {
        if let Some(server) = backend::Postgres::shared(name).map(Arc::new) {
            trials.extend(postgres::trials(&server, name));
            trials.extend(crash::trials_over(&server, name));
            trials.extend(transfer::trials(&server, name));
            backends.push(server);
        }
    }
    trials.extend(backends.iter().flat_map(|backend| trials_of(backend, None)));
    let redis = backend::Redis::all();
    trials.extend(moves::trials(&redis));
    for redis in redis {
        let redis: Arc<dyn Backend> = redis;
        trials.extend(trials_of(&redis, Some(&backend::Redis::SEAMS)));
        backends.push(redis);
    }
    for (log, seams) in backend::EventLog::all() {
        trials.extend(trials_of(&log, Some(seams)));
        backends.push(log);
    }
    trials.extend(database::trials());
    trials.extend(crash::trials());
    let arguments = Arguments::from_args();
    let listed = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !listed {
        let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
        println!("backends that ran: {}", names.join(", "));
    }
    conclusion.exit();
}

/// The cases of a backend, of the seams that it has or of all.
fn trials_of(backend: &Arc<dyn Backend>, seams: Option<&[&str]>) -> Vec<Trial> {
    suite()
        .into_iter()
        .filter(|case| seams.is_none_or(|seams| seams.contains(&case.seam)))
        .map(|case| {
            let backend = Arc::clone(backend);
            let name = format!("{}::{}::{}", backend.name(), case.seam, case.name);
            Trial::test(name, move || {
                backend::runtime().block_on(case.run(backend));
                Ok(())
            })
        })
        .collect()
}
