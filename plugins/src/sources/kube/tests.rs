//! What becomes of the events of a watch, without a server.

use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use shunt_core::{Update, source::ObjectId};

use super::{listing::Listing, object::ApiObject};
use crate::sources::objects::ObjectKind;

fn service(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "resourceVersion": "7" },
        "spec": { "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
    })
}

fn object(value: &Value) -> ApiObject {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// `+name` for an upsert, `-name` for a removal, in order; `!` for a complete list.
fn check(events: impl IntoIterator<Item = Event<ApiObject>>, expected: &str) {
    let mut listing = Listing::new(ObjectKind::Service, &std::sync::Arc::default());
    let mut words = Vec::new();
    for event in events {
        let told = listing.take(event);
        words.extend(told.errors.iter().map(|_| "?".to_owned()));
        words.extend(told.updates.iter().map(|update| match update {
            Update::Upsert(object) => format!("+{}", short(&object.id())),
            Update::Remove(id) => format!("-{}", short(id)),
            Update::Reset | Update::Synced(_) => "unexpected".to_owned(),
        }));
        words.extend(told.complete.then(|| "!".to_owned()));
    }
    assert_eq!(words.join(" "), expected);
}

fn short(id: &ObjectId) -> String {
    match id {
        ObjectId::Service(name) => name.name.to_string(),
        other => other.to_string(),
    }
}

fn init(name: &str) -> Event<ApiObject> {
    Event::InitApply(object(&service(name)))
}

fn apply(name: &str) -> Event<ApiObject> {
    Event::Apply(object(&service(name)))
}

fn delete(name: &str) -> Event<ApiObject> {
    Event::Delete(object(&service(name)))
}

fn broken(name: &str) -> Value {
    let mut value = service(name);
    value["spec"]["ports"] = json!("none");
    value
}

#[test]
fn a_list_removes_what_it_does_not_name() {
    check([Event::Init, init("a"), init("b"), Event::InitDone], "+a +b !");
    let relist = [Event::Init, init("a"), Event::InitDone, Event::Init, init("b"), Event::InitDone];
    check(relist, "+a ! +b -a !");
}

#[test]
fn a_list_that_is_begun_anew_counts_from_its_beginning() {
    let events = [
        Event::Init,
        init("a"),
        init("b"),
        Event::InitDone,
        Event::Init,
        init("a"),
        Event::Init,
        init("b"),
        Event::InitDone,
    ];
    check(events, "+a +b ! +a +b -a !");
}

#[test]
fn what_is_gone_is_removed_once() {
    check([apply("a"), delete("a"), delete("a")], "+a -a");
    check([Event::Init, init("a"), delete("a"), Event::InitDone], "+a -a !");
}

#[test]
fn what_cannot_be_read_stays_as_it_was() {
    let events = [
        Event::Init,
        init("a"),
        Event::InitDone,
        Event::Apply(object(&broken("a"))),
        Event::Init,
        Event::InitApply(object(&broken("a"))),
        Event::InitDone,
    ];
    check(events, "+a ! ? ? !");
}

#[test]
fn an_object_without_a_name_is_an_error_and_nothing_else() {
    check([Event::Apply(object(&json!({ "spec": {} })))], "?");
    assert!(serde_json::from_str::<ApiObject>("7").is_err());
}
