//! What is measured, and how.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use shunt_harness::{
    apiserver::Programs,
    probe::{ProbeProgram, Socket},
    until,
};

use crate::{
    KINDS,
    arguments::Arguments,
    cluster::Cluster,
    proxy::{Kind, Proxy, Site},
    say,
    traffic::{TURNS, Traffic},
};

/// Nothing takes this long: the slowest first fill that was seen took 35 s on a quiet machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Services that are looked at to see whether all are there.
const SAMPLE: usize = 100;

/// The pause between two looks at whether a change is there, no figure is finer; later it is this
/// part of the time that has passed. Each look costs processor time and leaves an entry in the
/// connection tracking, which kube-proxy reads whole.
const LOOK: Duration = Duration::from_micros(200);
const LOOK_PART: u32 = 100;

/// A proxy that rests uses less than this in [`REST`].
const RESTS: Duration = Duration::from_millis(5);
const REST: Duration = Duration::from_millis(300);

/// From how many changes processor time is taken, at least and at most.
const LEAST_CHANGES: usize = 3;
const MOST_CHANGES: usize = 1_000;

/// How often the start is timed.
const STARTS: usize = 3;

/// Everything that was measured.
#[derive(Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) sizes: Vec<Size>,
}

impl Figures {
    pub(crate) fn add(&mut self, size: Size) {
        self.sizes.push(size);
    }
}

/// With so many Services.
#[derive(Serialize)]
pub(crate) struct Size {
    pub(crate) services: usize,
    pub(crate) proxies: Vec<Measured>,
    /// The data path in a world without a proxy.
    pub(crate) without: Traffic,
}

/// What one proxy took.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// From the start of the process to everything served, in milliseconds.
    pub(crate) starts: Vec<f64>,
    /// From writing an EndpointSlice to a connect that reaches the new endpoint, in milliseconds.
    pub(crate) changes: Vec<f64>,
    /// Of that, until the API server has answered who wrote, in milliseconds.
    pub(crate) writes: Vec<f64>,
    /// Processor time for a thousand changes, in seconds.
    pub(crate) cpu: f64,
    /// From how many changes that was taken.
    pub(crate) cpu_changes: usize,
    /// After everything, in bytes.
    pub(crate) rss: u64,
    /// At the most, in bytes.
    pub(crate) peak: u64,
    /// The data path, while all proxies sleep.
    pub(crate) traffic: Traffic,
}

/// How long after the beginning of a change...
struct Change {
    /// a connect reached one of the new endpoints,
    seen: Duration,
    /// the API server had answered.
    written: Duration,
}

/// A proxy at work, asleep unless it is its turn.
struct Contestant {
    kind: Kind,
    // Ends before its world does.
    proxy: Proxy,
    site: Site,
    measured: Measured,
}

/// Measures every proxy with the Services that the cluster now has.
pub(crate) fn all(
    cluster: &Cluster<'_>,
    programs: &Programs,
    program: &ProbeProgram,
    arguments: &Arguments,
) -> Result<Size> {
    let mut contestants = Vec::with_capacity(KINDS.len());
    for kind in KINDS {
        contestants.push(started(kind, cluster, programs, program)?);
    }
    for _ in 0..arguments.runs {
        for contestant in &mut contestants {
            contestant.awake(cluster, |contestant| {
                let Change { seen, written } = contestant.change(cluster, 0)?;
                contestant.measured.changes.push(milliseconds(seen));
                contestant.measured.writes.push(milliseconds(written));
                Ok(())
            })?;
        }
    }
    for contestant in &mut contestants {
        contestant.awake(cluster, |contestant| contestant.spend(cluster, arguments.budget))?;
        [contestant.measured.rss, contestant.measured.peak] = contestant.proxy.memory()?;
        say(&format!("  {} done", contestant.kind.name()));
    }
    let without = traffic(&mut contestants, cluster, program)?;
    let proxies = contestants.into_iter().map(|contestant| contestant.measured).collect();
    Ok(Size { services: cluster.services, proxies, without })
}

/// Measures the data paths of all, which sleep, and returns that of a world without a proxy.
fn traffic(
    contestants: &mut [Contestant],
    cluster: &Cluster<'_>,
    program: &ProbeProgram,
) -> Result<Traffic> {
    let (site, mut without) = (Site::new(program, cluster.server)?, Traffic::default());
    // The API server has nothing to do, but would not be quiet.
    cluster.server.pause()?;
    for _ in 0..TURNS {
        without.turn(&site, None)?;
        for Contestant { kind, site, measured, .. } in &mut *contestants {
            let done = measured.traffic.turn(site, Some(cluster));
            done.with_context(|| kind.name())?;
        }
    }
    cluster.server.go_on()?;
    let proxies = contestants.iter_mut().map(|contestant| &mut contestant.measured.traffic);
    proxies.chain([&mut without]).for_each(Traffic::condense);
    say("  data paths done");
    Ok(without)
}

/// Starts a proxy several times in a world of its own, the last of them to stay.
fn started(
    kind: Kind,
    cluster: &Cluster<'_>,
    programs: &Programs,
    program: &ProbeProgram,
) -> Result<Contestant> {
    let mut starts = Vec::with_capacity(STARTS);
    loop {
        // What a proxy left would not be a cold start.
        let site = Site::new(program, cluster.server)?;
        let started = Instant::now();
        let proxy = site.start(kind, programs, cluster.server)?;
        let served = until_all(&site, &cluster.some(SAMPLE));
        served.with_context(|| format!("{}: {}", kind.name(), proxy.last_words()))?;
        starts.push(milliseconds(started.elapsed()));
        if starts.len() < STARTS {
            continue;
        }
        let serves_all = site.serves(Socket::tcp4(), &cluster.addresses)?
            && site.serves(Socket::udp4(), &cluster.udp)?;
        ensure!(serves_all, "{} does not serve all", kind.name());
        proxy.sleep()?;
        say(&format!("  {} started in {:.0?} ms", kind.name(), starts));
        let measured = Measured {
            name: kind.name(),
            starts,
            changes: Vec::new(),
            writes: Vec::new(),
            cpu: 0.0,
            cpu_changes: 0,
            rss: 0,
            peak: 0,
            traffic: Traffic::default(),
        };
        return Ok(Contestant { kind, proxy, site, measured });
    }
}

fn until_all(site: &Site, services: &[SocketAddr]) -> Result<()> {
    let (one, all) = (services.get(..1).unwrap_or_default(), services);
    // A look at all takes the processor from who is to serve them.
    let serves = || Ok(site.serves(Socket::tcp4(), one)? && site.serves(Socket::tcp4(), all)?);
    until("all Services to be served", LIMIT, || match serves() {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    })?
}

impl Contestant {
    /// Wakes the proxy, lets it make up for what it slept through, and does something with it.
    fn awake(
        &mut self,
        cluster: &Cluster<'_>,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.proxy.wake()?;
        let done = self.at_rest(cluster).and_then(|()| work(self));
        self.proxy.sleep()?;
        done.with_context(|| format!("{}: {}", self.kind.name(), self.proxy.last_words()))
    }

    /// Waits until the proxy has seen the last change and does nothing any more.
    fn at_rest(&self, cluster: &Cluster<'_>) -> Result<()> {
        if let Some(&first) = cluster.addresses.first() {
            self.until_at(first, cluster.set(0))?;
        }
        let (mut before, mut since) = (self.proxy.cpu()?, Instant::now());
        until("a proxy to be at rest", LIMIT, || {
            match self.proxy.cpu() {
                Ok(now) if now.saturating_sub(before) < RESTS => {}
                Ok(now) => (before, since) = (now, Instant::now()),
                Err(error) => return Some(Err(error)),
            }
            (since.elapsed() > REST).then_some(Ok(()))
        })?
    }

    /// Changes a Service.
    fn change(&self, cluster: &Cluster<'_>, number: usize) -> Result<Change> {
        let Some(&to) = cluster.addresses.get(number) else { bail!("no Service {number}") };
        let set = 1 - cluster.set(number);
        let start = Instant::now();
        thread::scope(|scope| {
            let writing = scope.spawn(|| cluster.change(number));
            let reached = self.until_at(to, set);
            let seen = start.elapsed();
            let written = writing.join().unwrap_or_else(|_| bail!("writing panicked"))?;
            reached.map(|()| Change { seen, written })
        })
    }

    /// Connects until an answer comes from this set of pods.
    fn until_at(&self, to: SocketAddr, set: usize) -> Result<()> {
        let start = Instant::now();
        while self.site.set(to)? != Some(set) {
            ensure!(start.elapsed() < LIMIT, "a change is not seen");
            // Whoever looks all the time takes the processor from those who are looked at.
            thread::park_timeout(LOOK.max(start.elapsed() / LOOK_PART));
        }
        Ok(())
    }

    /// Makes changes, each seen before the next, for as long as may be spent, and takes the
    /// processor time.
    fn spend(&mut self, cluster: &Cluster<'_>, budget: Duration) -> Result<()> {
        let (start, before) = (Instant::now(), self.proxy.cpu()?);
        let mut changes = 0;
        while changes < LEAST_CHANGES || changes < MOST_CHANGES && start.elapsed() < budget {
            self.change(cluster, changes % cluster.addresses.len().max(1))?;
            changes += 1;
        }
        self.at_rest(cluster)?;
        let spent = self.proxy.cpu()?.saturating_sub(before);
        self.measured.cpu = spent.as_secs_f64() * 1_000.0 / changes as f64;
        self.measured.cpu_changes = changes;
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
