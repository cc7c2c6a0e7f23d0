//! What one frame costs, in and out, and one event through a whole conversation.
//!
//! `cargo bench -p apex-transport --bench frames` prints a table. `gate PATH COUNT` runs one path COUNT times, so that
//! its instructions can be counted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and fails by panicking"
)]

use apex_core::auth::{Entry, Way};
use apex_core::clock::{SystemClock, Timestamp};
use apex_core::event::{Envelope, Event, Recorded};
use apex_core::id::{ConnectionId, Epoch, RunId, StepId, ThreadId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Delivery, RunState};
use apex_transport::TransportConfig;
use apex_transport::connection::{Action, Brought, Connection, Input, Moment, Opened, Terms};
use apex_transport::protocol::{Pong, ServerFrame, decode, event_frame};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Path = (&'static str, fn(u64));

const PATHS: &[Path] = &[
    ("decode_subscribe", |count| decoded(&subscribe(RunId::new(&SystemClock)), count)),
    ("decode_message_2k", |count| decoded(&message(), count)),
    ("encode_pong", |count| {
        let pong = ServerFrame::Pong(Pong { id: 7.into(), n: 7 });
        for _ in 0..count {
            black_box(black_box(&pong).encode());
        }
    }),
    ("encode_event", |count| {
        let recorded = thought(1);
        for _ in 0..count {
            black_box(event_frame(black_box(&recorded.json)));
        }
    }),
    ("ping_pong", |count| {
        let mut connection = welcomed();
        for n in 0..count {
            // Slowly enough for the limit on frames.
            let now = moment(Duration::from_millis(50 * n));
            connection.handle(Input::Text(r#"{"frame":"ping","id":1,"n":1}"#), now);
            while let Some(outgoing) = connection.next_outgoing() {
                black_box(outgoing);
            }
        }
    }),
    ("deliver_event", |count| {
        let mut connection = welcomed();
        let key = followed(&mut connection);
        let event = thought(0);
        for seq in 1..=count {
            let event = Recorded { seq, ..event.clone() };
            let brought = Brought::Run(Delivery::Events(vec![event]));
            connection.handle(Input::Brought(key, brought), moment(Duration::ZERO));
            black_box(connection.next_outgoing().unwrap());
        }
    }),
];

fn main() {
    // Cargo itself passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["gate", path, count] => path_of(path)(count.parse().unwrap()),
        [] => table(),
        _ => {
            println!("without arguments, or: gate PATH COUNT");
            std::process::exit(2);
        }
    }
}

fn path_of(name: &str) -> fn(u64) {
    let known = PATHS.iter().find(|(known, _)| *known == name);
    known.unwrap_or_else(|| panic!("no path {name}")).1
}

fn table() {
    println!("{:<20} {:>10} {:>14}", "path", "ns each", "each second");
    for (name, run) in PATHS {
        const COUNT: u64 = 200_000;
        run(COUNT / 10);
        let begin = Instant::now();
        run(COUNT);
        let each = begin.elapsed().as_secs_f64() / COUNT as f64;
        println!("{name:<20} {:>10.0} {:>14.0}", each * 1e9, 1.0 / each);
    }
}

fn decoded(text: &str, count: u64) {
    for _ in 0..count {
        black_box(decode(black_box(text)).unwrap());
    }
}

fn subscribe(run: RunId) -> String {
    format!(r#"{{"frame":"subscribe","id":12,"run":"{run}","epoch":"{run}","after":17}}"#)
}

fn message() -> String {
    let text = "What did we spend on which model, and why? ".repeat(48);
    let id = RunId::new(&SystemClock);
    format!(
        r#"{{"frame":"message","id":12,"request_id":"{id}","thread":"{id}","text":"{text}","attachments":[{{"file":"{id}"}}]}}"#
    )
}

fn thought(seq: u64) -> Recorded {
    Recorded::encode(&Envelope {
        v: 1,
        run: RunId::new(&SystemClock),
        thread: ThreadId::new(&SystemClock),
        parent: None,
        epoch: Epoch::new(&SystemClock),
        seq: Some(seq),
        at: Timestamp::from_millis(1_763_805_600_123),
        event: Event::AgentThinking {
            step: StepId(1),
            agent: "optimizer".into(),
            note: "a thought of a usual length, about a few hundred bytes. ".repeat(6),
        },
    })
    .unwrap()
}

fn moment(elapsed: Duration) -> Moment {
    Moment { elapsed, at: Timestamp::from_millis(1_763_805_600_000) }
}

fn welcomed() -> Connection {
    let config = TransportConfig::default();
    let entry = Entry {
        principal: Principal::vouched(UserId::new(&SystemClock), Scopes::USER),
        way: Way::Hello,
        expires_at: Timestamp::from_millis(i64::MAX),
    };
    let mut connection = Connection::new(
        ConnectionId::new(&SystemClock),
        Arc::new(Terms::from(&config)),
        Some(entry),
        moment(Duration::ZERO),
    );
    connection.next_outgoing().unwrap();
    connection
}

fn followed(connection: &mut Connection) -> apex_transport::connection::StreamKey {
    let subscribe =
        format!(r#"{{"frame":"subscribe","id":12,"run":"{}"}}"#, RunId::new(&SystemClock));
    connection.handle(Input::Text(&subscribe), moment(Duration::ZERO));
    let Some(Action::Follow(key, ..)) = connection.next_action() else { panic!("not followed") };
    let opened = Opened {
        epoch: Epoch::new(&SystemClock),
        head: 0,
        oldest: 1,
        recovered: true,
        state: Some(RunState::Running),
    };
    connection.handle(Input::Opened(key, Ok(opened)), moment(Duration::ZERO));
    connection.next_outgoing().unwrap();
    key
}
