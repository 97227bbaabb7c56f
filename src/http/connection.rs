//! Connections to one server.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{Request, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{debug, trace};

use super::page::Page;

/// How long a client may take for the head of its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections to one server at a time. A load balancer has a handful.
const MOST: usize = 64;

/// What a server answers to a path that is asked for. Never waits for anything.
pub(crate) trait Answer: Fn(&str) -> Page + Clone + Send + Sync + 'static {}

impl<F: Fn(&str) -> Page + Clone + Send + Sync + 'static> Answer for F {}

/// Answers every request on a listener until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, answer: impl Answer) {
    let room = Arc::new(Semaphore::new(MOST));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let answer = answer.clone();
                connections.spawn(async move {
                    talk(stream, answer).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, or a client that is gone already: others may have better
                // luck, and there is no hurry.
                debug!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn talk(stream: TcpStream, answer: impl Answer) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let answer = answer(request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        trace!("a connection ended: {error}");
    }
}
