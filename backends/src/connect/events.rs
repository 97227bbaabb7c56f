//! What the programs decide, as they decide it.
//!
//! Level and filter are a word that programs load anyway, so that nothing is paid while nobody
//! looks; whoever looks sets it, and sets it back at the end. Works beside a running agent.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use aya::maps::{Map, MapData, MapError, RingBuf};
use shunt_core::{model::ObjectName, plan::ServicePortKey};
use shunt_ebpf::{
    control::{EVENTS_ALL, EVENTS_ERRORS, EVENTS_OFF},
    event::{self, KIND_LEFT, KIND_NO_STORAGE, KIND_REFUSED, KIND_TRANSLATED, KIND_UNREADABLE},
    socket::Tuple,
    tables::ServiceName,
};
use tokio::io::unix::AsyncFd;

use super::{
    inspect,
    pins::Pins,
    sys::{self, Hash, Kernel as _, Maps, Word, values_of},
    tables::decode_name,
};

/// Which events are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLevel {
    /// What went wrong.
    Errors,
    /// Every decision about a Service.
    All,
}

/// One decision of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Since the machine was booted.
    pub time: Duration,
    /// The cookie of the caller's network namespace.
    pub netns: u64,
    /// The ServicePort; `None` if it is gone or could not be read.
    pub service: Option<ServicePortKey>,
    /// What became of the call.
    pub kind: EventKind,
    /// The number of the protocol: 6 or 17.
    pub protocol: u8,
    /// What the application asked for.
    pub dialled: SocketAddr,
    /// Where it was sent, if it was.
    pub endpoint: Option<SocketAddr>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was sent to an endpoint.
    Translated,
    /// It was refused: no endpoint.
    Refused,
    /// It was left to the packet path.
    Left,
    /// A table could not be read; it was left untranslated.
    Unreadable,
    /// The socket's storage could not be written; it was left untranslated.
    NoStorage,
    /// A later version of the programs has a name for it.
    Unknown(u8),
}

/// Events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Nothing is pinned where an agent would have pinned it.
    #[error("no agent has served from {}", path.display())]
    NoTables {
        /// The pin directory.
        path: std::path::PathBuf,
    },
    /// No ServicePort of the wanted Service is served here.
    #[error("service {service} is not served here")]
    NoService {
        /// The Service.
        service: ObjectName,
    },
    /// The tables cannot be read or written.
    #[error("cannot use the pinned tables")]
    Tables(#[from] io::Error),
    /// The ring buffer cannot be used.
    #[error("cannot use the ring buffer")]
    Ring(#[from] MapError),
}

/// Reads events; the programs write none any more when it is dropped.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    maps: Maps,
    names: HashMap<u32, ServicePortKey>,
    only: Option<ObjectName>,
}

impl Events {
    /// Asks the programs whose tables are pinned at `pin_path` for events, of one Service or of
    /// all. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Fails if nothing is pinned there, the Service is not served, or the kernel refuses.
    pub fn open(
        pin_path: &Path,
        level: EventLevel,
        only: Option<ObjectName>,
    ) -> Result<Self, EventError> {
        let opened = inspect::open_with_directory(&Pins::new(pin_path.to_owned()))?;
        let Some((mut maps, directory)) = opened else {
            return Err(EventError::NoTables { path: pin_path.to_owned() });
        };
        let names = read_names(&maps)?;
        // Programs compare one number; a Service of several ServicePorts is picked out here.
        let filter = match &only {
            None => 0,
            Some(service) => {
                let mut wanted = names.iter().filter(|(_, key)| key.service == *service);
                match (wanted.next(), wanted.next()) {
                    (None, _) => {
                        return Err(EventError::NoService { service: service.clone() });
                    }
                    (Some((number, _)), None) => *number,
                    _ => 0,
                }
            }
        };
        let data = MapData::from_pin(directory.join("EVENTS"))?;
        let ring = RingBuf::try_from(Map::RingBuf(data))?;
        let ring = sys::watch(ring)?;
        let level = match level {
            EventLevel::Errors => EVENTS_ERRORS,
            EventLevel::All => EVENTS_ALL,
        };
        maps.store(Word::EVENTS, u64::from(filter) << 32 | u64::from(level))?;
        Ok(Self { ring, maps, names, only })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not let us wait or read names.
    pub async fn next(&mut self) -> Result<Event, EventError> {
        loop {
            let mut guard = self.ring.readable_mut().await?;
            let item = guard.get_inner_mut().next();
            let raw = item.and_then(|item| values_of::<event::Event>(&item).next());
            let Some(raw) = raw else {
                // Only after it was found empty, so that no event is slept over: one that comes
                // now makes the buffer readable again.
                guard.clear_ready();
                continue;
            };
            if let Some(event) = self.understand(&raw)? {
                return Ok(event);
            }
        }
    }

    /// The event for people, unless it is of a Service that is not wanted.
    fn understand(&mut self, raw: &event::Event) -> Result<Option<Event>, EventError> {
        if raw.service != 0 && !self.names.contains_key(&raw.service) {
            self.names = read_names(&self.maps)?;
        }
        let service = self.names.get(&raw.service).cloned();
        if let Some(only) = &self.only
            && service.as_ref().is_none_or(|key| key.service != *only)
        {
            return Ok(None);
        }
        let endpoint = raw.endpoint;
        Ok(Some(Event {
            time: Duration::from_nanos(raw.time),
            netns: raw.netns,
            service,
            kind: EventKind::of(raw.kind),
            protocol: raw.protocol,
            dialled: socket_address(raw.dialled),
            endpoint: (endpoint != Tuple::default()).then(|| socket_address(endpoint)),
        }))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Fails only where the table is gone, and the programs with it.
        let _ = self.maps.store(Word::EVENTS, u64::from(EVENTS_OFF));
    }
}

impl EventKind {
    const fn of(kind: u8) -> Self {
        match kind {
            KIND_TRANSLATED => Self::Translated,
            KIND_REFUSED => Self::Refused,
            KIND_LEFT => Self::Left,
            KIND_UNREADABLE => Self::Unreadable,
            KIND_NO_STORAGE => Self::NoStorage,
            other => Self::Unknown(other),
        }
    }
}

fn read_names(maps: &Maps) -> io::Result<HashMap<u32, ServicePortKey>> {
    let (numbers, names) = maps.entries(Hash::Services)?;
    let names = values_of::<ServiceName>(&names).map(|name| decode_name(&name));
    Ok(values_of::<u32>(&numbers).zip(names).filter_map(|(n, key)| Some((n, key?))).collect())
}

fn socket_address(tuple: Tuple) -> SocketAddr {
    let address = Ipv6Addr::from(tuple.address.octets());
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    SocketAddr::new(address, tuple.port)
}
