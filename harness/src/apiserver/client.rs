//! What tests do to the objects of a cluster, as kubectl does it.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use nlink::netlink::namespace;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

/// No request takes this long, unless the server is dead.
const LIMIT: Duration = Duration::from_secs(60);

/// Requests that are on their way at once where there are many.
const AT_ONCE: usize = 32;

/// A client of an API server. Its calls wait for the answer.
///
/// The sockets are made by a thread of its own, which can be in another network namespace.
#[derive(Debug)]
pub struct Client {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce(kube::Client) -> BoxFuture<'static, ()> + Send>;

impl Client {
    /// A client by this kubeconfig; its sockets are made in `namespace`, if one is given.
    ///
    /// # Errors
    ///
    /// Fails where the kubeconfig is no use or the namespace cannot be entered.
    pub fn new(kubeconfig: &Path, namespace: Option<PathBuf>) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("cannot read a kubeconfig")?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let (tell, started) = sync_channel(1);
        let work = move || {
            let failed = match start(kubeconfig, namespace) {
                Ok((runtime, client)) => {
                    let _ = tell.send(Ok(()));
                    return runtime.block_on(execute(queue, client));
                }
                Err(error) => error,
            };
            let _ = tell.send(Err(failed));
        };
        let thread = thread::Builder::new().name("api client".to_owned());
        let thread = thread.spawn(work).context("cannot start a thread")?;
        started.recv().context("the thread of a client panicked")??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Makes an object, as `kubectl create` does.
    ///
    /// # Errors
    ///
    /// Fails where the server refuses.
    pub fn create(&self, object: &Value) -> Result<Value> {
        self.ask(create(object)?)
    }

    /// Makes many objects, several at once and in no order. Returns them in the order in which
    /// they were given.
    ///
    /// # Errors
    ///
    /// Fails with the first that the server refuses.
    pub fn create_all(&self, objects: &[Value]) -> Result<Vec<Value>> {
        self.ask_all(objects.iter().map(create).collect::<Result<_>>()?)
    }

    /// Makes an object or changes it, as `kubectl apply --server-side` does.
    ///
    /// # Errors
    ///
    /// Fails where the server refuses.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        self.ask(apply(object, "")?)
    }

    /// As [`Self::apply`], for many objects.
    ///
    /// # Errors
    ///
    /// Fails with the first that the server refuses.
    pub fn apply_all(&self, objects: &[Value]) -> Result<Vec<Value>> {
        self.ask_all(objects.iter().map(|object| apply(object, "")).collect::<Result<_>>()?)
    }

    /// Replaces an object, whatever it is by now, as a controller does that writes EndpointSlices.
    ///
    /// # Errors
    ///
    /// Fails where the server refuses.
    pub fn replace(&self, object: &Value) -> Result<Value> {
        self.ask(request(Method::PUT, &path_of(object, true)?, JSON, Some(object))?)
    }

    /// Changes an object's status, as a controller does.
    ///
    /// # Errors
    ///
    /// Fails where the server refuses.
    pub fn apply_status(&self, object: &Value) -> Result<Value> {
        self.ask(apply(object, "/status")?)
    }

    /// Changes part of an object, as `kubectl patch --type merge` does. `object` needs no more
    /// than type and name.
    ///
    /// # Errors
    ///
    /// Fails where the server refuses.
    pub fn patch(&self, object: &Value, patch: &Value) -> Result<Value> {
        let path = path_of(object, true)?;
        self.ask(request(Method::PATCH, &path, "application/merge-patch+json", Some(patch))?)
    }

    /// Deletes an object, of which no more than type and name have to be given.
    ///
    /// # Errors
    ///
    /// Fails where the server refuses.
    pub fn delete(&self, object: &Value) -> Result<Value> {
        self.ask(delete(object)?)
    }

    /// As [`Self::delete`], for many objects.
    ///
    /// # Errors
    ///
    /// Fails with the first that the server refuses.
    pub fn delete_all(&self, objects: &[Value]) -> Result<Vec<Value>> {
        self.ask_all(objects.iter().map(delete).collect::<Result<_>>()?)
    }

    /// An object as the server has it.
    ///
    /// # Errors
    ///
    /// Fails where the server has none.
    pub fn get(&self, object: &Value) -> Result<Value> {
        self.read(&path_of(object, true)?)
    }

    /// A token for a service account, which ends to be one when `secret` is deleted.
    ///
    /// # Errors
    ///
    /// Fails where there is no such account or secret.
    pub fn token(&self, namespace: &str, account: &str, secret: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "boundObjectRef": { "apiVersion": "v1", "kind": "Secret", "name": secret } },
        });
        let answer = self.ask(request(Method::POST, &path, "application/json", Some(&body))?)?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        Ok(token.context("the server gave no token")?.to_owned())
    }

    /// What the server says at a path: `/version`.
    ///
    /// # Errors
    ///
    /// Fails where it answers anything but success and JSON.
    pub fn read(&self, path: &str) -> Result<Value> {
        self.ask(request(Method::GET, path, "", None)?)
    }

    /// Whether the server says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let Ok(request) = request(Method::GET, "/readyz", "", None) else { return false };
        let asked = self.run(|client| {
            Box::pin(async move { client.request_text(request).await.map(drop).map_err(whole) })
        });
        asked.is_ok()
    }

    fn ask(&self, request: Request<Vec<u8>>) -> Result<Value> {
        self.run(|client| Box::pin(send(client, request)))
    }

    fn ask_all(&self, requests: Vec<Request<Vec<u8>>>) -> Result<Vec<Value>> {
        self.run(|client| {
            Box::pin(async move {
                let sent = requests.into_iter().map(|request| send(client.clone(), request));
                let answers: Vec<_> = stream::iter(sent).buffered(AT_ONCE).collect().await;
                answers.into_iter().collect()
            })
        })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(kube::Client) -> BoxFuture<'static, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (tell, answer) = sync_channel(1);
        let job: Job = Box::new(move |client| {
            Box::pin(async move {
                // Whoever asked waits for it.
                let _ = tell.send(work(client).await);
            })
        });
        let gone = || anyhow!("the thread of a client is gone");
        self.jobs.as_ref().ok_or_else(gone)?.send(job).ok().ok_or_else(gone)?;
        answer.recv().ok().ok_or_else(gone)?
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was seen by whoever asked.
            let _ = thread.join();
        }
    }
}

fn start(
    kubeconfig: Kubeconfig,
    namespace: Option<PathBuf>,
) -> Result<(tokio::runtime::Runtime, kube::Client)> {
    if let Some(path) = namespace {
        // The thread ends in there: there is nothing to return to.
        std::mem::forget(namespace::enter_path(path)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    let client = runtime.block_on(async {
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.default_retry = false;
        config.read_timeout = Some(LIMIT);
        anyhow::Ok(kube::Client::try_from(config)?)
    });
    Ok((runtime, client.context("cannot make a client")?))
}

async fn execute(mut queue: mpsc::UnboundedReceiver<Job>, client: kube::Client) {
    while let Some(job) = queue.recv().await {
        job(client.clone()).await;
    }
}

async fn send(client: kube::Client, request: Request<Vec<u8>>) -> Result<Value> {
    let what = format!("{} {}", request.method(), request.uri());
    let answer = timeout(LIMIT, client.request(request));
    answer.await.with_context(|| format!("no answer to {what}"))?.map_err(whole).context(what)
}

/// Some of the library's errors say their cause and some do not.
fn whole(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("{} ({})", status.message, status.code),
        other => other.into(),
    }
}

fn create(object: &Value) -> Result<Request<Vec<u8>>> {
    let path = path_of(object, false)?;
    request(Method::POST, &format!("{path}?fieldManager=kubectl-create"), JSON, Some(object))
}

fn apply(object: &Value, below: &str) -> Result<Request<Vec<u8>>> {
    let path = format!("{}{below}?fieldManager=kubectl&force=true", path_of(object, true)?);
    request(Method::PATCH, &path, "application/apply-patch+yaml", Some(object))
}

fn delete(object: &Value) -> Result<Request<Vec<u8>>> {
    request(Method::DELETE, &path_of(object, true)?, "", None)
}

const JSON: &str = "application/json";

fn request(
    method: Method,
    path: &str,
    content: &str,
    body: Option<&Value>,
) -> Result<Request<Vec<u8>>> {
    let mut request = Request::builder().method(method).uri(path);
    if !content.is_empty() {
        request = request.header("content-type", content);
    }
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    request.body(body).with_context(|| format!("{path} is no path"))
}

/// Where an object is found, or those of its kind. What tests use all has a plural in "s".
fn path_of(object: &Value, named: bool) -> Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (Some(version), Some(kind)) = (text("/apiVersion"), text("/kind")) else {
        bail!("an object without a type: {object}");
    };
    let api = if version.contains('/') { "apis" } else { "api" };
    let mut path = format!("/{api}/{version}");
    if let Some(namespace) = text("/metadata/namespace") {
        // Writing to a String cannot fail.
        let _ = write!(path, "/namespaces/{namespace}");
    }
    let _ = write!(path, "/{}s", kind.to_lowercase());
    if named {
        let name = text("/metadata/name").context("an object without a name")?;
        let _ = write!(path, "/{name}");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_by_type_and_name() {
        let check = |object: Value, expected: &str| {
            assert_eq!(path_of(&object, true).unwrap(), expected);
        };
        check(
            json!({ "apiVersion": "v1", "kind": "Service",
                    "metadata": { "namespace": "shop", "name": "web" } }),
            "/api/v1/namespaces/shop/services/web",
        );
        check(
            json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                    "metadata": { "name": "more" } }),
            "/apis/networking.k8s.io/v1/servicecidrs/more",
        );
        assert!(path_of(&json!({ "kind": "Service" }), true).is_err());
    }
}
