//! A server of lists and watches that misbehaves as it is told.
//!
//! It speaks HTTP/1.1 by hand, because no library can be made to speak it wrongly.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{
    Fault,
    request::{Request, Verb},
    store::{Store, bookmark, line, status},
};

/// No condition of a test takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// A scripted API server on a loopback port. It ends when it is dropped.
#[derive(Debug)]
pub struct FaultyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    /// Told after every change of the store.
    changed: watch::Sender<()>,
    /// Told to end every open watch.
    interrupted: watch::Sender<()>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultyServer {
    /// Starts a server without objects.
    ///
    /// # Errors
    ///
    /// Fails where the loopback address cannot be listened on.
    pub async fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        Self::start_at(listener)
    }

    /// Starts a server without objects where somebody listens already: in another network
    /// namespace, for example.
    ///
    /// # Errors
    ///
    /// Fails where the listener is none any more.
    pub fn start_at(listener: std::net::TcpListener) -> Result<Self> {
        listener.set_nonblocking(true).context("cannot wait for a listener")?;
        let listener = TcpListener::from_std(listener).context("cannot wait for a listener")?;
        let address = listener.local_addr().context("a listener has an address")?;
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            changed: watch::Sender::new(()),
            interrupted: watch::Sender::new(()),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes an object or changes it. `resource` is the plural: `services`.
    pub fn put(&self, resource: &str, object: Value) {
        self.shared.store().put(resource, object);
        self.shared.changed.send_replace(());
    }

    /// Deletes an object. A resource without namespaces has an empty one.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        self.shared.store().delete(resource, namespace, name);
        self.shared.changed.send_replace(());
    }

    /// The objects that there are, those that clients made among them.
    #[must_use]
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        self.shared.store().objects(resource)
    }

    /// Waits until the objects of a resource are as wished, and returns them.
    ///
    /// # Errors
    ///
    /// Fails where that takes longer than any test should; says what there is instead.
    pub async fn until(
        &self,
        resource: &str,
        wished: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            while !wished(&self.objects(resource)) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let ended = timeout(LIMIT, waiting).await;
        ended.with_context(|| format!("{resource} are {:?}", self.objects(resource)))?;
        Ok(self.objects(resource))
    }

    /// Has a request for `resource` meet with a fault.
    pub fn fail(&self, resource: &str, fault: Fault) {
        self.shared.store().add_fault(resource, fault);
    }

    /// Ends every open watch, so that clients ask again.
    pub fn interrupt(&self) {
        self.shared.interrupted.send_replace(());
    }

    /// How often a resource was asked for.
    #[must_use]
    pub fn asked(&self, resource: &str) -> usize {
        self.shared.store().asked(resource)
    }

    /// Waits until every fault of a resource was met with and the resource asked for once more.
    ///
    /// # Errors
    ///
    /// Fails where that takes longer than any test should.
    pub async fn survived(&self, resource: &str) -> Result<()> {
        let mut changed = self.shared.changed.subscribe();
        let survived = async {
            while !self.shared.store().survived(resource) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout(LIMIT, survived).await.with_context(|| format!("nobody asks for {resource}"))
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client that goes away in the middle is what this server is for.
            if let Err(error) = serve(stream, &shared).await {
                tracing::debug!("connection ended: {error:#}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream).await? {
        let fault = shared.store().ask(&request.resource);
        shared.changed.send_replace(());
        let mut answer = Answer { stream: stream.get_mut(), fault };
        match fault {
            Some(Fault::Status(code, retry_after)) => {
                answer.whole(code, &status(code, retry_after)).await?;
            }
            Some(Fault::Silence) => return std::future::pending().await,
            Some(Fault::Noise) => return answer.write(b"\x16\x03\x01 this is no HTTP\r\n").await,
            _ => match &request.verb {
                Verb::Watch => return answer.watch(&request, shared).await,
                Verb::List => answer.list(&request, shared).await?,
                Verb::Create(object) => {
                    let object = shared.store().create(&request, object.clone());
                    shared.changed.send_replace(());
                    answer.whole(201, &object).await?;
                }
                Verb::Patch(name, patch) => {
                    let patched = shared.store().patch(&request, name, patch);
                    shared.changed.send_replace(());
                    match patched {
                        Some(object) => answer.whole(200, &object).await?,
                        None => answer.whole(404, &status(404, 0)).await?,
                    }
                }
            },
        }
    }
    Ok(())
}

/// An answer being written, with the fault that it has.
struct Answer<'a> {
    stream: &'a mut TcpStream,
    fault: Option<Fault>,
}

impl Answer<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let piece = if self.fault == Some(Fault::Trickle) { 1 } else { bytes.len().max(1) };
        for piece in bytes.chunks(piece) {
            self.stream.write_all(piece).await.context("cannot write")?;
            self.stream.flush().await.context("cannot flush")?;
        }
        Ok(())
    }

    async fn whole(&mut self, code: u16, body: &Value) -> Result<()> {
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {code} Scripted\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.write(head.as_bytes()).await?;
        if self.fault == Some(Fault::Stall) {
            return std::future::pending().await;
        }
        if let Some(Fault::Cut(_)) = self.fault {
            self.write(&body.as_bytes()[..body.len() / 2]).await?;
            bail!("cut, as scripted");
        }
        self.write(body.as_bytes()).await
    }

    async fn list(&mut self, request: &Request, shared: &Shared) -> Result<()> {
        let (items, version) = {
            let store = shared.store();
            (store.matching(request), store.version)
        };
        let body = json!({
            "kind": "List", "apiVersion": "v1", "items": items,
            "metadata": { "resourceVersion": version.max(1).to_string() },
        });
        self.whole(200, &body).await
    }

    async fn watch(&mut self, request: &Request, shared: &Shared) -> Result<()> {
        let mut changed = shared.changed.subscribe();
        let mut interrupted = shared.interrupted.subscribe();
        self.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
              transfer-encoding: chunked\r\n\r\n",
        )
        .await?;
        if self.fault == Some(Fault::Stall) {
            return std::future::pending().await;
        }
        let mut version = request.resource_version;
        if request.sends_initial_events {
            version = self.initial_events(request, shared).await?;
        }
        self.after_list(version).await?;
        loop {
            if self.fault == Some(Fault::BookmarksOnly) {
                self.chunk(&bookmark(version.max(1), false)).await?;
            } else {
                let events = shared.store().since(&request.resource, version);
                version = events.last().map_or(version, |last| last.version);
                self.events(events.into_iter().map(|event| event.line).collect()).await?;
            }
            tokio::select! {
                _ = changed.changed() => (),
                _ = interrupted.changed() => return self.write(b"0\r\n\r\n").await,
            }
        }
    }

    /// What there is, as events; returns up to which version.
    async fn initial_events(&mut self, request: &Request, shared: &Shared) -> Result<u64> {
        let (objects, version) = {
            let store = shared.store();
            (store.objects(&request.resource), store.version)
        };
        let mut lines: Vec<String> = objects.iter().map(|object| line("ADDED", object)).collect();
        if let Some(Fault::Cut(whole)) = self.fault {
            lines.truncate(whole + 1);
            let last = lines.pop().unwrap_or_else(|| bookmark(version, true));
            self.events(lines).await?;
            let half = &last[..last.len() / 2];
            self.write(format!("{:x}\r\n{half}\r\n", half.len()).as_bytes()).await?;
            bail!("cut, as scripted");
        }
        self.events(lines).await?;
        self.chunk(&bookmark(version.max(1), true)).await?;
        Ok(version)
    }

    /// Faults that come once, after what there is.
    async fn after_list(&mut self, version: u64) -> Result<()> {
        match self.fault {
            Some(Fault::Garbage) => self.chunk("}{ no JSON\n").await,
            Some(Fault::Gone) => {
                self.chunk(&line("ERROR", &status(410, 0))).await?;
                bail!("gone, as scripted at {version}");
            }
            Some(Fault::Broken) => {
                self.chunk(&line("ERROR", &status(500, 0))).await?;
                bail!("broken, as scripted at {version}");
            }
            _ => Ok(()),
        }
    }

    async fn events(&mut self, mut lines: Vec<String>) -> Result<()> {
        if self.fault == Some(Fault::Shuffled) {
            // Each object is once in a list, so any order will do.
            lines.reverse();
        }
        for line in lines {
            self.chunk(&line).await?;
            if self.fault == Some(Fault::Twice) {
                self.chunk(&line).await?;
            }
        }
        Ok(())
    }

    async fn chunk(&mut self, text: &str) -> Result<()> {
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
    }
}
