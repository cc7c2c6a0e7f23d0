//! What still works when something real is gone, through the face: the rows of the table that one machine can show.

use netra_apex::agents::cost::sample;
use netra_apex::core::clock::{Clock, SystemClock, Timestamp};
use netra_apex::core::config::DatabaseUrl;
use netra_apex::core::error::Outcome;
use netra_apex::core::health::Status;
use netra_apex::core::health::degraded::MODES;
use netra_apex::core::run::{Topic, Wakeup, Woken};
use netra_apex::core::store::{Stores, memory};
use netra_apex::core::thread::Whose;
use netra_apex::prelude::*;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Whom the row's refusals name.
fn refused(name: &str) -> Option<Kind> {
    MODES.iter().find(|mode| mode.name == name).unwrap().refused
}

fn parrot() -> impl netra_apex::agents::Agent {
    agent_fn("parrot", "Repeats.", |ask: Request, _| async move { Ok(ask.text) })
}

async fn on(database: &Path) -> Result<Apex> {
    Apex::builder()
        .agent(parrot())
        .database(DatabaseUrl::sqlite(database.display().to_string()))
        .build()
        .await
}

/// A small disk of its own.
struct Disk(PathBuf);

impl Disk {
    /// `None`, told, where this user may mount nothing.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        Self::of(folder, &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    /// One that becomes read-only at an error of its medium, as disks of servers are mounted.
    fn that_breaks(folder: &Path, image: &Path) -> Option<Self> {
        std::fs::File::create(image).unwrap().set_len(16 << 20).unwrap();
        // Where it is not installed, mounting fails.
        let _ = Command::new("mkfs.ext4").arg("-q").arg(image).status();
        Self::of(folder, &["-o", "loop,errors=remount-ro", image.to_str().unwrap()])
    }

    fn of(folder: &Path, arguments: &[&str]) -> Option<Self> {
        let mounted = Command::new("mount").args(arguments).arg(folder).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        assert!(
            !std::env::var("APEX_TEST_EXPECT")
                .is_ok_and(|all| all.split(',').any(|one| one == "mount")),
            "a disk cannot be mounted"
        );
        eprintln!("skipped: a small disk, which only root may mount");
        None
    }

    /// Its medium fails.
    fn fail(&self) {
        let found = Command::new("findmnt").args(["-no", "SOURCE"]).arg(&self.0).output().unwrap();
        let source = String::from_utf8(found.stdout).unwrap();
        let device = source.trim().rsplit('/').next().unwrap();
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
    }

    fn remount(&self, how: &str) {
        let output =
            Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).output();
        assert!(output.unwrap().status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn disk_full() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), "3m") else { return };
    let apex = on(&disk.0.join("apex.db")).await.unwrap();
    let ada = apex.user("ada").await.unwrap();
    let early = apex.start(&ada, "early", Vec::new()).await.unwrap();
    let mut following = apex.follow(&ada, early.run).await.unwrap();
    while following.next().await.unwrap().is_some() {}

    let filler = disk.0.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let mut failed = None;
    for number in 0..200 {
        // Pages that are there already may take some more.
        if let Err(error) =
            apex.start(&ada, &format!("{number} {}", "x".repeat(8_000)), Vec::new()).await
        {
            failed = Some(error);
            break;
        }
    }
    let failed = failed.expect("a full disk takes nothing");
    assert_eq!(Some(failed.kind()), refused("disk_full"), "{failed:?}");
    // Reads go on.
    let view = apex.stores().runs.view(&ada, early.run).await.unwrap();
    assert!(view.state.is_terminal());
    let mut following = apex.follow(&ada, early.run).await.unwrap();
    let mut events = 0;
    while following.next().await.unwrap().is_some() {
        events += 1;
    }
    assert!(events >= 4, "{events}");
    let report = apex.health().await;
    let disk_line = report.resources.iter().find(|one| one.resource == "disk_percent").unwrap();
    assert!(disk_line.value.is_some());

    drop(file);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(apex.ask(&ada, "late").await.unwrap().text, "late");
}

#[tokio::test]
async fn disk_read_only() {
    let (folder, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(disk) = Disk::that_breaks(folder.path(), &images.path().join("disk")) else { return };
    let apex = on(&disk.0.join("apex.db")).await.unwrap();
    let ada = apex.user("ada").await.unwrap();
    let early = apex.start(&ada, "early", Vec::new()).await.unwrap();
    let mut following = apex.follow(&ada, early.run).await.unwrap();
    while following.next().await.unwrap().is_some() {}

    disk.fail();
    for _ in 0..3 {
        let error = apex.start(&ada, "late", Vec::new()).await.unwrap_err();
        assert_eq!(Some(error.kind()), refused("disk_read_only"), "{error:?}");
        // Nobody knows what reached a disk that failed.
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
    }
    // Reads go on.
    let mut following = apex.follow(&ada, early.run).await.unwrap();
    let mut events = 0;
    while following.next().await.unwrap().is_some() {
        events += 1;
    }
    assert!(events >= 4, "{events}");
    assert!(apex.stores().threads.threads(&ada, Whose::Own, None, 10).await.is_ok());
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), "4m") else { return };
    let path = disk.0.join("apex.db");
    let apex = on(&path).await.unwrap();
    apex.drain(Duration::from_secs(1)).await;
    drop(apex);
    // What was dropped closes its files in its own time.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap().success()
    {
        assert!(std::time::Instant::now() < deadline, "the database stays open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let error = on(&path).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Storage, "{error:?}");
    disk.remount("rw");
    on(&path).await.unwrap();
}

#[tokio::test]
async fn database_file_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apex.db");
    let apex = on(&path).await.unwrap();
    let ada = apex.user("ada").await.unwrap();
    assert_eq!(apex.health().await.status, Status::Pass);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused("database_file_gone"), None);
    assert_eq!(apex.ask(&ada, "still there").await.unwrap().text, "still there");
    let report = loop {
        let report = apex.health().await;
        if report.status == Status::Fail {
            break report;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let document = serde_json::to_string(&report.document()).unwrap();
    assert!(document.contains("the file was deleted under this node"), "{document}");
}

/// Says nothing to anybody.
#[derive(Debug)]
struct Mute;

impl Wakeup for Mute {
    fn wake(&self, _: Topic) {}

    fn listen(&self, topic: Topic) -> Woken {
        netra_apex::core::run::LocalWakeup::default().listen(topic)
    }
}

#[tokio::test(start_paused = true)]
async fn wakeups_lost() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stores = memory::open(memory::MemoryOptions::default(), clock);
    let stores = Stores { wakeup: Arc::new(Mute), ..stores };
    let apex = Apex::builder().agent(parrot()).stores(stores).build().await.unwrap();
    let ada = apex.user("ada").await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(apex.ask(&ada, "later").await.unwrap().text, "later");
    assert!(began.elapsed() <= Duration::from_secs(40), "{:?}", began.elapsed());
    assert_eq!(refused("wakeups_lost"), None);
}

#[tokio::test]
async fn models_absent() {
    let apex = Apex::builder().build().await.unwrap();
    let ada = apex.user("ada").await.unwrap();
    let body = futures_util::stream::once(async { Ok(bytes::Bytes::from(sample::csv())) });
    let file = apex.upload(&ada, "usage.csv", Box::pin(body)).await.unwrap();
    let run = apex.start(&ada, "Where does our money go?", vec![file.file]).await.unwrap().run;
    let mut following = apex.follow(&ada, run).await.unwrap();
    let mut end = None;
    while let Some(envelope) = following.next().await.unwrap() {
        end = Some(envelope.event);
    }
    let Some(Event::RunCompleted { result, .. }) = end else { panic!("{end:?}") };
    assert_eq!(result.status, RunStatus::Answered);
    assert!(result.text.contains('$'), "figures without a model: {}", result.text);
    assert_eq!(refused("models_absent"), None);
}

/// A clock that someone sets.
#[derive(Debug, Default)]
struct Wall(AtomicI64);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let off = self.0.load(Ordering::SeqCst);
        Timestamp::from_millis(SystemClock.now().as_millis() + off)
    }
}

#[tokio::test(start_paused = true)]
async fn the_wall_clock_jumps_while_a_run_is_at_work() {
    let clock = Arc::new(Wall::default());
    let slow = agent_fn("slow", "Takes half a minute.", |ask: Request, _| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok(ask.text)
    });
    let apex = Apex::builder().agent(slow).clock(Arc::clone(&clock) as _).build().await.unwrap();
    let ada = apex.user("ada").await.unwrap();
    for minutes in [10, -10] {
        let asked = apex.start(&ada, "what time is it?", Vec::new()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(7)).await;
        clock.0.fetch_add(minutes * 60_000, Ordering::SeqCst);
        let mut following = apex.follow(&ada, asked.run).await.unwrap();
        let (mut seq, mut ends) = (0, 0);
        while let Some(envelope) = following.next().await.unwrap() {
            if let Some(number) = envelope.seq {
                assert_eq!(number, seq + 1);
                seq = number;
            }
            ends += u32::from(matches!(envelope.event, Event::RunCompleted { .. }));
            assert!(!matches!(envelope.event, Event::RunFailed { .. }), "{envelope:?}");
        }
        assert_eq!(ends, 1, "{minutes} minutes");
    }
}
