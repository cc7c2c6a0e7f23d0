//! What a node tells about itself: its health to operators, its failures to the host, under one id.

use crate::support::{Heard, get};
use netra_apex::core::clock::SystemClock;
use netra_apex::core::config::{DatabaseUrl, Environment};
use netra_apex::core::error::{Alert, AlertSink, Group, Notice, correlation};
use netra_apex::core::health::Status;
use netra_apex::prelude::*;
use netra_apex::transport::client::{Api, Client, ClientOptions, Update};
use netra_apex::transport::protocol::NewMessage;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Remembers what the host was told.
#[derive(Debug, Default)]
pub(crate) struct Pager(pub(crate) Mutex<Vec<Alert>>);

impl AlertSink for Pager {
    fn alert(&self, alert: &Alert) {
        self.0.lock().unwrap().push(alert.clone());
    }

    fn notice(&self, _: &Notice) {}
}

/// A node that serves, in development, with one agent that answers and one word at which it fails.
async fn serve(pager: &Arc<Pager>, folder: &std::path::Path) -> (Apex, std::net::SocketAddr) {
    let agent = agent_fn("parrot", "Repeats.", |ask: Request, _| async move {
        if ask.text == "fail" {
            return Err(Error::new(Kind::Unavailable, "parrot", "the parrot's cage is closed"));
        }
        Ok(ask.text)
    });
    let apex = Apex::builder()
        .agent(agent)
        .database(DatabaseUrl::sqlite(folder.join("apex.db").display().to_string()))
        .environment(Environment::Development)
        .alerts(Arc::clone(pager) as _)
        .build()
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = apex.clone();
    tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    (apex, address)
}

pub(crate) async fn token(address: std::net::SocketAddr, user: &str) -> String {
    let body = json!({ "user": user }).to_string();
    let answer = get(address, "POST", "/auth/dev", "", &body).await.1;
    answer["token"].as_str().unwrap().to_owned()
}

/// The failed runs, once so many are counted: a reader may see the end of a run before its node has counted it.
async fn failed_runs(apex: &Apex, count: u64) -> Group {
    for _ in 0..200 {
        let groups = apex.failures();
        let runs = groups.into_iter().find(|group| group.operation == "run");
        if let Some(group) = runs.filter(|group| group.count == count) {
            return group;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{count} failed runs are not counted: {:?}", apex.failures());
}

#[tokio::test]
async fn operators_see_stores_levels_and_resources_and_others_see_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let (apex, address) = serve(&Arc::default(), folder.path()).await;
    let ada = apex.user("ada").await.unwrap();
    for _ in 0..3 {
        apex.ask(&ada, "hello").await.unwrap();
    }
    assert!(apex.ask(&ada, "fail").await.is_err());
    let levels = loop {
        let levels = apex.health().await.levels;
        if levels[0].runs == 4 {
            break levels;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((levels[0].level, levels[0].good_share), ("completion", 0.75));
    assert_eq!((levels[1].level, levels[1].good_share), ("first_event", 1.0));
    assert_eq!((levels[2].level, levels[2].good_share), ("answer", 0.75));

    let (status, body) = get(address, "GET", "/health/ready", "", "").await;
    assert_eq!((status, body), (200, json!({"status": "pass", "version": "1"})));
    let ada = token(address, "ada").await;
    let (_, body) = get(address, "GET", "/health/ready", &ada, "").await;
    assert_eq!(body.get("checks"), None, "a user is no operator");
    let operator = token(address, "operator").await;
    let (status, body) = get(address, "GET", "/health/ready", &operator, "").await;
    assert_eq!(status, 200);
    for line in [
        "runs:responseTime",
        "sessions:responseTime",
        "completion:serviceLevel",
        "connections:utilization",
        "runs:utilization",
        "queue:utilization",
        "disk_percent:utilization",
    ] {
        assert!(body["checks"][line][0]["status"].is_string(), "{line}: {body}");
    }
    let disk = body["checks"]["disk_percent:utilization"][0]["observedValue"].as_f64().unwrap();
    assert!((0.1..100.0).contains(&disk), "{disk}");
    assert_eq!(body["checks"]["queue:utilization"][0]["observedValue"], 0.0);
}

#[tokio::test]
async fn one_id_leads_from_the_message_through_the_log_to_the_clients_error() {
    let heard = Heard::everything();
    let folder = tempfile::tempdir().unwrap();
    let (apex, address) = serve(&Arc::default(), folder.path()).await;
    let api = Api::new(&format!("http://{address}")).unwrap().log_in("ada").await.unwrap();
    let client = Client::connect(ClientOptions::new(api, Arc::new(SystemClock))).await.unwrap();
    let clock = SystemClock;
    let message = |text: &str, thread| NewMessage {
        request_id: RequestId::new(&clock),
        thread,
        text: text.to_owned(),
        attachments: Vec::new(),
    };

    // A run that fails.
    let failing = message("fail", None);
    let id = correlation::of_message(failing.request_id);
    let (accepted, mut updates) = client.message(failing).await.unwrap();
    let mut last = Value::Null;
    while let Some(update) = updates.next().await {
        if let Update::Event(event) = update.unwrap() {
            last = serde_json::to_value(&*event).unwrap();
        }
    }
    assert_eq!(last["type"], "run_failed", "{last}");
    assert_eq!(last["data"]["error"]["correlation"], id.to_string());
    let group = failed_runs(&apex, 1).await;
    assert_eq!((group.correlation, group.users), (Some(id), 1));
    heard.assert_says(&["request failed", &id.to_string(), "the parrot's cage is closed"]);
    heard.assert_says(&["a message is on record", &accepted.run.to_string(), &id.to_string()]);

    // A message that is refused.
    let refused = message("hello", Some(ThreadId::new(&clock)));
    let id = correlation::of_message(refused.request_id);
    let error = client.message(refused).await.unwrap_err();
    assert_eq!((error.kind(), error.correlation()), (Kind::NotFound, Some(id)));
    heard.assert_says(&["request failed", &id.to_string()]);

    // A caller's own trace.
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01");
    let (status, body) = get(address, "GET", "/threads", &format!("nobody{header}"), "").await;
    assert_eq!(status, 401);
    assert_eq!(body["correlation"].as_str().unwrap().replace('-', ""), trace);
    heard.assert_says(&["request failed", body["correlation"].as_str().unwrap()]);

    // The host's own question.
    let ada = apex.user("ada").await.unwrap();
    let error = apex.ask(&ada, "fail").await.unwrap_err();
    assert!(error.correlation().is_some());
    let group = failed_runs(&apex, 2).await;
    assert_eq!(group.correlation, error.correlation());
}

#[tokio::test]
async fn a_panic_is_an_alert_at_once() {
    let pager = Arc::new(Pager::default());
    let agent = agent_fn("bomb", "Panics.", |ask: Request, _| async move {
        assert!(ask.text.is_empty(), "as asked");
        Ok(String::new())
    });
    let apex = Apex::builder().agent(agent).alerts(Arc::clone(&pager) as _).build().await.unwrap();
    let ada = apex.user("ada").await.unwrap();
    let error = apex.ask(&ada, "go").await.unwrap_err();
    assert_eq!(error.kind(), Kind::AgentPanicked);
    failed_runs(&apex, 1).await;
    let alerts = pager.0.lock().unwrap();
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].kind, alerts[0].correlation), (Kind::AgentPanicked, error.correlation()));
}

#[tokio::test]
async fn a_node_that_drains_is_not_ready_and_an_idle_one_is_well() {
    let apex = Apex::builder().build().await.unwrap();
    assert_eq!(apex.health().await.status, Status::Pass);
    assert!(apex.drain(Duration::from_secs(1)).await);
    assert_eq!(apex.health().await.status, Status::Fail);
}
