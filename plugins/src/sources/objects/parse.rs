//! From any format that serde reads to an object of the model.

use serde::{Deserialize as _, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use shunt_core::source::{Object, ObjectId};

use super::{
    endpoint_slice::WireSlice,
    error::{Fault, FieldError, ObjectError, ObjectWarning},
    kind::{ObjectKind, TypeMeta},
    node::WireNode,
    service::WireService,
    service_cidr::WireServiceCidr,
};

/// What became of one object.
#[derive(Debug)]
pub enum Parsed {
    /// An object to use.
    Object {
        /// The object.
        object: Object,
        /// What of it is left out.
        warnings: Vec<ObjectWarning>,
    },
    /// An object of a kind that matters, which load balancing has no use for.
    Ignored {
        /// Which one.
        id: ObjectId,
        /// Why.
        why: &'static str,
    },
    /// An object of a kind that does not matter.
    Unknown(TypeMeta),
}

/// Decodes one object. `expected` is its type where the object itself does not say, as in a
/// `ServiceList` of the API server.
///
/// `document` is read more than once and hence `Copy`: a `&serde_json::Value` or a `&RawValue`.
///
/// # Errors
///
/// Fails if a field does not have the value that it must have; names object and field.
pub fn parse<'de, D>(document: D, expected: Option<&TypeMeta>) -> Result<Parsed, ObjectError>
where
    D: Deserializer<'de> + Copy,
{
    let type_meta = match (TypeMeta::deserialize(document), expected) {
        (Ok(own), Some(expected)) if own.kind.is_empty() => expected.clone(),
        (Ok(own), _) => own,
        (Err(_), _) => return Err(explain::<TypeMeta, D>("object", document)),
    };
    if type_meta.kind.is_empty() || type_meta.api_version.is_empty() {
        let field = if type_meta.kind.is_empty() { "kind" } else { "apiVersion" };
        return Err(ObjectError::Untyped { object: label("object", document), field });
    }
    let Some(kind) = ObjectKind::of(&type_meta) else {
        return unknown(type_meta, document);
    };
    let object = match kind {
        ObjectKind::EndpointSlice => {
            return decode(kind, document, WireSlice::into_parsed);
        }
        ObjectKind::Service => {
            decode(kind, document, |wire: WireService| wire.into_model().map(Object::from))
        }
        ObjectKind::Node => {
            decode(kind, document, |wire: WireNode| wire.into_model().map(Object::from))
        }
        ObjectKind::ServiceCidr => {
            decode(kind, document, |wire: WireServiceCidr| Ok(Object::from(wire.into_model())))
        }
    }?;
    Ok(Parsed::Object { object, warnings: Vec::new() })
}

/// An object of another kind; without a name it is none, and the kind may be cut off.
fn unknown<'de, D>(type_meta: TypeMeta, document: D) -> Result<Parsed, ObjectError>
where
    D: Deserializer<'de> + Copy,
{
    let value = Value::deserialize(document).unwrap_or_default();
    if value.pointer("/metadata/name").is_some_and(Value::is_string) {
        return Ok(Parsed::Unknown(type_meta));
    }
    Err(ObjectError::Field {
        object: label(&type_meta.kind, document),
        path: "metadata.name".to_owned(),
        reason: Fault::Missing.to_string(),
    })
}

fn decode<'de, D, W, T>(
    kind: ObjectKind,
    document: D,
    into: impl FnOnce(W) -> Result<T, FieldError>,
) -> Result<T, ObjectError>
where
    D: Deserializer<'de> + Copy,
    W: DeserializeOwned,
{
    let kind = kind.to_string();
    let Ok(wire) = W::deserialize(document) else { return Err(explain::<W, D>(&kind, document)) };
    into(wire).map_err(|FieldError { path, fault }| ObjectError::Field {
        object: label(&kind, document),
        path,
        reason: fault.to_string(),
    })
}

/// Decodes what failed once more, slowly, to find out in which field it failed.
///
/// It goes by way of a generic value, because an error in raw text would end in a line and column
/// that count from the beginning of the object.
fn explain<'de, W, D>(kind: &str, document: D) -> ObjectError
where
    W: DeserializeOwned,
    D: Deserializer<'de> + Copy,
{
    let object = label(kind, document);
    let value = Value::deserialize(document).unwrap_or_default();
    match serde_path_to_error::deserialize::<_, W>(&value) {
        Err(error) => {
            let path = match error.path().to_string() {
                path if path == "." => "the object".to_owned(),
                path => path,
            };
            ObjectError::Field { object, path, reason: error.inner().to_string() }
        }
        // A field that is there twice is one in a generic value.
        Ok(_) => ObjectError::Field {
            object,
            path: "the object".into(),
            reason: "a field is there twice".into(),
        },
    }
}

/// How messages call an object that may not even have a name.
fn label<'de, D: Deserializer<'de>>(kind: &str, document: D) -> String {
    let value = Value::deserialize(document).unwrap_or_default();
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or(kind);
    let text = |field: &str| value.get("metadata")?.get(field)?.as_str();
    let is_namespaced = !matches!(kind, "Node" | "ServiceCIDR");
    match (text("namespace"), text("name")) {
        (_, None) => format!("{kind} without a name"),
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) if is_namespaced => format!("{kind} default/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
    }
}
