use super::*;
use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

fn config(connections: usize) -> DatabaseConfig {
    DatabaseConfig { connections, per_user: Some(connections), ..DatabaseConfig::default() }
}

fn user(number: u64) -> UserId {
    UserId::derived(&[&number.to_be_bytes()])
}

/// Polls once, also when this task has used up its turn.
fn polled<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::task::unconstrained(future).now_or_never()
}

async fn enter(admission: &Admission, access: Access) -> Result<Place> {
    admission.enter(&access, Instant::now() + admission.rules.wait, || false).await
}

fn later(
    admission: &Arc<Admission>,
    access: Access,
    order: &Arc<Mutex<Vec<&'static str>>>,
) -> JoinHandle<Result<()>> {
    let (admission, order) = (Arc::clone(admission), Arc::clone(order));
    tokio::spawn(async move {
        let place = enter(&admission, access).await?;
        order.lock().push(access.operation);
        sleep(Duration::from_millis(10)).await;
        drop(place);
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn higher_priorities_go_first_and_users_in_turn() {
    let admission = Arc::new(Admission::new(&config(1)));
    let first = enter(&admission, Access::system("first")).await.unwrap();
    let order = Arc::default();
    let ask = [
        Access::user(user(1), "a1"),
        Access::user(user(1), "a2"),
        Access::user(user(1), "a3"),
        Access::user(user(2), "b1"),
        Access::user(user(3), "low").priority(Priority::Low),
        Access::user(user(4), "critical").priority(Priority::Critical),
    ];
    let mut waiting = Vec::new();
    for access in ask {
        waiting.push(later(&admission, access, &order));
        tokio::task::yield_now().await;
    }
    drop(first);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*order.lock(), ["critical", "a1", "b1", "a2", "a3", "low"]);
    assert_eq!(admission.taken(), 0);
    assert!(admission.state.lock().users.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_for_long_gets_every_fourth_place() {
    let config = DatabaseConfig { acquire: Duration::from_secs(60), ..config(1) };
    let admission = Arc::new(Admission::new(&config));
    let first = enter(&admission, Access::system("first")).await.unwrap();
    let order = Arc::default();
    let low = later(&admission, Access::system("low").priority(Priority::Low), &order);
    tokio::task::yield_now().await;
    advance(config.age).await;
    let critical = Access::system("critical").priority(Priority::Critical);
    let others: Vec<_> = (0..8).map(|_| later(&admission, critical, &order)).collect();
    tokio::task::yield_now().await;
    drop(first);
    for task in others.into_iter().chain([low]) {
        task.await.unwrap().unwrap();
    }
    assert_eq!(order.lock().iter().position(|name| *name == "low"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_user_has_a_share_and_others_do_not_notice() {
    let config = DatabaseConfig { per_user: Some(2), ..config(8) };
    let admission = Admission::new(&config);
    let greedy = Access::user(user(1), "greedy");
    let held = [enter(&admission, greedy).await.unwrap(), enter(&admission, greedy).await.unwrap()];
    let many: Vec<_> = (0..1_000).map(|_| Box::pin(enter(&admission, greedy))).collect();
    let mut many = futures_util::future::join_all(many);
    assert!((&mut many).now_or_never().is_none());
    assert_eq!(admission.waiting(), [0, config.waiting_per_user, 0]);
    for number in 2..8 {
        assert!(enter(&admission, Access::user(user(number), "x")).now_or_never().is_some());
    }
    let answers = many.await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1_000);
    for error in answers.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), Kind::RateLimited);
        assert!(error.retry_after().is_some());
    }
    drop(held);
    assert!(enter(&admission, greedy).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_wait_and_the_line_are_bounded_and_the_least_are_shed() {
    let config = DatabaseConfig { waiting: Some(2), ..config(1) };
    let admission = Arc::new(Admission::new(&config));
    let _held = enter(&admission, Access::system("held")).await.unwrap();
    let low = Access::system("low").priority(Priority::Low);
    let began = Instant::now();
    let order = Arc::default();
    let (first, second) = (later(&admission, low, &order), later(&admission, low, &order));
    tokio::task::yield_now().await;
    let third = enter(&admission, low).now_or_never().unwrap().unwrap_err();
    assert_eq!((third.kind(), third.retry_after()), (Kind::PoolExhausted, Some(config.acquire)));
    let normal = later(&admission, Access::system("normal"), &order);
    assert_eq!(second.await.unwrap().unwrap_err().kind(), Kind::PoolExhausted);
    assert_eq!(began.elapsed(), Duration::ZERO, "shed at once");
    assert!(first.await.unwrap().is_err() && normal.await.unwrap().is_err());
    assert_eq!(began.elapsed(), config.acquire);
    assert_eq!(admission.waiting(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn critical_work_asks_for_a_place_after_fifty_milliseconds() {
    let admission = Admission::new(&config(1));
    let held = Mutex::new(Some(enter(&admission, Access::system("held")).await.unwrap()));
    let began = Instant::now();
    let critical = Access::system("critical").priority(Priority::Critical);
    let deadline = began + Duration::from_secs(2);
    // The first time there is nobody yet who could give their place.
    let preempt = || began.elapsed() > Duration::from_millis(50) && held.lock().take().is_some();
    admission.enter(&critical, deadline, preempt).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_those_who_wait_and_who_come() {
    let admission = Arc::new(Admission::new(&config(1)));
    let held = enter(&admission, Access::system("held")).await.unwrap();
    let waits = later(&admission, Access::system("waits"), &Arc::default());
    tokio::task::yield_now().await;
    admission.close();
    assert_eq!(waits.await.unwrap().unwrap_err().kind(), Kind::Draining);
    drop(held);
    assert_eq!(enter(&admission, Access::system("x")).await.unwrap_err().kind(), Kind::Draining);
    assert_eq!(admission.taken(), 0);
}

/// A million requests of random users and priorities, each given up at a random moment: before it is let in, in the
/// moment in which it is, or while it holds its place.
#[tokio::test(start_paused = true)]
async fn a_million_cancelled_requests_lose_no_place() {
    enum Slot<F> {
        Asks(F),
        Holds(Place),
    }
    let config = DatabaseConfig { per_user: Some(2), waiting: Some(30), ..config(8) };
    let admission = Admission::new(&config);
    let mut random = fastrand::Rng::with_seed(1);
    let mut slots: Vec<_> = std::iter::repeat_with(|| None).take(64).collect();
    let (mut made, mut held) = (0_u32, 0_u32);
    while made < 1_000_000 {
        let slot = &mut slots[random.usize(0..64)];
        *slot = match slot.take() {
            None => {
                made += 1;
                let user = random.u64(0..40);
                let access = match user {
                    0 => Access::system("x"),
                    _ => Access::user(self::user(user), "x"),
                };
                let access = access.priority(Priority::ALL[random.usize(0..3)]);
                let admission = &admission;
                Some(Slot::Asks(Box::pin(async move { enter(admission, access).await })))
            }
            Some(Slot::Asks(mut asks)) => match (random.u8(0..4), polled(&mut asks)) {
                (_, Some(Ok(place))) => {
                    held += 1;
                    Some(Slot::Holds(place))
                }
                (0, _) | (_, Some(Err(_))) => None,
                (_, None) => Some(Slot::Asks(asks)),
            },
            Some(Slot::Holds(place)) if random.bool() => Some(Slot::Holds(place)),
            Some(Slot::Holds(_)) => None,
        };
        assert!(admission.taken() <= 8);
    }
    assert!(held > 100_000, "{held} were let in");
    slots.clear();
    let state = admission.state.lock();
    assert_eq!((state.free, state.waiting(), state.users.len()), (8, 0, 0));
}
