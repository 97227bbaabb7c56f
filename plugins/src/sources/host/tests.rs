//! The kernel's messages, made up and real.

use std::{collections::BTreeSet, future::Future, net::IpAddr, thread, time::Duration};

use nix::sched::{CloneFlags, unshare};
use nlink::netlink::{Connection, Route, link::VethLink};
use shunt_core::{
    ServiceSource as _, Update,
    source::{Completeness, Object, SourceName, UpdateSender},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{HostSource, interfaces::Interfaces};

/// Long enough for the slowest machine; nothing waits for it to pass unless the test fails.
const DEADLINE: Duration = Duration::from_secs(240);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn said(updates: impl IntoIterator<Item = Update>) -> Vec<String> {
    let say = |update| match update {
        Update::Reset => "reset".to_owned(),
        Update::Upsert(object) => format!("+{}", object.id()),
        Update::Remove(id) => format!("-{id}"),
        Update::Synced(Completeness::Complete) => "synced".to_owned(),
        Update::Synced(Completeness::Partial) => "synced in part".to_owned(),
    };
    updates.into_iter().map(say).collect()
}

#[test]
fn messages_become_updates() {
    let mut interfaces = Interfaces::default();
    let none: [&str; 0] = [];
    assert_eq!(said(interfaces.link_is(1, "lo")), none);
    assert_eq!(said(interfaces.address_is(1, ip("127.0.0.1"), 8)), ["+address 127.0.0.1 of lo"]);
    assert_eq!(said(interfaces.address_is(1, ip("127.0.0.1"), 8)), none, "told twice");
    // The address before the interface.
    assert_eq!(said(interfaces.address_is(2, ip("10.0.0.1"), 24)), none);
    assert_eq!(said(interfaces.link_is(2, "eth0")), ["+address 10.0.0.1 of eth0"]);
    assert_eq!(said(interfaces.link_is(2, "eth0")), none);
    assert_eq!(
        said(interfaces.link_is(2, "wan")),
        ["-address 10.0.0.1 of eth0", "+address 10.0.0.1 of wan"]
    );
    // One address with two lengths is gone with the last of them.
    assert_eq!(said(interfaces.address_is(2, ip("10.0.0.1"), 32)), none);
    assert_eq!(said(interfaces.address_gone(2, ip("10.0.0.1"), 24)), none);
    assert!(!interfaces.link_gone(1), "it has an address that was not told as gone");
    assert_eq!(said(interfaces.address_gone(2, ip("10.0.0.1"), 32)), ["-address 10.0.0.1 of wan"]);
    assert_eq!(said(interfaces.address_gone(2, ip("10.0.0.1"), 32)), none);
    assert!(interfaces.link_gone(2));
    assert!(interfaces.link_gone(7), "never heard of");
}

/// Runs a test in a network namespace of its own, which goes with the thread.
fn in_own_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let body = || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            let required = std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1");
            assert!(!required, "cannot make a network namespace, and REQUIRE_ALL=1: {error}");
            eprintln!("SKIP cannot make a network namespace: {error}");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(DEADLINE, test()).await.unwrap() });
    };
    thread::spawn(body).join().unwrap();
}

/// A source that runs, and what it said.
struct Following {
    updates: mpsc::Receiver<(SourceName, Update)>,
    addresses: BTreeSet<String>,
    resets: usize,
    shutdown: CancellationToken,
}

impl Following {
    fn start() -> Self {
        let (sender, updates) = mpsc::channel(1);
        let sender = UpdateSender::new(SourceName::new("host"), sender);
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        tokio::spawn(async move { Box::new(HostSource::new()).run(sender, token).await.unwrap() });
        Self { updates, addresses: BTreeSet::new(), resets: 0, shutdown }
    }

    async fn next(&mut self) -> Update {
        let (_, update) = self.updates.recv().await.unwrap();
        let text = |address: &shunt_core::model::HostAddress| {
            format!("{} {}", address.interface, address.address)
        };
        match &update {
            Update::Reset => {
                self.addresses.clear();
                self.resets += 1;
            }
            Update::Upsert(Object::HostAddress(address)) => {
                self.addresses.insert(text(address));
            }
            Update::Remove(shunt_core::source::ObjectId::HostAddress(address)) => {
                self.addresses.remove(&text(address));
            }
            Update::Synced(completeness) => assert_eq!(*completeness, Completeness::Complete),
            other => panic!("{other:?}"),
        }
        update
    }

    async fn until_synced(&mut self) {
        while !matches!(self.next().await, Update::Synced(_)) {}
    }

    async fn until(&mut self, expected: &[&str]) {
        let expected: BTreeSet<_> = expected.iter().map(|text| (*text).to_owned()).collect();
        while self.addresses != expected {
            self.next().await;
        }
    }
}

#[test]
fn addresses_are_followed() {
    in_own_namespace(|| async {
        let kernel = Connection::<Route>::new().unwrap();
        kernel.add_address_by_name("lo", ip("10.9.0.1"), 32).await.unwrap();
        let mut following = Following::start();
        following.until_synced().await;
        following.until(&["lo 10.9.0.1"]).await;

        kernel.add_address_by_name("lo", ip("fd09::1"), 128).await.unwrap();
        following.until(&["lo 10.9.0.1", "lo fd09::1"]).await;
        kernel.add_link(VethLink::new("one", "two")).await.unwrap();
        kernel.add_address_by_name("one", ip("10.9.1.1"), 24).await.unwrap();
        following.until(&["lo 10.9.0.1", "lo fd09::1", "one 10.9.1.1"]).await;
        kernel.set_link_name("one", "uno").await.unwrap();
        following.until(&["lo 10.9.0.1", "lo fd09::1", "uno 10.9.1.1"]).await;
        kernel.del_link("uno").await.unwrap();
        following.until(&["lo 10.9.0.1", "lo fd09::1"]).await;
        kernel.del_address("lo", ip("10.9.0.1"), 32).await.unwrap();
        following.until(&["lo fd09::1"]).await;
        assert_eq!(following.resets, 0);
        following.shutdown.cancel();
    });
}

#[test]
fn after_an_overrun_everything_is_listed_anew() {
    in_own_namespace(|| async {
        let kernel = Connection::<Route>::new().unwrap();
        kernel.add_address_by_name("lo", ip("10.9.0.1"), 32).await.unwrap();
        let mut following = Following::start();
        following.until_synced().await;
        // Nobody takes what the source says, so it does not read, and the kernel's queue overflows.
        for _ in 0..20_000 {
            kernel.add_address_by_name("lo", ip("10.9.0.2"), 32).await.unwrap();
            kernel.del_address("lo", ip("10.9.0.2"), 32).await.unwrap();
        }
        kernel.add_address_by_name("lo", ip("10.9.0.3"), 32).await.unwrap();
        while following.resets == 0 {
            following.next().await;
        }
        following.until_synced().await;
        following.until(&["lo 10.9.0.1", "lo 10.9.0.3"]).await;
        following.shutdown.cancel();
    });
}
