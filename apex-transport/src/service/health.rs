//! Whether this node is there, and whether it can serve.

use super::Call;
use super::reply::{self, ResponseBody};
use crate::call::in_time;
use crate::gateway::Gateway;
use apex_core::auth::TokenHash;
use apex_core::error::{Kind, Result};
use apex_core::id::{ArtifactId, FileId, RunId, ThreadId, UserId};
use apex_core::principal::{Principal, Scope, Scopes};
use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

const MEDIA_TYPE: &str = "application/health+json";

/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct HealthBody {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<BTreeMap<&'static str, Check>>,
}

#[derive(Serialize)]
struct Check {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

/// `GET /health/live`: the process answers.
pub(super) fn live(_: &Call) -> Result<Response<ResponseBody>> {
    let body = HealthBody { status: "pass", checks: None };
    Ok(reply::typed(StatusCode::OK, MEDIA_TYPE, &body))
}

/// `GET /health/ready`: every store answers and the node is not draining. Which one does not is told to operators
/// only.
pub(super) async fn ready(call: &Call) -> Result<Response<ResponseBody>> {
    let checks = check_all(&call.gateway).await;
    let passed = checks.values().all(|check| check.status == "pass");
    let operator = match call.entry().await {
        Ok(entry) => entry.principal.scopes().contains(Scope::Admin),
        Err(_) => false,
    };
    let body = HealthBody {
        status: if passed { "pass" } else { "fail" },
        checks: operator.then_some(checks),
    };
    let status = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(reply::typed(status, MEDIA_TYPE, &body))
}

async fn check_all(gateway: &Gateway) -> BTreeMap<&'static str, Check> {
    // Nobody's: a store that answers that it has nothing of theirs has answered.
    let nobody = Principal::vouched(UserId::from_bytes([0; 16]), Scopes::NONE);
    let hash = TokenHash::from_bytes([0; 32]);
    let stores = &gateway.stores;
    let probes: [(&'static str, futures_util::future::BoxFuture<'_, Result<()>>); 7] = [
        ("runs", {
            let run = RunId::from_bytes([0; 16]);
            let nobody = &nobody;
            Box::pin(async move { stores.runs.view(nobody, run).await.map(drop) })
        }),
        ("threads", {
            let thread = ThreadId::from_bytes([0; 16]);
            let nobody = &nobody;
            Box::pin(async move { stores.threads.thread(nobody, thread).await.map(drop) })
        }),
        ("files", {
            let file = FileId::from_bytes([0; 16]);
            let nobody = &nobody;
            Box::pin(async move { stores.files.info(nobody, file).await.map(drop) })
        }),
        ("artifacts", {
            let artifact = ArtifactId::from_bytes([0; 16]);
            let nobody = &nobody;
            Box::pin(async move { stores.artifacts.read(nobody, artifact).await.map(drop) })
        }),
        ("tickets", Box::pin(async move { stores.tickets.redeem(&hash).await.map(drop) })),
        ("sessions", Box::pin(async move { stores.sessions.find(&hash).await.map(drop) })),
        ("users", {
            let user = nobody.user();
            Box::pin(async move { stores.users.user(user).await.map(drop) })
        }),
    ];
    let answers = probes
        .map(|(name, probe)| async move { (name, Check::of(in_time(PATIENCE, probe).await)) });
    let mut checks: BTreeMap<_, _> = join_all(answers).await.into_iter().collect();
    if gateway.hub.statistics().draining {
        checks.insert("node", Check::failed("it is draining".into()));
    }
    checks
}

impl Check {
    fn of(answer: Result<()>) -> Self {
        match answer {
            Err(error) if error.kind() != Kind::NotFound => Self::failed(error.to_string()),
            Ok(()) | Err(_) => Self { status: "pass", output: None },
        }
    }

    fn failed(output: String) -> Self {
        Self { status: "fail", output: Some(output) }
    }
}
