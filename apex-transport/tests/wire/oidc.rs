//! Login at a real provider of OpenID Connect on loopback, and everything that can go wrong on the way.

use crate::support::http::{Answer, raw};
use crate::support::{Settings, Wire};
use apex_core::auth::oidc::OidcProvider;
use apex_core::auth::{AuditQuery, AuthParts};
use apex_core::config::Secret;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Where the provider sends browsers back to. Nobody has to listen there: the test is the browser.
const CALLBACK: &str = "http://127.0.0.1:9/auth/oidc/local/callback";

/// The provider's process; it ends with this.
struct Provider {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Provider {
    /// Starts it, or says why what needs it is skipped.
    fn start() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oidc");
        if !folder.join("node_modules").is_dir() {
            apex_test_services::skip("oidc-provider", "run `npm ci` in tests/oidc first");
            return None;
        }
        let mut process = Command::new("node")
            .arg(folder.join("provider.js"))
            .arg(CALLBACK)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        answers.read_line(&mut port).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
        Some(Self { process, orders, answers, address })
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Signs by another key from now on.
    fn rotate(&mut self) {
        writeln!(self.orders.as_mut().unwrap(), "rotate").unwrap();
        let mut said = String::new();
        self.answers.read_line(&mut said).unwrap();
        assert_eq!(said.trim(), "rotated");
    }

    fn stop(&mut self) {
        drop(self.orders.take());
        self.process.wait().unwrap();
    }

    /// Logs in at the provider as a browser would; the query with which it sends the browser back.
    async fn log_in(&self, location: &str) -> String {
        let mut jar: Vec<String> = Vec::new();
        let mut path = location.strip_prefix(&self.issuer()).unwrap().to_owned();
        for _ in 0..10 {
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncookie: {}\r\n\r\n",
                self.address,
                jar.join("; "),
            );
            let answer = raw(self.address, request.as_bytes()).await.unwrap();
            for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
                let pair = cookie.split(';').next().unwrap();
                let name = pair.split('=').next().unwrap();
                jar.retain(|known| !known.starts_with(&format!("{name}=")));
                jar.push(pair.to_owned());
            }
            let location = answer.header("location").unwrap_or_else(|| panic!("{}", answer.text()));
            match location.strip_prefix(CALLBACK) {
                Some(query) => return query.to_owned(),
                None => path = location.trim_start_matches(&self.issuer()).to_owned(),
            }
        }
        panic!("the provider sends the browser round and round");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn start(provider: &Provider) -> Wire {
    let secret = Secret::new("a secret: with/odd+characters=".to_owned());
    let local = OidcProvider::new("local", &provider.issuer(), "apex", secret, CALLBACK).unwrap();
    let parts = AuthParts { providers: vec![local], ..AuthParts::default() };
    Wire::start_with(Settings { parts, ..Settings::default() }).await
}

/// The value of a cookie that an answer sets.
fn cookie(answer: &Answer, name: &str) -> Option<String> {
    let set = answer.headers.iter().filter(|(header, _)| header == "set-cookie");
    let pairs = set.filter_map(|(_, cookie)| cookie.split(';').next()?.split_once('='));
    pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

/// Begins a login: where the browser is sent, and the cookie that it keeps.
async fn begin(wire: &Wire, query: &str, headers: &[(&str, &str)]) -> (String, String) {
    let answer = wire.get(&format!("/auth/oidc/local/login{query}"), headers).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let kept = cookie(&answer, "__Host-apex_oidc").unwrap();
    (answer.header("location").unwrap().to_owned(), format!("__Host-apex_oidc={kept}"))
}

async fn finish(wire: &Wire, query: &str, cookies: &str) -> Answer {
    wire.get(&format!("/auth/oidc/local/callback{query}"), &[("cookie", cookies)]).await
}

async fn user_of(wire: &Wire, answer: &Answer) -> String {
    let session = cookie(answer, "__Host-apex_session").unwrap();
    wire.principal(&session).await.user().to_string()
}

async fn reasons(wire: &Wire) -> Vec<String> {
    assert!(wire.auth.audit_written(Duration::from_secs(5)).await);
    let all = AuditQuery { user: None, before: None, limit: 1_000 };
    let record = wire.auth.audit(all).await.unwrap();
    record.into_iter().filter_map(|event| event.reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_logs_in_and_is_the_same_one_the_next_time() {
    let Some(mut provider) = Provider::start() else { return };
    let wire = start(&provider).await;
    let (location, kept) = begin(&wire, "?return_to=/chat%3Fa=1", &[]).await;
    for part in ["code_challenge_method=S256", "state=", "nonce=", "response_type=code"] {
        assert!(location.contains(part), "{location}");
    }
    let answered = provider.log_in(&location).await;
    let done = finish(&wire, &answered, &kept).await;
    assert_eq!((done.status, done.header("location")), (303, Some("/chat?a=1")), "{}", done.text());
    assert_eq!(cookie(&done, "__Host-apex_oidc").as_deref(), Some(""), "it is used up");
    let user = user_of(&wire, &done).await;
    let session = format!("__Host-apex_session={}", cookie(&done, "__Host-apex_session").unwrap());
    let sessions = wire.get("/auth/sessions", &[("cookie", &session)]).await.json();
    assert_eq!(sessions["items"][0]["method"], "oidc:local");

    // The same code again is refused by the provider, and lets nobody in.
    let replayed = finish(&wire, &answered, &kept).await;
    assert_eq!((replayed.status, replayed.code().as_str()), (401, "unauthenticated"));
    assert_eq!(cookie(&replayed, "__Host-apex_session"), None);
    assert!(reasons(&wire).await.contains(&"oidc_code_refused".to_owned()));

    // The provider signs by another key: it is fetched, once the cooldown of the keys is over.
    provider.rotate();
    let mut again = None;
    for _ in 0..15 {
        let (location, kept) = begin(&wire, "", &[]).await;
        let answered = provider.log_in(&location).await;
        let done = finish(&wire, &answered, &kept).await;
        if done.status == 303 {
            again = Some(done);
            break;
        }
        assert_eq!(done.status, 401, "{}", done.text());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(user_of(&wire, &again.expect("the new key is not found")).await, user);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_belong_to_what_was_begun_lets_nobody_in() {
    let Some(provider) = Provider::start() else { return };
    let wire = start(&provider).await;
    let (location, kept) = begin(&wire, "", &[]).await;
    let (_, of_another) = begin(&wire, "", &[]).await;
    let (before, rest) = location.split_once("nonce=").unwrap();
    let (_, after) = rest.split_once('&').unwrap();
    let wrong_nonce = provider.log_in(&format!("{before}nonce=another&{after}")).await;
    let state = location.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let good = provider.log_in(&location).await;
    for (query, cookies, reason) in [
        (wrong_nonce.as_str(), kept.as_str(), "oidc_wrong_nonce"),
        (good.as_str(), "a=b", "oidc_not_begun"),
        (good.as_str(), "__Host-apex_oidc=bm9uc2Vuc2U", "oidc_not_begun"),
        (good.as_str(), of_another.as_str(), "oidc_wrong_state"),
        ("?code=x", kept.as_str(), "oidc_wrong_state"),
        (&format!("?state={state}"), kept.as_str(), "oidc_no_code"),
        (&format!("?state={state}&code=made-up"), kept.as_str(), "oidc_code_refused"),
        (&format!("?state={state}&error=access_denied"), kept.as_str(), "oidc_denied"),
        (&good.replace("iss=http", "iss=https"), kept.as_str(), "oidc_wrong_issuer"),
    ] {
        let refused = finish(&wire, query, cookies).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"), "{reason}");
        assert_eq!(cookie(&refused, "__Host-apex_session"), None);
        assert!(reasons(&wire).await.iter().any(|told| told == reason), "{reason}");
    }
    wire.clock.advance(Duration::from_secs(601));
    assert_eq!(finish(&wire, &good, &kept).await.status, 401);
    assert!(reasons(&wire).await.contains(&"oidc_too_late".to_owned()));
    for query in ["?return_to=//evil.example", "?return_to=https://evil.example"] {
        let refused = wire.get(&format!("/auth/oidc/local/login{query}"), &[]).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad_request"));
    }
    assert_eq!(wire.get("/auth/oidc/unknown/login", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_added_to_the_account_of_whoever_is_in() {
    let Some(provider) = Provider::start() else { return };
    let wire = start(&provider).await;
    let token = wire.token("ada").await;
    let user = wire.principal(&token).await.user().to_string();
    let session = format!("__Host-apex_session={token}");
    let in_already = [("cookie", session.as_str())];
    assert_eq!(wire.get("/auth/oidc/local/login?link=true", &[]).await.status, 401);
    let (location, kept) = begin(&wire, "?link=true", &in_already).await;
    let answered = provider.log_in(&location).await;
    // Whoever ends it has to be who began it.
    let other = wire.token("eve").await;
    let of_other = format!("{kept}; __Host-apex_session={other}");
    assert_eq!(finish(&wire, &answered, &of_other).await.status, 401);
    let (location, kept) = begin(&wire, "?link=true", &in_already).await;
    let answered = provider.log_in(&location).await;
    let linked = finish(&wire, &answered, &format!("{kept}; {session}")).await;
    assert_eq!(linked.status, 303, "{}", linked.text());
    assert_eq!(cookie(&linked, "__Host-apex_session"), None, "the login stays as it is");
    let (location, kept) = begin(&wire, "", &[]).await;
    let done = finish(&wire, &provider.log_in(&location).await, &kept).await;
    assert_eq!(user_of(&wire, &done).await, user);
    // What is one account's is not linked to another.
    let of_eve = format!("__Host-apex_session={other}");
    let (location, kept) = begin(&wire, "?link=true", &[("cookie", &of_eve)]).await;
    let answered = provider.log_in(&location).await;
    let taken = finish(&wire, &answered, &format!("{kept}; {of_eve}")).await;
    assert_eq!((taken.status, taken.code().as_str()), (409, "conflict"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_is_told_as_such() {
    let Some(mut provider) = Provider::start() else { return };
    let (wire, cold) = (start(&provider).await, start(&provider).await);
    let (location, kept) = begin(&wire, "", &[]).await;
    let answered = provider.log_in(&location).await;
    provider.stop();
    let down = finish(&wire, &answered, &kept).await;
    assert_eq!((down.status, down.code().as_str()), (503, "unavailable"));
    assert!(down.header("retry-after").is_some());
    let down = cold.get("/auth/oidc/local/login", &[]).await;
    assert_eq!((down.status, down.code().as_str()), (503, "unavailable"));
}
