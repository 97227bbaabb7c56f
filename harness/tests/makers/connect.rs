//! Makes the connect-time backend for a site.

use shunt_backends::connect::{ConnectBackend, ConnectOptions, TableSizes};
use shunt_core::LbBackend;
use shunt_harness::conformance::Site;

pub(crate) fn make(site: &Site) -> Box<dyn LbBackend> {
    let mut sizes = TableSizes::default();
    (sizes.services, sizes.endpoints) = (site.room.services, site.room.endpoints);
    (sizes.frontends4, sizes.frontends6) = (site.room.frontends, site.room.frontends);
    sizes.seats = site.room.sockets;
    let (cgroup, pin_path) = (site.cgroup.clone(), site.pin_path.clone());
    Box::new(ConnectBackend::new(ConnectOptions { cgroup, pin_path, sizes }))
}
