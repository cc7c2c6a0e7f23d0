//! Logins on the wire: renewed, listed, ended; cookies and the proof that goes with them; what is revoked is closed.

use crate::support::http::Answer;
use crate::support::socket::Socket;
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::run::{LocalWakeup, Topic, Wakeup, Woken};
use apex_core::store::Stores;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const ORIGIN: (&str, &str) = ("origin", PAGE);
const CSRF: (&str, &str) = ("x-apex-csrf", "1");

async fn log_in(wire: &Wire, user: &str) -> Answer {
    let answer = wire.post("/auth/dev", &[], &json!({"user": user}).to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn refresh(wire: &Wire, token: &Value) -> Answer {
    wire.post("/auth/refresh", &[], &json!({"refresh": token}).to_string()).await
}

/// The cookies that an answer sets: name, value, attributes.
fn cookies(answer: &Answer) -> Vec<(String, String, String)> {
    let set = answer.headers.iter().filter(|(name, _)| name == "set-cookie");
    set.map(|(_, cookie)| {
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.to_owned(), attributes.to_owned())
    })
    .collect()
}

fn sent(cookies: &[(String, String, String)]) -> String {
    let pairs: Vec<_> = cookies.iter().map(|(name, value, _)| format!("{name}={value}")).collect();
    pairs.join("; ")
}

#[tokio::test]
async fn a_login_is_renewed_and_its_old_tokens_are_worth_nothing() {
    let wire = Wire::start().await;
    let first = log_in(&wire, "ada").await.json();
    let old = bearer(first["token"].as_str().unwrap());
    let next = refresh(&wire, &first["refresh"]).await;
    assert_eq!(next.status, 200, "{}", next.text());
    assert_eq!(next.header("cache-control"), Some("no-store"));
    assert!(cookies(&next).is_empty(), "who sends no cookie gets none");
    let next = next.json();
    let new = bearer(next["token"].as_str().unwrap());
    assert_eq!(wire.get("/threads", &[("authorization", &new)]).await.status, 200);
    assert_eq!(wire.get("/threads", &[("authorization", &old)]).await.status, 401);
    assert!(next["expires_at"].is_string() && next["refresh_expires_at"].is_string());

    // The first one again: whoever it is, both are out.
    let again = refresh(&wire, &first["refresh"]).await;
    assert_eq!((again.status, again.code().as_str()), (401, "unauthenticated"));
    assert_eq!(wire.get("/threads", &[("authorization", &new)]).await.status, 401);
    assert_eq!(refresh(&wire, &next["refresh"]).await.status, 401);
}

#[tokio::test]
async fn the_reuse_of_a_refresh_token_closes_the_connections_of_its_login() {
    let wire = Wire::start().await;
    let first = log_in(&wire, "ada").await.json();
    let other = log_in(&wire, "ada").await.json();
    let next = refresh(&wire, &first["refresh"]).await.json();
    let mut victim = wire.socket(next["token"].as_str().unwrap()).await;
    let mut bystander = wire.socket(other["token"].as_str().unwrap()).await;
    assert_eq!(refresh(&wire, &first["refresh"]).await.status, 401);
    assert_eq!(victim.closed().await.0, 4401);
    assert_eq!(bystander.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
}

#[tokio::test]
async fn cookies_are_locked_to_the_host_and_renewed_only_by_our_own_page() {
    let wire = Wire::start().await;
    let login = log_in(&wire, "ada").await;
    let set = cookies(&login);
    let names: Vec<_> = set.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["__Host-apex_session", "__Host-apex_refresh"]);
    for (name, _, attributes) in &set {
        for wanted in ["Path=/", "Secure", "HttpOnly"] {
            assert!(attributes.contains(wanted), "{name}: {attributes}");
        }
        assert!(!attributes.contains("Domain"), "{attributes}");
    }
    assert!(set[0].2.contains("SameSite=Lax") && set[1].2.contains("SameSite=Strict"));

    let cookie = sent(&set);
    let by_cookie = ("cookie", cookie.as_str());
    for headers in [
        vec![by_cookie],
        vec![by_cookie, ORIGIN],
        vec![by_cookie, CSRF],
        vec![by_cookie, ORIGIN, ("x-apex-csrf", "0")],
    ] {
        for (method, path) in [
            ("POST", "/auth/refresh"),
            ("POST", "/auth/ticket"),
            ("POST", "/auth/logout"),
            ("DELETE", "/auth/sessions"),
            ("POST", "/messages"),
        ] {
            let refused = wire.ask(method, path, &headers, b"").await;
            assert_eq!((refused.status, refused.code().as_str()), (403, "csrf"), "{path}");
        }
    }
    let own = [by_cookie, ORIGIN, CSRF];
    let renewed = wire.ask("POST", "/auth/refresh", &own, b"").await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let body = renewed.json();
    assert_eq!(body.get("token").or(body.get("refresh")), None, "no script of the page sees them");
    let cookie = sent(&cookies(&renewed));
    let own = [("cookie", cookie.as_str()), ORIGIN, CSRF];
    assert_eq!(wire.get("/threads", &own[..1]).await.status, 200, "reading needs no proof");
    let out = wire.ask("POST", "/auth/logout", &own, b"").await;
    assert_eq!(out.status, 204);
    for (name, value, attributes) in cookies(&out) {
        assert!(value.is_empty() && attributes.contains("Max-Age=0"), "{name}");
    }
    assert_eq!(wire.get("/threads", &own[..1]).await.status, 401);
    assert_eq!(wire.post("/auth/refresh", &[], "").await.status, 401);
}

#[tokio::test]
async fn users_see_and_end_their_own_logins() {
    let wire = Wire::start().await;
    let here = log_in(&wire, "ada").await.json();
    let there = log_in(&wire, "ada").await.json();
    let auth = bearer(here["token"].as_str().unwrap());
    let mine = [("authorization", auth.as_str())];
    let list = wire.get("/auth/sessions", &mine).await.json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items.iter().filter(|item| item["current"] == true).count(), 1);
    assert!(items.iter().all(|item| item["method"] == "dev" && item["renewed_at"].is_string()));
    let other = items.iter().find(|item| item["current"] == false).unwrap();
    let mut socket = wire.socket(there["token"].as_str().unwrap()).await;
    let path = format!("/auth/sessions/{}", other["session"].as_str().unwrap());
    assert_eq!(wire.ask("DELETE", &path, &mine, b"").await.status, 204);
    assert_eq!(socket.closed().await.0, 4401);
    assert_eq!(wire.ask("DELETE", &path, &mine, b"").await.status, 404);
    assert_eq!(refresh(&wire, &there["refresh"]).await.status, 401);
    // Whoever logs in again at once, in the same millisecond too, is in.
    let mut now = here;
    for _ in 0..20 {
        let auth = bearer(now["token"].as_str().unwrap());
        let mut socket = wire.socket(now["token"].as_str().unwrap()).await;
        let ended = wire.ask("DELETE", "/auth/sessions", &[("authorization", &auth)], b"").await;
        assert_eq!(ended.status, 204);
        assert_eq!(socket.closed().await.0, 4401);
        now = log_in(&wire, "ada").await.json();
        let mut anew = wire.socket(now["token"].as_str().unwrap()).await;
        assert_eq!(anew.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    }
}

#[tokio::test]
async fn an_expiring_connection_goes_on_by_a_renewed_login() {
    let mut settings = Settings::default();
    settings.auth.token_life = Duration::from_secs(62);
    let wire = Wire::start_with(settings).await;
    let login = log_in(&wire, "ada").await.json();
    let mut socket = wire.socket(login["token"].as_str().unwrap()).await;
    let expiring = socket.expect("expiring").await;
    let renewed = refresh(&wire, &login["refresh"]).await.json();
    let welcome = socket.call(json!({"frame": "hello", "token": renewed["token"]})).await;
    assert_eq!(welcome["frame"], "welcome");
    assert!(welcome["expires_at"].as_str() > expiring["at"].as_str());
    let other = log_in(&wire, "bob").await.json();
    socket.say(json!({"frame": "hello", "token": other["token"]})).await;
    assert_eq!(socket.closed().await.0, 4403);
}

#[tokio::test]
async fn what_is_revoked_elsewhere_is_closed_here_within_two_seconds() {
    let wire = Wire::start().await;
    let (ada, bob) = (log_in(&wire, "ada").await.json(), log_in(&wire, "bob").await.json());
    let mut victim = wire.socket(ada["token"].as_str().unwrap()).await;
    let mut bystander = wire.socket(bob["token"].as_str().unwrap()).await;
    let user = wire.principal(ada["token"].as_str().unwrap()).await.user();
    let began = Instant::now();
    // As another node does: through the stores, not through this service.
    wire.auth.disable_user(user, true).await.unwrap();
    assert_eq!(victim.closed().await.0, 4401);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(bystander.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    let refused = wire.post("/auth/dev", &[], r#"{"user":"ada"}"#).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"));
    wire.auth.disable_user(user, false).await.unwrap();
    let again = log_in(&wire, "ada").await.json();
    wire.socket(again["token"].as_str().unwrap()).await;
}

#[tokio::test]
async fn an_event_stream_ends_with_its_login() {
    let wire = Wire::start().await;
    let login = log_in(&wire, "ada").await.json();
    let token = login["token"].as_str().unwrap();
    let mut socket = wire.socket(token).await;
    let run = socket.start("ask").await["run"].as_str().unwrap().to_owned();
    let auth = bearer(token);
    let headers = [("authorization", auth.as_str())];
    let path = format!("/runs/{run}/events");
    let streaming = wire.get(&path, &headers);
    let ending = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        wire.post("/auth/logout", &headers, "").await
    };
    let (stream, ended) =
        tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(streaming, ending) })
            .await
            .expect("the stream goes on");
    assert_eq!((stream.status, ended.status), (200, 204));
    assert!(stream.text().contains("run_started"), "{}", stream.text());
}

#[tokio::test]
async fn tickets_end_with_their_login_and_are_bound_to_their_page() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let auth = bearer(&token);
    let of_page = [("authorization", auth.as_str()), ORIGIN];
    let ticket =
        |answer: Answer| format!("/ws?ticket={}", answer.json()["ticket"].as_str().unwrap());
    let path = ticket(wire.post("/auth/ticket", &of_page, "").await);
    let refusal = Socket::open(wire.address, &path, &[]).await.unwrap_err();
    assert_eq!(refusal.status, 401, "a program with a page's ticket");
    let path = ticket(wire.post("/auth/ticket", &of_page, "").await);
    let mut socket = Socket::open(wire.address, &path, &[ORIGIN]).await.unwrap();
    assert_eq!(socket.frame().await["frame"], "welcome");
    let late = ticket(wire.post("/auth/ticket", &of_page[..1], "").await);
    wire.post("/auth/logout", &of_page[..1], "").await;
    assert_eq!(Socket::open(wire.address, &late, &[]).await.unwrap_err().status, 401);
}

/// A wake-up that reaches nobody, as when the line between nodes is dead.
#[derive(Debug)]
struct Deaf(Arc<dyn Wakeup>);

impl Wakeup for Deaf {
    fn wake(&self, _: Topic) {}

    fn listen(&self, topic: Topic) -> Woken {
        self.0.listen(topic)
    }
}

#[tokio::test]
async fn what_is_revoked_and_told_to_nobody_is_closed_by_a_look() {
    let stores = |stores: Stores| Stores {
        wakeup: Arc::new(Deaf(Arc::new(LocalWakeup::default()))),
        ..stores
    };
    let wire = Wire::start_with(Settings { stores: Box::new(stores), ..Settings::default() }).await;
    let login = log_in(&wire, "ada").await.json();
    let mut victim = wire.socket(login["token"].as_str().unwrap()).await;
    let began = Instant::now();
    let user = wire.principal(login["token"].as_str().unwrap()).await.user();
    wire.auth.end_all_sessions(user).await.unwrap();
    // Who logs in again meanwhile is not meant by what is heard of later.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let again = log_in(&wire, "ada").await.json();
    let mut fresh = wire.socket(again["token"].as_str().unwrap()).await;
    let early = tokio::time::timeout(Duration::from_millis(500), victim.message()).await;
    assert!(early.is_err(), "somebody was told: {early:?}");
    let closed = tokio::time::timeout(Duration::from_secs(25), async {
        loop {
            match victim.stream.next().await {
                Some(Ok(Message::Close(Some(close)))) => return u16::from(close.code),
                Some(Ok(_)) => {}
                other => panic!("no close but {other:?}"),
            }
        }
    });
    assert_eq!(closed.await.expect("it stays open"), 4401);
    assert!(began.elapsed() < Duration::from_secs(22), "{:?}", began.elapsed());
    assert_eq!(fresh.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
}
