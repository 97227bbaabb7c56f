//! API servers to test the kube source against.
//!
//! [`FaultyServer`] is a small one of our own, which does what a real one cannot be made to do.
//! [`ApiServer`] is Kubernetes' own, built from `harness/kubernetes/`.

mod faulty;

mod fault;

mod request;

mod store;

mod programs;

mod authority;

mod kubeconfig;

mod client;

mod real;

mod relay;

mod kube_proxy;

pub mod objects;

pub use authority::{Authority, Identity, Validity};
pub use client::Client;
pub use fault::Fault;
pub use faulty::FaultyServer;
pub use kube_proxy::{KubeProxyOptions, kube_proxy};
pub use kubeconfig::{Credential, Kubeconfig};
pub use programs::Programs;
pub use real::{ApiServer, Place};
pub use relay::Relay;
