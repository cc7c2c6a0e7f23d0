//! What is followed: in order, without a hole, never faster than the client reads.

use super::*;

#[test]
fn the_sender_of_a_message_follows_its_run_from_the_start() {
    let mut connection = welcomed();
    let request_id = RequestId::new(&SystemClock);
    let message = json!({"frame": "message", "id": 5, "request_id": request_id, "text": "hi"});
    say(&mut connection, message, 0.0);
    assert!(matches!(actions(&mut connection)[..], [Action::Start(..)]));
    let accepted = Accepted { request_id, thread: ThreadId::new(&SystemClock), run: run_id() };
    connection.handle(Input::Started(5.into(), Ok(accepted)), at(0.1));
    let [Action::Follow(key, _, stream, position)] = actions(&mut connection)[..] else {
        panic!("not followed")
    };
    assert_eq!((stream, position), (Stream::Run(accepted.run), Position::default()));
    connection.handle(Input::Opened(key, Ok(opened(true))), at(0.1));
    let events = Delivery::Events(vec![recorded(1), recorded(2)]);
    connection.handle(Input::Brought(key, Brought::Run(events)), at(0.1));
    let sent = frames(&mut connection);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert_eq!((&sent[0]["frame"], &sent[0]["id"]), (&json!("accepted"), &json!(5)));
    assert_eq!((&sent[2]["frame"], &sent[2]["seq"]), (&json!("event"), &json!(2)));
}

#[test]
fn a_reset_is_the_answer_where_the_rest_is_gone() {
    let mut connection = welcomed();
    let (run, epoch) = (run_id(), Epoch::from_bytes([9; 16]));
    let subscribe = json!({"frame": "subscribe", "id": 1, "run": run, "epoch": epoch, "after": 3});
    say(&mut connection, subscribe, 0.0);
    let [Action::Follow(key, ..)] = actions(&mut connection)[..] else { panic!("not followed") };
    connection.handle(Input::Opened(key, Ok(opened(false))), at(0.0));
    assert!(!connection.has_outgoing());
    let reset = || {
        Brought::Run(Delivery::Reset {
            reason: ResetReason::Epoch,
            epoch: Epoch::from_bytes([7; 16]),
            head: 9,
            snapshot: Box::new(Snapshot::new()),
        })
    };
    connection.handle(Input::Brought(key, reset()), at(0.0));
    let answer = &frames(&mut connection)[0];
    assert_eq!(answer["frame"], "reset");
    assert_eq!((&answer["id"], &answer["head"]), (&json!(1), &json!(9)));
    let next = Brought::Run(Delivery::Events(vec![recorded(10)]));
    connection.handle(Input::Brought(key, next), at(0.0));
    connection.handle(Input::Brought(key, reset()), at(0.0));
    let later = frames(&mut connection);
    assert_eq!(later[0]["seq"], 10);
    // A reset on the way answers nothing.
    assert_eq!(later[1]["id"], Value::Null);
}

#[test]
fn a_hole_is_never_sent() {
    let mut connection = welcomed();
    let key = follow(&mut connection, run_id());
    let events = Brought::Run(Delivery::Events(vec![recorded(1), recorded(3)]));
    connection.handle(Input::Brought(key, events), at(0.0));
    let sent = frames(&mut connection);
    assert_eq!(sent[0]["seq"], 1);
    assert_eq!(sent[1]["close"], 4510);
}

#[test]
fn following_again_replaces_and_what_was_left_brings_nothing() {
    let mut connection = welcomed();
    let run = run_id();
    let first = follow(&mut connection, run);
    say(&mut connection, json!({"frame": "subscribe", "id": 2, "run": run}), 0.0);
    let [Action::Leave(left), Action::Follow(second, ..)] = actions(&mut connection)[..] else {
        panic!("not replaced")
    };
    assert_eq!(left, first);
    let events = || Brought::Run(Delivery::Events(vec![recorded(1)]));
    connection.handle(Input::Brought(first, events()), at(0.0));
    assert!(!connection.has_outgoing());
    // One that is overtaken before its answer is told so.
    say(&mut connection, json!({"frame": "unsubscribe", "id": 3, "run": run}), 0.0);
    let sent = frames(&mut connection);
    assert_eq!((&sent[0]["id"], &sent[0]["code"]), (&json!(2), &json!("conflict")));
    assert_eq!((&sent[1]["id"], &sent[1]["frame"]), (&json!(3), &json!("ok")));
    connection.handle(Input::Opened(second, Ok(opened(true))), at(0.0));
    assert!(!connection.has_outgoing());
    assert_eq!(connection.streams(), 0);
}

#[test]
fn a_connection_follows_a_hundred_streams_and_an_end_makes_room() {
    let mut connection = welcomed();
    let mut keys = Vec::new();
    for n in 0..100_u32 {
        let run = run_id();
        let subscribe = json!({"frame": "subscribe", "id": n, "run": run});
        say(&mut connection, subscribe, f64::from(n));
        let [Action::Follow(key, ..)] = actions(&mut connection)[..] else {
            panic!("not followed")
        };
        keys.push(key);
        frames(&mut connection);
    }
    frames(&mut connection);
    let more = json!({"frame": "subscribe", "id": 101, "run": run_id()});
    say(&mut connection, more.clone(), 101.0);
    assert_eq!(answers(&mut connection)[0]["code"], "rate_limited");
    let message = json!({"frame": "message", "id": 102, "request_id": run_id(), "text": "unseen?"});
    say(&mut connection, message, 101.0);
    assert_eq!(frames(&mut connection)[0]["code"], "rate_limited");
    let end = Brought::Run(Delivery::End(RunState::Completed));
    connection.handle(Input::Brought(keys[0], end), at(102.0));
    say(&mut connection, more, 102.0);
    assert_eq!(actions(&mut connection).len(), 1);
}

#[test]
fn a_stream_that_breaks_off_says_so_under_the_id_that_asked_for_it() {
    let mut connection = welcomed();
    let key = follow(&mut connection, run_id());
    let gone = Error::not_found("test", "run");
    connection.handle(Input::Brought(key, Brought::Broken(gone)), at(0.0));
    let error = &frames(&mut connection)[0];
    assert_eq!((&error["id"], &error["code"]), (&json!(1), &json!("not_found")));
    assert_eq!(connection.streams(), 0);
}

#[test]
fn a_client_that_does_not_read_is_not_read_for_and_then_closed() {
    let mut connection = welcomed();
    let key = follow(&mut connection, run_id());
    let mut seq = 0;
    while connection.may_deliver() {
        let page = (0..10)
            .map(|_| {
                seq += 1;
                Recorded { json: Bytes::from(vec![b'x'; 4_096]), ..recorded(seq) }
            })
            .collect();
        let events = Brought::Run(Delivery::Events(page));
        connection.handle(Input::Brought(key, events), at(1.0));
    }
    assert!((64..=74).contains(&seq), "{seq} events of 4 KiB");
    assert!(!connection.may_read());
    assert_eq!(connection.deadline(at(1.0)), Some(Duration::from_secs(11)));
    connection.handle(Input::Tick, at(11.0));
    assert_eq!(frames(&mut connection)[0]["close"], 4508);
}

#[test]
fn reading_again_in_time_goes_on_where_it_stopped() {
    let mut connection = welcomed();
    let key = follow(&mut connection, run_id());
    let event = |seq| Recorded { json: Bytes::from(vec![b'x'; 300_000]), ..recorded(seq) };
    let one = |seq| Brought::Run(Delivery::Events(vec![event(seq)]));
    connection.handle(Input::Brought(key, one(1)), at(1.0));
    assert!(!connection.may_deliver());
    connection.next_outgoing().unwrap();
    assert!(connection.may_deliver() && connection.may_read());
    connection.handle(Input::Brought(key, one(2)), at(12.0));
    assert!(!connection.is_closing());
}

#[test]
fn volatile_events_wait_their_turn() {
    let mut connection = welcomed();
    let key = follow(&mut connection, run_id());
    let progress = apex_core::event::Envelope {
        v: 1,
        run: run_id(),
        thread: ThreadId::new(&SystemClock),
        parent: None,
        epoch: Epoch::from_bytes([7; 16]),
        seq: None,
        at: Timestamp::from_millis(START),
        event: Event::Progress { step: StepId(1), done: 3, total: None, unit: "rows".into() },
    };
    let shown = Recorded::encode(&progress).unwrap();
    connection.handle(Input::Brought(key, Brought::Run(Delivery::Live(shown))), at(0.0));
    let event = &frames(&mut connection)[0];
    assert_eq!((&event["frame"], &event["data"]["done"]), (&json!("event"), &json!(3)));
}
