mod course;
mod following;

use super::*;
use crate::protocol::event_frame;
use apex_core::auth::Way;
use apex_core::clock::SystemClock;
use apex_core::error::Kind;
use apex_core::event::{Event, Recorded};
use apex_core::id::{RequestId, ThreadId, UserId};
use apex_core::principal::{Scope, Scopes};
use apex_core::run::{ResetReason, Snapshot};
use serde_json::{Value, json};

const START: i64 = 1_763_805_600_000;
const LIFE: Duration = Duration::from_secs(3_600);

fn at(seconds: f64) -> Moment {
    let elapsed = Duration::from_secs_f64(seconds);
    Moment { elapsed, at: Timestamp::from_millis(START).plus(elapsed) }
}

fn entry(scopes: Scopes) -> Entry {
    Entry {
        principal: Principal::vouched(UserId::new(&SystemClock), scopes),
        way: Way::Hello,
        expires_at: Timestamp::from_millis(START).plus(LIFE),
    }
}

fn connection_with(entry: Option<Entry>) -> Connection {
    let config = crate::TransportConfig::default();
    Connection::new(ConnectionId::new(&SystemClock), Arc::new(Terms::from(&config)), entry, at(0.0))
}

/// A connection of a user who is in, its welcome taken out.
fn welcomed() -> Connection {
    let mut connection = connection_with(Some(entry(Scopes::USER)));
    assert_eq!(frames(&mut connection)[0]["frame"], "welcome");
    connection
}

fn frames(connection: &mut Connection) -> Vec<Value> {
    std::iter::from_fn(|| connection.next_outgoing())
        .map(|out| match out {
            Outgoing::Text(json) => serde_json::from_slice(&json).unwrap(),
            Outgoing::Recorded(event) | Outgoing::Volatile(event) => {
                serde_json::from_slice(&event_frame(&event.json)).unwrap()
            }
            Outgoing::Ping => json!("ping"),
            Outgoing::Close(code, reason) => json!({"close": code.code(), "reason": reason}),
        })
        .collect()
}

/// The frames that are no pings.
fn answers(connection: &mut Connection) -> Vec<Value> {
    let mut answers = frames(connection);
    answers.retain(|frame| frame != "ping");
    answers
}

fn actions(connection: &mut Connection) -> Vec<Action> {
    std::iter::from_fn(|| connection.next_action()).collect()
}

fn say(connection: &mut Connection, frame: Value, now: f64) {
    connection.handle(Input::Text(&frame.to_string()), at(now));
}

fn run_id() -> RunId {
    RunId::new(&SystemClock)
}

fn recorded(seq: u64) -> Recorded {
    Recorded { seq, terminal: false, json: Bytes::from(format!(r#"{{"seq":{seq}}}"#)) }
}

fn opened(recovered: bool) -> Opened {
    Opened {
        epoch: Epoch::from_bytes([7; 16]),
        head: 9,
        oldest: 1,
        recovered,
        state: Some(RunState::Running),
    }
}

/// Subscribes and answers, so that the stream is open at 0.
fn follow(connection: &mut Connection, run: RunId) -> StreamKey {
    say(connection, json!({"frame": "subscribe", "id": 1, "run": run}), 0.0);
    let [Action::Follow(key, ..)] = actions(connection)[..] else { panic!("not followed") };
    connection.handle(Input::Opened(key, Ok(opened(true))), at(0.0));
    assert_eq!(frames(connection)[0]["frame"], "subscribed");
    key
}

#[test]
fn whoever_says_nothing_is_closed_after_five_seconds() {
    let mut connection = connection_with(None);
    assert_eq!(connection.deadline(at(0.0)), Some(Duration::from_secs(5)));
    connection.handle(Input::Tick, at(4.9));
    assert!(!connection.has_outgoing());
    connection.handle(Input::Tick, at(5.0));
    assert_eq!(frames(&mut connection)[0]["close"], 4504);
    assert!(connection.is_closing());
}

#[test]
fn before_hello_nothing_else_is_answered_and_frames_are_small() {
    let mut connection = connection_with(None);
    say(&mut connection, json!({"frame": "ping", "id": 1, "n": 1}), 0.0);
    assert_eq!(frames(&mut connection)[0]["code"], "unauthenticated");
    let long = json!({"frame": "hello", "id": 1, "token": "x".repeat(12 * 1024)});
    say(&mut connection, long, 0.0);
    assert_eq!(frames(&mut connection)[0]["close"], 1009);
    assert!(actions(&mut connection).is_empty());
}

#[test]
fn hello_lets_in_and_nothing_is_read_meanwhile() {
    let mut connection = connection_with(None);
    say(&mut connection, json!({"frame": "hello", "id": "h", "ticket": "t"}), 0.0);
    let [Action::Authenticate(id, Credential::Ticket(_))] = &actions(&mut connection)[..] else {
        panic!("not asked")
    };
    assert!(!connection.may_read());
    // The time limit is for the client, not for the store.
    connection.handle(Input::Tick, at(6.0));
    assert!(!connection.has_outgoing());
    let entry = entry(Scopes::USER);
    let user = entry.principal.user();
    connection.handle(Input::Entered(id.clone(), Ok(entry)), at(6.0));
    let welcome = &frames(&mut connection)[0];
    assert_eq!(welcome["frame"], "welcome");
    assert_eq!(welcome["id"], "h");
    assert_eq!(welcome["user"], json!(user));
    assert_eq!(welcome["heartbeat_s"], 20);
    assert_eq!(welcome["limits"]["subscriptions"], 100);
    assert!(connection.may_read());
}

#[test]
fn a_bad_hello_is_closed_with_a_code_that_tells_why() {
    for (kind, code) in [
        (Kind::Unauthenticated, 4401),
        (Kind::TokenExpired, 4401),
        (Kind::TooManyConnections, 4429),
        (Kind::Unavailable, 1013),
        (Kind::Internal, 1011),
    ] {
        let mut connection = connection_with(None);
        say(&mut connection, json!({"frame": "hello", "id": 1, "ticket": "t"}), 0.0);
        let error = Error::new(kind, "test", "secret detail");
        connection.handle(Input::Entered(1.into(), Err(error)), at(1.0));
        let close = &frames(&mut connection)[0];
        assert_eq!(close["close"], code);
        let reason = close["reason"].as_str().unwrap();
        assert!(!reason.contains("secret"));
        assert_eq!(reason.starts_with("correlation "), code == 1011);
    }
}

#[test]
fn a_second_hello_extends_but_never_for_another_user() {
    let mut connection = welcomed();
    let mut longer = connection.entry().unwrap().clone();
    longer.expires_at = longer.expires_at.plus(LIFE);
    say(&mut connection, json!({"frame": "hello", "id": 2, "token": "t"}), 1.0);
    assert_eq!(actions(&mut connection).len(), 1);
    connection.handle(Input::Entered(2.into(), Ok(longer)), at(1.0));
    assert_eq!(frames(&mut connection)[0]["frame"], "welcome");
    assert_eq!(
        connection.entry().unwrap().expires_at,
        Timestamp::from_millis(START).plus(2 * LIFE)
    );
    // One that is refused leaves everything as it is.
    let refused = Error::new(Kind::Unauthenticated, "test", "no");
    connection.handle(Input::Entered(3.into(), Err(refused)), at(2.0));
    assert_eq!(frames(&mut connection)[0]["code"], "unauthenticated");
    connection.handle(Input::Entered(4.into(), Ok(entry(Scopes::USER))), at(2.0));
    assert_eq!(frames(&mut connection)[0]["close"], 4403);
}

#[test]
fn the_end_of_the_credential_is_told_and_then_comes() {
    let mut connection = connection_with(Some(entry(Scopes::USER)));
    frames(&mut connection);
    for n in 1..176_u32 {
        // A client that is alive answers the pings.
        connection.handle(Input::Alive, at(f64::from(n) * 20.0));
        assert_eq!(frames(&mut connection), [json!("ping")]);
    }
    connection.handle(Input::Tick, at(3_540.0));
    let expiring = answers(&mut connection);
    assert_eq!(expiring[0]["frame"], "expiring");
    assert_eq!(expiring[0]["at"], json!(Timestamp::from_millis(START).plus(LIFE)));
    for seconds in [3_560.0, 3_580.0] {
        connection.handle(Input::Alive, at(seconds));
        assert!(answers(&mut connection).is_empty());
    }
    connection.handle(Input::Tick, at(3_600.0));
    assert_eq!(answers(&mut connection)[0]["close"], 4501);
}

#[test]
fn two_pings_without_a_sign_of_life_end_it() {
    let mut connection = welcomed();
    for seconds in [20.0, 40.0] {
        assert_eq!(connection.deadline(at(seconds - 1.0)), Some(Duration::from_secs_f64(seconds)));
        connection.handle(Input::Tick, at(seconds));
        assert_eq!(frames(&mut connection), [json!("ping")]);
    }
    connection.handle(Input::Tick, at(60.0));
    assert_eq!(frames(&mut connection)[0]["close"], 1001);
}

#[test]
fn the_tenth_bad_frame_in_a_minute_ends_it_and_single_ones_are_answered() {
    let mut connection = welcomed();
    for n in 0..9 {
        connection.handle(Input::Text("nonsense"), at(f64::from(n)));
        assert_eq!(frames(&mut connection)[0]["code"], "bad_frame");
    }
    // The first of them is older than a minute now.
    connection.handle(Input::Text("nonsense"), at(60.5));
    let answers = frames(&mut connection);
    assert!(answers.iter().all(|frame| frame["close"].is_null()), "{answers:?}");
    connection.handle(Input::Text("nonsense"), at(60.6));
    let answers = frames(&mut connection);
    assert_eq!(answers.last().unwrap()["close"], 4400);
}

#[test]
fn too_many_frames_are_refused_one_by_one() {
    let mut connection = welcomed();
    for n in 0..50 {
        say(&mut connection, json!({"frame": "ping", "id": n, "n": n}), 1.0);
    }
    let answers = frames(&mut connection);
    let pongs = answers.iter().filter(|a| a["frame"] == "pong").count();
    assert_eq!((pongs, answers.len()), (40, 50));
    let refused = &answers[45];
    assert_eq!(refused["code"], "rate_limited");
    assert_eq!((&refused["id"], &refused["retry_after_ms"]), (&json!(45), &json!(50)));
    assert!(refused["correlation"].is_string());
}

#[test]
fn every_call_needs_its_scope() {
    let run = run_id();
    let calls = [
        (Scope::Run, json!({"frame": "message", "id": 1, "request_id": run, "text": "x"})),
        (
            Scope::Run,
            json!({"frame": "decide", "id": 1, "run": run, "approval": run, "digest": "d", "decision": "deny"}),
        ),
        (Scope::Read, json!({"frame": "subscribe", "id": 1, "run": run})),
        (Scope::Read, json!({"frame": "inbox", "id": 1})),
        (Scope::Cancel, json!({"frame": "cancel", "id": 1, "run": run})),
        (Scope::Cancel, json!({"frame": "stop", "id": 1, "run": run, "step": "s1"})),
    ];
    for (needed, call) in calls {
        let others: Scopes = Scopes::USER.iter().filter(|scope| *scope != needed).collect();
        let mut connection = connection_with(Some(entry(others)));
        frames(&mut connection);
        say(&mut connection, call.clone(), 0.0);
        assert_eq!(frames(&mut connection)[0]["code"], "forbidden", "{call}");
        assert!(actions(&mut connection).is_empty());
        let mut connection = connection_with(Some(entry(Scopes::NONE.with(needed))));
        say(&mut connection, call, 0.0);
        assert_eq!(actions(&mut connection).len(), 1);
    }
}

#[test]
fn draining_is_told_once_and_takes_no_new_messages() {
    let mut connection = welcomed();
    let draining = Draining { after_ms: 1_000, jitter_ms: 500 };
    connection.handle(Input::Drain(draining), at(1.0));
    connection.handle(Input::Drain(draining), at(1.5));
    let sent = frames(&mut connection);
    assert_eq!((sent.len(), &sent[0]["frame"]), (1, &json!("draining")));
    let message = json!({"frame": "message", "id": 1, "request_id": run_id(), "text": "x"});
    say(&mut connection, message, 1.6);
    assert_eq!(frames(&mut connection)[0]["code"], "draining");
    connection.handle(Input::Tick, at(2.0));
    assert_eq!(frames(&mut connection)[0]["close"], 1012);
}

#[test]
fn a_client_that_does_not_even_take_the_close_is_dropped() {
    let mut connection = welcomed();
    connection.handle(Input::Revoked, at(1.0));
    assert_eq!(connection.deadline(at(1.0)), Some(Duration::from_secs(4)));
    connection.handle(Input::Tick, at(4.0));
    assert!(connection.is_over());
    assert_eq!(connection.next_outgoing(), None);
    assert_eq!(connection.deadline(at(4.0)), None);
}

#[test]
fn a_defect_says_nothing_but_where_to_look() {
    let mut connection = welcomed();
    say(&mut connection, json!({"frame": "cancel", "id": 1, "run": run_id()}), 0.0);
    let defect = Error::internal("test", "table secrets");
    connection.handle(Input::Done(1.into(), Err(defect)), at(0.0));
    let error = &frames(&mut connection)[0];
    assert!(!error.to_string().contains("secrets"), "{error}");
    assert!(error["correlation"].is_string());
}
