//! The beginning of a request, as far as this server cares.

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};

/// A request for a list or a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The plural of the resource: `services`.
    pub(super) resource: String,
    pub(super) is_watch: bool,
    /// Whether the watch begins with what there is.
    pub(super) sends_initial_events: bool,
    pub(super) resource_version: u64,
}

impl Request {
    /// Reads the head of the next request of a connection; `None` at its end.
    pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<Self>> {
        let mut first = String::new();
        if stream.read_line(&mut first).await.context("cannot read a request")? == 0 {
            return Ok(None);
        }
        loop {
            let mut line = String::new();
            let length = stream.read_line(&mut line).await.context("cannot read a header")?;
            if length == 0 || line == "\r\n" {
                return Self::parse(&first).map(Some);
            }
        }
    }

    fn parse(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        ensure!(words.next() == Some("GET"), "not a GET: {line}");
        let target = words.next().context("a request without a target")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = path.rsplit('/').next().unwrap_or_default().to_owned();
        let value = |name: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name)
        };
        let is_true = |name| value(name).is_some_and(|(_, value)| value == "true");
        let version = value("resourceVersion").and_then(|(_, value)| value.parse().ok());
        Ok(Self {
            resource,
            is_watch: is_true("watch"),
            sends_initial_events: is_true("sendInitialEvents"),
            resource_version: version.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_told_from_a_list() {
        let line = "GET /api/v1/services?&watch=true&allowWatchBookmarks=true\
                    &sendInitialEvents=true&resourceVersion=7 HTTP/1.1\r\n";
        let request = Request::parse(line).unwrap();
        assert_eq!(request.resource, "services");
        assert!(request.is_watch && request.sends_initial_events);
        assert_eq!(request.resource_version, 7);
        let list = Request::parse("GET /apis/discovery.k8s.io/v1/endpointslices HTTP/1.1").unwrap();
        assert!(!list.is_watch && list.resource == "endpointslices");
        assert!(Request::parse("POST / HTTP/1.1").is_err());
    }
}
