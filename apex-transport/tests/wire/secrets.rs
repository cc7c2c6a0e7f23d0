//! Tickets, tokens and cookies appear in no trace and no answer.

use crate::support::socket::Socket;
use crate::support::{PAGE, Wire, bearer, watch};
use apex_core::auth::AuditQuery;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Recorder, SharedString, Unit};
use serde_json::json;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps everything that is traced, on every level.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<String>>);

impl Visit for Kept {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0.lock().unwrap(), "{field}={value:?} ");
    }
}

impl Subscriber for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Keeps the names and labels of all metrics.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<Mutex<Vec<String>>>);

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &metrics::Metadata<'_>) -> Counter {
        self.0.lock().unwrap().push(key.to_string());
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &metrics::Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn each_entry_is_counted_by_its_way_and_nothing_more_of_it() {
    let counted = Counted::default();
    let _guard = metrics::set_default_local_recorder(&counted);
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    wire.socket(&token).await;
    let ticket = wire.ticket(&token).await;
    for (path, protocol) in [
        (format!("/ws?ticket={ticket}"), "apex.v1".to_owned()),
        (format!("/ws?ticket={ticket}"), "apex.v1".to_owned()),
        ("/ws".to_owned(), format!("apex.v1, apex.bearer.{token}")),
        ("/ws?token=x".to_owned(), "apex.v1".to_owned()),
    ] {
        let headers = [("sec-websocket-protocol", protocol.as_str())];
        // Whether it is let in is shown elsewhere.
        drop(Socket::open(wire.address, &path, &headers).await);
    }
    let mut socket = wire.unknown().await;
    socket.call(json!({"frame": "hello", "token": token})).await;
    let all = counted.0.lock().unwrap().join("\n");
    for (way, outcome) in [
        ("bearer", "in"),
        ("query", "in"),
        ("query", "unauthenticated"),
        ("subprotocol", "in"),
        ("malformed", "unauthenticated"),
        ("hello", "in"),
    ] {
        let labels = format!("way = {way}, outcome = {outcome}");
        assert!(all.contains(&labels), "{labels} is not in\n{all}");
    }
    assert!(!all.contains(&token) && !all.contains(&ticket));
}

#[tokio::test]
async fn the_watch_over_the_suite_sees_a_credential() {
    let wire = Wire::start().await;
    let login = wire.post("/auth/dev", &[], r#"{"user":"ada"}"#).await.json();
    let token = login["token"].as_str().unwrap();
    let refresh = login["refresh"].as_str().unwrap();
    let ticket = wire.ticket(token).await;
    let family = refresh.split('.').next_back().unwrap();
    for said in [
        format!("somebody came in by {token}"),
        format!("authorization: \"Bearer {token}\""),
        format!("/ws?ticket={ticket}&x"),
        format!("apex.v1, apex.ticket.{ticket}"),
        format!("{{\"refresh\":\"{refresh}\"}}"),
        format!("Some({family:?})"),
    ] {
        assert!(watch::found(&said).is_some(), "{said}");
    }
    assert_eq!(watch::found(&format!("somebody came in by {}", &token[1..])), None);
    // And whatever the service says is looked at.
    assert!(tracing::enabled!(target: "apex_transport::any", tracing::Level::TRACE));
}

#[tokio::test]
async fn no_credential_is_traced_or_told() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let wire = Wire::start().await;
    let login = wire.post("/auth/dev", &[], r#"{"user":"ada"}"#).await.json();
    let refresh = login["refresh"].as_str().unwrap().to_owned();
    let body = serde_json::json!({"refresh": refresh}).to_string();
    let renewed = wire.post("/auth/refresh", &[], &body).await.json();
    let token = renewed["token"].as_str().unwrap().to_owned();
    let ticket = wire.ticket(&token).await;
    let canary = "CANARYcanaryCANARY";
    let mut told = String::new();
    for token in [canary, "CANARYcanaryCANARY.CANARYcanaryCANARY"] {
        let body = serde_json::json!({"refresh": token}).to_string();
        told.push_str(&wire.post("/auth/refresh", &[], &body).await.text());
        told.push_str(&wire.get("/admin/audit", &[("authorization", &bearer(token))]).await.text());
    }

    let auth = bearer(&token);
    let bad = bearer(canary);
    let cookie = format!("__Host-apex_session={canary}");
    for headers in [
        vec![("authorization", bad.as_str())],
        vec![("cookie", cookie.as_str())],
        vec![("authorization", bad.as_str()), ("authorization", auth.as_str())],
    ] {
        told.push_str(&wire.get("/threads", &headers).await.text());
    }
    let body = format!(r#"{{"audience":{{"{canary}":1}}}}"#);
    let answer = wire.post("/auth/ticket", &[("authorization", &auth)], &body).await;
    told.push_str(&answer.text());

    let protocol = format!("apex.v1, apex.ticket.{canary}");
    for (path, headers) in [
        (format!("/ws?ticket={canary}"), vec![]),
        (format!("/ws?token={canary}"), vec![]),
        (format!("/ws?ticket={ticket}"), vec![]),
        (format!("/ws?ticket={ticket}"), vec![]),
        ("/ws".to_owned(), vec![("sec-websocket-protocol", protocol.as_str())]),
        ("/ws".to_owned(), vec![("cookie", cookie.as_str()), ("origin", PAGE)]),
    ] {
        match Socket::open(wire.address, &path, &headers).await {
            Ok(mut socket) => {
                let first = socket.message().await;
                write!(told, "{:?} {first:?}", socket.protocol).unwrap();
            }
            Err(refusal) => write!(told, "{refusal:?}").unwrap(),
        }
    }
    let mut socket = wire.unknown().await;
    for frame in [
        json!({"frame": "hello", "id": 1, "ticket": [canary]}),
        json!({"frame": "hello", "id": 1, "ticket": canary, "token": canary}),
        json!({"frame": canary, "id": 1}),
    ] {
        socket.text(frame.to_string()).await;
        told.push_str(&socket.frame().await.to_string());
    }
    socket.say(json!({"frame": "hello", "ticket": canary})).await;
    told.push_str(&socket.closed().await.1);
    let mut socket = wire.unknown().await;
    socket.call(json!({"frame": "hello", "token": token})).await;
    wire.post("/auth/logout", &[("authorization", &auth)], "").await;
    told.push_str(&socket.closed().await.1);

    // A run of that user's says nothing of how they came in, and neither does the record of the door.
    let mut socket = wire.socket(&wire.token("ada").await).await;
    let run = socket.start("thoughts 2").await["run"].clone();
    write!(told, "{:?}", socket.events(&run).await).unwrap();
    assert!(wire.auth.audit_written(std::time::Duration::from_secs(5)).await);
    let all = AuditQuery { user: None, before: None, limit: 1_000 };
    let record = wire.auth.audit(all).await.unwrap();
    assert!(record.len() > 10);
    write!(told, "{record:?} {}", serde_json::to_string(&record).unwrap()).unwrap();

    let traced = kept.0.lock().unwrap().clone();
    assert!(traced.contains("closing"), "nothing was traced");
    let next = renewed["refresh"].as_str().unwrap();
    for secret in [token.as_str(), ticket.as_str(), refresh.as_str(), next, canary] {
        for (place, text) in [("traces", &traced), ("answers", &told)] {
            let found = text.find(secret).map(|at| &text[at.saturating_sub(80)..at]);
            assert_eq!(found, None, "a secret in the {place}");
        }
    }
}
