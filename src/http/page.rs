//! Answers, from their parts. Pure.

use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use serde::Serialize;

/// An answer.
pub(crate) type Page = Response<Full<Bytes>>;

/// A text.
pub(super) fn text(code: StatusCode, text: impl Into<Bytes>) -> Page {
    page(code, "text/plain; charset=utf-8", text.into())
}

/// Metrics.
pub(super) fn metrics(text: String) -> Page {
    page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
}

/// A value as JSON.
pub(super) fn json(code: StatusCode, value: &impl Serialize) -> Page {
    // Nothing of ours fails to be JSON.
    page(code, "application/json", serde_json::to_vec(value).unwrap_or_default().into())
}

/// What is not there.
pub(super) fn not_found() -> Page {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn page(code: StatusCode, content_type: &'static str, body: Bytes) -> Page {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
