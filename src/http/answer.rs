//! What a load balancer outside is told about a Service, byte for byte as kube-proxy does. Pure.

use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde::Serialize;
use shunt_core::model::ObjectName;

use super::page::{Page, json};

/// The answer for a Service with that many endpoints on this node, whatever was asked.
pub(super) fn answer(service: &ObjectName, local_endpoints: usize, healthy: bool) -> Page {
    let text = Text {
        service: Name { namespace: &service.namespace, name: &service.name },
        local_endpoints,
        service_proxy_healthy: healthy,
    };
    let is_to_be_used = local_endpoints > 0 && healthy;
    let code = if is_to_be_used { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json(code, &text);
    response.headers_mut().insert(
        HeaderName::from_static("x-load-balancing-endpoint-weight"),
        HeaderValue::from(local_endpoints),
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
