//! Links, addresses and routes of a world, by netlink.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nlink::{
    Connection, Ipv4Address, Ipv4Route, Ipv6Address, Ipv6Route, Route, blocking,
    netlink::{
        link::{BridgeLink, VethLink},
        namespace::{self, NetnsRef},
        types::route::{RouteScope, RouteType},
    },
};

use super::{Addresses, EXTERNAL4, EXTERNAL6, SERVICE4, SERVICE6, builder::Site};

/// The bridge in the host's namespace, to which every pod is plugged.
const BRIDGE: &str = "pods";

/// The number of the table `local`, in which addresses are looked up that are to be bound.
const LOCAL_TABLE: u32 = 255;

/// Connects the namespaces of the host, the pods and `beyond` (in this order).
pub(super) fn wire(sites: &[Site]) -> Result<()> {
    let (host, pods) = sites.split_first().context("a world has a host")?;
    for site in sites {
        // Duplicate address detection would take a second. The last one lets `beyond` bind
        // addresses that it only has a route for.
        namespace::set_sysctls(
            &site.namespace,
            &[
                ("net.ipv6.conf.all.disable_ipv6", "0"),
                ("net.ipv6.conf.default.disable_ipv6", "0"),
                ("net.ipv6.conf.default.accept_dad", "0"),
                ("net.ipv6.conf.default.accept_ra", "0"),
                ("net.ipv6.ip_nonlocal_bind", if site.name == "beyond" { "1" } else { "0" }),
            ],
        )
        .with_context(|| format!("cannot set up IPv6 in {}", site.namespace))?;
    }
    let mut plugs = Vec::with_capacity(pods.len());
    for pod in pods {
        let namespace = File::open(namespace_path(pod)).context("cannot open a namespace")?;
        plugs.push((pod.name.clone(), namespace));
    }
    let connection = connection(host)?;
    connection
        .run(move |route| Box::pin(wire_host(route, plugs)))
        .context("cannot wire the host")?;
    for pod in pods {
        let (addresses, is_beyond) = (pod.addresses, pod.name == "beyond");
        self::connection(pod)?
            .run(move |route| Box::pin(wire_pod(route, addresses, is_beyond)))
            .with_context(|| format!("cannot wire pod {}", pod.name))?;
    }
    Ok(())
}

/// Where the network namespace of a site is found.
pub(super) fn namespace_path(site: &Site) -> PathBuf {
    Path::new(nlink::NETNS_RUN_DIR).join(&site.namespace)
}

fn connection(site: &Site) -> Result<blocking::Connection<Route>> {
    blocking::Connection::in_netns(NetnsRef::Named(site.namespace.clone()))
        .with_context(|| format!("cannot open a netlink socket in {}", site.namespace))
}

/// The bridge carries the node's addresses: a primary one, which is the source of what the host
/// sends, and a second one. Among equals the kernel prefers the IPv6 address that came last, and
/// the IPv4 address with the net's prefix.
async fn wire_host(route: &Connection<Route>, plugs: Vec<(String, File)>) -> nlink::Result<()> {
    route.set_link_up("lo").await?;
    route.add_link(BridgeLink::new(BRIDGE)).await?;
    address(route, BRIDGE, Addresses::of_host(1), 32).await?;
    address(route, BRIDGE, Addresses::of_host(0), 16).await?;
    route.set_link_up(BRIDGE).await?;
    for (pod, namespace) in plugs {
        let end = format!("to-{pod}");
        route.add_link(VethLink::new(&end, "eth0").peer_netns_fd(namespace)).await?;
        route.set_link_master(end.as_str(), BRIDGE).await?;
        route.set_link_up(end.as_str()).await?;
    }
    to_beyond(route, BRIDGE).await
}

async fn wire_pod(
    route: &Connection<Route>,
    addresses: Addresses,
    is_beyond: bool,
) -> nlink::Result<()> {
    route.set_link_up("lo").await?;
    address(route, "eth0", addresses, 16).await?;
    route.set_link_up("eth0").await?;
    if !is_beyond {
        return to_beyond(route, "eth0").await;
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

async fn address(
    route: &Connection<Route>,
    link: &str,
    addresses: Addresses,
    length4: u8,
) -> nlink::Result<()> {
    route.add_address(Ipv4Address::new(link, addresses.v4, length4)).await?;
    route.add_address(Ipv6Address::new(link, addresses.v6, 64).nodad()).await
}

/// What nothing translates goes to `beyond`, where a test can see it arrive.
async fn to_beyond(route: &Connection<Route>, link: &str) -> nlink::Result<()> {
    let beyond = Addresses::of_beyond();
    for (net, length) in [(SERVICE4, 16), (EXTERNAL4, 24)] {
        route.add_route(Ipv4Route::from_addr(net, length).gateway(beyond.v4).dev(link)).await?;
    }
    for net in [SERVICE6, EXTERNAL6] {
        route.add_route(Ipv6Route::from_addr(net, 64).gateway(beyond.v6).dev(link)).await?;
    }
    Ok(())
}
