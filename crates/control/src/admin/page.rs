//! The dashboard's files, as they are compiled in: one page, its style, its modules.
//!
//! They are the same for everybody and say nothing about the node, so they are handed out without a token. The policy that
//! goes with them lets the page load nothing but them, talk to nobody but this node, and turn no text into markup: what
//! functions are called and what they write is shown as text, whatever it is.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::fault::{Fault, unknown_path};

/// `require-trusted-types-for` has the browser refuse `innerHTML` and its kind altogether.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Name, type and bytes of each.
const FILES: &[(&str, &str, &[u8])] = &[
    ("index.html", HTML, include_bytes!("page/index.html")),
    ("style.css", STYLE, include_bytes!("page/style.css")),
    ("icon.svg", PICTURE, include_bytes!("page/icon.svg")),
    ("api.js", SCRIPT, include_bytes!("page/api.js")),
    ("deployments.js", SCRIPT, include_bytes!("page/deployments.js")),
    ("dialogs.js", SCRIPT, include_bytes!("page/dialogs.js")),
    ("dom.js", SCRIPT, include_bytes!("page/dom.js")),
    ("format.js", SCRIPT, include_bytes!("page/format.js")),
    ("graph.js", SCRIPT, include_bytes!("page/graph.js")),
    ("invocations.js", SCRIPT, include_bytes!("page/invocations.js")),
    ("live.js", SCRIPT, include_bytes!("page/live.js")),
    ("logs.js", SCRIPT, include_bytes!("page/logs.js")),
    ("main.js", SCRIPT, include_bytes!("page/main.js")),
    ("memory.js", SCRIPT, include_bytes!("page/memory.js")),
    ("model.js", SCRIPT, include_bytes!("page/model.js")),
    ("nodes.js", SCRIPT, include_bytes!("page/nodes.js")),
    ("scope.js", SCRIPT, include_bytes!("page/scope.js")),
    ("side.js", SCRIPT, include_bytes!("page/side.js")),
    ("table.js", SCRIPT, include_bytes!("page/table.js")),
    ("versions.js", SCRIPT, include_bytes!("page/versions.js")),
];

/// The tag of each, by which a browser sees that what it has is still the same.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |(_, _, bytes): &(&str, &str, &[u8])| format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32]);
    FILES.iter().map(tag).collect()
});

/// Whether a path is one of the page's.
pub(super) fn is_of_page(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

pub(super) async fn index(headers: HeaderMap) -> Response {
    found("index.html", &headers).unwrap_or_else(|fault| fault.into_response())
}

pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match found(&name, &headers) {
        Ok(response) => response,
        Err(_) => unknown_path().await.into_response(),
    }
}

fn found(name: &str, headers: &HeaderMap) -> Result<Response, Fault> {
    let file = FILES.iter().zip(TAGS.iter()).find(|((known, ..), _)| *known == name);
    let Some(((_, kind, bytes), tag)) = file else {
        return Err(Fault::new(StatusCode::NOT_FOUND, format!("the page has no file {name}"), ""));
    };
    let has_it = headers.get(header::IF_NONE_MATCH).is_some_and(|shown| shown.as_bytes() == tag.as_bytes());
    let mut response = match has_it {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => (*bytes).into_response(),
    };
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, kind);
    set(header::ETAG, tag);
    // Asked for again each time: another version of the node may have another page.
    set(header::CACHE_CONTROL, "no-cache");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    Ok(response)
}

#[cfg(test)]
mod tests;
