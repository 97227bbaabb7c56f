//! Names, and what is made of them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use shunt_core::{
    Delta, LbBackend,
    backend::{
        ApplyReport, BackendError, Bell, Capabilities, Facility, Inspection, Probe, Verdict,
    },
    model::{Family, Protocol},
};

use super::{
    BackendPlugin, ComposeError, Mode, PluginError, Registry, Settings, SourcePlugin, compose,
    compose_sources,
};

/// A backend that can work or lacks something.
struct Fake {
    name: &'static str,
    works: bool,
}

impl BackendPlugin for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        "for tests"
    }

    fn build(&self, _settings: &Settings) -> Result<Box<dyn LbBackend>, PluginError> {
        Ok(Box::new(Self { ..*self }))
    }
}

#[async_trait]
impl LbBackend for Fake {
    async fn probe(&self) -> Probe {
        let mut probe = Probe::default();
        if self.works {
            let mut capabilities = Capabilities::default();
            capabilities.families.extend(Family::ALL);
            capabilities.protocols.extend([Protocol::Tcp, Protocol::Udp]);
            probe.capabilities = Some(capabilities);
        }
        let facility = |name, required| Facility {
            name,
            present: self.works,
            required,
            how: "bpf() says EPERM".to_owned(),
            lost: "everything",
        };
        probe.facilities = vec![facility("cgroup BPF", true), facility("nice to have", false)];
        probe
    }

    async fn start(&mut self, _bell: Bell) -> Result<(), BackendError> {
        Ok(())
    }

    async fn apply(&mut self, _delta: &Delta) -> ApplyReport {
        ApplyReport::default()
    }

    async fn verify(&mut self) -> Verdict {
        Verdict::default()
    }

    async fn inspect(&self) -> Result<Inspection, BackendError> {
        Ok(Inspection::default())
    }

    async fn cleanup(&mut self) -> Result<Vec<String>, BackendError> {
        Ok(Vec::new())
    }
}

static CONNECT: Fake = Fake { name: "connect", works: true };
static LAME: Fake = Fake { name: "connect", works: false };
static NFTABLES: Fake = Fake { name: "nftables", works: true };
static LAME_NFTABLES: Fake = Fake { name: "nftables", works: false };
static OTHER: Fake = Fake { name: "other", works: true };

async fn composed(registry: &Registry, mode: &str) -> Result<(Vec<String>, String), String> {
    let mode: Mode = mode.parse().unwrap();
    let settings = Settings::new("node-a");
    let composition = compose(registry, &mode, &settings).await.map_err(|e| e.to_string())?;
    let names = composition.backends.into_iter().map(|(name, _)| name).collect();
    assert_eq!(composition.capabilities.len(), composition.lines.len());
    Ok((names, [composition.lines, composition.losses].concat().join("\n")))
}

#[tokio::test]
async fn auto_takes_every_backend_that_works_and_says_why() {
    let registry = Registry::empty().with_backend(&CONNECT).with_backend(&OTHER);
    let (names, lines) = composed(&registry, "auto").await.unwrap();
    assert_eq!(names, ["connect", "other"]);
    let expected = "connect: works: IPv4 and IPv6; TCP and UDP\n\
                    other: works: IPv4 and IPv6; TCP and UDP\n\
                    the packet path is off, and what connect and other does not balance is left \
                    to whatever else serves Services on this node: it is not part of this build";
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn auto_is_both_and_falls_back_to_either_with_one_line_that_says_why() {
    let both = Registry::empty().with_backend(&CONNECT).with_backend(&NFTABLES);
    let (names, lines) = composed(&both, "auto").await.unwrap();
    assert_eq!(names, ["connect", "nftables"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");

    let (names, lines) = composed(&both.clone().with_backend(&LAME), "auto").await.unwrap();
    assert_eq!(names, ["nftables"]);
    assert_eq!(
        lines,
        "nftables: works: IPv4 and IPv6; TCP and UDP\n\
         connect-time balancing is off, and nftables serves everything: this node lacks cgroup \
         BPF (bpf() says EPERM)"
    );

    let (names, lines) =
        composed(&both.clone().with_backend(&LAME_NFTABLES), "auto").await.unwrap();
    assert_eq!(names, ["connect"]);
    assert!(lines.contains("\nthe packet path is off, and what connect does not"), "{lines}");

    let neither = both.with_backend(&LAME).with_backend(&LAME_NFTABLES);
    let error = composed(&neither, "auto").await.unwrap_err();
    assert!(error.contains("connect: cgroup BPF") && error.contains("nftables: "), "{error}");
}

#[tokio::test]
async fn a_single_mode_takes_that_backend_alone() {
    let both = Registry::empty().with_backend(&CONNECT).with_backend(&NFTABLES);
    for mode in ["connect", "nftables"] {
        let (names, lines) = composed(&both, mode).await.unwrap();
        assert_eq!(names, [mode]);
        assert_eq!(lines, format!("{mode}: works: IPv4 and IPv6; TCP and UDP"));
    }
}

#[tokio::test]
async fn what_cannot_work_is_an_error_that_says_what_is_missing() {
    let registry = Registry::empty().with_backend(&LAME);
    for mode in ["auto", "connect"] {
        let expected = format!(
            "no backend of mode {mode} can work here (connect: cgroup BPF (bpf() says EPERM)); \
             `shunt doctor` says more"
        );
        assert_eq!(composed(&registry, mode).await.unwrap_err(), expected);
    }
    let error = composed(&registry, "nftables").await.unwrap_err();
    assert_eq!(
        error,
        "backend \"nftables\" is compiled out: build with --features backend-nftables"
    );
    let error = composed(&registry, "xdp").await.unwrap_err();
    assert_eq!(error, "there is no backend \"xdp\", only connect");
    let error = composed(&Registry::empty(), "auto").await.unwrap_err();
    assert!(error.contains("(there is none)"), "{error}");
}

#[test]
fn a_name_that_is_compiled_out_names_its_feature() {
    let error = Registry::empty().source("static").err().unwrap().to_string();
    assert_eq!(error, "source \"static\" is compiled out: build with --features source-static");
    let error = Registry::empty().backend("connect").err().unwrap().to_string();
    assert_eq!(error, "backend \"connect\" is compiled out: build with --features backend-connect");
    let error = Registry::builtin().source("kubernetes").err().unwrap().to_string();
    let known: Vec<_> = Registry::builtin().sources().map(SourcePlugin::name).collect();
    assert_eq!(error, format!("there is no source \"kubernetes\", only {}", known.join(", ")));
}

#[test]
fn every_plugin_says_what_it_is() {
    let registry = Registry::builtin();
    let sources = registry.sources().map(|plugin| (plugin.name(), plugin.summary()));
    let backends = registry.backends().map(|plugin| (plugin.name(), plugin.summary()));
    for (name, summary) in sources.chain(backends) {
        assert!(!name.is_empty() && !summary.is_empty() && !summary.ends_with('.'), "{name}");
    }
}

#[test]
fn the_host_addresses_always_run() {
    let registry = Registry::builtin();
    let settings = Settings::new("node-a");
    for names in [vec![], vec!["host".to_owned()]] {
        let sources = compose_sources(&registry, &names, &settings).unwrap();
        let names: Vec<_> = sources.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["host"]);
    }
    let error = compose_sources(&registry, &["dns".to_owned()], &settings).err().unwrap();
    assert!(matches!(error, ComposeError::Unknown(_)));
}

#[test]
fn settings_are_plain_values() {
    let settings = Settings::new("node-a");
    assert_eq!(settings.pin_path.to_str(), Some("/sys/fs/bpf/shunt"));
    assert_eq!((settings.table_sizes, settings.extra), (BTreeMap::new(), BTreeMap::new()));
}
