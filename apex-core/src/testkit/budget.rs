use super::bench::Bench;
use super::{Backend, cases};
use crate::budget::{
    BudgetLimits, BudgetStore, Budgets, Charge, Granted, Period, Reservation, SETTLED, Used,
};
use crate::clock::Clock;
use crate::error::Kind;
use crate::id::ReservationId;
use crate::money::Usd;
use crate::principal::{Principal, Scopes};
use std::sync::Arc;
use std::time::Duration;

cases!("budget":
    what_is_reserved_counts_until_it_is_settled,
    every_limit_refuses,
    of_a_hundred_askers_as_many_get_room_as_there_is,
    what_is_not_renewed_is_free_again_and_counts_when_it_is_settled_late,
    the_same_again_counts_once,
    days_and_months_begin_anew,
    one_user_uses_up_nothing_of_anothers,
    a_refusal_says_what_is_left_and_when_it_renews,
);

const LIFE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const NONE: BudgetLimits = BudgetLimits {
    user_day_tokens: None,
    user_day_usd: None,
    user_month_tokens: None,
    user_month_usd: None,
};

fn tokens(tokens: u64) -> Charge {
    Charge { tokens, usd: Usd::ZERO }
}

fn usd(text: &str) -> Charge {
    Charge { tokens: 1, usd: text.parse().unwrap() }
}

fn a_day(tokens: u64) -> BudgetLimits {
    BudgetLimits { user_day_tokens: Some(tokens), ..NONE }
}

/// One user's budget.
struct Purse {
    bench: Bench,
    user: Principal,
    limits: BudgetLimits,
}

impl Purse {
    async fn open(backend: &dyn Backend, limits: BudgetLimits) -> Self {
        let bench = Bench::open(backend).await;
        Self { user: bench.user(), bench, limits }
    }

    fn store(&self) -> &dyn BudgetStore {
        &*self.bench.stores.budgets
    }

    fn asked(&self, most: Charge) -> Reservation {
        Reservation { id: ReservationId::new(&*self.bench.clock), most }
    }

    async fn granted(&self, asked: Reservation) -> Granted {
        self.store().reserve(&self.user, asked, &self.limits, LIFE).await.unwrap()
    }

    /// A reservation, where there is room.
    async fn reserve(&self, most: Charge) -> Option<ReservationId> {
        let asked = self.asked(most);
        self.granted(asked).await.granted.then_some(asked.id)
    }

    async fn settle(&self, id: ReservationId, charge: Charge) {
        self.store().settle(&self.user, id, charge).await.unwrap();
    }

    /// What was spent and is reserved this day, and what was spent this month.
    async fn used(&self) -> (u64, u64, u64) {
        let [day, month] = self.store().used(&self.user).await.unwrap();
        assert_eq!((day.period, month.period), (Period::Day, Period::Month));
        assert_eq!(day.reserved, month.reserved);
        (day.spent.tokens, day.reserved.tokens, month.spent.tokens)
    }
}

async fn what_is_reserved_counts_until_it_is_settled(backend: Arc<dyn Backend>) {
    let purse = Purse::open(&*backend, a_day(100)).await;
    assert_eq!(purse.used().await, (0, 0, 0));
    let first = purse.reserve(tokens(60)).await.unwrap();
    assert_eq!(purse.used().await, (0, 60, 0));
    let refused = purse.granted(purse.asked(tokens(41))).await;
    assert!(!refused.granted);
    assert_eq!(refused.used[0].reserved, tokens(60), "nothing of it is kept");
    let second = purse.reserve(tokens(40)).await.expect("it fits exactly");
    purse.settle(first, tokens(10)).await;
    assert_eq!(purse.used().await, (10, 40, 10));
    assert!(purse.reserve(tokens(51)).await.is_none());
    let third = purse.reserve(tokens(50)).await.expect("what was not used is free");
    // An estimate was too low: it counts as it was.
    purse.settle(second, tokens(70)).await;
    purse.settle(third, Charge::default()).await;
    assert_eq!(purse.used().await, (80, 0, 80));
    assert!(purse.reserve(tokens(20)).await.is_some());
    assert!(purse.reserve(tokens(1)).await.is_none());
    let blind = Principal::vouched(purse.user.user(), Scopes::NONE);
    let refused = purse.store().used(&blind).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Forbidden);
}

async fn every_limit_refuses(backend: Arc<dyn Backend>) {
    let one = |text: &str| Some(text.parse::<Usd>().unwrap());
    let few: [(BudgetLimits, Charge, Charge); 4] = [
        (a_day(10), tokens(10), tokens(1)),
        (BudgetLimits { user_month_tokens: Some(10), ..NONE }, tokens(10), tokens(1)),
        (
            BudgetLimits { user_day_usd: one("0.3"), ..NONE },
            usd("0.299999999999999999999999"),
            usd("0.000000000000000000000002"),
        ),
        (BudgetLimits { user_month_usd: one("0.3"), ..NONE }, usd("0.3"), usd("0.01")),
    ];
    for (limits, fits, more) in few {
        let purse = Purse::open(&*backend, limits).await;
        let held = purse.reserve(fits).await.expect("it fits");
        assert!(purse.reserve(more).await.is_none(), "{limits:?}");
        purse.settle(held, fits).await;
        assert!(purse.reserve(more).await.is_none(), "{limits:?}");
        let [day, _] = purse.store().used(&purse.user).await.unwrap();
        assert_eq!(day.spent, fits, "exact");
    }
}

async fn of_a_hundred_askers_as_many_get_room_as_there_is(backend: Arc<dyn Backend>) {
    let purse = Arc::new(Purse::open(&*backend, a_day(7_000)).await);
    let askers: Vec<_> = (0..100)
        .map(|asker| {
            let purse = Arc::clone(&purse);
            tokio::spawn(async move {
                let held = purse.reserve(tokens(1_000)).await;
                if let Some(id) = held.filter(|_| asker % 2 == 0) {
                    // It used all of it: that makes no room for others.
                    purse.settle(id, tokens(1_000)).await;
                }
                held.is_some()
            })
        })
        .collect();
    let mut granted = 0;
    for asker in askers {
        granted += usize::from(asker.await.unwrap());
    }
    assert_eq!(granted, 7);
    let (spent, reserved, _) = purse.used().await;
    assert_eq!(spent + reserved, 7_000);
}

async fn what_is_not_renewed_is_free_again_and_counts_when_it_is_settled_late(
    backend: Arc<dyn Backend>,
) {
    let purse = Purse::open(&*backend, a_day(100)).await;
    let crashed = purse.reserve(tokens(40)).await.unwrap();
    let alive = purse.reserve(tokens(50)).await.unwrap();
    purse.bench.clock.advance(LIFE / 2);
    purse.store().renew(&[alive], LIFE).await.unwrap();
    purse.bench.clock.advance(LIFE / 2);
    assert_eq!(purse.used().await, (0, 50, 0));
    purse.store().renew(&[crashed, alive], LIFE).await.unwrap();
    assert_eq!(purse.used().await, (0, 50, 0), "what has lapsed stays so");
    purse.settle(crashed, tokens(30)).await;
    assert_eq!(purse.used().await, (30, 50, 30), "it was not dead, and has spent");
    assert!(purse.reserve(tokens(20)).await.is_some());
}

async fn the_same_again_counts_once(backend: Arc<dyn Backend>) {
    let purse = Purse::open(&*backend, a_day(100)).await;
    let asked = purse.asked(tokens(60));
    for _ in 0..2 {
        let granted = purse.granted(asked).await;
        assert!(granted.granted);
        assert_eq!(granted.used[0].reserved, tokens(60));
    }
    for _ in 0..2 {
        purse.settle(asked.id, tokens(20)).await;
    }
    // Nor is it reserved again by an answer that was lost.
    assert!(purse.granted(asked).await.granted);
    purse.store().renew(&[asked.id], LIFE).await.unwrap();
    assert_eq!(purse.used().await, (20, 0, 20));
    purse.bench.clock.advance(SETTLED / 2);
    purse.settle(asked.id, tokens(20)).await;
    assert_eq!(purse.used().await.2, 20);
}

async fn days_and_months_begin_anew(backend: Arc<dyn Backend>) {
    let limits = BudgetLimits { user_month_tokens: Some(150), ..a_day(100) };
    let purse = Purse::open(&*backend, limits).await;
    let renews = |used: [Used; 2]| used.map(|used| used.renews_at);
    let first = purse.reserve(tokens(100)).await.unwrap();
    purse.settle(first, tokens(100)).await;
    let [midnight, next_month] = renews(purse.store().used(&purse.user).await.unwrap());
    let now = purse.bench.clock.now();
    assert!(now < midnight && midnight <= now.plus(DAY) && midnight <= next_month);
    // One that is under way at midnight counts where it is settled.
    purse.bench.clock.advance(midnight.since(now));
    let in_month = midnight < next_month;
    assert_eq!(purse.used().await, (0, 0, if in_month { 100 } else { 0 }));
    if in_month {
        assert!(purse.reserve(tokens(60)).await.is_none(), "the month's limit");
        let second = purse.reserve(tokens(50)).await.unwrap();
        purse.settle(second, tokens(50)).await;
        assert_eq!(purse.used().await, (50, 0, 150));
    }
    purse.bench.clock.advance(next_month.since(purse.bench.clock.now()));
    assert_eq!(purse.used().await, (0, 0, 0));
    let third = purse.reserve(tokens(90)).await.unwrap();
    purse.settle(third, tokens(80)).await;
    assert_eq!(purse.used().await, (80, 0, 80));
}

async fn one_user_uses_up_nothing_of_anothers(backend: Arc<dyn Backend>) {
    let mut purse = Purse::open(&*backend, a_day(100)).await;
    let held = purse.reserve(tokens(100)).await.unwrap();
    let ada = std::mem::replace(&mut purse.user, purse.bench.user());
    assert_eq!(purse.used().await, (0, 0, 0));
    let own = purse.reserve(tokens(100)).await.unwrap();
    purse.settle(own, tokens(70)).await;
    purse.user = ada;
    assert_eq!(purse.used().await, (0, 100, 0));
    purse.settle(held, tokens(5)).await;
    assert_eq!(purse.used().await, (5, 0, 5));
}

async fn a_refusal_says_what_is_left_and_when_it_renews(backend: Arc<dyn Backend>) {
    let limits = BudgetLimits { user_month_usd: Some("1".parse().unwrap()), ..a_day(1_000) };
    let purse = Purse::open(&*backend, limits).await;
    let store = Arc::clone(&purse.bench.stores.budgets);
    let clock = Arc::clone(&purse.bench.clock) as Arc<dyn Clock>;
    let budgets = Budgets::new(store, Arc::new(limits), clock);
    let held = budgets.reserve(&purse.user, usd("0.75")).await.unwrap();
    assert_eq!(held.most(), usd("0.75"));
    let refused = budgets.reserve(&purse.user, usd("0.5")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (Kind::BudgetExhausted, "budget_exhausted"));
    let [_, month] = purse.store().used(&purse.user).await.unwrap();
    let told = format!(
        "your budget of $1 a month has $0.25 left, and this question may use $0.5; it renews at {}",
        month.renews_at
    );
    assert_eq!(refused.message(), told);
    assert_eq!(refused.retry_after(), Some(month.renews_at.since(purse.bench.clock.now())));
    let refused = budgets.reserve(&purse.user, tokens(1_000)).await.unwrap_err();
    assert!(refused.message().starts_with("your budget of 1000 tokens a day has 999 tokens left"));
    held.settle(usd("0.25"));
    drop(budgets.reserve(&purse.user, tokens(500)).await.unwrap());
    assert!(budgets.settle(LIFE).await);
    let balances = budgets.balances(&purse.user).await.unwrap();
    let left: Vec<_> =
        balances.iter().map(|one| (one.used.period, one.left_tokens, one.left_usd)).collect();
    let usd = |text: &str| Some(text.parse::<Usd>().unwrap());
    assert_eq!(left, [(Period::Day, Some(999), None), (Period::Month, None, usd("0.75"))]);
}
