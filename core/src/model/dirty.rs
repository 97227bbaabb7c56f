//! What an update leaves to be done, and what is odd about it.

use std::{collections::HashSet, fmt, net::IpAddr};

use foldhash::quality::RandomState;
use indexmap::IndexSet;

use super::ObjectName;
use crate::source::{ObjectId, SourceName};

/// What has to be planned anew.
///
/// It grows with what the updates touch and never with the size of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dirty {
    /// Services that changed, or of which an endpoint changed; also those that are gone. They are
    /// in the order in which they came, in which memory is read best.
    pub services: IndexSet<ObjectName, RandomState>,
    /// Addresses that came to or went from an interface of this host: Services that have one as
    /// their clusterIP are touched.
    pub host_addresses: HashSet<IpAddr>,
    /// The node's part: its addresses, its pod CIDRs or the ServiceCIDRs.
    pub node: bool,
    /// How many changes of objects made all that dirty.
    pub changes: Changes,
}

/// Objects that changed, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services.
    pub services: u64,
    /// EndpointSlices.
    pub slices: u64,
}

impl Dirty {
    /// Whether there is nothing to plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.host_addresses.is_empty() && !self.node
    }
}

/// Something about an object that people should know, and that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelWarning {
    /// Two sources bring the same object; the first one's is used.
    Clash {
        /// The object.
        object: ObjectId,
        /// The source whose object is used.
        used: SourceName,
        /// The source whose object waits until the other's is gone.
        ignored: SourceName,
    },
    /// An EndpointSlice that names no Service is ignored.
    SliceWithoutService {
        /// The slice.
        slice: ObjectName,
    },
}

impl fmt::Display for ModelWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clash { object, used, ignored } => write!(
                f,
                "{object} comes from two sources: that of {used} is used, that of {ignored} is \
                 ignored as long as the other exists"
            ),
            Self::SliceWithoutService { slice } => write!(
                f,
                "EndpointSlice {slice} is ignored: it has no label kubernetes.io/service-name"
            ),
        }
    }
}
