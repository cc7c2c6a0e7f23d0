//! Every plain route, and what guards it.

use crate::support::http::Answer;
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::budget::{BudgetLimits, Charge, Reservation};
use apex_core::clock::{Clock as _, SystemClock};
use apex_core::config::Environment;
use apex_core::id::{AttemptId, HolderId, RequestId, ReservationId, RunId, StepId};
use apex_core::limit::{LimitKey, Place};
use apex_core::memory::Note;
use apex_core::money::Usage;
use apex_core::usage::{Attempt, AttemptOutcome};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

async fn message(wire: &Wire, auth: &str, text: &str, thread: Option<&Value>) -> Value {
    let body = json!({"request_id": RequestId::new(&SystemClock), "text": text});
    let path = match thread {
        Some(thread) => format!("/threads/{}/messages", thread.as_str().unwrap()),
        None => "/messages".to_owned(),
    };
    let answer = wire.post(&path, &[("authorization", auth)], &body.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()
}

/// The run once it has ended.
async fn ended(wire: &Wire, auth: &str, run: &Value) -> Value {
    let path = format!("/runs/{}", run.as_str().unwrap());
    for _ in 0..500 {
        let view = wire.get(&path, &[("authorization", auth)]).await.json();
        if !view["ended_at"].is_null() {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not end");
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn the_development_login_gives_a_token_and_a_cookie_that_pages_cannot_read() {
    let wire = Wire::start().await;
    let answer = wire.post("/auth/dev", &[], r#"{"user":"ada"}"#).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert!(answer.json()["expires_at"].is_string());
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with(&format!("__Host-apex_session={token}; Path=/; Max-Age=")));
    assert!(cookie.ends_with("; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    for user in ["", " ", &"x".repeat(65), "a\\u0007b"] {
        let body = format!(r#"{{"user":"{user}"}}"#);
        assert_eq!(wire.post("/auth/dev", &[], &body).await.status, 400, "{user}");
    }
    let production = Wire::start_with(Settings {
        auth: apex_core::auth::AuthConfig {
            environment: Environment::Production,
            ..Default::default()
        },
        ..Settings::default()
    })
    .await;
    let answer = production.post("/auth/dev", &[], r#"{"user":"ada"}"#).await;
    assert_eq!(code(&answer), (404, "not_found".into()));
}

#[tokio::test]
async fn tickets_are_sold_up_to_a_limit_and_never_kept_by_anybody_between() {
    let wire = Wire::start().await;
    let auth = bearer(&wire.token("ada").await);
    let headers = [("authorization", auth.as_str())];
    let answer = wire.post("/auth/ticket", &headers, "").await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")));
    assert_eq!(answer.json()["ticket"].as_str().unwrap().len(), 43);
    for body in [r#"{"audience":""}"#, r#"{"audience":"a b"}"#, "[1]"] {
        assert_eq!(wire.post("/auth/ticket", &headers, body).await.status, 400, "{body}");
    }
    for _ in 1..32 {
        wire.post("/auth/ticket", &headers, "").await;
    }
    let answer = wire.post("/auth/ticket", &headers, "").await;
    assert_eq!(code(&answer), (429, "rate_limited".into()));
}

#[tokio::test]
async fn every_route_but_health_and_login_needs_a_credential() {
    let wire = Wire::start().await;
    let id = "018f0000-0000-7000-8000-000000000001";
    for (method, path) in [
        ("POST", "/auth/ticket".to_owned()),
        ("POST", "/auth/logout".to_owned()),
        ("GET", "/auth/sessions".to_owned()),
        ("DELETE", "/auth/sessions".to_owned()),
        ("DELETE", format!("/auth/sessions/{id}")),
        ("POST", "/files".to_owned()),
        ("GET", "/files".to_owned()),
        ("DELETE", format!("/files/{id}")),
        ("POST", "/messages".to_owned()),
        ("POST", format!("/threads/{id}/messages")),
        ("GET", "/threads".to_owned()),
        ("GET", format!("/threads/{id}")),
        ("DELETE", format!("/threads/{id}")),
        ("GET", "/inbox".to_owned()),
        ("GET", format!("/runs/{id}")),
        ("POST", format!("/runs/{id}/cancel")),
        ("POST", format!("/runs/{id}/approvals/{id}")),
        ("GET", format!("/runs/{id}/report.json")),
        ("GET", format!("/runs/{id}/graph.json")),
        ("GET", format!("/artifacts/{id}")),
    ] {
        let answer = wire.ask(method, &path, &[], b"").await;
        assert_eq!(code(&answer), (401, "unauthenticated".into()), "{method} {path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"apex\""));
        let cookie =
            [("cookie", "__Host-apex_session=wrong"), ("origin", PAGE), ("x-apex-csrf", "1")];
        let answer = wire.ask(method, &path, &cookie, b"").await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn a_route_that_is_not_there_is_not_found() {
    let wire = Wire::start().await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/threads/"),
        ("PUT", "/files"),
        ("GET", "/auth/dev"),
        ("GET", "/runs/018f0000-0000-7000-8000-000000000001/report.exe"),
        ("GET", "/.well-known/jwks.json"),
        ("POST", "/auth/renew"),
        ("GET", "/ag-ui"),
        ("OPTIONS", "/files"),
    ] {
        let answer = wire.ask(method, path, &[], b"").await;
        assert_eq!(code(&answer), (404, "not_found".into()), "{method} {path}");
    }
}

#[tokio::test]
async fn a_conversation_by_http_alone() {
    let wire = Wire::start().await;
    let auth = bearer(&wire.token("ada").await);
    let headers = [("authorization", auth.as_str())];
    let first = message(&wire, &auth, "report thoughts 2", None).await;
    let view = ended(&wire, &auth, &first["run"]).await;
    assert_eq!(
        (&view["state"], &view["snapshot"]["result"]["text"]),
        (&json!("completed"), &json!("done"))
    );
    assert_eq!(view["head"], 6);
    let second = message(&wire, &auth, "more", Some(&first["thread"])).await;
    assert_eq!(second["thread"], first["thread"]);
    ended(&wire, &auth, &second["run"]).await;

    let thread = first["thread"].as_str().unwrap();
    let threads = wire.get("/threads?limit=1", &headers).await.json();
    assert_eq!(threads["items"][0]["thread"], thread);
    assert_eq!(threads["items"][0]["title"], "report thoughts 2");
    let shown = wire.get(&format!("/threads/{thread}?limit=1"), &headers).await.json();
    assert_eq!(shown["messages"]["items"][0]["text"], "report thoughts 2");
    let next = shown["messages"]["next"].as_str().unwrap();
    let shown = wire.get(&format!("/threads/{thread}?cursor={next}"), &headers).await.json();
    assert_eq!(shown["messages"]["items"][0]["text"], "more");
    for path in [
        format!("/threads/{thread}?cursor=%00"),
        "/threads?cursor=nonsense".into(),
        "/threads?limit=x".into(),
    ] {
        let answer = wire.get(&path, &headers).await;
        assert_eq!(code(&answer), (400, "bad_request".into()), "{path}");
    }

    let inbox = wire.get("/inbox", &headers).await.json();
    assert_eq!(inbox["entries"][0]["run"], first["run"]);
    let path = format!("/inbox?epoch={}&after={}", inbox["epoch"].as_str().unwrap(), inbox["head"]);
    assert_eq!(wire.get(&path, &headers).await.json()["entries"], json!([]));
    assert_eq!(wire.get("/inbox?after=1", &headers).await.status, 400);

    let run = first["run"].as_str().unwrap();
    for (name, media_type) in [
        ("report.json", "application/json"),
        ("report.md", "text/markdown; charset=utf-8"),
        ("report.html", "text/html; charset=utf-8"),
    ] {
        let answer = wire.get(&format!("/runs/{run}/{name}"), &headers).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type)));
        assert!(answer.header("content-security-policy").unwrap().starts_with("sandbox"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.text().contains("eport"));
        let known = answer.header("etag").unwrap();
        let again = [("authorization", auth.as_str()), ("if-none-match", known)];
        assert_eq!(wire.get(&format!("/runs/{run}/{name}"), &again).await.status, 304);
    }
    let report = apex_core::file::artifact_id(run.parse().unwrap(), "report.json");
    let answer = wire.get(&format!("/artifacts/{report}"), &headers).await;
    assert_eq!(answer.json()["schema"], "apex.report/1");
    let graph = wire.get(&format!("/runs/{run}/graph.json"), &headers).await;
    assert_eq!(graph.header("content-type"), Some("application/json"));
    let [step] = graph.json()["steps"].as_array().unwrap().clone().try_into().unwrap();
    assert_eq!((&step["state"], &step["tries"]), (&json!("ok"), &json!(["s1"])));
    let drawn = wire.get(&format!("/runs/{run}/graph.mmd"), &headers).await;
    assert_eq!(drawn.header("content-type"), Some("text/vnd.mermaid; charset=utf-8"));
    assert!(drawn.text().starts_with("flowchart TD\n"), "{}", drawn.text());

    assert_eq!(wire.delete(&format!("/threads/{thread}"), &headers).await.status, 204);
    for path in [
        format!("/threads/{thread}"),
        format!("/runs/{run}"),
        format!("/runs/{run}/report.json"),
        format!("/runs/{run}/graph.mmd"),
        format!("/artifacts/{report}"),
    ] {
        assert_eq!(code(&wire.get(&path, &headers).await), (404, "not_found".into()), "{path}");
    }
    assert_eq!(wire.delete(&format!("/threads/{thread}"), &headers).await.status, 404);
}

#[tokio::test]
async fn a_conversation_at_work_is_not_deleted_and_a_run_is_cancelled() {
    let wire = Wire::start().await;
    let auth = bearer(&wire.token("ada").await);
    let headers = [("authorization", auth.as_str())];
    let started = message(&wire, &auth, "hold", None).await;
    let thread = format!("/threads/{}", started["thread"].as_str().unwrap());
    assert_eq!(code(&wire.delete(&thread, &headers).await), (409, "conflict".into()));
    let cancel = format!("/runs/{}/cancel", started["run"].as_str().unwrap());
    assert_eq!(wire.post(&cancel, &headers, "").await.status, 202);
    assert_eq!(ended(&wire, &auth, &started["run"]).await["state"], "cancelled");
    assert_eq!(wire.delete(&thread, &headers).await.status, 204);
}

#[tokio::test]
async fn an_approval_is_decided_by_http() {
    let wire = Wire::start().await;
    let auth = bearer(&wire.token("ada").await);
    let headers = [("authorization", auth.as_str())];
    let started = message(&wire, &auth, "ask", None).await;
    let run = started["run"].as_str().unwrap();
    let approval = crate::support::runner::ScriptedRunner::approval(run.parse().unwrap());
    let path = format!("/runs/{run}/approvals/{approval}");
    let other = wire.post(&path, &headers, r#"{"digest":"d2","decision":"approve"}"#).await;
    assert_eq!(code(&other), (409, "conflict".into()));
    let answer = wire.post(&path, &headers, r#"{"digest":"d1","decision":"approve"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(ended(&wire, &auth, &started["run"]).await["state"], "completed");
}

#[cfg(feature = "sse")]
#[tokio::test]
async fn a_run_belongs_to_the_trace_of_the_request_that_asked_for_it() {
    let wire = Wire::start().await;
    let auth = bearer(&wire.token("ada").await);
    let place = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (place, told) in [(place, true), ("00-nonsense", false)] {
        let headers = [("authorization", auth.as_str()), ("traceparent", place)];
        let body = json!({"request_id": RequestId::new(&SystemClock), "text": "hi"}).to_string();
        let started = wire.post("/messages", &headers, &body).await.json();
        ended(&wire, &auth, &started["run"]).await;
        let path = format!("/runs/{}/events", started["run"].as_str().unwrap());
        let log = wire.get(&path, &[("authorization", auth.as_str())]).await;
        let trace = format!("\"trace\":\"{place}\"");
        assert_eq!(log.text().contains(&trace), told, "{}", log.text());
    }
}

#[tokio::test]
async fn files_stream_in_and_belong_to_their_user() {
    let wire = Wire::start().await;
    let auth = bearer(&wire.token("ada").await);
    let named = [("authorization", auth.as_str()), ("x-file-name", "f%C3%BCr%20uns.csv")];
    let content = "a,b\n".repeat(100_000);
    let answer = wire.ask("POST", "/files", &named, content.as_bytes()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let file = answer.json();
    assert_eq!((&file["name"], &file["bytes"]), (&json!("für uns.csv"), &json!(400_000)));
    assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
    let headers = [("authorization", auth.as_str())];
    assert_eq!(wire.get("/files", &headers).await.json()["items"][0]["file"], file["file"]);
    assert_eq!(code(&wire.post("/files", &headers, "x").await), (400, "bad_request".into()));
    let path = format!("/files/{}", file["file"].as_str().unwrap());
    assert_eq!(wire.delete(&path, &headers).await.status, 204);
    assert_eq!(wire.delete(&path, &headers).await.status, 404);
}

#[tokio::test]
async fn a_file_past_the_limit_is_not_kept() {
    let mut settings = Settings::default();
    settings.transport.files.file_bytes = 1_000;
    settings.memory.files.file_bytes = 1_000;
    let wire = Wire::start_with(settings).await;
    let auth = bearer(&wire.token("ada").await);
    let named = [("authorization", auth.as_str()), ("x-file-name", "a.csv")];
    let answer = wire.ask("POST", "/files", &named, &[b'x'; 1_001]).await;
    assert_eq!(code(&answer), (413, "too_large".into()));
    let chunked = format!(
        "POST /files HTTP/1.1\r\nhost: a\r\nauthorization: {auth}\r\nx-file-name: a\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1_001)
    );
    let answer = crate::support::http::raw(wire.address, chunked.as_bytes()).await.unwrap();
    assert_eq!(code(&answer), (413, "too_large".into()));
    assert_eq!(wire.get("/files", &named[..1]).await.json()["items"], json!([]));
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let wire = Wire::start().await;
    let (first, second) = (bearer(&wire.token("ada").await), bearer(&wire.token("ada").await));
    let headers = [("authorization", first.as_str())];
    let sessions = wire.get("/auth/sessions", &headers).await.json()["items"].clone();
    assert_eq!(sessions.as_array().unwrap().len(), 2);
    let current = |wanted: bool| {
        let found = sessions.as_array().unwrap().iter().find(|s| s["current"] == wanted);
        format!("/auth/sessions/{}", found.unwrap()["session"].as_str().unwrap())
    };
    assert_eq!(wire.delete(&current(false), &headers).await.status, 204);
    assert_eq!(wire.get("/threads", &[("authorization", &second)]).await.status, 401);
    assert_eq!(wire.delete(&current(false), &headers).await.status, 404);
    assert_eq!(wire.delete("/auth/sessions/none", &headers).await.status, 404);
    assert_eq!(wire.delete("/auth/sessions", &headers).await.status, 204);
    assert_eq!(wire.get("/threads", &headers).await.status, 401);
}

#[tokio::test]
async fn a_cookie_needs_the_header_and_an_allowed_page_for_whatever_changes_things() {
    let wire = Wire::start().await;
    let cookie = format!("theme=dark; __Host-apex_session={}", wire.token("ada").await);
    let cookie = ("cookie", cookie.as_str());
    let (page, proof) = (("origin", PAGE), ("x-apex-csrf", "1"));
    assert_eq!(wire.get("/threads", &[cookie]).await.status, 200);
    for headers in [
        vec![cookie],
        vec![cookie, page],
        vec![cookie, proof],
        vec![cookie, page, ("x-apex-csrf", "yes")],
    ] {
        let answer = wire.post("/auth/ticket", &headers, "").await;
        assert_eq!(code(&answer), (403, "csrf".into()), "{headers:?}");
    }
    assert_eq!(wire.post("/auth/ticket", &[cookie, page, proof], "").await.status, 201);
    let evil = ("origin", "https://evil.example");
    let answer = wire.post("/auth/ticket", &[cookie, evil, proof], "").await;
    assert_eq!(code(&answer), (403, "origin_denied".into()));
    // A token needs neither.
    let auth = bearer(&wire.token("ada").await);
    assert_eq!(wire.post("/auth/ticket", &[("authorization", &auth)], "").await.status, 201);
}

#[tokio::test]
async fn pages_of_the_list_may_ask_across_origins_and_others_may_not() {
    let wire = Wire::start().await;
    let preflight = |origin| [("origin", origin), ("access-control-request-method", "POST")];
    let answer = wire.ask("OPTIONS", "/messages", &preflight(PAGE), b"").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("x-apex-csrf"));
    assert_eq!(answer.header("vary"), Some("origin"));
    let answer = wire.get("/threads", &[("origin", PAGE)]).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert!(answer.header("x-request-id").is_some());
    for origin in ["null", "https://evil.example"] {
        let answer = wire.ask("OPTIONS", "/messages", &preflight(origin), b"").await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn health_tells_everybody_whether_and_operators_what() {
    let mut wire = Wire::start().await;
    for path in ["/health/live", "/health/ready"] {
        let answer = wire.get(path, &[]).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "pass", "version": "1"}))
        );
        assert_eq!(answer.header("content-type"), Some("application/health+json"));
    }
    let head = wire.ask("HEAD", "/health/live", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    wire.service.hub().drain();
    let answer = wire.get("/health/ready", &[]).await;
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "fail", "version": "1"})));
    assert_eq!(wire.get("/health/live", &[]).await.status, 200);
    wire.stop();
}

#[tokio::test]
async fn it_mounts_under_a_prefix() {
    let mut settings = Settings::default();
    settings.transport.prefix = "/apex".into();
    let wire = Wire::start_with(settings).await;
    assert_eq!(wire.get("/apex/health/live", &[]).await.status, 200);
    assert_eq!(wire.get("/health/live", &[]).await.status, 404);
    assert_eq!(wire.get("/apexhealth/live", &[]).await.status, 404);
}

#[tokio::test]
async fn everyone_sees_what_is_left_of_their_own_budget() {
    let limits = BudgetLimits {
        user_day_tokens: Some(1_000),
        user_month_usd: Some("2".parse().unwrap()),
        ..BudgetLimits::default()
    };
    let budget = Arc::new(limits);
    let wire = Wire::start_with(Settings { budget, ..Settings::default() }).await;
    let (ada, bob) = (bearer(&wire.token("ada").await), bearer(&wire.token("bob").await));
    let user = wire.principal(ada.trim_start_matches("Bearer ")).await;
    let budgets = &wire.stores.budgets;
    let [spent, open] = [(); 2].map(|()| ReservationId::new(&SystemClock));
    let charge = |tokens, usd: &str| Charge { tokens, usd: usd.parse().unwrap() };
    budgets.settle(&user, spent, charge(600, "0.5")).await.unwrap();
    let asked = Reservation { id: open, most: charge(300, "0.25") };
    let minute = Duration::from_secs(60);
    assert!(budgets.reserve(&user, asked, &limits, minute).await.unwrap().granted);
    let answer = wire.get("/budget", &[("authorization", &ada)]).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    let body = answer.json();
    let [day, month] = [&body["items"][0], &body["items"][1]];
    assert_eq!(day["spent"], json!({"tokens": 600, "usd": "0.5"}));
    assert_eq!(day["reserved"], json!({"tokens": 300, "usd": "0.25"}));
    assert_eq!((&day["limit_tokens"], &day["left_tokens"]), (&json!(1_000), &json!(100)));
    assert_eq!((&day["period"], &day["limit_usd"]), (&json!("day"), &Value::Null));
    assert_eq!((&month["limit_usd"], &month["left_usd"]), (&json!("2"), &json!("1.25")));
    assert!(day["renews_at"].as_str().unwrap().ends_with("T00:00:00.000Z"));
    let other = wire.get("/budget", &[("authorization", &bob)]).await.json();
    assert_eq!(other["items"][0]["left_tokens"], json!(1_000));
    assert_eq!(code(&wire.get("/budget", &[]).await), (401, "unauthenticated".into()));
}

#[tokio::test]
async fn what_runs_cost_is_summed_by_run_step_model_and_day_for_their_user_alone() {
    let wire = Wire::start().await;
    let (ada, bob) = (bearer(&wire.token("ada").await), bearer(&wire.token("bob").await));
    let user = wire.principal(ada.trim_start_matches("Bearer ")).await;
    let [first, second] = [(); 2].map(|()| RunId::new(&SystemClock));
    let attempt = |run, step, tokens: u64, cost: Option<&str>| Attempt {
        attempt: AttemptId::new(&SystemClock),
        run: Some(run),
        step: Some(StepId(step)),
        number: 1,
        at: "2026-11-22T10:00:00Z".parse().unwrap(),
        took_ms: 1,
        provider: "openai".into(),
        model: "gpt-5".into(),
        outcome: AttemptOutcome::Answered,
        reason: None,
        request: None,
        service_tier: None,
        cache_write_tokens: 0,
        usage: Usage {
            input_tokens: tokens,
            cost_usd: cost.map(|cost| cost.parse().unwrap()),
            ..Usage::NONE
        },
        estimated: false,
    };
    let attempts = vec![
        attempt(first, 1, 10, Some("0.1")),
        attempt(first, 2, 20, Some("0.2")),
        attempt(second, 2, 40, None),
    ];
    wire.stores.usage.record(&user, attempts).await.unwrap();
    let hers = [("authorization", ada.as_str())];
    let sums = async |query: &str| {
        let body = wire.get(&format!("/usage{query}"), &hers).await.json();
        let items = body["items"].as_array().unwrap().clone();
        let sum = |one: Value| {
            let cost = (one["usage"]["cost_usd"].clone(), one["priced_cost_usd"].clone());
            (one["group"].as_str().unwrap().to_owned(), one["usage"]["input_tokens"].clone(), cost)
        };
        items.into_iter().map(sum).collect::<Vec<_>>()
    };
    let sum = |group: &str, tokens: u64, cost: Option<&str>, priced: &str| {
        (group.to_owned(), json!(tokens), (json!(cost), json!(priced)))
    };
    assert_eq!(sums("").await, [sum("", 70, None, "0.3")], "unpriced is not $0");
    assert_eq!(sums("?by=day").await, [sum("2026-11-22", 70, None, "0.3")]);
    assert_eq!(sums("?by=model").await, [sum("openai:gpt-5", 70, None, "0.3")]);
    let of_first = sum(&first.to_string(), 30, Some("0.3"), "0.3");
    let mut runs = [of_first, sum(&second.to_string(), 40, None, "0")];
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(sums("?by=run").await, runs);
    let step = |step, tokens, cost| sum(&format!("{first}:{step}"), tokens, Some(cost), cost);
    let steps = [step("s1", 10, "0.1"), step("s2", 20, "0.2")];
    assert_eq!(sums(&format!("?by=step&run={first}")).await, steps);
    assert_eq!(sums("?from=2026-11-23T00:00:00Z").await, []);
    assert_eq!(code(&wire.get("/usage?by=colour", &hers).await), (400, "bad_request".into()));
    let other = wire.get("/usage", &[("authorization", &bob)]).await.json();
    assert_eq!(other["items"], json!([]));
}

#[tokio::test]
async fn what_is_remembered_is_listed_and_deleted_by_its_user_alone() {
    let wire = Wire::start().await;
    let (ada, bob) = (bearer(&wire.token("ada").await), bearer(&wire.token("bob").await));
    let user = wire.principal(ada.trim_start_matches("Bearer ")).await;
    for name in ["city", "team"] {
        let note =
            Note { name: name.into(), text: "Graz".into(), run: None, at: SystemClock.now() };
        wire.stores.memory.keep(&user, note).await.unwrap();
    }
    let (hers, his) = ([("authorization", ada.as_str())], [("authorization", bob.as_str())]);
    let listed = wire.get("/memory", &hers).await.json();
    assert_eq!(listed["items"][0]["name"], json!("city"));
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert_eq!(wire.get("/memory", &his).await.json()["items"], json!([]));
    assert_eq!(wire.delete("/memory/city", &his).await.status, 404);
    assert_eq!(wire.delete("/memory/city", &hers).await.status, 204);
    assert_eq!(code(&wire.delete("/memory/city", &hers).await), (404, "not_found".into()));
    assert_eq!(wire.delete("/memory", &hers).await.status, 204);
    assert_eq!(wire.get("/memory", &hers).await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_user_takes_along_all_that_is_kept_one_export_at_a_time() {
    let wire = Wire::start().await;
    let (ada, bob) = (bearer(&wire.token("ada").await), bearer(&wire.token("bob").await));
    let run = message(&wire, &ada, "hello", None).await["run"].clone();
    let other = message(&wire, &bob, "secret", None).await["run"].clone();
    ended(&wire, &ada, &run).await;
    ended(&wire, &bob, &other).await;
    let hers = [("authorization", ada.as_str())];
    for _ in 0..2 {
        let answer = wire.get("/export", &hers).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/jsonl"))
        );
        // It comes in chunks, each a line with its size before it.
        let text = answer.text();
        let lines = text.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["kind"], &lines[0]["version"]), (&json!("export"), &json!(1)));
        let last = lines.last().unwrap();
        assert_eq!((&last["kind"], &last["lines"]), (&json!("end"), &json!(lines.len())));
        assert!(lines.iter().any(|line| line["kind"] == "message" && line["run"] == run));
        assert!(lines.iter().any(|line| line["kind"] == "session"));
        assert!(!text.contains("secret") && !text.contains(other.as_str().unwrap()));
        assert!(!text.contains(ada.trim_start_matches("Bearer ")));
    }
    let user = wire.principal(ada.trim_start_matches("Bearer ")).await;
    let key = LimitKey::new("exports", user.user()).unwrap();
    let place = Place { key, holder: HolderId::new(&SystemClock), most: 1 };
    wire.stores.limits.hold(&place, Duration::from_secs(60)).await.unwrap();
    assert_eq!(code(&wire.get("/export", &hers).await), (429, "rate_limited".into()));
    assert_eq!(code(&wire.get("/export", &[]).await), (401, "unauthenticated".into()));
}
