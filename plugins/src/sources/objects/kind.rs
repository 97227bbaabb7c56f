//! The kinds of object that matter.

use std::fmt;

use serde::Deserialize;

/// A kind of object that Shunt reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Node.
    Node,
    /// `networking.k8s.io/v1` ServiceCIDR.
    ServiceCidr,
}

impl ObjectKind {
    /// The kind that `type_meta` names, or `None` for one that does not matter.
    ///
    /// The version counts: a Service of `serving.knative.dev/v1` is another thing, and
    /// EndpointSlices of `v1beta1` have other fields.
    #[must_use]
    pub fn of(type_meta: &TypeMeta) -> Option<Self> {
        match (type_meta.api_version.as_str(), type_meta.kind.as_str()) {
            ("v1", "Service") => Some(Self::Service),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(Self::EndpointSlice),
            ("v1", "Node") => Some(Self::Node),
            ("networking.k8s.io/v1", "ServiceCIDR") => Some(Self::ServiceCidr),
            _ => None,
        }
    }

    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        matches!(self, Self::Service | Self::EndpointSlice)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        })
    }
}

/// `apiVersion` and `kind` of an object; empty where absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeMeta {
    /// `apiVersion`.
    #[serde(default, deserialize_with = "super::meta::nullable")]
    pub api_version: String,
    /// `kind`.
    #[serde(default, deserialize_with = "super::meta::nullable")]
    pub kind: String,
}

impl TypeMeta {
    /// The type of the objects in a list of this type: `v1 ServiceList` holds `v1 Service`; a
    /// `v1 List` says nothing about its objects.
    #[must_use]
    pub fn element(&self) -> Option<Self> {
        let kind = self.kind.strip_suffix("List").filter(|kind| !kind.is_empty())?;
        Some(Self { api_version: self.api_version.clone(), kind: kind.to_owned() })
    }
}

impl fmt::Display for TypeMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version, self.kind)
    }
}
