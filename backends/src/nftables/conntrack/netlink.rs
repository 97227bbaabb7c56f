//! The kernel's flows, over netlink.
//!
//! # Minimum kernel version
//!
//! Filtering a dump (CTA_FILTER) needs 5.8; an older kernel gives out every flow of the family,
//! which is slower and no less right, for everything is checked again here. Before 6.18 and after,
//! the kernel compares IPv6 addresses the wrong way round, so that nlink lets it compare the
//! protocol and the port alone.

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use nlink::netlink::{
    Connection, Netfilter,
    netfilter::{
        ConntrackBuilder, ConntrackEntry, ConntrackFilter, ConntrackStatus, ConntrackTuple,
        IpProtocol,
    },
    types::AddressFamily,
};
use shunt_core::model::Family;

use super::{
    reconciler::Flows,
    stale::{Flow, Question},
};

/// The flows of the network namespace in which the socket is opened.
#[derive(Default)]
pub(super) struct Netlink(Option<Connection<Netfilter>>);

/// The kernel did not tell or delete flows. Retryable.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// No netlink socket.
    #[error("failed to open a netfilter socket")]
    Open(#[source] nlink::Error),
    /// No list.
    #[error("failed to list {0} UDP flows")]
    List(Family, #[source] nlink::Error),
    /// A flow that stays.
    #[error("failed to delete the UDP flow from {client} to {dialled}")]
    Delete {
        /// Where it comes from.
        client: SocketAddr,
        /// Where it goes.
        dialled: SocketAddr,
        /// What the kernel says.
        #[source]
        cause: nlink::Error,
    },
}

impl Netlink {
    fn connection(&mut self) -> Result<&Connection<Netfilter>, FlowError> {
        match &mut self.0 {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(Connection::<Netfilter>::new().map_err(FlowError::Open)?)),
        }
    }
}

#[async_trait]
impl Flows for Netlink {
    async fn ask(&mut self, question: Question) -> Result<Vec<Flow>, FlowError> {
        let dump = self.connection()?.get_conntrack_matching(&filter(question)).await;
        if dump.is_err() {
            // What is still under way on the socket belongs to nobody.
            self.0 = None;
        }
        let entries = dump.map_err(|error| FlowError::List(question.family, error))?;
        Ok(entries.iter().filter_map(flow).collect())
    }

    async fn delete(&mut self, flow: &Flow) -> Result<bool, FlowError> {
        match self.connection()?.del_conntrack(named(flow)).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(cause) => {
                Err(FlowError::Delete { client: flow.client, dialled: flow.dialled, cause })
            }
        }
    }
}

fn filter(question: Question) -> ConntrackFilter {
    let family = match question.family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let mut filter = ConntrackFilter::new().family(family).proto(IpProtocol::Udp);
    if let Some(port) = question.port {
        filter = filter.orig_dst_port(port);
    }
    if let Some(address) = question.address {
        filter = filter.orig_dst(address);
    }
    filter
}

/// `None` for what is no whole UDP flow: it cannot be judged, so it stays.
fn flow(entry: &ConntrackEntry) -> Option<Flow> {
    let at = |address: Option<IpAddr>, port: Option<u16>| Some(SocketAddr::new(address?, port?));
    let status = ConntrackStatus::from_bits(entry.status.unwrap_or(0));
    Some(Flow {
        client: at(entry.orig.src_ip, entry.orig.src_port)?,
        dialled: at(entry.orig.dst_ip, entry.orig.dst_port)?,
        answering: at(entry.reply.src_ip, entry.reply.src_port)?,
        is_translated: status.contains(ConntrackStatus::DST_NAT),
        zone: entry.zone.unwrap_or(0),
        id: entry.id,
    })
}

fn named(flow: &Flow) -> ConntrackBuilder {
    let (mut builder, tuple) = match (flow.client.ip(), flow.dialled.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (ConntrackBuilder::new_v4(IpProtocol::Udp), ConntrackTuple::v4(from, to))
        }
        (from, to) => {
            let tuple = ConntrackTuple { src_ip: Some(from), dst_ip: Some(to), ..<_>::default() };
            (ConntrackBuilder::new_v6(IpProtocol::Udp), tuple)
        }
    };
    builder = builder.orig(tuple.ports(flow.client.port(), flow.dialled.port()));
    if flow.zone != 0 {
        builder = builder.zone(flow.zone);
    }
    match flow.id {
        Some(id) => builder.id(id),
        None => builder,
    }
}
