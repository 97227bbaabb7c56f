//! The netlink side: list everything, then follow.

use async_trait::async_trait;
use futures_util::StreamExt as _;
use nlink::{
    Route,
    netlink::{
        Connection, NetworkEvent, OwnedEventStream, RtnetlinkGroup,
        messages::{AddressMessage, LinkMessage},
    },
};
use shunt_core::{
    ServiceSource, Update,
    source::{Completeness, SourceError, UpdateSender},
};
use tokio_util::sync::CancellationToken;

use super::interfaces::Interfaces;

/// How often a list is asked for again that changed while the kernel was telling it.
const LIST_TRIES: usize = 10;

/// The addresses of the interfaces of the network namespace that it runs in.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct HostSource;

impl HostSource {
    /// A source that opens its sockets when it runs.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl ServiceSource for HostSource {
    async fn run(
        self: Box<Self>,
        updates: UpdateSender,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = follow(&updates) => ended.map_err(|error| SourceError {
                source_name: updates.source().clone(),
                cause: error.into(),
            }),
        }
    }
}

/// The kernel cannot be asked. Not retryable within this run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No netlink socket.
    #[error("failed to open a netlink socket")]
    Open(#[source] nlink::Error),
    /// No notifications.
    #[error("failed to subscribe to address changes")]
    Subscribe(#[source] nlink::Error),
    /// No list.
    #[error("failed to list interfaces and addresses")]
    List(#[source] nlink::Error),
    /// Notifications stopped.
    #[error("failed to read address changes")]
    Follow(#[source] nlink::Error),
    /// Notifications ended without an error.
    #[error("the kernel closed the stream of address changes")]
    Closed,
}

/// Returns when nobody listens any more, or with an error.
async fn follow(updates: &UpdateSender) -> Result<(), HostError> {
    // Two sockets, because one that follows cannot ask. Following begins first: what changes
    // while the list is told is then told again, which does no harm.
    let asking = Connection::<Route>::new().map_err(HostError::Open)?;
    let following = Connection::<Route>::new().map_err(HostError::Open)?;
    let groups = [RtnetlinkGroup::Link, RtnetlinkGroup::Ipv4Addr, RtnetlinkGroup::Ipv6Addr];
    following.subscribe(&groups).map_err(HostError::Subscribe)?;
    let mut events = following.into_events().await;

    let Some(mut interfaces) = list(&asking, updates).await? else { return Ok(()) };
    loop {
        let Some(changes) = next(&mut events, &mut interfaces).await? else {
            tracing::info!("changes of addresses were lost or are in doubt: listing them anew");
            if !updates.send(Update::Reset).await {
                return Ok(());
            }
            let Some(listed) = list(&asking, updates).await? else { return Ok(()) };
            interfaces = listed;
            continue;
        };
        for change in changes {
            if !updates.send(change).await {
                return Ok(());
            }
        }
    }
}

/// Sends everything that there is. `None` if nobody listens any more.
async fn list(
    asking: &Connection<Route>,
    updates: &UpdateSender,
) -> Result<Option<Interfaces>, HostError> {
    let (links, addresses) = dump(asking).await.map_err(HostError::List)?;
    let mut interfaces = Interfaces::default();
    for link in &links {
        take_link(&mut interfaces, link);
    }
    for address in &addresses {
        let Some(update) = take_address(&mut interfaces, address) else { continue };
        if !updates.send(update).await {
            return Ok(None);
        }
    }
    let synced = updates.send(Update::Synced(Completeness::Complete)).await;
    Ok(synced.then_some(interfaces))
}

/// Asks again while the kernel says that something changed in the middle of its answer.
async fn dump(
    asking: &Connection<Route>,
) -> Result<(Vec<LinkMessage>, Vec<AddressMessage>), nlink::Error> {
    let mut tries = 1..LIST_TRIES;
    loop {
        let (links, addresses) = (asking.get_links().await, asking.get_addresses().await);
        match links.and_then(|links| addresses.map(|addresses| (links, addresses))) {
            Err(error) if error.is_dump_interrupted() && tries.next().is_some() => (),
            answer => return answer,
        }
    }
}

/// The updates of the next event; `None` if everything has to be listed anew.
async fn next(
    events: &mut OwnedEventStream<Route>,
    interfaces: &mut Interfaces,
) -> Result<Option<Vec<Update>>, HostError> {
    let event = match events.next().await.ok_or(HostError::Closed)? {
        Ok(event) => event,
        Err(error) if error.is_no_buffer_space() => return Ok(None),
        Err(error) => return Err(HostError::Follow(error)),
    };
    Ok(Some(match event {
        NetworkEvent::NewLink(link) => take_link(interfaces, &link),
        NetworkEvent::DelLink(link) if interfaces.link_gone(link.ifindex()) => Vec::new(),
        NetworkEvent::DelLink(_) => return Ok(None),
        NetworkEvent::NewAddress(address) => {
            take_address(interfaces, &address).into_iter().collect()
        }
        NetworkEvent::DelAddress(message) => {
            let address = message.primary_address().copied();
            let update = address.and_then(|address| {
                interfaces.address_gone(message.ifindex(), address, message.prefix_len())
            });
            update.into_iter().collect()
        }
        _ => Vec::new(),
    }))
}

fn take_link(interfaces: &mut Interfaces, message: &LinkMessage) -> Vec<Update> {
    match message.name() {
        Some(name) => interfaces.link_is(message.ifindex(), name),
        None => Vec::new(),
    }
}

fn take_address(interfaces: &mut Interfaces, message: &AddressMessage) -> Option<Update> {
    let address = *message.primary_address()?;
    interfaces.address_is(message.ifindex(), address, message.prefix_len())
}
