//! API servers to test the kube source against.
//!
//! [`FaultyServer`] is a small one of our own, which does what a real one cannot be made to do.

mod faulty;

mod fault;

mod request;

mod store;

pub use fault::Fault;
pub use faulty::FaultyServer;
