//! An object of the API, kept as text until it is known what to do with it.

use std::borrow::Cow;

use kube::{
    Resource,
    core::{DynamicResourceScope, ObjectMeta},
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use shunt_core::{model::ObjectName, source::ObjectId};

use crate::sources::objects::{ObjectError, ObjectKind, Parsed, TypeMeta, parse};

/// An object of one of the kinds that are watched.
///
/// Only what `kube` itself needs is decoded at once. The rest is read straight into the slim types
/// of the model when its turn comes, so that one object that cannot be read spoils no other.
#[derive(Clone, Debug)]
pub(super) struct ApiObject {
    metadata: ObjectMeta,
    text: Box<RawValue>,
}

impl ApiObject {
    /// Decodes the object.
    pub(super) fn parse(&self, kind: ObjectKind) -> Result<Parsed, ObjectError> {
        parse(&*self.text, Some(&type_meta(kind)))
    }

    /// Which object it is, whatever else is wrong with it.
    pub(super) fn id(&self, kind: ObjectKind) -> ObjectId {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        match kind {
            ObjectKind::Service => ObjectId::Service(ObjectName::new(namespace, name)),
            ObjectKind::EndpointSlice => ObjectId::EndpointSlice(ObjectName::new(namespace, name)),
            ObjectKind::Node => ObjectId::Node(name.into()),
            ObjectKind::ServiceCidr => ObjectId::ServiceCidr(name.into()),
        }
    }
}

/// The type of the objects of a list, which do not say it themselves.
fn type_meta(kind: ObjectKind) -> TypeMeta {
    let api_version = match group(kind) {
        "" => "v1".to_owned(),
        group => format!("{group}/v1"),
    };
    TypeMeta { api_version, kind: kind.to_string() }
}

const fn group(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Service | ObjectKind::Node => "",
        ObjectKind::EndpointSlice => "discovery.k8s.io",
        ObjectKind::ServiceCidr => "networking.k8s.io",
    }
}

/// The name of the kind in URLs and in RBAC rules.
pub(super) const fn plural(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Service => "services",
        ObjectKind::Node => "nodes",
        ObjectKind::EndpointSlice => "endpointslices",
        ObjectKind::ServiceCidr => "servicecidrs",
    }
}

impl<'de> Deserialize<'de> for ApiObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(default)]
            metadata: Inner,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Inner {
            name: Option<String>,
            namespace: Option<String>,
            resource_version: Option<String>,
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Outer { metadata } = serde_json::from_str(text.get()).map_err(de::Error::custom)?;
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            resource_version: metadata.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, text })
    }
}

impl Resource for ApiObject {
    type DynamicType = ObjectKind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ObjectKind) -> Cow<'_, str> {
        kind.to_string().into()
    }

    fn group(kind: &ObjectKind) -> Cow<'_, str> {
        group(*kind).into()
    }

    fn version(_kind: &ObjectKind) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(kind: &ObjectKind) -> Cow<'_, str> {
        plural(*kind).into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
