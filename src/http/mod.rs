//! What is asked of this node over HTTP.
//!
//! Load balancers outside ask, on the port of each Service, whether the node has endpoints of it:
//! `servers` keeps a server at every place where one is to be, `answer` is what they say (pure).
//! Operators ask on two ports of their own: `operator` says which path has which answer, `health`
//! decides whether the agent is healthy (pure), `metrics` and `process` make the text that
//! Prometheus reads, `listener` keeps a server where they want it.
//! All are answered by `connection`, with what `page` makes.

mod answer;
mod connection;
mod health;
mod listener;
mod metrics;
mod operator;
mod page;
mod process;
mod servers;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    listener::Server,
    metrics::Metrics,
    operator::{Health, answers},
    servers::serve,
};
