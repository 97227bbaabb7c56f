//! What is asked of this node over HTTP.
//!
//! Load balancers outside ask, on the port of each Service, whether the node has endpoints of it:
//! `servers` keeps a server at every place where one is to be, `answer` is what they say (pure),
//! `connection` how it is said.

mod answer;
mod connection;
mod servers;
#[cfg(test)]
mod tests;

pub(crate) use servers::serve;
