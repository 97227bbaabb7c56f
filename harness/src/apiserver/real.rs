//! A real API server, whose process tests kill, pause and start again.

use std::{
    fs::{self, OpenOptions},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Authority, Client, Credential, Identity, Kubeconfig, Programs, Validity,
    authority::signing_keys, kubeconfig::write,
};
use crate::{
    until,
    world::{Pod, SERVICE4},
};

/// It is ready within two seconds where nothing else runs.
const LIMIT: Duration = Duration::from_secs(120);

/// Where an API server runs.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// On a loopback address that no other process uses.
    Loopback,
    /// In a pod of a world, at its IPv4 address.
    Pod(&'a Pod),
}

/// An API server with its store. Killed when dropped, and its data removed.
#[derive(Debug)]
pub struct ApiServer<'a> {
    programs: Programs,
    place: Place<'a>,
    address: SocketAddr,
    authority: Authority,
    /// `None` while it is killed.
    process: Option<Child>,
    client: Client,
    folder: tempfile::TempDir,
}

impl<'a> ApiServer<'a> {
    /// The token of a member of `system:masters`.
    pub const ADMIN: &'static str = "admin-token";
    /// The token of the user `system:kube-proxy`, who has the role `system:node-proxier`.
    pub const PROXY: &'static str = "proxy-token";
    /// The token of a user who may do nothing, until a test allows it.
    pub const NOBODY: &'static str = "nobody-token";

    /// Starts a server with an empty store and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Fails where it does not start; the error has the end of its log.
    pub fn start(programs: &Programs, place: Place<'a>) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let address = match place {
            Place::Loopback => own_loopback(),
            Place::Pod(pod) => SocketAddr::new(pod.address4().into(), 6443),
        };
        let authority = Authority::new()?;
        let namespace = match place {
            Place::Loopback => None,
            Place::Pod(pod) => Some(pod.namespace()),
        };
        let admin = Kubeconfig {
            server: format!("https://{address}"),
            authority: authority.certificate(),
            credential: Credential::Token(Self::ADMIN.to_owned()),
        };
        let client = Client::new(&admin.write(folder.path(), "admin")?, namespace)?;
        let programs = programs.clone();
        let mut server =
            Self { programs, place, address, authority, process: None, client, folder };
        server.write_files()?;
        server.resurrect()?;
        // It makes a Service for itself, some time after it says that it is ready.
        until("the Service kubernetes", LIMIT, || {
            server.client.read("/api/v1/namespaces/default/services/kubernetes").ok()
        })?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of its data, for files of tests too.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Who signs its certificates, and those of its users.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A client that may do everything.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// A kubeconfig for another client.
    #[must_use]
    pub fn kubeconfig(&self, credential: Credential) -> Kubeconfig {
        Kubeconfig {
            server: format!("https://{}", self.address),
            authority: self.authority.certificate(),
            credential,
        }
    }

    /// Writes a kubeconfig with one of the tokens, and returns its path.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn kubeconfig_of(&self, token: &str) -> Result<PathBuf> {
        self.kubeconfig(Credential::Token(token.to_owned())).write(self.folder(), token)
    }

    /// Kills it. What was answered is in the store.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.kill().context("cannot kill the API server")?;
        process.wait().context("cannot wait for the API server").map(drop)
    }

    /// Starts it again after a kill, on the same data, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn resurrect(&mut self) -> Result<()> {
        self.spawn(self.address)?;
        self.until_ready()
    }

    /// Starts it again after a kill without waiting: for servers that [`Self::client`] does not
    /// believe.
    ///
    /// # Errors
    ///
    /// Fails where its program does not run.
    pub fn start_unseen(&mut self) -> Result<()> {
        self.spawn(self.address)
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.resurrect()
    }

    /// Does something while the server is out of sight of everybody but [`Self::client`], with
    /// another server on the same data; then kills that one. The next thing to do is
    /// [`Self::resurrect`].
    ///
    /// # Errors
    ///
    /// As [`Self::start`], and with what `work` fails with.
    pub fn behind_the_scenes(
        &mut self,
        work: impl FnOnce(&Self, &Client) -> Result<()>,
    ) -> Result<()> {
        self.kill()?;
        let address = SocketAddr::new(self.address.ip(), self.address.port() + 1);
        self.spawn(address)?;
        let mut admin = self.kubeconfig(Credential::Token(Self::ADMIN.to_owned()));
        admin.server = format!("https://{address}");
        let namespace = match self.place {
            Place::Loopback => None,
            Place::Pod(pod) => Some(pod.namespace()),
        };
        let client = Client::new(&admin.write(self.folder(), "behind")?, namespace)?;
        self.until_ready_by(&client)?;
        work(self, &client)?;
        self.kill()
    }

    /// Stops it in the middle of what it does, with its connections open.
    ///
    /// # Errors
    ///
    /// Fails where it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on after [`Self::pause`].
    ///
    /// # Errors
    ///
    /// Fails where it does not run.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Forgets what happened so far: no watch can begin before now any more.
    ///
    /// # Errors
    ///
    /// Fails where it does not run.
    pub fn compact(&self) -> Result<()> {
        let told = || self.log().matches("the store is compacted").count();
        let before = told();
        self.signal(Signal::SIGUSR1)?;
        until("the store to be compacted", LIMIT, || (told() > before).then_some(()))
    }

    /// Has it show another certificate from its next start on.
    ///
    /// # Errors
    ///
    /// Fails where it cannot be written.
    pub fn show(&self, identity: &Identity) -> Result<()> {
        write(&self.folder().join("server.pem"), &identity.certificate)?;
        write(&self.folder().join("server.key"), &identity.key)
    }

    /// What it has said since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("the API server does not run")?;
        kill(Pid::from_raw(process.id().cast_signed()), signal)
            .with_context(|| format!("cannot send {signal} to the API server"))
    }

    fn write_files(&self) -> Result<()> {
        let addresses = [self.address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST)];
        self.show(&self.authority.server(&addresses, Validity::Current)?)?;
        let file = |name: &str, text: &str| write(&self.folder().join(name), text);
        file("authority.pem", &self.authority.certificate())?;
        let (private, public) = signing_keys()?;
        file("accounts.key", &private)?;
        file("accounts.pub", &public)?;
        file(
            "tokens.csv",
            &format!(
                "{},admin,1,system:masters\n{},system:kube-proxy,2\n{},nobody,3\n",
                Self::ADMIN,
                Self::PROXY,
                Self::NOBODY
            ),
        )
    }

    fn spawn(&mut self, address: SocketAddr) -> Result<()> {
        let mut log = OpenOptions::new();
        let log = log.create(true).append(true).open(self.folder().join("log"));
        let log = log.context("cannot write the log of the API server")?;
        let mut command = self.command(address);
        // It ends when this pipe does, also when this process is killed.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let spawned = match self.place {
            Place::Loopback => command.spawn().map_err(anyhow::Error::from),
            Place::Pod(pod) => pod.command(command)?.spawn().map_err(anyhow::Error::from),
        };
        self.process = Some(spawned.context("cannot start the API server")?);
        Ok(())
    }

    fn command(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(self.programs.api_server());
        let folder = self.folder();
        command.arg(folder);
        let mut file = |flag: &str, name: &str| {
            command.arg(format!("--{flag}={}", folder.join(name).display()));
        };
        file("cert-dir", "");
        file("tls-cert-file", "server.pem");
        file("tls-private-key-file", "server.key");
        file("client-ca-file", "authority.pem");
        file("token-auth-file", "tokens.csv");
        file("service-account-key-file", "accounts.pub");
        file("service-account-signing-key-file", "accounts.key");
        command
            .arg(format!("--bind-address={}", address.ip()))
            .arg(format!("--secure-port={}", address.port()))
            .arg(format!("--service-cluster-ip-range={SERVICE4}/16,fd96::/112"))
            .args([
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--enable-priority-and-fairness=false",
                "--disable-admission-plugins=ServiceAccount",
                "--max-requests-inflight=0",
                "--max-mutating-requests-inflight=0",
            ]);
        match self.place {
            // Nobody can have an endpoint there.
            Place::Loopback => {
                command.args(["--endpoint-reconciler-type=none", "--advertise-address=192.0.2.1"])
            }
            Place::Pod(_) => command.arg(format!("--advertise-address={}", address.ip())),
        };
        command
    }

    fn until_ready(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("the API server is killed") };
        let ready = wait(&mut process, &self.client);
        self.process = Some(process);
        ready.with_context(|| self.end_of_log())
    }

    fn until_ready_by(&mut self, client: &Client) -> Result<()> {
        let Some(process) = &mut self.process else { bail!("the API server is killed") };
        wait(process, client)
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        format!("the API server said:\n{}", lines.join("\n"))
    }
}

fn wait(process: &mut Child, client: &Client) -> Result<()> {
    until("the API server to be ready", LIMIT, || {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(Err(anyhow::anyhow!("the API server ended: {status}")));
        }
        client.is_ready().then_some(Ok(()))
    })?
}

impl Drop for ApiServer<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::error!("{error:#}");
        }
    }
}

/// A loopback address that is this process's by its number, and a port that is this server's.
fn own_loopback() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Numbers of processes have 22 bits.
    let [_, high, middle, low] = process::id().to_be_bytes();
    let port = 20_000 + 2 * NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::new(Ipv4Addr::new(127, 64 + high, middle, low).into(), port)
}
