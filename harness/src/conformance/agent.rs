//! Another agent: a process that runs the backend under test by a script.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use shunt_core::{
    Delta, LbBackend,
    backend::Bell,
    model::{Family, Protocol},
};

use super::{MakeBackend, Service, Site, Stage};
use crate::{probe::monotonic, until};

/// The variable that holds the [`Script`].
const SCRIPT: &str = "SHUNT_CONFORMANCE_AGENT";

/// How long an agent works before it ends by itself.
const LIMIT: Duration = Duration::from_secs(60);

/// What another agent does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Script {
    pub(super) cgroup: Option<PathBuf>,
    pub(super) pin_path: PathBuf,
    /// The one Service that it serves.
    pub(super) name: String,
    pub(super) address: SocketAddr,
    /// The sets of endpoints, applied one after the other and from the start again; a single one is
    /// applied once, and then the agent says how it finds things.
    pub(super) sets: Vec<Vec<SocketAddr>>,
    /// Where it writes its verdict after the first set: a JSON list of problems.
    pub(super) verdict: PathBuf,
}

impl Script {
    /// The TCP Service that the agent serves from `set`.
    pub(super) fn service(&self, set: &[SocketAddr]) -> Service {
        let family = Family::of(self.address.ip());
        Service::new(&self.name, Protocol::Tcp, family).cluster_ip(self.address).endpoints(set)
    }

    /// The command that starts the agent beside `stage`, whose own backend has to be stopped. It
    /// will be in this process's cgroup and in the namespaces of the thread that starts it.
    pub(super) fn command(&self, stage: &Stage<'_>) -> Result<Command> {
        let log = stage.world().folder().join("agent.log");
        let log = fs::File::create(log).context("cannot make the agent's log")?;
        let mut command = Command::new(env::current_exe().context("cannot find the binary")?);
        command
            .args([stage.agent_test(), "--exact", "--nocapture"])
            .env(SCRIPT, serde_json::to_string(self)?)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot duplicate the log")?)
            .stderr(log);
        Ok(command)
    }

    /// Waits for the verdict of an agent that was started.
    pub(super) fn verdict(&self, stage: &Stage<'_>, agent: &mut Child) -> Result<Vec<String>> {
        let text = until("the other agent's verdict", Duration::from_secs(20), || {
            if let Ok(Some(status)) = agent.try_wait() {
                let log = fs::read_to_string(stage.world().folder().join("agent.log"));
                let end = format!("{status}: {}", log.unwrap_or_default());
                let verdict = fs::read_to_string(&self.verdict);
                return Some(verdict.map_err(|error| anyhow!(error).context(end)));
            }
            fs::read_to_string(&self.verdict).ok().map(Ok)
        })?;
        serde_json::from_str(&text?).context("cannot read the other agent's verdict")
    }
}

/// Runs as another agent if a behaviour started this process as one.
///
/// # Errors
///
/// Fails as the backend does.
pub fn agent(make: MakeBackend) -> Result<()> {
    let Ok(script) = env::var(SCRIPT) else { return Ok(()) };
    let script: Script = serde_json::from_str(&script).context("cannot read the script")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(play(make, &script))
}

async fn play(make: MakeBackend, script: &Script) -> Result<()> {
    let site = Site::new(script.cgroup.clone(), script.pin_path.clone());
    let mut backend = make(&site);
    backend.start(Bell::default()).await?;
    let start = monotonic();
    for (number, set) in script.sets.iter().cycle().enumerate() {
        apply(backend.as_mut(), script, set, number == 0).await?;
        if number == 0 {
            write_verdict(&script.verdict, backend.verify().await.problems)?;
        }
        let over = Duration::from_nanos(monotonic() - start) > LIMIT;
        if over || script.sets.len() == 1 {
            break;
        }
    }
    Ok(())
}

async fn apply(
    backend: &mut dyn LbBackend,
    script: &Script,
    set: &[SocketAddr],
    first: bool,
) -> Result<()> {
    let Service { key, port } = script.service(set);
    let mut delta = Delta::default();
    delta.complete = first;
    delta.cluster_ips.insert(script.address.ip(), true);
    delta.service_ports.insert(key, Some(Arc::new(port)));
    let report = backend.apply(&delta).await;
    ensure!(report.is_success(), "apply failed: {report:?}");
    Ok(())
}

/// Whole or not at all: the reader waits for the file.
fn write_verdict(path: &Path, problems: Vec<String>) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, serde_json::to_string(&problems)?).context("cannot write the verdict")?;
    fs::rename(&draft, path).context("cannot publish the verdict")
}
