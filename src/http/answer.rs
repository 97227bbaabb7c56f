//! What a load balancer outside is told about a Service, byte for byte as kube-proxy does. Pure.

use http_body_util::Full;
use hyper::{Response, StatusCode, body::Bytes, header};
use serde::Serialize;
use shunt_core::model::ObjectName;

/// The answer for a Service with that many endpoints on this node, whatever was asked.
pub(super) fn answer(
    service: &ObjectName,
    local_endpoints: usize,
    healthy: bool,
) -> Response<Full<Bytes>> {
    let text = Text {
        service: Name { namespace: &service.namespace, name: &service.name },
        local_endpoints,
        service_proxy_healthy: healthy,
    };
    // Names and numbers always are JSON.
    let body = serde_json::to_vec(&text).unwrap_or_default();
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = if local_endpoints > 0 && healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(
        header::HeaderName::from_static("x-load-balancing-endpoint-weight"),
        header::HeaderValue::from(local_endpoints),
    );
    response
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Text<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}
