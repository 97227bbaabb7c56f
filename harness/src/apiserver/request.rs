//! The beginning of a request, as far as this server cares.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpStream,
};

/// A request for a list or a watch, or one that changes an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    /// The plural of the resource: `services`.
    pub(super) resource: String,
    /// The namespace, where one is named.
    pub(super) namespace: String,
    pub(super) verb: Verb,
    /// Whether the watch begins with what there is.
    pub(super) sends_initial_events: bool,
    pub(super) resource_version: u64,
    /// Only objects of this name are asked for.
    pub(super) only: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verb {
    List,
    Watch,
    Create(Value),
    /// A merge patch of the object of that name.
    Patch(String, Value),
}

impl Request {
    /// Reads the next request of a connection; `None` at its end.
    pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<Self>> {
        let mut first = String::new();
        if stream.read_line(&mut first).await.context("cannot read a request")? == 0 {
            return Ok(None);
        }
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            let length = stream.read_line(&mut line).await.context("cannot read a header")?;
            if length == 0 || line == "\r\n" {
                break;
            }
            if let Some(("content-length", value)) = line.to_lowercase().split_once(": ") {
                body.resize(value.trim().parse().context("a length that is no number")?, 0);
            }
        }
        stream.read_exact(&mut body).await.context("cannot read a body")?;
        Self::parse(&first, &body).map(Some)
    }

    fn parse(line: &str, body: &[u8]) -> Result<Self> {
        let mut words = line.split(' ');
        let (method, target) = words.next().zip(words.next()).context("no request")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|pair| pair.0 == name).map(|(_, value)| value)
        };
        let is_true = |name| value(name) == Some("true");
        let object = || serde_json::from_slice(body).context("the body is no JSON");
        let mut parts: Vec<&str> = path.split('/').collect();
        let verb = match method {
            "GET" if is_true("watch") => Verb::Watch,
            "GET" => Verb::List,
            "POST" => Verb::Create(object()?),
            "PATCH" => Verb::Patch(parts.pop().unwrap_or_default().to_owned(), object()?),
            _ => bail!("a method that is not known: {line}"),
        };
        let namespace = parts.iter().skip_while(|part| **part != "namespaces").nth(1);
        let version = value("resourceVersion").and_then(|value| value.parse().ok());
        let selector = value("fieldSelector").map(|text| text.replace("%3D", "="));
        let only = selector.and_then(|text| text.strip_prefix("metadata.name=").map(str::to_owned));
        Ok(Self {
            resource: parts.last().copied().unwrap_or_default().to_owned(),
            namespace: namespace.copied().unwrap_or_default().to_owned(),
            verb,
            sends_initial_events: is_true("sendInitialEvents"),
            resource_version: version.unwrap_or_default(),
            only,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verbs_are_told_apart() {
        let line = "GET /api/v1/services?&watch=true&allowWatchBookmarks=true\
                    &sendInitialEvents=true&resourceVersion=7 HTTP/1.1\r\n";
        let request = Request::parse(line, b"").unwrap();
        assert_eq!((&*request.resource, &*request.namespace), ("services", ""));
        assert!(request.verb == Verb::Watch && request.sends_initial_events);
        assert_eq!(request.resource_version, 7);
        let line = "GET /apis/discovery.k8s.io/v1/endpointslices HTTP/1.1";
        let list = Request::parse(line, b"").unwrap();
        assert!(list.verb == Verb::List && list.resource == "endpointslices");
        let line =
            "GET /api/v1/namespaces/shop/services?&fieldSelector=metadata.name%3Dweb HTTP/1.1";
        let one = Request::parse(line, b"").unwrap();
        assert_eq!((&*one.resource, &*one.namespace), ("services", "shop"));
        assert_eq!(one.only.as_deref(), Some("web"));
        let line = "POST /apis/events.k8s.io/v1/namespaces/default/events? HTTP/1.1";
        let post = Request::parse(line, b"{\"a\": 1}").unwrap();
        assert_eq!((&*post.resource, post.verb), ("events", Verb::Create(json!({ "a": 1 }))));
        let line = "PATCH /apis/events.k8s.io/v1/namespaces/default/events/x.1? HTTP/1.1";
        let patch = Request::parse(line, b"{}").unwrap();
        assert_eq!(
            (&*patch.resource, patch.verb),
            ("events", Verb::Patch("x.1".into(), json!({})))
        );
        assert!(Request::parse("DELETE / HTTP/1.1", b"").is_err());
    }
}
