//! Servers to reach, and what a client is to see of them.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use shunt_core::{
    backend::{Feature, LeftReason},
    model::{Family, Protocol},
    plan::ServicePortKey,
};

use super::{Dialect, Stage};
use crate::{
    probe::{Failure, How, Transport, Visit},
    world::Pod,
};

impl<'w> Stage<'w> {
    /// Does `one` in each of these dialects. Each gets a number of its own, from 1 on, for names,
    /// addresses and ports that no other uses.
    ///
    /// # Errors
    ///
    /// Fails where it does in one, which the error names.
    pub fn in_each(
        &mut self,
        dialects: Vec<Dialect>,
        one: impl Fn(&mut Self, Dialect, u16) -> Result<()>,
    ) -> Result<()> {
        for (number, dialect) in (1..).zip(dialects) {
            one(self, dialect, number).with_context(|| dialect.to_string())?;
        }
        Ok(())
    }

    /// Starts `count` servers of a protocol and family, spread over the three echo pods, and
    /// returns their addresses. `first` keeps several farms of one test apart.
    ///
    /// # Errors
    ///
    /// Fails where a pod cannot listen.
    pub fn farm(
        &self,
        protocol: Protocol,
        family: Family,
        first: u16,
        count: u16,
    ) -> Result<Vec<SocketAddr>> {
        let mut addresses = Vec::new();
        for (number, pod) in ["echo-1", "echo-2", "echo-3"].into_iter().enumerate() {
            let pod = self.world().pod(pod)?;
            let ports = (first..first + count).skip(number).step_by(3);
            let own: Vec<_> = ports.map(|port| pod.at(family, port)).collect();
            if !own.is_empty() {
                addresses.extend(pod.serve(transport(protocol), &own)?);
            }
        }
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// A pod's address, of the one dialect's family, as a server: for one endpoint in a known pod.
    ///
    /// # Errors
    ///
    /// Fails where the pod does not exist or cannot listen.
    pub fn server(&self, pod: &str, dialect: Dialect, port: u16) -> Result<SocketAddr> {
        let pod = self.world().pod(pod)?;
        let address = pod.at(dialect.family, port);
        pod.serve(transport(dialect.protocol), &[address])?;
        Ok(address)
    }

    /// The client pod.
    ///
    /// # Errors
    ///
    /// Fails where the world has none.
    pub fn client(&self) -> Result<&'w Pod> {
        self.world().pod("client")
    }

    /// Expects that a connection to `to` arrives untranslated: `beyond` listens there.
    ///
    /// # Errors
    ///
    /// Fails where something else answers, or nothing.
    pub fn expect_untouched(&self, pod: &Pod, dialect: Dialect, to: SocketAddr) -> Result<()> {
        let beyond = self.world().pod("beyond")?;
        // It listens there already if this was asked before.
        let _ = beyond.serve(transport(dialect.protocol), &[to]);
        for how in dialect.hows() {
            let visit = visit(pod, dialect, how, to)
                .with_context(|| format!("{dialect} {how:?} from {} to {to}", pod.name()))?;
            ensure!(
                visit.said.server == "beyond" && visit.said.endpoint == to,
                "{dialect} {how:?} from {}: {to} was translated to {}",
                pod.name(),
                visit.said.endpoint
            );
        }
        Ok(())
    }

    /// Expects that every connection to `to` reaches one of `endpoints`, by every call, and that
    /// the client is shown `to`.
    ///
    /// # Errors
    ///
    /// Fails where one does not.
    pub fn expect_served(
        &self,
        pod: &Pod,
        dialect: Dialect,
        to: SocketAddr,
        endpoints: &[SocketAddr],
    ) -> Result<()> {
        let shows_service = self.can(Feature::PeerName);
        for how in dialect.hows() {
            let what = || format!("{dialect} {how:?} from {} to {to}", pod.name());
            // Enough that a stranger among the endpoints would hardly go unseen.
            for _ in 0..6 {
                let visit = visit(pod, dialect, how, to).with_context(what)?;
                let reached = visit.said.endpoint;
                ensure!(endpoints.contains(&reached), "{}: reached {reached}", what());
                let peer = visit.peer;
                let expected = if shows_service { to } else { reached };
                ensure!(peer == dialect.address(expected), "{}: shows {peer}", what());
            }
        }
        Ok(())
    }
}

/// One visit in a dialect.
///
/// # Errors
///
/// Fails with the first call that fails.
pub(super) fn visit(
    pod: &Pod,
    dialect: Dialect,
    how: How,
    to: SocketAddr,
) -> Result<Visit, Failure> {
    pod.visit_by(how, dialect.socket(), dialect.address(to))
}

/// What a backend left to others, and why.
#[derive(Debug)]
pub struct Left(pub HashMap<ServicePortKey, LeftReason>);

impl Left {
    /// Expects that everything was taken.
    ///
    /// # Errors
    ///
    /// Fails where something was left.
    pub fn nothing(&self) -> Result<()> {
        ensure!(self.0.is_empty(), "left without need: {:?}", self.0);
        Ok(())
    }

    /// Expects that this ServicePort, and no other, was left, for a reason that fits.
    ///
    /// # Errors
    ///
    /// Fails where it was not, or another was.
    pub fn only(&self, key: &ServicePortKey, fits: impl Fn(&LeftReason) -> bool) -> Result<()> {
        ensure!(self.0.len() == 1, "{key} is to be left and nothing else: {:?}", self.0);
        let reason = self.0.get(key).with_context(|| format!("{key} was not left"))?;
        ensure!(fits(reason), "{key} was left because: {reason}");
        Ok(())
    }
}

/// The transport by which a server of a Service's protocol listens.
pub(super) const fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Udp => Transport::Udp,
        Protocol::Tcp | Protocol::Sctp => Transport::Tcp,
    }
}
