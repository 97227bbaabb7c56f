//! Which sources and backends there are, ours and others'.

use shunt_core::{LbBackend, ServiceSource};

use crate::{NoticeBoard, Settings, backends, sources};

/// A source that can be chosen by name.
pub trait SourcePlugin: Sync {
    /// The name, as in `--source`.
    fn name(&self) -> &'static str;

    /// One line for `--help`, lower case, without a full stop.
    fn summary(&self) -> &'static str;

    /// Makes the source, and finds out what would stop it.
    ///
    /// # Errors
    ///
    /// Fails if the settings do not allow it to work, such as a path that does not exist.
    fn build(&self, settings: &Settings) -> Result<Box<dyn ServiceSource>, PluginError>;

    /// Makes the place where operators look for notices about the objects of this source. By
    /// default there is none, and the log has everything.
    ///
    /// # Errors
    ///
    /// As [`Self::build`].
    fn notice_board(
        &self,
        _settings: &Settings,
    ) -> Result<Option<Box<dyn NoticeBoard>>, PluginError> {
        Ok(None)
    }
}

/// A backend that can be chosen by name.
pub trait BackendPlugin: Sync {
    /// The name, as in `--mode`.
    fn name(&self) -> &'static str;

    /// One line for `--help`, lower case, without a full stop.
    fn summary(&self) -> &'static str;

    /// Makes the backend, without touching the kernel.
    ///
    /// # Errors
    ///
    /// Fails if the settings make no sense.
    fn build(&self, settings: &Settings) -> Result<Box<dyn LbBackend>, PluginError>;
}

/// The sources and backends that a binary has.
///
/// Someone else's binary adds its own beside ours:
///
/// ```
/// # use shunt_core::{LbBackend, ServiceSource};
/// # use shunt_plugins::{PluginError, Registry, Settings, SourcePlugin};
/// struct Consul;
///
/// impl SourcePlugin for Consul {
///     fn name(&self) -> &'static str {
///         "consul"
///     }
///     fn summary(&self) -> &'static str {
///         "services of a Consul catalogue"
///     }
///     fn build(&self, settings: &Settings) -> Result<Box<dyn ServiceSource>, PluginError> {
///         # let cause = "there is no Consul here";
///         Err(PluginError::new(self.name(), cause))
///     }
/// }
///
/// let registry = Registry::builtin().with_source(&Consul);
/// assert!(registry.source("consul").is_ok());
/// ```
#[derive(Clone)]
pub struct Registry {
    sources: Vec<&'static dyn SourcePlugin>,
    backends: Vec<&'static dyn BackendPlugin>,
}

impl Registry {
    /// Those that Shunt comes with, as far as the cargo features compiled them in.
    #[must_use]
    pub fn builtin() -> Self {
        Self { sources: sources::PLUGINS.to_vec(), backends: backends::PLUGINS.to_vec() }
    }

    /// None at all, for tests and for binaries that bring all of their own.
    #[must_use]
    pub const fn empty() -> Self {
        Self { sources: Vec::new(), backends: Vec::new() }
    }

    /// Adds a source. One of the same name as an earlier one takes its place.
    #[must_use]
    pub fn with_source(mut self, plugin: &'static dyn SourcePlugin) -> Self {
        self.sources.retain(|other| other.name() != plugin.name());
        self.sources.push(plugin);
        self
    }

    /// Adds a backend. One of the same name as an earlier one takes its place.
    #[must_use]
    pub fn with_backend(mut self, plugin: &'static dyn BackendPlugin) -> Self {
        self.backends.retain(|other| other.name() != plugin.name());
        self.backends.push(plugin);
        self
    }

    /// The sources, in the order in which they were added, ours first.
    pub fn sources(&self) -> impl Iterator<Item = &'static dyn SourcePlugin> {
        self.sources.iter().copied()
    }

    /// The backends, in the order in which a connection meets them, ours first.
    pub fn backends(&self) -> impl Iterator<Item = &'static dyn BackendPlugin> {
        self.backends.iter().copied()
    }

    /// The source called `name`.
    ///
    /// # Errors
    ///
    /// Fails if there is none; the error lists those that there are, and names the cargo feature
    /// of one that was compiled out.
    pub fn source(&self, name: &str) -> Result<&'static dyn SourcePlugin, UnknownPlugin> {
        self.sources().find(|plugin| plugin.name() == name).ok_or_else(|| {
            let known = self.sources().map(SourcePlugin::name).collect();
            UnknownPlugin::new("source", name, sources::FEATURES, known)
        })
    }

    /// The backend called `name`.
    ///
    /// # Errors
    ///
    /// As [`Self::source`].
    pub fn backend(&self, name: &str) -> Result<&'static dyn BackendPlugin, UnknownPlugin> {
        self.backends().find(|plugin| plugin.name() == name).ok_or_else(|| {
            let known = self.backends().map(BackendPlugin::name).collect();
            UnknownPlugin::new("backend", name, backends::FEATURES, known)
        })
    }
}

/// There is no such plug-in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPlugin {
    /// It exists, but not in this binary.
    #[error("{what} {name:?} is compiled out: build with --features {feature}")]
    CompiledOut {
        /// `source` or `backend`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// Nobody knows it.
    #[error("there is no {what} {name:?}, only {}", list(known))]
    Unknown {
        /// `source` or `backend`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: Vec<&'static str>,
    },
}

impl UnknownPlugin {
    /// `features` are the names that a cargo feature brings, whether it is on or off.
    fn new(
        what: &'static str,
        name: &str,
        features: &[(&str, &'static str)],
        known: Vec<&'static str>,
    ) -> Self {
        let name = name.to_owned();
        match features.iter().find(|(gated, _)| *gated == name) {
            Some((_, feature)) => Self::CompiledOut { what, name, feature },
            None => Self::Unknown { what, name, known },
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none at all".to_owned() } else { names.join(", ") }
}

/// A plug-in could not make its source or backend. Retrying helps only after a change outside.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up {plugin}")]
pub struct PluginError {
    /// The plug-in's name.
    pub plugin: &'static str,
    /// What stopped it.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

impl PluginError {
    /// The plug-in called `plugin` was stopped by `cause`.
    pub fn new(
        plugin: &'static str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { plugin, cause: cause.into() }
    }
}
