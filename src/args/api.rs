//! The flags of the way to the API server, spelled as kube-proxy spells them.

use std::{path::PathBuf, time::Duration};

use shunt_plugins::KubeSettings;

use super::value::duration;

/// The flags of the way to the API server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "API server")]
pub(crate) struct ApiArgs {
    /// A kubeconfig [default: the Pod's own service account].
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The API server's URL, instead of the kubeconfig's.
    #[arg(long, value_name = "URL", hide_short_help = true)]
    pub(super) master: Option<String>,
    /// Requests a second, over time; 0: the default.
    #[arg(long, value_name = "N", default_value_t = KubeSettings::QPS, hide_short_help = true)]
    pub(super) kube_api_qps: f32,
    /// Requests that may come at once; 0: the default.
    #[arg(long, value_name = "N", default_value_t = KubeSettings::BURST, hide_short_help = true)]
    pub(super) kube_api_burst: u32,
    /// How long the server may be silent before a connection is given up; a watch that is well
    /// hears from it every minute.
    #[arg(long, value_name = "TIME", default_value = "100s", value_parser = duration, hide_short_help = true)]
    pub(super) kube_api_silence: Duration,
    /// Accepted: objects are read as JSON.
    #[arg(long, value_name = "TYPE", hide = true)]
    pub(super) kube_api_content_type: Option<String>,
}

impl ApiArgs {
    /// What source `kube` needs to know. An empty text means that nothing was given, as it does
    /// for kube-proxy.
    pub(crate) fn settings(&self) -> KubeSettings {
        let mut settings = KubeSettings::default();
        settings.kubeconfig = self.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty());
        settings.master = self.master.clone().filter(|url| !url.is_empty());
        (settings.qps, settings.burst) = (self.kube_api_qps, self.kube_api_burst);
        if !self.kube_api_silence.is_zero() {
            settings.silence = self.kube_api_silence;
            // Whoever wants to know sooner that a server is gone wants to know sooner that it is
            // back.
            settings.connect = settings.connect.min(self.kube_api_silence);
            settings.longest_wait = settings.longest_wait.min(self.kube_api_silence);
        }
        settings
    }
}
