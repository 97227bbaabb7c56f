use super::*;
use crate::model::{Family, SliceEndpoint};

struct World {
    cluster: Cluster,
    warnings: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self { cluster: Cluster::new("node-1".into()), warnings: Vec::new() }
    }

    /// Says something and returns the names of the Services that it touches.
    fn say(&mut self, source: &str, update: Update) -> Vec<String> {
        self.dirty(source, update).services.iter().map(|name| name.name.to_string()).collect()
    }

    fn dirty(&mut self, source: &str, update: Update) -> Dirty {
        let mut dirty = Dirty::default();
        let warnings = self.cluster.apply(&SourceName::new(source), update, &mut dirty);
        self.warnings.extend(warnings.iter().map(ModelWarning::to_string));
        dirty
    }

    fn created(&self, name: &str) -> Option<i64> {
        self.cluster.service(&ObjectName::new("default", name)).map(|service| service.created)
    }
}

fn service(name: &str, created: i64) -> Object {
    let mut service = Service::new(ObjectName::new("default", name));
    service.created = created;
    Object::from(service)
}

fn slice(name: &str, service: Option<&str>, zone: Option<&str>) -> Object {
    let name = ObjectName::new("default", name);
    let mut slice = EndpointSlice::new(name, service.map(Arc::from), Family::V4);
    let mut endpoint = SliceEndpoint::new([10, 1, 0, 1].into());
    endpoint.hint(Vec::new(), zone.map(Arc::from).into_iter().collect());
    slice.endpoints.push(endpoint);
    Object::from(slice)
}

fn node(zone: Option<&str>) -> Node {
    let mut node = Node::new("node-1".into());
    node.zone = zone.map(Arc::from);
    node
}

const SYNCED: Update = Update::Synced(Completeness::Complete);

#[test]
fn an_update_touches_its_service_only_and_the_same_again_nothing() {
    let mut world = World::new();
    assert_eq!(world.say("one", Update::Upsert(service("web", 1))), ["web"]);
    assert!(world.say("one", Update::Upsert(service("web", 1))).is_empty());
    assert_eq!(world.say("one", Update::Upsert(service("web", 2))), ["web"]);
    assert_eq!(world.say("one", Update::Upsert(slice("web-1", Some("web"), None))), ["web"]);
    assert!(world.say("one", Update::Upsert(slice("web-1", Some("web"), None))).is_empty());
    assert_eq!(world.say("one", Update::Upsert(slice("web-1", Some("db"), None))), ["web", "db"]);
    assert_eq!(world.say("one", Update::Remove(slice("web-1", None, None).id())), ["db"]);
    assert!(world.say("one", Update::Remove(slice("web-1", None, None).id())).is_empty());
    assert_eq!(world.say("one", Update::Remove(service("web", 0).id())), ["web"]);
    assert!(world.warnings.is_empty());
}

#[test]
fn a_slice_that_names_no_service_is_said() {
    let mut world = World::new();
    assert!(world.say("one", Update::Upsert(slice("lost", None, None))).is_empty());
    assert_eq!(
        world.warnings,
        ["EndpointSlice default/lost is ignored: it has no label kubernetes.io/service-name"]
    );
}

#[test]
fn of_two_sources_the_first_stays_and_the_other_takes_over() {
    let mut world = World::new();
    world.say("one", Update::Upsert(service("web", 1)));
    assert!(world.say("two", Update::Upsert(service("web", 2))).is_empty());
    assert!(world.say("two", Update::Upsert(service("web", 3))).is_empty());
    assert_eq!(
        world.warnings,
        ["Service default/web comes from two sources: that of one is used, that of two is \
          ignored as long as the other exists"]
    );
    assert_eq!(world.created("web"), Some(1));
    assert!(world.say("three", Update::Remove(service("web", 0).id())).is_empty());
    assert_eq!(world.say("one", Update::Remove(service("web", 0).id())), ["web"]);
    assert_eq!(world.created("web"), Some(3));
    assert_eq!(world.say("two", Update::Remove(service("web", 0).id())), ["web"]);
    assert_eq!(world.created("web"), None);
}

#[test]
fn a_reset_sweeps_what_this_source_did_not_name_again() {
    let mut world = World::new();
    for (source, name) in [("one", "a"), ("one", "b"), ("two", "c")] {
        world.say(source, Update::Upsert(service(name, 1)));
    }
    world.say("two", Update::Upsert(service("a", 2)));
    assert!(world.say("one", Update::Reset).is_empty());
    assert!(world.say("one", Update::Upsert(service("b", 1))).is_empty());
    assert!(world.say("one", Update::Synced(Completeness::Partial)).is_empty());
    assert_eq!(world.created("a"), Some(1));
    assert_eq!(world.say("one", SYNCED), ["a"]);
    assert_eq!(world.created("a"), Some(2), "that of the other source");
    assert!(world.say("one", SYNCED).is_empty());
}

#[test]
fn a_source_is_complete_once_a_list_was() {
    let mut world = World::new();
    let one = SourceName::new("one");
    assert_eq!(world.cluster.synced(&one), None);
    for (said, wanted) in [
        (Completeness::Partial, Completeness::Partial),
        (Completeness::Complete, Completeness::Complete),
        (Completeness::Partial, Completeness::Complete),
    ] {
        world.say("one", Update::Synced(said));
        assert_eq!(world.cluster.synced(&one), Some(wanted));
    }
}

#[test]
fn a_change_of_zone_touches_services_with_zone_hints() {
    let mut world = World::new();
    world.say("one", Update::Upsert(slice("web-1", Some("web"), None)));
    world.say("one", Update::Upsert(slice("db-1", Some("db"), Some("zone-1"))));
    world.say("one", Update::Upsert(slice("db-2", Some("db"), Some("zone-1"))));
    let in_zone = |zone| Update::Upsert(Object::from(node(zone)));
    assert_eq!(world.say("one", in_zone(Some("zone-1"))), ["db"]);
    let mut tainted = node(Some("zone-1"));
    tainted.taints.push("ToBeDeletedByClusterAutoscaler".into());
    assert!(world.dirty("one", Update::Upsert(Object::from(tainted))).is_empty());
    world.say("one", Update::Remove(slice("db-1", None, None).id()));
    assert_eq!(world.say("one", in_zone(None)), ["db"]);
    world.say("one", Update::Upsert(slice("db-2", Some("db"), None)));
    assert!(world.say("one", in_zone(Some("zone-2"))).is_empty());
}

#[test]
fn the_node_part_is_dirty_for_what_it_contains() {
    let mut world = World::new();
    let mut own = node(None);
    own.pod_cidrs.push("10.1.0.0/24".parse().expect("a CIDR"));
    assert!(world.dirty("one", Update::Upsert(Object::from(own))).node);
    assert!(world.dirty("one", Update::Upsert(Object::from(node(None)))).node);
    let other = Object::from(Node::new("node-2".into()));
    assert!(world.dirty("one", Update::Upsert(other)).is_empty());
    let cidr = Object::from(ServiceCidr { name: "kubernetes".into(), cidrs: Vec::new() });
    assert!(world.dirty("one", Update::Upsert(cidr.clone())).node);
    assert!(world.dirty("one", Update::Remove(cidr.id())).node);
    let address = HostAddress { interface: "eth0".into(), address: [10, 0, 0, 1].into() };
    let dirty = world.dirty("host", Update::Upsert(Object::from(address.clone())));
    assert!(dirty.node && dirty.host_addresses.contains(&address.address));
    assert_eq!(world.cluster.interfaces(address.address).count(), 1);
}
