//! The real agent, as a process on the demo's node.

use std::{
    env,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use shunt_harness::world::World;

/// Tables for a cluster of three Services: the demo reads them whole, again and again, to see
/// when a change has arrived.
pub(super) const TABLES: [(&str, u32); 6] = [
    ("frontends4", 256),
    ("frontends6", 256),
    ("lists", 1024),
    ("endpoints", 4096),
    ("services", 256),
    ("affinity", 1024),
];

/// The running agent. It ends when this is dropped, unless it was let go.
#[derive(Debug)]
pub(super) struct Agent {
    process: Option<Child>,
    log: PathBuf,
}

impl Agent {
    /// Starts this very program as the agent of the world's own node.
    pub(super) fn start(world: &World, manifests: &Path) -> Result<Self> {
        let log = world.folder().join("agent.log");
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let program = env::current_exe().context("cannot find the running program")?;
        let mut command = Command::new(program);
        command
            .args(["--source", "static", "--mode", "auto", "--node-name", World::OWN_NODE])
            .arg("--manifests")
            .arg(manifests)
            .arg("--cgroup")
            .arg(world.cgroup())
            .arg("--pin-path")
            .arg(world.pin_path())
            .args(TABLES.iter().map(|(table, size)| format!("--table-size={table}={size}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            // Ctrl-C is for the demo, which ends the agent in its turn.
            .process_group(0);
        let process = world.host().command(command)?.spawn().context("cannot start the agent")?;
        Ok(Self { process: Some(process), log })
    }

    /// Fails if the agent has ended, with what it said.
    pub(super) fn check(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if let Some(status) = process.try_wait().context("cannot ask for the agent")? {
            bail!("the agent ended ({status}) and said:\n{}", self.said());
        }
        Ok(())
    }

    /// What the agent has said so far.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where the agent says it.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Lets the agent run on.
    pub(super) fn let_go(&mut self) {
        self.process = None;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // Both fail only where the process is gone already.
        let _ = process.kill();
        let _ = process.wait();
    }
}
