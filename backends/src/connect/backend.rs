//! The backend: what happens when, in terms of the other files.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use shunt_core::{
    LbBackend,
    backend::{ApplyReport, BackendError, Bell, Inspection, Probe, Verdict},
    plan::Delta,
};

use super::{
    bpffs,
    canary::Canary,
    cgroup::Cgroup,
    cleanup, inspect,
    links::{self, Links},
    lock::Lock,
    pins::{Held, Pins},
    probe,
    program::{Extras, Loaded, Programs},
    reclaim::Reclaimer,
    sizes::TableSizes,
    sys::{self, Hash, Kernel as _, Maps, Word},
    tables::Tables,
    verify,
};

/// Where and how to work.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The cgroup to attach to; `None` for the root of what is visible of the node's.
    pub cgroup: Option<PathBuf>,
    /// The directory for pins; its parent is a bpffs, or becomes one.
    pub pin_path: PathBuf,
    /// How large the tables are.
    pub sizes: TableSizes,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            cgroup: None,
            pin_path: PathBuf::from("/sys/fs/bpf/shunt"),
            sizes: TableSizes::default(),
        }
    }
}

/// Load balancing at `connect()`.
///
/// # Minimum kernel version
///
/// 5.10.
pub struct ConnectBackend {
    options: ConnectOptions,
    /// The lock is for the compiler alone: `probe` and `inspect` borrow the backend from another
    /// thread, but never look in here, and the others have it for themselves.
    running: Mutex<Option<Running>>,
    /// What the last probe loaded, for the start.
    loaded: Mutex<Option<Loaded>>,
}

/// What there is between `start` and the end.
pub(super) struct Running {
    _lock: Lock,
    pub(super) pins: Pins,
    pub(super) tables: Tables<Maps>,
    pub(super) programs: Programs,
    pub(super) links: Links,
    pub(super) cgroup: Cgroup,
    pub(super) canaries: Vec<Canary>,
    /// What is pinned, held open so that it can be pinned again.
    pub(super) held: Held,
    /// Links of an earlier run lead to other tables, and stay there until ours are filled.
    pub(super) is_moving: bool,
    pub(super) host_netns: u64,
}

impl ConnectBackend {
    /// A backend that has not touched the kernel yet.
    #[must_use]
    pub const fn new(options: ConnectOptions) -> Self {
        Self { options, running: Mutex::new(None), loaded: Mutex::new(None) }
    }

    pub(super) fn running(&mut self) -> &mut Option<Running> {
        self.running.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn loaded(&mut self) -> &mut Option<Loaded> {
        self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LbBackend for ConnectBackend {
    async fn probe(&self) -> Probe {
        let (probe, loaded) = probe::probe(&self.options);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        probe
    }

    async fn start(&mut self, _bell: Bell) -> Result<(), BackendError> {
        if self.running().is_some() {
            return Ok(());
        }
        let tried = self.loaded().take();
        let running = Running::start(&self.options, tried)?;
        *self.running() = Some(running);
        Ok(())
    }

    async fn apply(&mut self, delta: &Delta) -> ApplyReport {
        match self.running() {
            Some(running) => running.apply(delta),
            None => {
                let mut report = ApplyReport::default();
                report.error = Some(BackendError::new("apply", "the backend is not started"));
                report
            }
        }
    }

    async fn verify(&mut self) -> Verdict {
        match self.running() {
            Some(running) => verify::verify(running),
            None => {
                let mut verdict = Verdict::default();
                verdict.problems.push("The connect-time backend is not started.".to_owned());
                verdict
            }
        }
    }

    async fn inspect(&self) -> Result<Inspection, BackendError> {
        inspect::inspect(&Pins::new(self.options.pin_path.clone()))
            .map_err(|cause| BackendError::new("read the pinned tables", cause))
    }

    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        // Gives up the lock, which cleaning up takes itself.
        *self.running() = None;
        *self.loaded() = None;
        cleanup::cleanup(&Pins::new(self.options.pin_path.clone()))
    }
}

impl Running {
    fn start(options: &ConnectOptions, tried: Option<Loaded>) -> Result<Self, BackendError> {
        // Before anything is made: without these only a part of it could be.
        let missing = probe::missing_capabilities();
        if !missing.is_empty() {
            let cause = format!("{} missing: run as root, or add it", missing.join(", "));
            return Err(BackendError::new("start the connect-time backend", cause));
        }
        let failed = |what: String| move |cause: io::Error| BackendError::new(what, cause);
        let cgroup = Cgroup::find(options.cgroup.as_deref())
            .map_err(|cause| BackendError::new("find the cgroup to attach to", cause))?;
        let path = options.pin_path.display();
        let warning = bpffs::ensure(&options.pin_path)
            .map_err(failed(format!("prepare bpffs for {path}")))?;
        warning.into_iter().for_each(|warning| tracing::warn!("{warning}"));
        let pins = Pins::new(options.pin_path.clone());
        fs::create_dir_all(pins.root()).map_err(failed(format!("create pin directory {path}")))?;
        let lock = Lock::acquire(pins.root())
            .map_err(|cause| BackendError::new(format!("lock pin directory {path}"), cause))?;
        let extras = probe::extras();
        let Loaded { programs, maps: held, .. } = load(&pins, &options.sizes, extras, tried)?;
        held.pin(&pins.links()).map_err(failed(format!("pin the tables in {path}")))?;
        let maps = Maps::open(|name| held.map(name))
            .map_err(failed(format!("open the tables in {path}")))?;
        let other_tables = leads_elsewhere(&pins, &maps)?;
        let reclaimer = Reclaimer::start().map_err(failed("start a thread".to_owned()))?;
        let tables = Tables::adopt(maps, Box::new(reclaimer), extras.set_retval)
            .map_err(failed(format!("take over the tables in {path}")))?;
        let mut running = Self {
            _lock: lock,
            links: Links::new(pins.links()),
            pins,
            tables,
            programs,
            cgroup,
            canaries: Vec::new(),
            held,
            is_moving: other_tables,
            host_netns: host_netns(),
        };
        running.store_control().map_err(failed("write table CONTROL".to_owned()))?;
        verify::put_canaries(&mut running);
        if !running.is_moving {
            running.attach()?;
        }
        Ok(running)
    }

    /// Tells the programs which network namespace is the host's. Where the kernel does not tell us,
    /// NodePorts on loopback are left to the packet path.
    pub(super) fn store_control(&mut self) -> io::Result<bool> {
        let wanted = self.host_netns;
        if self.tables.kernel().load(Word::HOST_NETNS)? == wanted {
            return Ok(false);
        }
        self.tables.kernel().store(Word::HOST_NETNS, wanted)?;
        Ok(true)
    }

    fn attach(&mut self) -> Result<(), BackendError> {
        let attached = self.links.attach(&self.programs, &self.cgroup);
        let path = self.cgroup.path.display();
        let attached =
            attached.map_err(|cause| BackendError::new(format!("attach to {path}"), cause))?;
        for (hook, how) in attached {
            tracing::debug!(hook = hook.program, ?how, cgroup = %path, "attached");
        }
        Ok(())
    }

    fn apply(&mut self, delta: &Delta) -> ApplyReport {
        let mut report = self.tables.apply(delta);
        if self.is_moving && report.is_success() {
            report.error = self.move_links().err();
        }
        for table in self.tables.usage() {
            metrics::gauge!("shunt_table_used", "table" => table.name).set(table.used as f64);
            metrics::gauge!("shunt_table_size", "table" => table.name).set(table.size as f64);
        }
        report
    }

    /// Moves the programs from another version's tables to ours, which are filled now, and removes
    /// the others.
    fn move_links(&mut self) -> Result<(), BackendError> {
        self.attach()?;
        self.is_moving = false;
        let removed = self.pins.remove_others(&self.held);
        let removed = removed.map_err(|cause| BackendError::new("remove old tables", cause))?;
        tracing::info!(?removed, "moved to tables of this version and size");
        Ok(())
    }
}

/// The programs that were tried, or where something else is pinned by now, others.
fn load(
    pins: &Pins,
    sizes: &TableSizes,
    extras: Extras,
    tried: Option<Loaded>,
) -> Result<Loaded, BackendError> {
    // What cannot be asked is looked at again by loading, which says what is in the way.
    match tried.filter(|tried| tried.is_current(extras).unwrap_or(false)) {
        Some(tried) => Ok(tried),
        None => Loaded::load(pins, sizes, extras)
            .map_err(|cause| BackendError::new("load the programs", cause)),
    }
}

/// Whether links of an earlier run lead to programs with other tables than these.
fn leads_elsewhere(pins: &Pins, maps: &Maps) -> Result<bool, BackendError> {
    let programs = links::programs(&pins.links())
        .map_err(|cause| BackendError::new("read the pinned links", cause))?;
    let ours = maps.id(Hash::Frontends4);
    let elsewhere = |program: &u32| {
        // A program that only translates back has no frontends; one that nobody can read may.
        let used = sys::program_maps(*program).unwrap_or_default();
        let has_ours = ours.is_some_and(|ours| used.contains(&ours));
        used.iter().any(|map| sys::map_name(*map).is_ok_and(|name| name == "FRONTENDS4"))
            && !has_ours
    };
    Ok(programs.iter().any(elsewhere))
}

/// The cookie of this network namespace, or 0, which no namespace has, if the kernel tells none.
fn host_netns() -> u64 {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0));
    socket.and_then(|socket| sys::netns_cookie(&socket.into())).unwrap_or(0)
}
