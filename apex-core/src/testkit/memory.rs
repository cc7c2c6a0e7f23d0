use super::bench::Bench;
use super::{Backend, cases};
use crate::clock::Clock as _;
use crate::error::{Error, Kind, Result};
use crate::memory::{LONGEST_NAME, LONGEST_NOTE, MOST_NOTES, Note};
use crate::principal::{Principal, Scope, Scopes};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

cases!("memory":
    a_note_comes_back_as_it_was_kept_and_is_replaced_by_its_name,
    notes_are_their_users_own,
    what_is_forgotten_is_gone,
    notes_are_bounded,
);

fn note(bench: &Bench, name: &str, text: &str) -> Note {
    Note { name: name.into(), text: text.into(), run: None, at: bench.clock.now() }
}

#[track_caller]
fn refused<T>(answer: Result<T>, kind: Kind) {
    assert_eq!(answer.err().as_ref().map(Error::kind), Some(kind));
}

async fn a_note_comes_back_as_it_was_kept_and_is_replaced_by_its_name(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, memory) = (bench.user(), &bench.stores.memory);
    let run = Some(bench.new_run(bench.thread()).run);
    let city = Note { run, ..note(&bench, "home.city-1_a", "Gr\0az, \u{1f4b8} 'x' \"y\" {}\n") };
    let team = note(&bench, "a", "");
    for kept in [&city, &team, &city] {
        memory.keep(&user, kept.clone()).await.unwrap();
    }
    assert_eq!(memory.notes(&user).await.unwrap(), [team.clone(), city.clone()]);
    bench.clock.advance(Duration::from_secs(1));
    let moved = note(&bench, &city.name, "Linz");
    memory.keep(&user, moved.clone()).await.unwrap();
    assert_eq!(memory.notes(&user).await.unwrap(), [team, moved]);
}

async fn notes_are_their_users_own(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob, memory) = (bench.user(), bench.user(), &bench.stores.memory);
    let (hers, his) = (note(&bench, "city", "Graz"), note(&bench, "city", "Linz"));
    memory.keep(&ada, hers.clone()).await.unwrap();
    memory.keep(&bob, his.clone()).await.unwrap();
    assert_eq!(memory.notes(&ada).await.unwrap(), [hers]);
    refused(memory.forget(&bob, "team").await, Kind::NotFound);
    memory.forget(&ada, "city").await.unwrap();
    assert_eq!(memory.forget_all(&ada).await.unwrap(), 0);
    assert_eq!(memory.notes(&bob).await.unwrap(), [his]);
    let none = Principal::vouched(bob.user(), Scopes::NONE);
    let reader = Principal::vouched(bob.user(), Scopes::NONE.with(Scope::Read));
    refused(memory.notes(&none).await, Kind::Forbidden);
    refused(memory.keep(&reader, note(&bench, "a", "b")).await, Kind::Forbidden);
    refused(memory.forget(&reader, "city").await, Kind::Forbidden);
    refused(memory.forget_all(&reader).await, Kind::Forbidden);
    assert_eq!(memory.notes(&reader).await.unwrap().len(), 1);
}

async fn what_is_forgotten_is_gone(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, memory) = (bench.user(), &bench.stores.memory);
    for name in ["a", "b", "c"] {
        memory.keep(&user, note(&bench, name, "x")).await.unwrap();
    }
    memory.forget(&user, "b").await.unwrap();
    refused(memory.forget(&user, "b").await, Kind::NotFound);
    assert_eq!(memory.notes(&user).await.unwrap().len(), 2);
    assert_eq!(memory.forget_all(&user).await.unwrap(), 2);
    assert_eq!(memory.notes(&user).await.unwrap(), []);
    memory.keep(&user, note(&bench, "b", "again")).await.unwrap();
    assert_eq!(memory.notes(&user).await.unwrap()[0].text, "again");
}

async fn notes_are_bounded(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, other, memory) = (bench.user(), bench.user(), &bench.stores.memory);
    let longest = "n".repeat(LONGEST_NAME);
    for name in ["", "A", "a b", "a/b", "ä", "a\0", &format!("{longest}n")] {
        refused(memory.keep(&user, note(&bench, name, "x")).await, Kind::BadRequest);
    }
    let long = "x".repeat(LONGEST_NOTE + 1);
    refused(memory.keep(&user, note(&bench, "a", &long)).await, Kind::TooLarge);
    memory.keep(&user, note(&bench, &longest, &long[1..])).await.unwrap();
    let mut kept = 1;
    // A few at a time, the last of which there is no room for.
    for numbers in (1..MOST_NOTES + 7).collect::<Vec<_>>().chunks(8) {
        let keep = numbers
            .iter()
            .map(|number| memory.keep(&user, note(&bench, &format!("n{number}"), "x")));
        for one in join_all(keep).await {
            match one {
                Ok(()) => kept += 1,
                Err(error) => assert_eq!(error.kind(), Kind::TooLarge),
            }
        }
    }
    assert_eq!((kept, memory.notes(&user).await.unwrap().len()), (MOST_NOTES, MOST_NOTES));
    memory.keep(&user, note(&bench, &longest, "replaced")).await.unwrap();
    memory.keep(&other, note(&bench, "a", "x")).await.unwrap();
}
