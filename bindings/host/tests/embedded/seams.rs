//! What else can be the host's: a check of who comes in, secrets, whoever is told of alerts, and where notes are kept.

use super::*;
use apex_bindings::{Error, HostDoor, HostMemory, HostSecrets, Watcher};
use tokio::sync::mpsc::unbounded_channel;

pub(super) fn door() -> HostDoor {
    let verify = function(|input, _| async move {
        match input["headers"]["authorization"].as_str() {
            Some("Bearer good") => Ok(json!({ "user": "ada", "expires_in": 60 })),
            Some("Bearer strange") => Ok(json!({ "user": 7 })),
            Some("Bearer failing") => Err(Problem::of_host(None, Kind::Unavailable, "away")),
            _ => Ok(Value::Null),
        }
    });
    HostDoor::new(vec!["authorization".to_owned()], false, verify).unwrap()
}

pub(super) fn knocking(target: &str, token: &str) -> Head {
    let header = (b"authorization".to_vec(), format!("Bearer {token}").into_bytes());
    let (method, target) = ("GET".to_owned(), target.to_owned());
    Head { method, target, headers: vec![header], peer: None }
}

pub(super) async fn authenticate() {
    let parts = Parts { doors: vec![door()], ..Parts::default() };
    let host = parts.build().await.unwrap();
    for (token, status) in [("good", 200), ("bad", 401), ("strange", 503), ("failing", 503)] {
        let (_, body) = tokio::sync::mpsc::channel(1);
        let answer = host.respond(knocking("/threads", token), body).await.unwrap();
        assert_eq!(answer.status, status, "{token}");
        assert!(answer.next().await.unwrap().is_some());
    }
}

/// A configuration whose secrets are what this says.
async fn with_secrets(secret: fn(&str) -> Result<Value>) -> (Vec<String>, String) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let keys = Arc::clone(&asked);
    let vault = function(move |key, _| {
        keys.lock().unwrap().push(text(&key).to_owned());
        let said = secret(text(&key));
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            said
        }
    });
    let values = json!({ "environment": "development", "database": { "url": "sqlite::memory:" } });
    let settings = json!({ "values": values });
    let (settings, secrets) = (serde_json::from_value(settings).ok(), Some(HostSecrets(vault)));
    let built = Parts { settings, secrets, ..Parts::default() }.build().await;
    let told = built.err().map(|problem| problem.to_string()).unwrap_or_default();
    let asked = asked.lock().unwrap().clone();
    (asked, told)
}

pub(super) async fn secrets() {
    let (asked, told) = with_secrets(|_| Ok(Value::Null)).await;
    assert_eq!(told, "");
    assert!(asked.iter().any(|key| key == "models.openai.api_key"), "{asked:?}");
    assert!(!asked.iter().any(|key| key == "runs.running"));
    let broken = |_: &str| Err(Problem::of_host(None, Kind::Unavailable, "the vault is away"));
    assert!(with_secrets(broken).await.1.contains("the vault is away"));
    assert!(with_secrets(|_| Ok(json!(7))).await.1.contains("something else than text"));
}

pub(super) async fn alerts() {
    let failing = agent("failing", &[], |_, _| async {
        Err::<Value, Error>(Problem::of_host(Some("internal"), Kind::AgentFailed, "a defect"))
    });
    let (sender, mut told) = unbounded_channel();
    let watcher = function(move |said, _| {
        sender.send(said).unwrap();
        async { Err(Problem::of_host(None, Kind::Internal, "the pager is away")) }
    });
    let (agents, watcher) = (vec![failing], Some(Watcher(watcher)));
    let host = Parts { agents, watcher, ..Parts::default() }.build().await.unwrap();
    let ada = host.user("ada").await.unwrap();
    assert_eq!(code(ask(&host, &ada, "go").await), "internal");
    let said = told.recv().await.unwrap();
    assert_eq!((&said["alert"]["kind"], &said["alert"]["number"]), (&json!("internal"), &json!(1)));
    assert_eq!(code(ask(&host, &ada, "go").await), "internal");
}

/// Notes by user and name.
type Kept = Arc<Mutex<BTreeMap<(String, String), Value>>>;

fn memory_in(kept: &Kept) -> HostMemory {
    let key =
        |asked: &Value, name: &Value| (text(&asked["user"]).to_owned(), text(name).to_owned());
    let (keeps, gives, forgets, ends) = (kept.clone(), kept.clone(), kept.clone(), kept.clone());
    HostMemory {
        keep: function(move |asked, _| {
            let failing = asked["note"]["name"] == "fail";
            let note = asked["note"].clone();
            keeps.lock().unwrap().insert(key(&asked, &note["name"]), note);
            async move {
                let failed = Problem::of_host(None, Kind::Storage, "the disk is full");
                if failing { Err(failed) } else { Ok(Value::Null) }
            }
        }),
        notes: function(move |asked, _| {
            let kept = gives.lock().unwrap();
            let own = kept.iter().filter(|((user, _), _)| *user == text(&asked["user"]));
            let own: Vec<_> = own.map(|(_, note)| note.clone()).rev().collect();
            async move { Ok(json!(own)) }
        }),
        forget: function(move |asked, _| {
            let gone = forgets.lock().unwrap().remove(&key(&asked, &asked["name"])).is_some();
            async move { Ok(json!(gone)) }
        }),
        forget_all: function(move |_, _| {
            ends.lock().unwrap().clear();
            async { Ok(json!("all")) }
        }),
    }
}

pub(super) async fn memory() {
    let spec = json!({ "name": "notes", "description": "Notes.", "arguments": true });
    let notes = tool(spec, |input, call| async move {
        let Call::Tool(work) = call else { panic!("no tool") };
        match (text(&input["do"]), &input["text"]) {
            ("keep", said) => work.remember(text(&input["name"]), text(said)).await?,
            ("forget", _) => work.forget(text(&input["name"])).await?,
            _ => {}
        }
        let notes = work.recall().await?;
        let names = notes.as_array().unwrap().iter().map(|note| text(&note["name"]));
        Ok(json!(names.collect::<Vec<_>>().join(" ")))
    });
    let asking = agent("asking", &["text"], |input, call| async move {
        let Call::Agent(work) = call else { panic!("no agent") };
        let asked = serde_json::from_str(text(&input["text"])).unwrap();
        Ok(json!({ "text": work.call("notes".to_owned(), asked).await? }))
    });
    let kept = Kept::default();
    let memory = Some(memory_in(&kept));
    let (agents, tools) = (vec![asking], vec![notes]);
    let host = Parts { agents, tools, memory, ..Parts::default() }.build().await.unwrap();
    let (ada, bob) = (host.user("ada").await.unwrap(), host.user("bob").await.unwrap());
    let keep = |name: &str| json!({ "do": "keep", "name": name, "text": "Graz" }).to_string();
    assert_eq!(ask(&host, &ada, &keep("b")).await.unwrap(), "b");
    assert_eq!(ask(&host, &ada, &keep("a")).await.unwrap(), "a b");
    assert_eq!(ask(&host, &bob, &keep("c")).await.unwrap(), "c");
    let mine = (ada.user().to_string(), "a".to_owned());
    assert_eq!(kept.lock().unwrap()[&mine]["text"], "Graz");
    assert_eq!(code(ask(&host, &ada, &keep("Wrongly named")).await), "bad_request");
    assert_eq!(code(ask(&host, &ada, &keep("fail")).await), "storage_failed");
    let forget = |name: &str| json!({ "do": "forget", "name": name }).to_string();
    assert_eq!(ask(&host, &ada, &forget("fail")).await.unwrap(), "a b");
    assert_eq!(code(ask(&host, &ada, &forget("c")).await), "not_found");
    kept.lock().unwrap().insert(mine, json!({ "name": 7 }));
    assert_eq!(code(ask(&host, &ada, &forget("b")).await), "storage_failed");
}
