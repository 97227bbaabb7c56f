//! From a mode to the sources and backends that run.

use std::{convert::Infallible, fmt, str::FromStr};

use shunt_core::{
    LbBackend, ServiceSource,
    backend::{Capabilities, Probe},
    source::SourceName,
};

use crate::{BackendPlugin, NoticeBoard, PluginError, Registry, Settings, UnknownPlugin};

/// The source that always runs beside the chosen ones: the host's own addresses.
const HOST_SOURCE: &str = "host";

/// `--mode`: which backends run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Every backend that can work here, in the registry's order.
    #[default]
    Auto,
    /// Connect-time alone, over another proxy.
    Connect,
    /// The packet path alone.
    Nftables,
    /// The backend of this name alone: one of someone else's.
    Named(String),
}

impl FromStr for Mode {
    type Err = Infallible;

    /// Never fails here: a name that nobody knows is an error of [`compose`], which knows the
    /// registry and so can say which names there are.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "connect" => Self::Connect,
            "nftables" => Self::Nftables,
            name => Self::Named(name.to_owned()),
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Connect => "connect",
            Self::Nftables => "nftables",
            Self::Named(name) => name,
        })
    }
}

/// The backends that will run, in the order in which a connection meets them.
pub struct Composition {
    /// Names and backends, not started yet.
    pub backends: Vec<(String, Box<dyn LbBackend>)>,
    /// What each of them can do, for [`shunt_core::Engine::with_capabilities`].
    pub capabilities: Vec<(String, Capabilities)>,
    /// What was chosen, one line a backend, for the log.
    pub lines: Vec<String>,
    /// What this machine, or this build, cannot do, why, and what serves instead: one line for
    /// each backend of the mode that does not run.
    pub losses: Vec<String>,
}

/// Probes the backends that `mode` wants and takes those that can work here.
///
/// # Errors
///
/// Fails if a backend that was asked for by name cannot work, or in mode auto if none can; the
/// error says what is missing.
pub async fn compose(
    registry: &Registry,
    mode: &Mode,
    settings: &Settings,
) -> Result<Composition, ComposeError> {
    let wanted: Vec<&'static dyn BackendPlugin> = match mode {
        Mode::Auto => registry.backends().collect(),
        Mode::Connect => vec![registry.backend("connect")?],
        Mode::Nftables => vec![registry.backend("nftables")?],
        Mode::Named(name) => vec![registry.backend(name)?],
    };
    let mut composition = Composition {
        backends: Vec::new(),
        capabilities: Vec::new(),
        lines: Vec::new(),
        losses: Vec::new(),
    };
    let mut missing = Vec::new();
    for plugin in wanted {
        let name = plugin.name();
        let backend = plugin.build(settings)?;
        let probe = backend.probe().await;
        match probe.capabilities {
            Some(capabilities) => {
                composition.lines.push(format!("{name}: {}", summary(&capabilities)));
                composition.backends.push((name.to_owned(), backend));
                composition.capabilities.push((name.to_owned(), capabilities));
            }
            None => missing.push((name, absence(&probe))),
        }
    }
    if composition.backends.is_empty() {
        let missing = missing.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        return Err(ComposeError::NothingWorks { mode: mode.clone(), missing });
    }
    if *mode == Mode::Auto && registry.backend("nftables").is_err() {
        missing.push(("nftables", "it is not part of this build".to_owned()));
    }
    let serving: Vec<&str> = composition.backends.iter().map(|(name, _)| name.as_str()).collect();
    let rest = serving.join(" and ");
    let losses = missing.iter().map(|(name, reason)| loss(name, reason, &rest));
    composition.losses = losses.collect();
    Ok(composition)
}

/// What it means that a backend does not run, in one line.
fn loss(name: &str, reason: &str, rest: &str) -> String {
    match name {
        "connect" => format!(
            "connect-time balancing is off, and {rest} serves everything: this node lacks {reason}"
        ),
        "nftables" => format!(
            "the packet path is off, and what {rest} does not balance is left to whatever else \
             serves Services on this node: {reason}"
        ),
        name => format!("{name} is off, and {rest} serves without it: {reason}"),
    }
}

/// Sources with their names, as the engine takes them.
pub type NamedSources = Vec<(SourceName, Box<dyn ServiceSource>)>;

/// Builds the sources called `names`, and the one of the host's own addresses, which always runs.
///
/// # Errors
///
/// Fails if a name is unknown, or the settings do not allow a source to work.
pub fn compose_sources(
    registry: &Registry,
    names: &[String],
    settings: &Settings,
) -> Result<NamedSources, ComposeError> {
    let mut wanted: Vec<&str> = Vec::with_capacity(names.len() + 1);
    for name in names.iter().map(String::as_str).chain([HOST_SOURCE]) {
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    let build = |name| Ok((SourceName::new(name), registry.source(name)?.build(settings)?));
    wanted.into_iter().map(build).collect()
}

/// Makes the place where notices go: that of the first of the sources called `names` which has
/// one.
///
/// # Errors
///
/// As [`compose_sources`].
pub fn compose_notice_board(
    registry: &Registry,
    names: &[String],
    settings: &Settings,
) -> Result<Option<Box<dyn NoticeBoard>>, ComposeError> {
    for name in names {
        if let Some(board) = registry.source(name)?.notice_board(settings)? {
            return Ok(Some(board));
        }
    }
    Ok(None)
}

/// No agent can be put together from what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A name that there is not.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// A plug-in that could not be set up.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// No wanted backend can work on this machine.
    #[error(
        "no backend of mode {mode} can work here ({}); `shunt doctor` says more",
        reasons(missing)
    )]
    NothingWorks {
        /// What was asked for.
        mode: Mode,
        /// Each backend that was tried, and what it lacks.
        missing: Vec<String>,
    },
}

fn reasons(missing: &[String]) -> String {
    if missing.is_empty() { "there is none".to_owned() } else { missing.join("; ") }
}

/// `IPv4 and IPv6, TCP and UDP`.
fn summary(capabilities: &Capabilities) -> String {
    let families = capabilities.families.iter().map(ToString::to_string).collect::<Vec<_>>();
    let protocols = capabilities.protocols.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!("works: {}; {}", families.join(" and "), protocols.join(" and "))
}

fn absence(probe: &Probe) -> String {
    let missing = probe.missing().map(|facility| format!("{} ({})", facility.name, facility.how));
    let missing = missing.collect::<Vec<_>>();
    if missing.is_empty() { "it does not say why".to_owned() } else { missing.join(", ") }
}
