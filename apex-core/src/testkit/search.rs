use super::bench::Bench;
use super::{Backend, cases};
use crate::auth::{Standing, User};
use crate::clock::Clock as _;
use crate::id::ThreadId;
use crate::principal::{Principal, Scopes};
use crate::thread::{Found, Role, SearchQuery, ThreadMessage};
use std::sync::Arc;
use std::time::Duration;

cases!("search":
    what_was_said_is_found_with_its_place,
    nobody_finds_what_another_user_said,
    what_is_deleted_or_erased_is_found_no_more,
    all_words_have_to_be_there_or_any,
    the_better_match_comes_first_and_then_the_later,
    times_bound_a_search,
    strange_queries_find_nothing_and_do_no_harm,
    strange_texts_are_found,
);

async fn say(bench: &Bench, user: &Principal, thread: ThreadId, text: &str) -> ThreadMessage {
    bench.clock.advance(Duration::from_secs(1));
    let message = ThreadMessage {
        run: bench.new_run(thread).run,
        role: Role::Assistant,
        text: text.into(),
        attachments: Vec::new(),
        at: bench.clock.now(),
    };
    bench.stores.threads.add(user, thread, message.clone()).await.unwrap();
    message
}

async fn find(bench: &Bench, user: &Principal, query: SearchQuery) -> Vec<Found> {
    bench.stores.search.search(user, &SearchQuery { max: 20, ..query }).await.unwrap()
}

fn all(words: &str) -> SearchQuery {
    SearchQuery { words: words.into(), ..SearchQuery::default() }
}

async fn texts(bench: &Bench, user: &Principal, query: SearchQuery) -> Vec<String> {
    find(bench, user, query).await.into_iter().map(|found| found.snippet.text).collect()
}

async fn what_was_said_is_found_with_its_place(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    say(&bench, &user, thread, "Where does the money go?").await;
    let said = say(&bench, &user, thread, "To gpt-4o, mostly: Caching would help.").await;
    let found = find(&bench, &user, all("caching GPT-4o")).await;
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (found.thread, found.run, found.role, found.at),
        (thread, said.run, said.role, said.at)
    );
    assert_eq!(found.title, "Where does the money go?");
    let marked: Vec<&str> =
        found.snippet.marks.iter().map(|(from, to)| &found.snippet.text[*from..*to]).collect();
    assert_eq!(marked, ["gpt", "4o", "Caching"]);
    // The same message again is there once.
    bench.stores.threads.add(&user, thread, said).await.unwrap();
    assert_eq!(find(&bench, &user, all("caching")).await.len(), 1);
}

async fn nobody_finds_what_another_user_said(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (bench.user(), bench.user());
    say(&bench, &ada, bench.thread(), "ada's secret budget").await;
    say(&bench, &bob, bench.thread(), "bob's open budget").await;
    assert_eq!(texts(&bench, &ada, all("budget")).await, ["ada's secret budget"]);
    assert_eq!(texts(&bench, &bob, all("budget")).await, ["bob's open budget"]);
    assert_eq!(texts(&bench, &bob, all("secret")).await.len(), 0);
    let nobody = Principal::vouched(bob.user(), Scopes::NONE);
    assert!(bench.stores.search.search(&nobody, &all("budget")).await.is_err(), "needs `read`");
}

async fn what_is_deleted_or_erased_is_found_no_more(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (bench.user(), bench.user());
    for user in [&ada, &bob] {
        let account = User {
            user: user.user(),
            scopes: Scopes::USER,
            created_at: bench.clock.now(),
            standing: Standing::Active,
        };
        let subject = format!("dev:{}", user.user());
        bench.stores.users.resolve(&subject, account).await.unwrap();
    }
    let (gone, kept) = (bench.thread(), bench.thread());
    say(&bench, &ada, gone, "the forecast of the gone").await;
    say(&bench, &ada, kept, "the forecast of the kept").await;
    say(&bench, &bob, bench.thread(), "the forecast of another").await;
    bench.stores.threads.delete(&ada, gone).await.unwrap();
    assert_eq!(texts(&bench, &ada, all("forecast")).await, ["the forecast of the kept"]);
    bench.stores.users.erase(ada.user()).await.unwrap();
    assert_eq!(texts(&bench, &ada, all("forecast")).await.len(), 0);
    assert_eq!(texts(&bench, &bob, all("forecast")).await, ["the forecast of another"]);
}

async fn all_words_have_to_be_there_or_any(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    say(&bench, &user, thread, "batch prices").await;
    say(&bench, &user, thread, "cache prices").await;
    assert_eq!(texts(&bench, &user, all("prices cache")).await, ["cache prices"]);
    assert_eq!(texts(&bench, &user, all("prices flex")).await.len(), 0);
    let any = SearchQuery { any: true, ..all("batch cache flex") };
    assert_eq!(texts(&bench, &user, any).await, ["cache prices", "batch prices"]);
    // Words are whole.
    assert_eq!(texts(&bench, &user, all("price")).await.len(), 0);
}

async fn the_better_match_comes_first_and_then_the_later(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    say(&bench, &user, thread, "retries of claude cost a lot").await;
    let far = format!("claude {} retries", "and so on ".repeat(100));
    say(&bench, &user, thread, &far).await;
    say(&bench, &user, thread, "claude alone").await;
    say(&bench, &user, thread, "claude again").await;
    let query = SearchQuery { any: true, ..all("claude retries") };
    let found = texts(&bench, &user, query.clone()).await;
    assert_eq!(found.len(), 4);
    assert_eq!(found[0], "retries of claude cost a lot");
    assert!(found[1].starts_with("claude and so on"), "{found:?}");
    assert_eq!(found[2..], ["claude again", "claude alone"]);
    let two = bench.stores.search.search(&user, &SearchQuery { max: 2, ..query }).await.unwrap();
    assert_eq!(two.len(), 2);
}

async fn times_bound_a_search(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    say(&bench, &user, thread, "spend one").await;
    let second = say(&bench, &user, thread, "spend two").await;
    say(&bench, &user, thread, "spend three").await;
    let since = SearchQuery { from: Some(second.at), ..all("spend") };
    assert_eq!(texts(&bench, &user, since).await, ["spend three", "spend two"]);
    let before = SearchQuery { before: Some(second.at), ..all("spend") };
    assert_eq!(texts(&bench, &user, before).await, ["spend one"]);
}

async fn strange_queries_find_nothing_and_do_no_harm(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    say(&bench, &user, thread, "one text about budgets").await;
    let long = "budgetless ".repeat(100_000);
    for strange in [
        "",
        " ",
        "\0",
        "\"",
        "'",
        "*",
        "()",
        "NEAR(",
        "a AND",
        "NOT budgets",
        "title:budgets",
        "^\"budgets\" OR -",
        "'; DROP TABLE message; --",
        "budgets\" OR \"x",
        "!budgetz | &",
        "budgets:*A",
        "<->",
        "\u{202e}\u{feff}",
        "\u{1f4b8}",
        "e\u{301}\u{301}",
        &long,
    ] {
        let found = texts(&bench, &user, all(strange)).await;
        assert!(found.is_empty(), "{strange:.40}: {found:?}");
    }
    // What is an operator elsewhere is a word here, and everything is still there.
    let any = SearchQuery { any: true, ..all("budgets\" OR (\"x\" AND *") };
    assert_eq!(texts(&bench, &user, any).await, ["one text about budgets"]);
}

async fn strange_texts_are_found(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    for (text, word) in [
        ("a zero \0 and after", "after"),
        ("prices in größe and naïve", "größe"),
        ("費用 is cost", "費用"),
        ("quoted “budget” here", "budget"),
        ("path/to/report.md and snake_case", "snake"),
        ("ends in 4o", "4o"),
        ("the year 2026.", "2026"),
    ] {
        say(&bench, &user, thread, text).await;
        assert_eq!(texts(&bench, &user, all(word)).await, [text], "{word}");
    }
    let long = format!("{} needle", "hay ".repeat(20_000));
    say(&bench, &user, thread, &long).await;
    let found = find(&bench, &user, all("needle")).await;
    assert!(found[0].snippet.text.contains("needle") && found[0].snippet.more_before);
}
