//! How the API server is reached: credentials, time-outs, and how often it may be asked.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{InClusterError, Kubeconfig, KubeconfigError},
};
use tower::util::MapFutureLayer;

use crate::KubeSettings;

/// A way to the API server.
///
/// Each watch has a client of its own and makes it anew after a refusal: then the kubeconfig and
/// what it names are read again, which is how rotated certificates are taken up.
/// A token is read again by itself, from its file every minute or from its plug-in as it says.
#[derive(Debug)]
pub struct Access {
    settings: KubeSettings,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Access {
    /// Reads the configuration once, so that what is wrong with it is said at the start.
    ///
    /// # Errors
    ///
    /// Fails if the kubeconfig cannot be read, names no server or lacks its context, or if there
    /// is none and this is no Pod.
    pub fn new(settings: KubeSettings) -> Result<Self, AccessError> {
        configuration(&settings)?;
        let limiter = Arc::new(RateLimiter::direct(quota(&settings)));
        Ok(Self { settings, limiter })
    }

    /// A new client. All clients share the limit of requests; `heard` is called whenever the
    /// server answered one of this client's with success.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]. Worth trying again: files may be in the middle of being exchanged.
    pub fn client(
        &self,
        heard: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<Client, AccessError> {
        let config = configuration(&self.settings)?;
        let builder = ClientBuilder::try_from(config).map_err(Box::new)?;
        let limited = limited(Arc::clone(&self.limiter), heard);
        Ok(builder.with_layer(&MapFutureLayer::new(limited)).build())
    }

    /// The time-outs and waits.
    #[must_use]
    pub const fn settings(&self) -> &KubeSettings {
        &self.settings
    }
}

/// The API server cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No kubeconfig, and not in a Pod.
    #[error("failed to find a Pod's service account; outside a Pod, give --kubeconfig")]
    InCluster(#[source] Box<InClusterError>),
    /// The kubeconfig is no use.
    #[error("failed to read kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: Box<KubeconfigError>,
    },
    /// `--master` is no URL.
    #[error("failed to read --master {url:?} as a URL")]
    Master {
        /// What was given.
        url: String,
        /// What is wrong with it.
        #[source]
        cause: http::uri::InvalidUri,
    },
    /// Credentials or certificates cannot be used.
    #[error("failed to set up the client of the API server")]
    Client(#[from] Box<kube::Error>),
}

/// Has a request wait until it may be made, and tells of an answer that is a success.
///
/// A request does nothing before its future is polled, so waiting there is enough.
fn limited<F, T>(
    limiter: Arc<DefaultDirectRateLimiter>,
    heard: impl Fn() + Clone + Send + 'static,
) -> impl FnMut(F) -> BoxFuture<'static, F::Output> + Clone
where
    F: Future<Output = Result<http::Response<T>, tower::BoxError>> + Send + 'static,
    T: Send,
{
    move |answer| {
        let (limiter, heard) = (Arc::clone(&limiter), heard.clone());
        Box::pin(async move {
            limiter.until_ready().await;
            let response = answer.await?;
            if response.status().is_success() {
                heard();
            }
            Ok(response)
        })
    }
}

fn configuration(settings: &KubeSettings) -> Result<Config, AccessError> {
    let master = settings
        .master
        .as_ref()
        .map(|url| url.parse().map_err(|cause| AccessError::Master { url: url.clone(), cause }));
    let master: Option<http::Uri> = master.transpose()?;
    let mut config = match (&settings.kubeconfig, &master) {
        (Some(path), _) => from_file(path)?,
        (None, Some(url)) => Config::new(url.clone()),
        (None, None) => {
            Config::incluster().map_err(|error| AccessError::InCluster(Box::new(error)))?
        }
    };
    if let Some(url) = master {
        config.cluster_url = url;
    }
    config.connect_timeout = Some(settings.connect);
    config.read_timeout = Some(settings.silence);
    // The library would try again for up to a quarter of an hour without a word.
    config.default_retry = false;
    Ok(config)
}

fn from_file(path: &PathBuf) -> Result<Config, AccessError> {
    let failed = |cause| AccessError::Kubeconfig { path: path.clone(), cause: Box::new(cause) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    Config::try_from(kubeconfig).map_err(failed)
}

/// 0 and what is no number mean the default, as in a configuration of kube-proxy.
fn quota(settings: &KubeSettings) -> Quota {
    let is_set = settings.qps.is_finite() && settings.qps > 0.0;
    let qps = if is_set { settings.qps } else { KubeSettings::QPS };
    // A thousandth of a request a second is as good as never, and still a period.
    let period = Duration::from_secs_f32(1.0 / qps.clamp(0.001, 1e6));
    let default = NonZeroU32::MIN.saturating_add(KubeSettings::BURST - 1);
    let burst = NonZeroU32::new(settings.burst).unwrap_or(default);
    Quota::with_period(period)
        .map_or_else(|| Quota::per_second(default), |quota| quota.allow_burst(burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_has_the_default_of_kube_proxy() {
        let check = |qps, burst, expected: (f32, u32)| {
            let quota = quota(&KubeSettings { qps, burst, ..KubeSettings::default() });
            assert_eq!(quota.burst_size().get(), expected.1, "{qps} {burst}");
            let period = quota.replenish_interval().as_secs_f32();
            assert!((period - 1.0 / expected.0).abs() < 1e-3, "{qps} {burst}: {period}");
        };
        check(5.0, 10, (5.0, 10));
        check(0.0, 0, (5.0, 10));
        check(50.0, 100, (50.0, 100));
        check(f32::NAN, 1, (5.0, 1));
        check(-1.0, 2, (5.0, 2));
    }

    #[test]
    fn a_configuration_that_is_no_use_names_file_and_way_out() {
        let check = |settings: KubeSettings, words: &[&str]| {
            let error = Access::new(settings).err().unwrap();
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            for word in words {
                assert!(text.contains(word), "{text} lacks {word}");
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let with_file = |text: &str| {
            std::fs::write(&path, text).unwrap();
            KubeSettings { kubeconfig: Some(path.clone()), ..KubeSettings::default() }
        };
        let absent = KubeSettings {
            kubeconfig: Some(folder.path().join("absent")),
            ..KubeSettings::default()
        };
        check(absent, &["absent", "No such file"]);
        check(
            with_file("apiVersion: v1\nkind: Config\ncurrent-context: nowhere\n"),
            &["config", "nowhere"],
        );
        check(with_file("[}"), &["config"]);
        let master = KubeSettings { master: Some("https://[".to_owned()), ..with_file("{}") };
        check(master, &["--master", "https://["]);
        check(KubeSettings::default(), &["--kubeconfig"]);
    }
}
