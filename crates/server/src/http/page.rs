//! The war room's page, built from `ui/` by `cargo xtask ui` and embedded in the binary.
//!
//! The files hold nothing secret and need no token; all that they show does. Deliberately absent: templates, other
//! pages than this one.

use super::problem;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

#[derive(rust_embed::RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Files;

/// Nothing from elsewhere, ever; styles are set on elements by the plots.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'";
/// Told by a binary that was built without the page.
const ABSENT: &str = "this springtide was built without its war room: run `cargo xtask ui`, then build again\n";

/// The page itself.
pub async fn index(headers: HeaderMap) -> Response {
    match file("index.html", &headers) {
        Some(answer) => answer,
        None => (StatusCode::NOT_FOUND, ABSENT).into_response(),
    }
}

/// Its scripts and styles: their names change with their bytes.
pub async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let found = file(&format!("assets/{path}"), &headers);
    found.unwrap_or_else(|| problem::not_found("the page has no such file").into_response())
}

/// A file, compressed ahead where the browser takes it.
fn file(path: &str, headers: &HeaderMap) -> Option<Response> {
    let plain = Files::get(path)?;
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    let packed = accepted.contains("br").then(|| Files::get(&format!("{path}.br"))).flatten();
    let encoding = packed.is_some().then_some(HeaderValue::from_static("br"));
    let mut answer = packed.unwrap_or(plain).data.into_owned().into_response();
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let keep = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let set = answer.headers_mut();
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    set.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    set.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    set.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    set.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(encoding) = encoding {
        set.insert(header::CONTENT_ENCODING, encoding);
    }
    Some(answer)
}
