//! A source that a test scripts, and a backend that records.
//!
//! ```
//! use shunt_core::{Engine, engine::EngineOptions, model::{ObjectName, Service}, source::Object};
//! use shunt_harness::mock;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (source, script) = mock::source();
//! let (backend, record) = mock::backend();
//! let engine = Engine::new(
//!     EngineOptions::new("node-a"),
//!     vec![mock::named("mock", source)],
//!     vec![("recording".to_owned(), Box::new(backend))],
//! );
//! let shutdown = CancellationToken::new();
//! let running = tokio::spawn(engine.run(shutdown.clone()));
//!
//! script.upsert(Object::from(Service::new(ObjectName::new("default", "web"))));
//! script.synced();
//! record.until(|record| record.state().complete).await;
//! # shutdown.cancel();
//! # running.await.unwrap().unwrap();
//! # }
//! ```

mod backend;
mod source;

pub use backend::{Record, Recorder, RecordingBackend, backend};
pub use source::{Misbehaviour, MockHandle, MockSource, named, source};

#[cfg(test)]
mod tests;
