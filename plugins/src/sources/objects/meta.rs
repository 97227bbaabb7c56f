//! `metadata`, reduced to what matters.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};
use shunt_core::model::{Moment, ObjectName};

use super::{
    error::Fault,
    name::{Label, Subdomain},
};

/// Takes `null` for the default: the API server prints empty lists and times so.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `metadata`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(super) struct Meta {
    pub(super) name: Subdomain,
    #[serde(default)]
    namespace: Option<Label>,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) labels: Labels,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) annotations: Annotations,
    #[serde(default, deserialize_with = "nullable")]
    creation_timestamp: Timestamp,
    #[serde(default)]
    pub(super) deletion_timestamp: Option<de::IgnoredAny>,
}

impl Meta {
    /// Namespace and name. Without a namespace it is `default`, as for kubectl.
    pub(super) fn object_name(&self) -> ObjectName {
        let namespace = match &self.namespace {
            Some(Label(namespace)) => Arc::clone(namespace),
            None => "default".into(),
        };
        ObjectName::of(namespace, Arc::clone(&self.name.0))
    }

    /// `creationTimestamp` in seconds since the epoch; 0 if absent.
    pub(super) const fn created(&self) -> i64 {
        self.creation_timestamp.0
    }
}

/// The labels that matter; others are skipped.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Labels {
    #[serde(rename = "kubernetes.io/service-name", default)]
    pub(super) service_name: Option<Arc<str>>,
    #[serde(rename = "service.kubernetes.io/headless", default)]
    pub(super) headless: Option<de::IgnoredAny>,
    #[serde(rename = "service.kubernetes.io/service-proxy-name", default)]
    pub(super) service_proxy_name: Option<de::IgnoredAny>,
    #[serde(rename = "topology.kubernetes.io/zone", default)]
    pub(super) zone: Option<Arc<str>>,
}

/// The annotations that matter; others are skipped.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Annotations {
    #[serde(
        rename = "endpoints.kubernetes.io/last-change-trigger-time",
        default,
        deserialize_with = "triggered"
    )]
    pub(super) triggered: Moment,
}

/// Only measured, so that one which cannot be read is as good as none.
fn triggered<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
    struct Lenient;

    impl de::Visitor<'_> for Lenient {
        type Value = Moment;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E>(self, text: &str) -> Result<Moment, E> {
            let moment = text.parse::<jiff::Timestamp>().map(|time| Moment::at(time.into()));
            Ok(moment.unwrap_or_default())
        }
    }

    deserializer.deserialize_str(Lenient)
}

/// A moment, in seconds since the epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Timestamp(i64);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TimestampVisitor)
    }
}

struct TimestampVisitor;

impl de::Visitor<'_> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        match text.parse::<jiff::Timestamp>() {
            Ok(timestamp) => Ok(Timestamp(timestamp.as_second())),
            // The cause speaks of jiff's grammar; what is wanted says more.
            Err(_) => Err(E::custom(Fault::NotATime(text.to_owned()))),
        }
    }
}
