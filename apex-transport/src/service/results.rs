//! What runs made: reports and other artifacts.

use super::Call;
use super::conversation::id_of;
use super::reply::{self, ResponseBody};
use apex_core::error::Result;
use apex_core::file::{ArtifactInfo, artifact_id};
use apex_core::id::{ArtifactId, RunId};
use apex_core::principal::Scope;
use apex_core::run::RunGraph;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
    IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Response, StatusCode};

/// A result may show itself and nothing else: no script, no form, no request to anywhere.
const POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// `GET /runs/{run}/report.json`, `.md` and `.html`.
pub(super) async fn report(call: &Call, id: &str, name: &str) -> Result<Response<ResponseBody>> {
    let run: RunId = id_of(id, "run")?;
    show(call, artifact_id(run, name)).await
}

/// `GET /runs/{run}/graph.json` and `.mmd`: the plan and what happened, as it is now.
pub(super) async fn graph(call: &Call, id: &str, name: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let graph = RunGraph::read(&*call.gateway.stores.runs, &principal, id_of(id, "run")?).await?;
    if name.ends_with(".json") {
        return Ok(reply::json(StatusCode::OK, &graph));
    }
    Ok(reply::text("text/vnd.mermaid; charset=utf-8", graph.mermaid()))
}

/// `GET /artifacts/{artifact}`.
pub(super) async fn artifact(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    show(call, id_of(id, "artifact")?).await
}

async fn show(call: &Call, id: ArtifactId) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let artifacts = &call.gateway.stores.artifacts;
    let (info, content) = artifacts.read(&principal, id).await?;
    let known = call.head.headers.get(IF_NONE_MATCH);
    Ok(answer(&info, content, known))
}

fn answer(
    info: &ArtifactInfo,
    content: Bytes,
    known: Option<&HeaderValue>,
) -> Response<ResponseBody> {
    let tag = format!("\"{}\"", info.sha256);
    let unchanged = known.is_some_and(|known| known == tag.as_str());
    let mut response = Response::new(if unchanged {
        ResponseBody::default()
    } else {
        ResponseBody::from(content)
    });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let media_type = HeaderValue::from_str(&info.media_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    let fixed: [(HeaderName, &'static str); 3] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "private, no-cache"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    if let Ok(shown) = HeaderValue::from_str(&format!("inline; filename=\"{}\"", plain(info))) {
        headers.insert(CONTENT_DISPOSITION, shown);
    }
    response
}

/// The artifact's name without anything that could end the header's value early.
fn plain(info: &ArtifactInfo) -> String {
    info.name
        .chars()
        .map(|c| {
            let safe = c.is_ascii_alphanumeric() || ".-_".contains(c);
            if safe { c } else { '_' }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::clock::SystemClock;

    #[test]
    fn a_result_is_shut_in_and_its_name_cannot_break_out() {
        let info = ArtifactInfo {
            artifact: ArtifactId::new(&SystemClock),
            run: RunId::new(&SystemClock),
            name: "a\"; x=\r\ny.html".into(),
            media_type: "text/html; charset=utf-8".into(),
            bytes: 2,
            sha256: "ab".into(),
        };
        let response = answer(&info, Bytes::from_static(b"hi"), None);
        let headers = response.headers();
        assert!(headers[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("sandbox"));
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[CONTENT_DISPOSITION], "inline; filename=\"a___x___y.html\"");
        let again = answer(&info, Bytes::from_static(b"hi"), Some(&headers[ETAG]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
}
