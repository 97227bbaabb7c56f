//! The maps. Sizes are defaults: user space sets them when it loads the programs.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LruHashMap, RingBuf, SkStorage},
    macros::btf_map,
};
use shunt_ebpf::{
    address::Address,
    affinity::{Affinity, AffinityKey},
    control::Control,
    event::Event,
    socket::{Connected, Peers, Seat},
    tables::{
        Endpoint, Frontend4, Frontend6, FrontendKey4, FrontendKey6, List, NODE_PORTS, NodePort,
        ServiceName,
    },
};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Whether `bpf_set_retval` exists (5.18); the loader sets it, and the verifier then drops the
/// branch that cannot be.
#[unsafe(no_mangle)]
pub(crate) static HAS_SET_RETVAL: Global<u8> = Global::new(0);

/// How many seats there are, a power of two; 0 where the kernel does not tell when a socket ends,
/// so that nobody would leave one. The loader sets it.
#[unsafe(no_mangle)]
pub(crate) static SEAT_COUNT: Global<u32> = Global::new(0);

#[btf_map]
pub(crate) static FRONTENDS4: HashMap<FrontendKey4, Frontend4, 131_072> = HashMap::new();

#[btf_map]
pub(crate) static FRONTENDS6: HashMap<FrontendKey6, Frontend6, 131_072> = HashMap::new();

#[btf_map]
pub(crate) static NODEPORTS: Array<NodePort, { NODE_PORTS as usize }, MMAPABLE> = Array::new();

#[btf_map]
pub(crate) static NODE_ADDRESSES: HashMap<Address, u32, 4_096> = HashMap::new();

#[btf_map]
pub(crate) static LISTS: Array<List, 131_072, MMAPABLE> = Array::new();

#[btf_map]
pub(crate) static ENDPOINTS: Array<Endpoint, 524_288, MMAPABLE> = Array::new();

/// For people and for take-over; no program reads it.
#[btf_map]
pub(crate) static SERVICES: HashMap<u32, ServiceName, 131_072, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, Affinity, 65_536> = LruHashMap::new();

#[btf_map]
pub(crate) static CONTROL: Array<Control, 1, MMAPABLE> = Array::new();

#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, 262_144> = RingBuf::new();

#[btf_map]
pub(crate) static CONNECTED: SkStorage<Connected> = SkStorage::new();

#[btf_map]
pub(crate) static PEERS: SkStorage<Peers> = SkStorage::new();

#[btf_map]
pub(crate) static SEATS: Array<Seat, 65_536> = Array::new();
