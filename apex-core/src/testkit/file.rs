use super::bench::{Bench, Limits, body};
use super::{Backend, cases};
use crate::error::{Error, Kind};
use crate::file::{Body, FileLimits};
use crate::id::FileId;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

cases!("file":
    a_file_comes_back_as_it_was_brought,
    files_are_listed_newest_first,
    a_body_that_fails_leaves_nothing,
    a_body_that_is_given_up_leaves_nothing,
    limits_hold,
    limits_hold_when_files_arrive_at_once,
    a_name_is_text_and_never_a_path,
    an_id_is_used_once,
    a_deleted_file_is_gone_and_readers_finish,
);

/// Of `abc`.
const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

async fn a_file_comes_back_as_it_was_brought(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, files, file) = (bench.user(), &bench.stores.files, FileId::new(&*bench.clock));
    let info = files.put(&user, file, "Größe €.csv", body(&[b"a", b"", b"bc"])).await.unwrap();
    assert_eq!((info.bytes, info.sha256.as_str()), (3, DIGEST));
    assert_eq!((info.name.as_str(), info.file), ("Größe €.csv", file));
    assert_eq!(files.info(&user, file).await.unwrap(), info);
    assert_eq!(read(&bench, &user, file).await, b"abc");
    let empty = FileId::new(&*bench.clock);
    assert_eq!(files.put(&user, empty, "empty", body(&[])).await.unwrap().bytes, 0);
    assert!(read(&bench, &user, empty).await.is_empty());
    let large = FileId::new(&*bench.clock);
    let piece = Bytes::from(vec![7; 100_000]);
    let pieces: Body = Box::pin(stream::iter(vec![piece; 50]).map(Ok));
    assert_eq!(files.put(&user, large, "large", pieces).await.unwrap().bytes, 5_000_000);
    assert_eq!(read(&bench, &user, large).await, vec![7; 5_000_000]);
}

async fn files_are_listed_newest_first(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, files) = (bench.user(), &bench.stores.files);
    for name in ["a", "b", "c"] {
        bench.clock.advance(Duration::from_secs(1));
        files.put(&user, FileId::new(&*bench.clock), name, body(&[b"x"])).await.unwrap();
    }
    let names = files.list(&user).await.unwrap().into_iter().map(|info| info.name);
    assert_eq!(names.collect::<Vec<_>>(), ["c", "b", "a"]);
}

async fn a_body_that_fails_leaves_nothing(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, files, file) = (bench.user(), &bench.stores.files, FileId::new(&*bench.clock));
    let broken = Error::new(Kind::BadRequest, "test", "the client went away");
    let failing: Body = Box::pin(stream::iter([Ok(Bytes::from_static(b"abc")), Err(broken)]));
    let error = files.put(&user, file, "a", failing).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadRequest);
    assert!(files.list(&user).await.unwrap().is_empty());
    files.put(&user, file, "a", body(&[b"abc"])).await.unwrap();
}

async fn a_body_that_is_given_up_leaves_nothing(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, files, file) = (bench.user(), &bench.stores.files, FileId::new(&*bench.clock));
    let stalls: Body =
        Box::pin(stream::iter([Ok(Bytes::from_static(b"abc"))]).chain(stream::pending()));
    let put = files.put(&user, file, "a", stalls);
    assert!(tokio::time::timeout(Duration::from_millis(50), put).await.is_err());
    assert!(files.list(&user).await.unwrap().is_empty());
    files.put(&user, file, "a", body(&[b"abc"])).await.unwrap();
}

async fn limits_hold(backend: Arc<dyn Backend>) {
    let bench = Bench::with(&*backend, small()).await;
    let (user, files) = (bench.user(), &bench.stores.files);
    let put = |content: &[&'static [u8]]| {
        files.put(&user, FileId::new(&*bench.clock), "a", body(content))
    };
    assert_eq!(put(&[b"1234", b"5"]).await.unwrap_err().kind(), Kind::TooLarge);
    put(&[b"1234"]).await.unwrap();
    put(&[b"12"]).await.unwrap();
    assert_eq!(put(&[b"1234"]).await.unwrap_err().kind(), Kind::TooLarge);
    put(&[b"1"]).await.unwrap();
    assert_eq!(put(&[]).await.unwrap_err().kind(), Kind::TooLarge);
    let newest = files.list(&user).await.unwrap().remove(0);
    files.delete(&user, newest.file).await.unwrap();
    put(&[b"1"]).await.unwrap();
    let other = bench.user();
    let id = FileId::new(&*bench.clock);
    files.put(&other, id, "a", body(&[b"1234"])).await.unwrap();
}

async fn limits_hold_when_files_arrive_at_once(backend: Arc<dyn Backend>) {
    let bench = Bench::with(&*backend, small()).await;
    let user = bench.user();
    let puts: Vec<_> = (0..12)
        .map(|_| {
            let (bench, user) = (bench.clone(), user.clone());
            tokio::spawn(async move {
                let file = FileId::new(&*bench.clock);
                let put = bench.stores.files.put(&user, file, "a", body(&[b"1234"]));
                put.await.is_ok()
            })
        })
        .collect();
    let mut kept = 0;
    for put in puts {
        kept += usize::from(put.await.unwrap());
    }
    assert_eq!(kept, 2);
    assert_eq!(bench.stores.files.list(&user).await.unwrap().len(), 2);
}

fn small() -> Limits {
    Limits {
        files: FileLimits { file_bytes: 4, user_bytes: 9, user_files: 3 },
        ..Limits::default()
    }
}

async fn a_name_is_text_and_never_a_path(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, files) = (bench.user(), &bench.stores.files);
    for name in ["../../etc/passwd", "/tmp/x", "C:\\x", "..", "NUL"] {
        let file = FileId::new(&*bench.clock);
        let info = files.put(&user, file, name, body(&[b"abc"])).await.unwrap();
        assert_eq!(info.name, name);
        assert_eq!(read(&bench, &user, file).await, b"abc");
    }
    for name in ["", "a\0b", "a\nb", &"x".repeat(2_000)] {
        let put = files.put(&user, FileId::new(&*bench.clock), name, body(&[b"abc"]));
        assert_eq!(put.await.unwrap_err().kind(), Kind::BadRequest);
    }
}

async fn an_id_is_used_once(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, files, file) = (bench.user(), &bench.stores.files, FileId::new(&*bench.clock));
    files.put(&user, file, "a", body(&[b"one"])).await.unwrap();
    let again = files.put(&user, file, "b", body(&[b"two"])).await;
    assert_eq!(again.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(read(&bench, &user, file).await, b"one");
}

async fn a_deleted_file_is_gone_and_readers_finish(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, files, file) = (bench.user(), &bench.stores.files, FileId::new(&*bench.clock));
    files.put(&user, file, "a", body(&[b"abc"])).await.unwrap();
    let mut content = files.open(&user, file).await.unwrap();
    files.delete(&user, file).await.unwrap();
    let mut text = String::new();
    content.read_to_string(&mut text).unwrap();
    assert_eq!(text, "abc");
    let answers = [
        files.delete(&user, file).await,
        files.info(&user, file).await.map(|_| ()),
        files.open(&user, file).await.map(|_| ()),
    ];
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), Kind::NotFound);
    }
}

async fn read(bench: &Bench, user: &crate::principal::Principal, file: FileId) -> Vec<u8> {
    let mut content = bench.stores.files.open(user, file).await.unwrap();
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).unwrap();
    bytes
}
