//! One suite for all backends: what a Service means, one behaviour a file.
//!
//! A backend takes it with one line, in a file of `tests/` that says how to make it:
//!
//! ```ignore
//! shunt_harness::conformance!("connect", make_backend);
//! ```
//!
//! - No test names a backend. What one cannot take it says in its `Capabilities`, and the test then
//!   asserts that it leaves the ServicePort, for a stated reason, and its connections untouched.
//!   What it must be able to take, by kernel, is in `testdata/capabilities.json` under the name
//!   given in that line: claiming less fails.
//! - Each test runs in a process of its own, which is the agent's: in the host's cgroup and network
//!   namespace of a [`crate::world::World`] of its own.
//! - What is left untouched arrives at the pod `beyond`, so "untouched" is seen and not inferred
//!   from silence.

mod run;

mod site;

mod stage;

mod expect;

mod service;

mod sockets;

mod agent;

mod packets;

mod meanwhile;

mod table;

pub mod capabilities;

pub mod spread;

pub mod peer_name;

pub mod reconnect;

pub mod stale_state;

pub mod many_sockets;

pub mod mptcp;

pub mod udp_peers;

pub mod udp_stays;

pub mod refusal;

pub mod unknown_port;

pub mod node_port;

pub mod client_port;

pub mod external_address;

pub mod source_ranges;

pub mod forwarded;

pub mod masquerade;

pub mod external_cluster;

pub mod external_source;

pub mod hairpin;

pub mod internal_local;

pub mod external_local;

pub mod on_interface;

pub mod unallocated;

pub mod lists;

pub mod sctp;

pub mod unclaimed;

pub mod affinity;

pub mod affinity_paths;

pub mod affinity_timeout;

pub mod endpoint_change;

pub mod survives;

pub mod stale_udp;

pub mod owner_change;

pub mod many_services;

pub mod churn;

pub mod take_over;

pub mod killed;

pub mod inspect;

pub mod cleanup;

pub mod table_full;

pub mod repair;

pub mod foreign_table;

pub mod losing;

pub mod lost_cgroup;

pub mod private_cgroup;

pub mod second_agent;

pub mod bad_site;

pub use agent::agent;
pub use expect::Left;
pub use packets::Source;
pub use run::run;
pub use service::{Service, external_ip, service_ip};
pub use site::{LocalPods, MakeBackend, Room, Site};
pub use sockets::Dialect;
pub use stage::Stage;

/// Makes a test of every behaviour for the backend that `make: fn(&Site) -> Box<dyn LbBackend>`
/// makes, whose row in the table of capabilities is `name`.
#[macro_export]
macro_rules! conformance {
    ($name:literal, $make:path) => {
        $crate::conformance! { @each $name, $make;
            capabilities, spread, peer_name, reconnect, stale_state, many_sockets, mptcp, udp_peers,
            udp_stays, refusal, unknown_port, node_port, client_port, external_address,
            source_ranges, forwarded, masquerade, external_cluster, external_source, hairpin,
            internal_local, external_local, on_interface, unallocated, lists, sctp, unclaimed,
            affinity, affinity_paths,
            affinity_timeout, endpoint_change, survives, stale_udp, owner_change, many_services,
            churn, take_over, killed, inspect, cleanup, table_full, repair, foreign_table, losing,
            lost_cgroup, private_cgroup, second_agent, bad_site
        }

        /// Not a test: the process of a pod.
        #[test]
        fn probe_process() -> Result<(), Box<dyn std::error::Error>> {
            Ok($crate::probe::main_if_asked().map(drop)?)
        }

        /// Not a test: another agent, for those behaviours that take two.
        #[test]
        fn agent_process() -> Result<(), Box<dyn std::error::Error>> {
            Ok($crate::conformance::agent($make)?)
        }
    };
    (@each $name:literal, $make:path; $($behaviour:ident),+) => {
        $(
            #[test]
            fn $behaviour() {
                let check = $crate::conformance::$behaviour::check;
                let test = concat!(module_path!(), "::", stringify!($behaviour));
                $crate::conformance::run(test, $name, $make, check);
            }
        )+
    };
}
