//! A server at every place where a load balancer may ask.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use shunt_core::{
    engine::{Health, HealthChecks, HealthServers, Status},
    model::{Family, ObjectName},
    notice::{Notice, Notices},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tracing::{debug, info, warn};

use super::{
    answer::answer,
    connection::{self, Answer},
};

/// Where a Service is asked for.
type Place = (SocketAddr, ObjectName);

/// Keeps a server at every place where one is to be, until the engine is gone.
///
/// What cannot listen is a warning, and is tried again with the next apply, and after `period` at
/// the latest; nothing else depends on it.
pub(crate) async fn serve(
    checks: Arc<HealthChecks>,
    mut status: watch::Receiver<Status>,
    period: Duration,
    notices: Notices,
) {
    let mut wanted = checks.servers();
    let mut servers = Servers::new(checks, status.clone(), period * 2, notices);
    loop {
        let places = places(&wanted.borrow_and_update());
        servers.follow(places).await;
        let synced = syncs(&status.borrow_and_update());
        let next_sync = async {
            // Without a failure there is nothing to try again.
            if servers.refused.is_empty() {
                return std::future::pending().await;
            }
            status.wait_for(|status| syncs(status) != synced).await.is_ok()
        };
        let goes_on = tokio::select! {
            changed = wanted.changed() => changed.is_ok(),
            goes_on = next_sync => goes_on,
            () = tokio::time::sleep(period) => true,
        };
        if !goes_on {
            return;
        }
    }
}

/// Grows with every apply that is done.
fn syncs(status: &Status) -> u64 {
    status.backends.values().map(|backend| backend.applied).sum()
}

/// Where servers are to be. A link-local address is none that a load balancer could ask.
fn places(wanted: &HealthServers) -> BTreeMap<Place, Family> {
    let mut places = BTreeMap::new();
    let reachable = |address: &&IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    for address in wanted.addresses.iter().filter(reachable) {
        let family = Family::of(*address);
        let services = wanted.services.iter().filter(|(_, (_, of))| of.contains(&family));
        places.extend(services.map(|(service, (port, _))| {
            ((SocketAddr::new(*address, port.get()), service.clone()), family)
        }));
    }
    places
}

/// kube-proxy's word for a health check that cannot listen.
const FAILED: &str = "FailedToStartServiceHealthcheck";

/// The servers that run.
struct Servers {
    checks: Arc<HealthChecks>,
    status: watch::Receiver<Status>,
    patience: Duration,
    notices: Notices,
    tasks: JoinSet<()>,
    running: BTreeMap<Place, AbortHandle>,
    /// Where the kernel said no, and what.
    refused: BTreeMap<Place, String>,
}

impl Servers {
    fn new(
        checks: Arc<HealthChecks>,
        status: watch::Receiver<Status>,
        patience: Duration,
        notices: Notices,
    ) -> Self {
        let (running, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { checks, status, patience, notices, tasks: JoinSet::new(), running, refused }
    }

    /// Ends the servers that are not wanted any more and starts those that are missing.
    async fn follow(&mut self, places: BTreeMap<Place, Family>) {
        self.running.retain(|place, server| {
            let is_wanted = places.contains_key(place);
            if !is_wanted {
                server.abort();
                info!(
                    "the health check of Service {} is no longer answered at {}",
                    place.1, place.0
                );
            }
            is_wanted
        });
        // An aborted server holds its port until it is gone, and the next may want it.
        while self.tasks.len() > self.running.len() && self.tasks.join_next().await.is_some() {}
        self.refused.retain(|place, _| places.contains_key(place));
        for (place, family) in places {
            if !self.running.contains_key(&place) {
                self.start(place, family).await;
            }
        }
    }

    async fn start(&mut self, place: Place, family: Family) {
        let (at, service) = &place;
        match TcpListener::bind(*at).await {
            Ok(listener) => {
                info!("the health check of Service {service} is answered at {at}");
                self.refused.remove(&place);
                let server = connection::serve(listener, self.answers(service.clone(), family));
                let server = self.tasks.spawn(server);
                self.running.insert(place, server);
            }
            Err(error) => {
                let error = error.to_string();
                if self.refused.get(&place) == Some(&error) {
                    debug!("the health check of Service {service} still cannot listen at {at}");
                    return;
                }
                let said = format!(
                    "The health check of Service {service} cannot listen at {at}, and is tried \
                     again: {error}"
                );
                warn!("{FAILED}: {said}");
                let notice = Notice::warn_of_service(service.clone(), FAILED, "Listen", said);
                self.notices.give(notice);
                self.refused.insert(place, error);
            }
        }
    }

    /// What is answered for a Service, looked up anew for each request.
    fn answers(&self, service: ObjectName, family: Family) -> impl Answer + use<> {
        let (checks, status) = (Arc::clone(&self.checks), self.status.clone());
        let patience = self.patience;
        move |_: &str| {
            let count = checks.local_endpoints(&service, family).unwrap_or(0);
            let health = status.borrow().health(family, Instant::now(), patience);
            answer(&service, count, health != Health::Unhealthy)
        }
    }
}
