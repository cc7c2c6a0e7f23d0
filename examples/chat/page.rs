//! The chat page: its files, compiled in, with headers that let it load nothing from elsewhere.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::routing::get;
use netra_apex::agents::cost::sample;

/// What the page may do: its own scripts, styles and requests, and no inline ones of either kind.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const CSV: &str = "text/csv; charset=utf-8";

/// Each file with its path and media type.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/composer.js", SCRIPT, include_str!("page/composer.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/format.js", SCRIPT, include_str!("page/format.js")),
    ("/markdown.js", SCRIPT, include_str!("page/markdown.js")),
    ("/operator", HTML, include_str!("page/operator.html")),
    ("/operator.css", CSS, include_str!("page/operator.css")),
    ("/operator.js", SCRIPT, include_str!("page/operator.js")),
    ("/operator-model.js", SCRIPT, include_str!("page/operator-model.js")),
    ("/plan-layout.js", SCRIPT, include_str!("page/plan-layout.js")),
    ("/plan-view.js", SCRIPT, include_str!("page/plan-view.js")),
    ("/report-view.js", SCRIPT, include_str!("page/report-view.js")),
    ("/run-model.js", SCRIPT, include_str!("page/run-model.js")),
    ("/run-view.js", SCRIPT, include_str!("page/run-view.js")),
    ("/threads.js", SCRIPT, include_str!("page/threads.js")),
    // The client of the protocol, as npm has it in `netra-apex/client`.
    ("/client/index.js", SCRIPT, include_str!("../../bindings/node/client/index.js")),
    ("/client/client.js", SCRIPT, include_str!("../../bindings/node/client/client.js")),
    ("/client/closing.js", SCRIPT, include_str!("../../bindings/node/client/closing.js")),
    ("/client/error.js", SCRIPT, include_str!("../../bindings/node/client/error.js")),
    ("/client/link.js", SCRIPT, include_str!("../../bindings/node/client/link.js")),
    ("/client/stream.js", SCRIPT, include_str!("../../bindings/node/client/stream.js")),
    ("/client/ways.js", SCRIPT, include_str!("../../bindings/node/client/ways.js")),
];

/// The routes of the page, and of the sample that it offers.
pub(crate) fn routes() -> Router {
    let sample =
        Router::new().route("/sample.csv", get(|| async { (headers(CSV), sample::csv()) }));
    FILES.iter().fold(sample, |router, &(path, media_type, content)| {
        router.route(path, get(move || async move { (headers(media_type), content) }))
    })
}

fn headers(media_type: &'static str) -> [(HeaderName, &'static str); 5] {
    [
        (CONTENT_TYPE, media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ]
}
