use super::bench::Bench;
use super::{Backend, cases};
use crate::error::Kind;
use crate::file::{ArtifactInfo, MAX_ARTIFACT, artifact_id};
use crate::id::{ArtifactId, RunId};
use crate::principal::Principal;
use bytes::Bytes;
use std::sync::Arc;

cases!("artifact":
    an_artifact_comes_back_as_it_was_made,
    a_step_done_again_puts_the_same_artifact,
    readers_see_one_version_or_the_other,
    an_artifact_has_a_largest_size,
    the_artifacts_of_a_run_are_deleted_together,
);

async fn an_artifact_comes_back_as_it_was_made(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, artifacts) = (bench.user(), &bench.stores.artifacts);
    let run = bench.new_run(bench.thread()).run;
    let mut made = Vec::new();
    for (name, text) in [("report.md", "# hi"), ("report.html", ""), ("a.json", "{}")] {
        let content = Bytes::from_static(text.as_bytes());
        let info = artifacts.put(&user, run, name, "text/plain", content.clone()).await.unwrap();
        assert_eq!((info.artifact, info.run), (artifact_id(run, name), run));
        assert_eq!((info.name.as_str(), info.bytes), (name, text.len() as u64));
        assert_eq!(artifacts.read(&user, info.artifact).await.unwrap(), (info.clone(), content));
        made.push(info);
    }
    made.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(artifacts.list(&user, run).await.unwrap(), made);
    let unknown = artifacts.read(&user, ArtifactId::new(&*bench.clock)).await;
    assert_eq!(unknown.unwrap_err().kind(), Kind::NotFound);
}

async fn a_step_done_again_puts_the_same_artifact(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, artifacts) = (bench.user(), &bench.stores.artifacts);
    let run = bench.new_run(bench.thread()).run;
    for text in ["first", "second"] {
        let content = Bytes::from_static(text.as_bytes());
        let info = artifacts.put(&user, run, "a", "text/plain", content.clone()).await.unwrap();
        assert_eq!(artifacts.read(&user, info.artifact).await.unwrap().1, content);
    }
    assert_eq!(artifacts.list(&user, run).await.unwrap().len(), 1);
}

async fn readers_see_one_version_or_the_other(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let run = bench.new_run(bench.thread()).run;
    let artifact = put(&bench, &user, run, 1).await.artifact;
    let writer = {
        let (bench, user) = (bench.clone(), user.clone());
        tokio::spawn(async move {
            for length in 2..30 {
                put(&bench, &user, run, length).await;
            }
        })
    };
    while !writer.is_finished() {
        let (info, content) = bench.stores.artifacts.read(&user, artifact).await.unwrap();
        assert_eq!(info.bytes, content.len() as u64);
    }
    writer.await.unwrap();
}

async fn an_artifact_has_a_largest_size(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let run = bench.new_run(bench.thread()).run;
    let content = Bytes::from(vec![0; MAX_ARTIFACT + 1]);
    let put = bench.stores.artifacts.put(&bench.user(), run, "a", "text/plain", content).await;
    assert_eq!(put.unwrap_err().kind(), Kind::TooLarge);
}

async fn the_artifacts_of_a_run_are_deleted_together(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, artifacts) = (bench.user(), &bench.stores.artifacts);
    let runs = [(); 2].map(|()| bench.new_run(bench.thread()).run);
    let content = Bytes::from_static(b"x");
    for run in runs {
        for name in ["a", "b"] {
            artifacts.put(&user, run, name, "text/plain", content.clone()).await.unwrap();
        }
    }
    artifacts.delete(&user, runs[0]).await.unwrap();
    artifacts.delete(&user, runs[0]).await.unwrap();
    assert!(artifacts.list(&user, runs[0]).await.unwrap().is_empty());
    assert_eq!(artifacts.list(&user, runs[1]).await.unwrap().len(), 2);
}

async fn put(bench: &Bench, user: &Principal, run: RunId, length: usize) -> ArtifactInfo {
    let content = Bytes::from("v".repeat(length));
    let put = bench.stores.artifacts.put(user, run, "a", "text/plain", content);
    put.await.unwrap()
}
