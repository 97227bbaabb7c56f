//! The objects of a faulty server, what happened to them, and which faults wait.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Value, json};

use super::{Fault, request::Request};

/// Everything that connections share.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) version: u64,
    resources: HashMap<String, Resource>,
}

#[derive(Debug, Default)]
struct Resource {
    objects: BTreeMap<String, Value>,
    events: Vec<Event>,
    faults: VecDeque<Fault>,
    asked: usize,
    /// The number of the last request that met with a fault.
    failed: usize,
}

/// Something that happened, as a line of a watch.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) line: String,
}

impl Store {
    pub(super) fn put(&mut self, resource: &str, mut object: Value) {
        self.version += 1;
        let version = self.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let resource = self.resources.entry(resource.to_owned()).or_default();
        let old = resource.objects.insert(key(&object), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        resource.events.push(Event { version, line: line(kind, &object) });
    }

    pub(super) fn delete(&mut self, resource: &str, namespace: &str, name: &str) {
        self.version += 1;
        let version = self.version;
        let resource = self.resources.entry(resource.to_owned()).or_default();
        let Some(mut object) = resource.objects.remove(&format!("{namespace}/{name}")) else {
            return;
        };
        object["metadata"]["resourceVersion"] = version.to_string().into();
        resource.events.push(Event { version, line: line("DELETED", &object) });
    }

    pub(super) fn add_fault(&mut self, resource: &str, fault: Fault) {
        self.resources.entry(resource.to_owned()).or_default().faults.push_back(fault);
    }

    /// Counts a request and takes the fault that it shall meet with.
    pub(super) fn ask(&mut self, resource: &str) -> Option<Fault> {
        let resource = self.resources.entry(resource.to_owned()).or_default();
        resource.asked += 1;
        let fault = resource.faults.pop_front();
        if fault.is_some() {
            resource.failed = resource.asked;
        }
        fault
    }

    pub(super) fn asked(&self, resource: &str) -> usize {
        self.resources.get(resource).map_or(0, |resource| resource.asked)
    }

    /// Whether every fault of the resource was met with and a later request met with none.
    pub(super) fn survived(&self, resource: &str) -> bool {
        self.resources
            .get(resource)
            .is_some_and(|resource| resource.faults.is_empty() && resource.asked > resource.failed)
    }

    pub(super) fn objects(&self, resource: &str) -> Vec<Value> {
        self.resources
            .get(resource)
            .map(|resource| resource.objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The objects that a list asks for.
    pub(super) fn matching(&self, request: &Request) -> Vec<Value> {
        let is_asked_for = |object: &Value| {
            let metadata = &object["metadata"];
            let in_namespace = || metadata["namespace"] == *request.namespace;
            let named = |name: &String| metadata["name"] == **name;
            (request.namespace.is_empty() || in_namespace())
                && request.only.as_ref().is_none_or(named)
        };
        let mut objects = self.objects(&request.resource);
        objects.retain(is_asked_for);
        objects
    }

    /// Makes an object that a client sent.
    pub(super) fn create(&mut self, request: &Request, mut object: Value) -> Value {
        object["metadata"]["namespace"] = request.namespace.clone().into();
        self.put(&request.resource, object.clone());
        object
    }

    /// Changes an object as a client asks; `None` if there is none.
    pub(super) fn patch(&mut self, request: &Request, name: &str, patch: &Value) -> Option<Value> {
        let key = format!("{}/{name}", request.namespace);
        let mut object = self.resources.get(&request.resource)?.objects.get(&key)?.clone();
        merge(&mut object, patch);
        object["metadata"]["namespace"] = request.namespace.clone().into();
        self.put(&request.resource, object.clone());
        Some(object)
    }

    /// What happened after a version.
    pub(super) fn since(&self, resource: &str, version: u64) -> Vec<Event> {
        let events = self.resources.get(resource).map_or(&[][..], |resource| &resource.events);
        events.iter().filter(|event| event.version > version).cloned().collect()
    }
}

/// A line of a watch.
pub(super) fn line(kind: &str, object: &Value) -> String {
    // By hand, because the server of Kubernetes says the type first, and readers count on it.
    format!("{{\"type\":{},\"object\":{object}}}\n", json!(kind))
}

/// A bookmark, and whether it ends the list at the beginning of a watch.
pub(super) fn bookmark(version: u64, ends_list: bool) -> String {
    let mut metadata = json!({ "resourceVersion": version.to_string(), "creationTimestamp": null });
    if ends_list {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    line("BOOKMARK", &json!({ "kind": "Any", "apiVersion": "v1", "metadata": metadata }))
}

/// A refusal, as Kubernetes says it.
pub(super) fn status(code: u16, retry_after: u32) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("scripted refusal {code}"), "reason": reason, "code": code,
        "details": { "retryAfterSeconds": retry_after },
    })
}

/// A merge patch, by RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    for (name, value) in fields {
        match value {
            Value::Null => drop(into.as_object_mut().and_then(|into| into.remove(name))),
            value => merge(&mut into[name], value),
        }
    }
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}
