//! The world of the demo: three echo pods, a client, and the agent.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    env,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use shunt_core::{LbBackend, backend::Answer, model::Family};
use shunt_harness::{
    probe::{ProbeProgram, Socket, Transport},
    until,
    world::{Pod, World},
};
use shunt_plugins::{Registry, Settings};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    agent::{Agent, TABLES},
    manifests::{DARK, ECHO, Manifests, SINGLE, Service, TARGET_PORT},
    prepare, tell,
};

/// How long the agent may take for anything; it takes some milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that the acts play with. Dropped in this order: the agent, then its world.
pub(super) struct Stage {
    agent: RefCell<Agent>,
    manifests: Manifests,
    /// Reads the kernel's tables, as `shunt get` does.
    backend: Box<dyn LbBackend>,
    interrupted: CancellationToken,
    world: World,
}

impl Stage {
    /// Makes the world, starts the agent in it and waits for its first sync.
    pub(super) fn set_up(interrupted: &CancellationToken) -> Result<Self> {
        prepare::privileges()?;
        let start = Instant::now();
        let program = ProbeProgram::this_with(["probe-process"])?;
        let world = World::standard(&program).context("cannot make the demo's world")?;
        let backend = backend(&world)?;
        prepare::kernel(&*backend)?;
        let echo = echo_pods(&world)?;
        for pod in echo {
            for transport in [Transport::Tcp, Transport::Udp] {
                pod.serve(transport, &Family::ALL.map(|family| pod.at(family, TARGET_PORT)))?;
            }
        }
        let manifests = Manifests::write(&world, &echo)?;
        let agent = RefCell::new(Agent::start(&world, manifests.folder())?);
        let stage = Self { agent, manifests, backend, interrupted: interrupted.clone(), world };
        stage.introduce(start.elapsed())?;
        let took = stage.wait_for(ECHO, &stage.echo()?)?;
        tell::line(&format!("The agent served its first connection {} later.", tell::time(took)))?;
        Ok(stage)
    }

    /// The pod that dials.
    pub(super) fn client(&self) -> Result<&Pod> {
        self.world.pod("client")
    }

    /// Another pod that dials.
    pub(super) fn second_client(&self) -> Result<&Pod> {
        self.world.pod("client-2")
    }

    /// A client that is no part of the cluster.
    pub(super) fn outside(&self) -> Result<&Pod> {
        self.world.outside()
    }

    /// Waits until a client gets an answer.
    pub(super) fn wait_until_reached(&self, client: &Pod, to: SocketAddr) -> Result<()> {
        let socket = Socket::of(Transport::Tcp, to);
        until("the packet path to serve", PATIENCE, || {
            client.visit(socket, to).is_ok().then_some(())
        })
        .with_context(|| format!("the agent says:\n{}", self.agent.borrow().said()))
    }

    /// The pods that answer.
    pub(super) fn echo(&self) -> Result<[&Pod; 3]> {
        echo_pods(&self.world)
    }

    /// Fails after a signal, and if the agent has ended.
    pub(super) fn check(&self) -> Result<()> {
        if self.interrupted.is_cancelled() {
            bail!("interrupted");
        }
        self.agent.borrow_mut().check()
    }

    /// Writes the endpoints of a Service into its manifest.
    pub(super) fn write(&self, service: Service, pods: &[&Pod]) -> Result<()> {
        self.check()?;
        self.manifests.endpoints(service, pods)
    }

    /// As [`Self::write`], and waits until the kernel has them.
    pub(super) fn change(&self, service: Service, pods: &[&Pod]) -> Result<()> {
        self.write(service, pods)?;
        self.wait_for(service, pods).map(drop)
    }

    /// Leaves everything as it is and tells how to look around.
    pub(super) fn keep(self) -> Result<()> {
        let program = env::current_exe().context("cannot find the running program")?;
        let shunt = program.display();
        let pins = self.world.pin_path();
        let pins = pins.display();
        let client = self.client()?;
        let lines = [
            format!("\nThe world {} stays up, and its agent runs. As root:", self.world.name()),
            "\n  what the kernel has:".into(),
            format!("    {shunt} get services --pin-path {pins}"),
            format!("    {shunt} get endpoints {} --pin-path {pins}", ECHO.name),
            "  what the packet path does, in words:".into(),
            format!(
                "    nsenter --net={} {shunt} get rules",
                self.world.host().namespace().display()
            ),
            "  a shell in the client pod:".into(),
            format!(
                "    sh -c 'echo $$ >{}/cgroup.procs; exec nsenter --net={} bash'",
                client.cgroup().display(),
                client.namespace().display()
            ),
            "  and in that shell, a connection to the Service:".into(),
            format!("    head -1 </dev/tcp/{}/80", ECHO.at(Family::V4).ip()),
            "  the manifests, which the agent follows as you edit them:".into(),
            format!("    {}", self.manifests.folder().display()),
            "  what the agent says:".into(),
            format!("    {}", self.agent.borrow().log().display()),
            "  to remove everything:".into(),
            format!("    {shunt} demo --remove"),
        ];
        self.agent.borrow_mut().let_go();
        self.world.keep()?;
        tell::end(&lines.join("\n"))
    }

    fn introduce(&self, took: Duration) -> Result<()> {
        let pod = |pod: &Pod| format!("{:<7} on {}  {}", pod.name(), pod.node(), pod.address4());
        tell::end(&format!(
            "A small cluster of network namespaces, made in {}; no cluster is needed.",
            tell::time(took)
        ))?;
        for echo in [self.client()?].into_iter().chain(self.echo()?) {
            tell::line(&pod(echo))?;
        }
        for (service, about) in [
            (ECHO, "served by the three echo pods, TCP and UDP"),
            (SINGLE, "served by echo-1 alone"),
            (DARK, "served by nobody"),
        ] {
            let (v4, v6) = (service.at(Family::V4), service.at(Family::V6));
            tell::line(&format!("Service {:<6} {v4} and {v6}: {about}", service.name))?;
        }
        tell::line("The real agent reads them from Kubernetes manifests and attaches its eBPF")?;
        tell::line(
            "programs to the cgroup that all of these pods are in. For what has no socket there,",
        )?;
        tell::line("it writes the same into nftables.")
    }

    /// Waits until the kernel serves a Service, in each family and protocol, by just these pods.
    fn wait_for(&self, service: Service, pods: &[&Pod]) -> Result<Duration> {
        let start = Instant::now();
        until("the agent to follow its manifests", PATIENCE, || {
            let served = self.check().and_then(|()| self.is_served(service, pods));
            served.map(|served| served.then_some(())).transpose()
        })
        .with_context(|| format!("the agent says:\n{}", self.agent.borrow().said()))??;
        Ok(start.elapsed())
    }

    /// Whether the kernel's tables send all four ServicePorts of a Service to just these pods.
    fn is_served(&self, service: Service, pods: &[&Pod]) -> Result<bool> {
        let inspection = Handle::current()
            .block_on(self.backend.inspect())
            .context("cannot read the kernel's tables")?;
        let ports = inspection.services.iter().filter(|s| &*s.key.service.name == service.name);
        let right = ports.flat_map(|port| {
            let at = |pod: &&Pod| pod.at(port.key.family, TARGET_PORT);
            let expected: BTreeSet<SocketAddr> = pods.iter().map(at).collect();
            port.frontends.iter().filter(move |frontend| match &frontend.answer {
                Answer::Endpoints(endpoints) => expected == endpoints.iter().copied().collect(),
                Answer::Refused | Answer::Left => false,
            })
        });
        Ok(right.count() == 4)
    }
}

fn echo_pods(world: &World) -> Result<[&Pod; 3]> {
    Ok([world.pod("echo-1")?, world.pod("echo-2")?, world.pod("echo-3")?])
}

fn backend(world: &World) -> Result<Box<dyn LbBackend>> {
    let mut settings = Settings::new(World::OWN_NODE);
    settings.cgroup = Some(world.cgroup().to_owned());
    settings.pin_path = world.pin_path();
    settings.table_sizes = TABLES.map(|(table, size)| (table.to_owned(), size)).into();
    Ok(Registry::builtin().backend("connect")?.build(&settings)?)
}
