//! Links, addresses and routes of a world, by netlink.
//!
//! ```text
//! client, client-2, echo-1 ── bridge `pods` ─┐                     ┌─ to-node-b ── node-b ── bridge
//!                                            ├─ host (the agent's ─┤     `pods` ── echo-2, echo-3
//!                                            │  node, a router)    ├─ to-outside ── outside
//!                                            ┘                     └─ to-beyond ── beyond
//! ```
//!
//! Nobody shares a net with a neighbour: every pod has one address, its node as gateway, and sees
//! all others through it, so that every packet is forwarded as it would be by real routers. The
//! agent's node is the only way between the four sides. Neighbours know each other from the start:
//! a question for a link address that is answered late, or not at all, would look like a packet that
//! a backend lost.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use nlink::{
    Connection, Ipv4Address, Ipv4Route, Ipv6Address, Ipv6Route, Route, blocking,
    netlink::{
        link::{BridgeLink, VethLink},
        messages::{AddressMessage, LinkMessage},
        namespace::{self, NetnsRef},
        neigh::Neighbor,
        types::{
            link::OperState,
            route::{RouteScope, RouteType},
        },
    },
};
use shunt_core::model::Family;

use super::{
    Addresses, EXTERNAL4, EXTERNAL6, SERVICE4, SERVICE6,
    addresses::pod_cidr,
    builder::{Role, Site},
};
use crate::until;

/// The bridge on a node, to which its pods are plugged.
pub const BRIDGE: &str = "pods";

/// The number of the table `local`, in which addresses are looked up that are to be bound.
const LOCAL_TABLE: u32 = 255;

/// How long the kernel may take to notice that a link is up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Duplicate address detection would take a second. Hosts on a link to themselves believe no
/// redirect, and no message of refusal is left out because there were many.
const SETTINGS: [(&str, &str); 12] = [
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.default.accept_redirects", "0"),
    ("net.ipv4.conf.all.accept_redirects", "0"),
    ("net.ipv4.conf.default.accept_redirects", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
];

/// What a node has beside that; nothing passes the rules of packets twice.
const NODE_SETTINGS: [(&str, &str); 3] = [
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
];

/// Settings that some kernels do not have, or not for each namespace.
const NODE_SETTINGS_IF_ANY: [(&str, &str); 4] = [
    ("net.bridge.bridge-nf-call-iptables", "0"),
    ("net.bridge.bridge-nf-call-ip6tables", "0"),
    ("net.ipv4.icmp_msgs_per_sec", "1000000"),
    ("net.ipv4.icmp_msgs_burst", "1000000"),
];

/// Connects all namespaces.
pub(super) fn wire(sites: &[Site]) -> Result<()> {
    for site in sites {
        set_up(site).with_context(|| format!("cannot set up {}", site.namespace))?;
    }
    for node in sites.iter().filter(|site| site.role == Role::Node) {
        let plugs = plugs(node, sites)?;
        let addresses = node.addresses;
        connection(node)?
            .run(move |route| Box::pin(wire_node(route, addresses, plugs)))
            .with_context(|| format!("cannot wire node {}", node.node))?;
    }
    for site in sites {
        let (addresses, gateway, role) = (site.addresses, gateway(site, sites)?, site.role);
        let Some(gateway) = gateway else { continue };
        connection(site)?
            .run(move |route| Box::pin(wire_end(route, addresses, gateway, role)))
            .with_context(|| format!("cannot wire {}", site.name))?;
    }
    sites.iter().try_for_each(wait_for_links)
}

/// Waits until the kernel has taken notice that every link of a site is up and every address its
/// own, which it does some time later, and on a slow machine seconds: until then nobody there takes
/// a packet to an IPv6 address.
fn wait_for_links(site: &Site) -> Result<()> {
    let connection = connection(site)?;
    until(&format!("the links of {} to be up", site.name), PATIENCE, || {
        match connection.run(move |route| Box::pin(links_and_addresses(route))) {
            Ok((links, addresses)) if !are_ready(&links, &addresses) => None,
            found => Some(found.map(drop)),
        }
    })?
    .with_context(|| format!("cannot list links and addresses of {}", site.name))
}

async fn links_and_addresses(
    route: &Connection<Route>,
) -> nlink::Result<(Vec<LinkMessage>, Vec<AddressMessage>)> {
    Ok((route.get_links().await?, route.get_addresses().await?))
}

/// A bridge without any port stays down, and its addresses to be found out.
fn are_ready(links: &[LinkMessage], addresses: &[AddressMessage]) -> bool {
    let is_empty_bridge = |bridge: &LinkMessage| {
        bridge.name() == Some(BRIDGE)
            && links.iter().all(|port| port.master() != Some(bridge.ifindex()))
    };
    links.iter().filter(|link| link.is_up() && !is_empty_bridge(link)).all(|link| {
        let mut own = addresses.iter().filter(|address| address.ifindex() == link.ifindex());
        matches!(link.operstate(), Some(OperState::Up | OperState::Unknown))
            && own.all(|address| !address.is_tentative())
    })
}

fn set_up(site: &Site) -> nlink::Result<()> {
    namespace::set_sysctls(&site.namespace, &SETTINGS)?;
    match site.role {
        Role::Node => {
            namespace::set_sysctls(&site.namespace, &NODE_SETTINGS)?;
            for setting in NODE_SETTINGS_IF_ANY {
                let _ = namespace::set_sysctls(&site.namespace, &[setting]);
            }
            Ok(())
        }
        // It binds addresses that it only has a route for.
        Role::Beyond => {
            namespace::set_sysctls(&site.namespace, &[("net.ipv6.ip_nonlocal_bind", "1")])
        }
        Role::Pod | Role::Outside => Ok(()),
    }
}

/// Where the network namespace of a site is found.
pub(super) fn namespace_path(site: &Site) -> PathBuf {
    Path::new(nlink::NETNS_RUN_DIR).join(&site.namespace)
}

fn connection(site: &Site) -> Result<blocking::Connection<Route>> {
    blocking::Connection::in_netns(NetnsRef::Named(site.namespace.clone()))
        .with_context(|| format!("cannot open a netlink socket in {}", site.namespace))
}

/// Has the loopback interface of a site carry an address, or not.
pub(super) fn carry(site: &Site, address: IpAddr, wanted: bool) -> Result<()> {
    let length = if address.is_ipv4() { 32 } else { 128 };
    connection(site)?
        .run(move |route| {
            Box::pin(async move {
                match address {
                    _ if !wanted => route.del_address("lo", address, length).await,
                    IpAddr::V4(v4) => route.add_address(Ipv4Address::new("lo", v4, length)).await,
                    IpAddr::V6(v6) => {
                        route.add_address(Ipv6Address::new("lo", v6, length).nodad()).await
                    }
                }
            })
        })
        .with_context(|| format!("cannot have {} carry {address}", site.namespace))
}

/// Whether `neighbour` hangs on `node`: its own pods, and on the agent's node the other sides.
fn is_plugged(node: &Site, neighbour: &Site) -> bool {
    match neighbour.role {
        Role::Pod => neighbour.node == node.node,
        _ => node.is_agents() && !neighbour.is_agents(),
    }
}

/// The node by which a site reaches all else; the agent's node has none.
fn gateway(site: &Site, sites: &[Site]) -> Result<Option<Addresses>> {
    if site.is_agents() && site.role == Role::Node {
        return Ok(None);
    }
    let mut nodes = sites.iter().filter(|node| node.role == Role::Node);
    let node = nodes.find(|node| is_plugged(node, site));
    Ok(Some(node.with_context(|| format!("{} hangs on no node", site.name))?.addresses))
}

/// A link from a node to a neighbour.
struct Plug {
    name: String,
    namespace: File,
    addresses: Addresses,
    /// The nets behind it that are not its own address.
    behind: Vec<IpNet>,
    is_pod: bool,
}

fn plugs(node: &Site, sites: &[Site]) -> Result<Vec<Plug>> {
    let neighbours = sites.iter().filter(|site| is_plugged(node, site));
    neighbours
        .map(|site| {
            let behind = match site.role {
                Role::Node => Family::ALL.map(|family| pod_cidr(false, family)).to_vec(),
                // What nothing translates goes there, where a test can see it arrive.
                Role::Beyond => vec![
                    net(SERVICE4, 16)?,
                    net(EXTERNAL4, 24)?,
                    net(SERVICE6, 64)?,
                    net(EXTERNAL6, 64)?,
                ],
                Role::Pod | Role::Outside => Vec::new(),
            };
            let path = namespace_path(site);
            Ok(Plug {
                name: format!("to-{}", site.name),
                namespace: File::open(path).context("cannot open a namespace")?,
                addresses: site.addresses,
                behind,
                is_pod: site.role == Role::Pod,
            })
        })
        .collect()
}

fn net(address: impl Into<IpAddr>, length: u8) -> Result<IpNet> {
    Ok(IpNet::new(address.into(), length)?)
}

/// A node carries its primary address on every link, where it is the source of what the node
/// sends there. The agent's node has a second one on the bridge. Among equals the kernel prefers
/// the IPv6 address that came last and the IPv4 address that came first.
async fn wire_node(
    route: &Connection<Route>,
    node: Addresses,
    plugs: Vec<Plug>,
) -> nlink::Result<()> {
    route.set_link_up("lo").await?;
    route.add_link(BridgeLink::new(BRIDGE).address(node.link())).await?;
    route.add_address(Ipv4Address::new(BRIDGE, node.v4, 32)).await?;
    if node == Addresses::of_host(0) {
        address(route, BRIDGE, Addresses::of_host(1)).await?;
    }
    route.add_address(Ipv6Address::new(BRIDGE, node.v6, 128).nodad()).await?;
    route.set_link_up(BRIDGE).await?;
    for plug in plugs {
        let end = plug.name.as_str();
        let pair = VethLink::new(end, "eth0").peer_netns_fd(plug.namespace);
        let pair = pair.peer_address(plug.addresses.link());
        let link = if plug.is_pod {
            route.add_link(pair).await?;
            route.set_link_master(end, BRIDGE).await?;
            BRIDGE
        } else {
            route.add_link(pair.address(node.link())).await?;
            address(route, end, node).await?;
            end
        };
        route.set_link_up(end).await?;
        introduce(route, link, plug.addresses).await?;
        let Addresses { v4, v6 } = plug.addresses;
        let neighbour = Ipv4Route::from_addr(v4, 32).dev(link).prefsrc(node.v4);
        route.add_route(neighbour.scope(RouteScope::Link)).await?;
        route.add_route(Ipv6Route::from_addr(v6, 128).dev(link).prefsrc(node.v6)).await?;
        for net in plug.behind {
            let length = net.prefix_len();
            match net {
                IpNet::V4(net) => {
                    let behind = Ipv4Route::from_addr(net.addr(), length).gateway(v4);
                    route.add_route(behind.dev(link).prefsrc(node.v4).onlink()).await?;
                }
                IpNet::V6(net) => {
                    let behind = Ipv6Route::from_addr(net.addr(), length).gateway(v6);
                    route.add_route(behind.dev(link).prefsrc(node.v6)).await?;
                }
            }
        }
    }
    Ok(())
}

/// One that has a node as gateway: a pod, another node, the client outside, `beyond`.
async fn wire_end(
    route: &Connection<Route>,
    own: Addresses,
    gateway: Addresses,
    role: Role,
) -> nlink::Result<()> {
    route.set_link_up("lo").await?;
    address(route, "eth0", own).await?;
    route.set_link_up("eth0").await?;
    introduce(route, "eth0", gateway).await?;
    let Addresses { v4, v6 } = gateway;
    route.add_route(Ipv4Route::from_addr(v4, 32).dev("eth0").scope(RouteScope::Link)).await?;
    route.add_route(Ipv6Route::from_addr(v6, 128).dev("eth0")).await?;
    let everything = Ipv4Route::from_addr(Ipv4Addr::UNSPECIFIED, 0).gateway(v4);
    route.add_route(everything.dev("eth0").prefsrc(own.v4)).await?;
    let everything = Ipv6Route::from_addr(Ipv6Addr::UNSPECIFIED, 0).gateway(v6);
    route.add_route(everything.dev("eth0").prefsrc(own.v6)).await?;
    if role != Role::Beyond {
        return Ok(());
    }
    for (net, length) in [(SERVICE4, 16), (EXTERNAL4, 24)] {
        let local = Ipv4Route::from_addr(net, length).dev("lo").table(LOCAL_TABLE);
        route.add_route(local.route_type(RouteType::Local).scope(RouteScope::Host)).await?;
    }
    for net in [SERVICE6, EXTERNAL6] {
        let local = Ipv6Route::from_addr(net, 64).dev("lo").table(LOCAL_TABLE);
        route.add_route(local.route_type(RouteType::Local)).await?;
    }
    Ok(())
}

async fn address(route: &Connection<Route>, link: &str, addresses: Addresses) -> nlink::Result<()> {
    route.add_address(Ipv4Address::new(link, addresses.v4, 32)).await?;
    route.add_address(Ipv6Address::new(link, addresses.v6, 128).nodad()).await
}

/// Tells a site who is at the other end of a link of its own.
async fn introduce(
    route: &Connection<Route>,
    link: &str,
    neighbour: Addresses,
) -> nlink::Result<()> {
    for family in Family::ALL {
        let entry = Neighbor::new(link, neighbour.of(family)).lladdr(neighbour.link());
        route.add_neighbor(entry.permanent()).await?;
    }
    Ok(())
}
