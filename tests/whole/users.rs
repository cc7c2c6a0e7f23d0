//! Many users at once on one process, over the real wire.

use crate::support::{assert_whole_run, builder};
use netra_apex::agents::cost::sample;
use netra_apex::core::clock::SystemClock;
use netra_apex::core::error::Outcome;
use netra_apex::core::run::Position;
use netra_apex::prelude::*;
use netra_apex::transport::client::{Api, Client, ClientOptions, Update};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

const USERS: usize = 200;
/// Three times what a busy machine of two cores needs for all of them.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_users_at_once_get_their_own_events_complete_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let apex = builder(folder.path()).build().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn({
        let apex = apex.clone();
        async move { apex.serve(listener, async { drop(stopped.await) }).await }
    });

    let users: Vec<_> =
        (0..USERS).map(|number| tokio::spawn(one_user(url.clone(), number))).collect();
    let mut seen = BTreeSet::new();
    let mut clients = Vec::new();
    for user in users {
        let (client, run, events) = user.await.unwrap();
        assert_whole_run(&events);
        assert_eq!(events.last().unwrap()["type"], "run_completed", "{:?}", events.last());
        assert!(events.iter().all(|event| event["run"] == run.to_string()), "another's event");
        assert!(seen.insert(run), "a run twice");
        clients.push((client, run));
    }
    for pair in clients.windows(2).take(20) {
        let ((client, _), (_, another)) = (&pair[0], &pair[1]);
        let mut updates = client.subscribe(*another, Position::default()).await.unwrap();
        let error = updates.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(client.cancel(*another).await.unwrap_err().kind(), Kind::NotFound);
    }
    drop(clients);
    drop(stop);
    server.await.unwrap().unwrap();
}

async fn one_user(url: String, number: usize) -> (Client, RunId, Vec<Value>) {
    let api = Api::new(&url).unwrap();
    let name = format!("user-{number}");
    let api = admitted(|| api.clone().log_in(&name)).await;
    let sample = sample::csv();
    let file = admitted(|| {
        let (length, body) = (Some(sample.len() as u64), Cursor::new(sample.clone()));
        api.upload("sample.csv", length, body, |_| {})
    })
    .await;
    let options = ClientOptions::new(api, Arc::new(SystemClock));
    let client = admitted(|| Client::connect(options.clone())).await;
    let (accepted, mut updates) =
        admitted(|| client.ask("What could we save?", None, vec![file.file])).await;
    let mut events = Vec::new();
    while let Some(update) = updates.next().await {
        match update.unwrap() {
            Update::Event(event) => events.push(serde_json::to_value(&event).unwrap()),
            Update::Reset(reset) => panic!("a hole: {reset:?}"),
        }
    }
    (client, accepted.run, events)
}

/// Whoever finds a full house at the door, or all of its own places taken, comes back: nothing was done yet.
pub(crate) async fn admitted<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(done) => return done,
            Err(error)
                if matches!(error.kind(), Kind::PoolExhausted | Kind::RateLimited)
                    && error.outcome() == Outcome::NotApplied
                    && begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
