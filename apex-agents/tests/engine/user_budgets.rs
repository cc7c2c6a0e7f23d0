//! What a user may use is reserved before it is spent, and shared by all of the user's runs on all nodes.

use crate::budgets::{asks, question};
use apex_agents::model::{Asker, Chain, ChainLink, ChainOptions};
use apex_agents::testkit::{
    Does, Node, Scripted, chain_of, clock, fault, meter, names, once, says,
};
use apex_agents::{EngineOptions, Registry};
use apex_core::budget::{BudgetLimits, BudgetPolicy, Budgets, Charge};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::{Envelope, Event};
use apex_core::id::UserId;
use apex_core::principal::{Principal, Scopes};
use apex_core::resilience::PaceLimits;
use apex_core::run::Runner as _;
use apex_core::store::{Stores, memory};
use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn stores() -> (Stores, Arc<dyn Clock>) {
    let clock = clock();
    (memory::open(memory::MemoryOptions::default(), Arc::clone(&clock)), clock)
}

fn a_day(tokens: u64) -> BudgetLimits {
    BudgetLimits { user_day_tokens: Some(tokens), ..BudgetLimits::default() }
}

/// A chain of one process that shares the stores with others.
fn chain(
    (stores, clock): &(Stores, Arc<dyn Clock>),
    policy: impl BudgetPolicy + 'static,
    models: &[&Arc<Scripted>],
    options: ChainOptions,
) -> Chain {
    let budgets = Budgets::new(Arc::clone(&stores.budgets), Arc::new(policy), Arc::clone(clock));
    chain_of(meter(stores, clock).with_budgets(Arc::new(budgets)), models, options)
}

fn node(
    place: &(Stores, Arc<dyn Clock>),
    registry: Registry,
    policy: impl BudgetPolicy + 'static,
    model: &Arc<Scripted>,
) -> Node {
    let models = Some(chain(place, policy, &[model], once()));
    let options = EngineOptions { models, ..EngineOptions::default() };
    Node::on(place.0.clone(), Arc::clone(&place.1), registry, options)
}

async fn spent(stores: &Stores, user: &Principal) -> (u64, u64) {
    let [day, _] = stores.budgets.used(user).await.unwrap();
    (day.spent.tokens, day.reserved.tokens)
}

async fn ran(node: &Node, user: &Principal) -> (String, Vec<Envelope>) {
    let accepted = node.ask(user, "go").await;
    let events = node.ended(user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    (node.answer(user, accepted).await, events)
}

fn warnings(events: &[Envelope]) -> Vec<(String, Value, Value)> {
    let warning = |envelope: &Envelope| match &envelope.event {
        Event::BudgetWarning { scope, used, limit } => {
            Some((scope.clone(), used.clone(), limit.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(warning).collect()
}

#[tokio::test(start_paused = true)]
async fn all_runs_of_a_user_share_a_budget_and_others_have_their_own() {
    let model = Scripted::always("scripted", says("because"));
    let place = stores();
    let node = node(&place, asks(2, false), a_day(3_500), &model);
    let (ada, bob) = (node.user(), node.user());
    let (answer, events) = ran(&node, &ada).await;
    assert_eq!((answer.as_str(), warnings(&events).len()), ("answered answered", 0));
    // Each uses 1,100: 1,300 are left, and of the second run's questions one fits.
    let (answer, events) = ran(&node, &ada).await;
    assert_eq!(answer, "answered budget_exhausted");
    let renews_at = place.0.budgets.used(&ada).await.unwrap()[0].renews_at;
    let limit = json!({"tokens": 3_500, "renews_at": renews_at});
    let told = ("user_day".to_owned(), json!({"tokens": 3_300}), limit);
    assert_eq!(warnings(&events), [told], "at four fifths, once a run");
    assert_eq!(spent(&place.0, &ada).await, (3_300, 0));
    assert_eq!(ran(&node, &bob).await.0, "answered answered");
    assert_eq!(model.asked().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn runs_at_once_on_two_nodes_never_overspend() {
    let model = Scripted::always("scripted", says("because"));
    let place = stores();
    let nodes = [(); 2].map(|()| node(&place, asks(5, true), a_day(1_000), &model));
    let user = nodes[0].user();
    let runs = nodes.iter().map(|node| ran(node, &user));
    let answers: String = join_all(runs).await.into_iter().map(|(answer, _)| answer).collect();
    assert_eq!(answers.matches("answered").count(), 3, "{answers}");
    assert_eq!(model.asked().len(), 3, "three times 300 are reserved, and a fourth does not fit");
}

#[tokio::test(start_paused = true)]
async fn what_a_question_of_a_lost_node_may_have_used_is_counted_once() {
    let hangs = Scripted::always("scripted", Does::Hangs("one ".into()));
    let place = stores();
    let first = node(&place, asks(1, false), a_day(10_000), &hangs);
    let user = first.user();
    let accepted = first.ask(&user, "go").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(hangs.asked().len(), 1);
    let (_, bound) = spent(&place.0, &user).await;
    assert!(bound > 200, "{bound} are reserved");
    // It is renewed for as long as the node is there.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(spent(&place.0, &user).await, (0, bound));
    drop(first);
    let model = Scripted::always("scripted", says("because"));
    let second = node(&place, asks(1, false), a_day(10_000), &model);
    let events = second.ended(&user, accepted.run).await;
    assert!(names(&events).contains(&"run_resumed"), "{:?}", names(&events));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(spent(&place.0, &user).await, (bound + 1_100, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waits_for_counts_as_much_as_it_can_have_cost() {
    let hangs = Scripted::always("scripted", Does::Hangs("one ".into()));
    let place = stores();
    let node = node(&place, asks(1, false), a_day(10_000), &hangs);
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, bound) = spent(&place.0, &user).await;
    node.engine.cancel(&user, accepted.run).await.unwrap();
    node.ended(&user, accepted.run).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(spent(&place.0, &user).await, (bound, 0));
}

#[tokio::test(start_paused = true)]
async fn a_second_call_beside_a_slow_one_is_reserved_too_and_left_out_where_it_does_not_fit() {
    let hedge = Some(Duration::from_millis(1));
    let options = || ChainOptions { hedge, ..once() };
    // The first may use a little over 250 tokens, and so may the second.
    for (limit, calls) in [(400, 1), (700, 2)] {
        let models = || [(); 2].map(|()| Scripted::always("scripted", says("because")));
        let place = stores();
        let [slow, second] = models();
        let limited = chain(&place, a_day(limit), &[&slow, &second], options());
        let registry = asks(1, false);
        let options_of =
            |models| EngineOptions { models: Some(models), ..EngineOptions::default() };
        let engine = options_of(limited);
        let node = Node::on(place.0.clone(), Arc::clone(&place.1), registry, engine);
        let user = node.user();
        assert_eq!(ran(&node, &user).await.0, "answered");
        assert_eq!(slow.asked().len() + second.asked().len(), calls, "a user's budget of {limit}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (spent, open) = spent(&place.0, &user).await;
        // What was dropped is billed as much as it can have cost.
        assert_eq!((spent > 1_100, open), (calls == 2, 0), "{spent}");
        // The run's own budget has the same rule.
        let [slow, second] = models();
        let free = chain(&place, BudgetLimits::default(), &[&slow, &second], options());
        let engine = EngineOptions { run_tokens: Some(limit), ..options_of(free) };
        let node = Node::on(place.0.clone(), Arc::clone(&place.1), asks(1, false), engine);
        assert_eq!(ran(&node, &user).await.0, "answered");
        assert_eq!(slow.asked().len() + second.asked().len(), calls, "a run's budget of {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_budget_does_not_fit_no_other_model_is_asked() {
    let me = Principal::vouched(UserId::new(&*clock()), Scopes::USER);
    let place = stores();
    let refuses = Scripted::always("first", Does::Refuses);
    let second = Scripted::always("second", says("because"));
    let chain = chain(&place, a_day(400), &[&refuses, &second], once());
    let held =
        Budgets::new(Arc::clone(&place.0.budgets), Arc::new(a_day(400)), Arc::clone(&place.1));
    // A refusal costs nothing, and what was reserved for it is free for the next model.
    chain.complete(Asker::from(&me), Arc::new(question())).await.unwrap();
    // It is settled behind the back of who asked: until then as much as was reserved is gone.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = chain.complete(Asker::from(&me), Arc::new(question())).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::BudgetExhausted, "budget_exhausted"));
    assert!(error.message().contains("has 0 tokens left"), "{error}");
    assert!(error.retry_after().is_some_and(|after| after <= Duration::from_secs(86_400)));
    assert_eq!((refuses.asked().len(), second.asked().len()), (1, 1));
    let none = held.reserve(&me, Charge { tokens: 1, ..Charge::default() }).await;
    assert_eq!(none.unwrap_err().kind(), Kind::BudgetExhausted);
}

#[tokio::test(start_paused = true)]
async fn a_user_with_many_waiting_questions_does_not_make_another_wait_for_more_than_its_turn() {
    let place = stores();
    let model = Scripted::always("scripted", says("because"));
    let link = ChainLink::new(Arc::<Scripted>::clone(&model) as _, "gpt-4o");
    let pace = PaceLimits { calls: Some(2), weight: None };
    let options = ChainOptions { patience: Duration::from_secs(7_200), ..once() };
    let chain = Chain::new([link.with_pace(pace)], options, meter(&place.0, &place.1)).unwrap();
    let users = [(); 2].map(|()| Principal::vouched(UserId::new(&*place.1), Scopes::USER));
    let since = Instant::now();
    let ask = |user: &Principal| {
        let (chain, asker) = (chain.clone(), Asker::from(user));
        tokio::spawn(async move {
            chain.complete(asker, Arc::new(question())).await.unwrap();
            since.elapsed().as_secs() / 60
        })
    };
    let greedy: Vec<_> = (0..40).map(|_| ask(&users[0])).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let modest: Vec<_> = (0..3).map(|_| ask(&users[1])).collect();
    let minutes = |all: Vec<tokio::task::JoinHandle<u64>>| async move {
        join_all(all).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    // Two a minute: one of each, for as long as both wait.
    assert_eq!(minutes(modest).await, [1, 2, 3]);
    let greedy = minutes(greedy).await;
    assert_eq!(greedy.iter().max(), Some(&21));
    assert_eq!(model.asked().len(), 43);
}

/// One who pays may use more than the others; whoever is unknown nothing.
#[derive(Debug)]
struct Plans {
    pays: UserId,
    unknown: UserId,
}

#[async_trait]
impl BudgetPolicy for Plans {
    async fn limits(&self, principal: &Principal) -> Result<BudgetLimits> {
        if principal.user() == self.unknown {
            return Err(Error::new(Kind::Unavailable, "test.plans", "the plans are away"));
        }
        Ok(a_day(if principal.user() == self.pays { 10_000 } else { 1_200 }))
    }
}

#[tokio::test(start_paused = true)]
async fn each_user_has_the_limits_that_the_hosts_policy_says() {
    let model = Scripted::always("scripted", says("because"));
    let place = stores();
    let [ada, bob, eve] =
        [(); 3].map(|()| Principal::vouched(UserId::new(&*place.1), Scopes::USER));
    let plans = Plans { pays: ada.user(), unknown: eve.user() };
    let node = node(&place, asks(3, false), plans, &model);
    assert_eq!(ran(&node, &ada).await.0, "answered answered answered");
    assert_eq!(ran(&node, &bob).await.0, "answered budget_exhausted budget_exhausted");
    assert_eq!(ran(&node, &eve).await.0, "unavailable unavailable unavailable");
    assert_eq!(spent(&place.0, &eve).await, (0, 0), "nothing is spent that nobody allows");
    assert_eq!(model.asked().len(), 4);
}
