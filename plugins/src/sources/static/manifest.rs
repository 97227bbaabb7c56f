//! One file: from YAML or JSON to objects.
//!
//! Files are read as a stream, and the objects of a list are taken one at a time: a list of
//! 50,000 Services never stands in memory as text or as a tree.

use std::{collections::BTreeSet, fmt, fs::File, io, marker::PhantomData, path::Path};

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, value::RawValue};
use shunt_core::source::Object;

use super::error::ReadError;
use crate::sources::objects::{Names, ObjectError, ObjectWarning, Parsed, TypeMeta, parse};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Objects to use, in the order of the file, with what is left out of them.
    pub(super) objects: Vec<(Object, Box<[ObjectWarning]>)>,
    /// Objects that failed. With one of these it is not known what the file wants to be gone.
    pub(super) errors: Vec<ObjectError>,
    /// Kinds that do not matter, as text, to be told once.
    pub(super) unknown: BTreeSet<String>,
    names: Names,
}

impl Reading {
    /// Reads a file. `None` if there is no such file.
    pub(super) fn of(path: &Path) -> Result<Option<Self>, ReadError> {
        // Opening a pipe would wait for a writer.
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => (),
            Ok(_) => return Err(ReadError::NotAFile),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReadError::Io(error)),
        }
        let file = match File::open(path) {
            Ok(file) => io::BufReader::with_capacity(1 << 16, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReadError::Io(error)),
        };
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let reading = if is_json { Self::from_json(file) } else { Self::from_yaml(file) };
        reading.map(Some)
    }

    /// Reads one or more JSON documents.
    pub(super) fn from_json(text: impl io::Read) -> Result<Self, ReadError> {
        let documents = serde_json::Deserializer::from_reader(text);
        let documents = documents.into_iter::<Document<JsonElement>>();
        Self::collect(documents.map(|document| document.map_err(ReadError::Json)))
    }

    /// Reads one or more YAML documents.
    pub(super) fn from_yaml(mut text: impl io::Read) -> Result<Self, ReadError> {
        let documents =
            serde_saphyr::read_with_options::<_, Document<YamlElement>>(&mut text, yaml_options());
        Self::collect(
            documents.map(|document| document.map_err(|error| ReadError::Yaml(Box::new(error)))),
        )
    }

    fn collect<E: Into<Element>>(
        documents: impl Iterator<Item = Result<Document<E>, ReadError>>,
    ) -> Result<Self, ReadError> {
        let mut reading = Self::default();
        let mut is_empty = true;
        for document in documents {
            is_empty = false;
            reading.add(document?)?;
        }
        if is_empty { Err(ReadError::Empty) } else { Ok(reading) }
    }

    fn add<E: Into<Element>>(&mut self, document: Document<E>) -> Result<(), ReadError> {
        let Document { head, items } = document;
        let head = Value::Object(head);
        let Some(items) = items else {
            self.take(parse(&head, None));
            return Ok(());
        };
        // In YAML of kubectl the kind stands behind the items: without it the rest is missing.
        let list = TypeMeta::deserialize(&head).unwrap_or_default();
        if !list.kind.ends_with("List") {
            return Err(ReadError::NotAList(list.kind));
        }
        let expected = list.element();
        self.objects.reserve(items.len());
        for item in items {
            match item.into() {
                Element::Object(object, warnings) => self.add_object(object, warnings),
                Element::Other(parsed) => self.take(*parsed),
                Element::Untyped(value) => self.take(parse(&*value, expected.as_ref())),
            }
        }
        Ok(())
    }

    fn add_object(&mut self, mut object: Object, warnings: Box<[ObjectWarning]>) {
        self.names.share(&mut object);
        self.objects.push((object, warnings));
    }

    fn take(&mut self, parsed: Result<Parsed, ObjectError>) {
        match parsed {
            Ok(Parsed::Object { object, warnings }) => self.add_object(object, warnings.into()),
            Ok(Parsed::Ignored { id, why }) => tracing::debug!(%id, why, "an object is ignored"),
            Ok(Parsed::Unknown(type_meta)) => {
                self.unknown.insert(type_meta.to_string());
            }
            Err(error) => self.errors.push(error),
        }
    }
}

/// The limits of the parser are against hostile text; how long a list may be is the operator's
/// business, so only nesting and what aliases multiply stays limited.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: None,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_documents: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_total_comment_bytes: usize::MAX,
            max_buffered_comment_events: usize::MAX,
        },
        // Otherwise a Service could not be called y, or on.
        strict_booleans: true,
        with_snippet: false,
        emit_comments: false,
    }
}

/// A document: an object, or a list of objects.
struct Document<E> {
    /// Every field but `items`.
    head: Map<String, Value>,
    /// `items`, if the document has that field.
    items: Option<Vec<E>>,
}

impl<'de, E: Deserialize<'de>> Deserialize<'de> for Document<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DocumentVisitor(PhantomData))
    }
}

struct DocumentVisitor<E>(PhantomData<E>);

impl<'de, E: Deserialize<'de>> de::Visitor<'de> for DocumentVisitor<E> {
    type Value = Document<E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Document<E>, A::Error> {
        let mut document = Document { head: Map::new(), items: None };
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                let items = map.next_value::<Option<Vec<E>>>()?;
                document.items = Some(items.unwrap_or_default());
            } else {
                document.head.insert(key, map.next_value()?);
            }
        }
        Ok(document)
    }
}

/// One element of a list. A long list of these is a third of the peak of memory, so what is large
/// and rare is boxed.
enum Element {
    /// An object to use, and what is left out of it.
    Object(Object, Box<[ObjectWarning]>),
    /// One that failed, or that is not used.
    Other(Box<Result<Parsed, ObjectError>>),
    /// It does not say its kind; perhaps the list does, further on.
    Untyped(Box<Value>),
}

impl Element {
    fn take<'de, D: Deserializer<'de> + Copy>(document: D) -> Self {
        match parse(document, None) {
            Err(ObjectError::Untyped { .. }) => {
                Self::Untyped(Box::new(Value::deserialize(document).unwrap_or_default()))
            }
            Ok(Parsed::Object { object, warnings }) => Self::Object(object, warnings.into()),
            other => Self::Other(Box::new(other)),
        }
    }
}

/// An element of a list in JSON: taken from its text, which no tree is made of.
struct JsonElement(Element);

impl<'de> Deserialize<'de> for JsonElement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Element::take(&*text)))
    }
}

impl From<JsonElement> for Element {
    fn from(element: JsonElement) -> Self {
        element.0
    }
}

/// An element of a list in YAML: a tree, for as long as it takes to convert it.
struct YamlElement(Element);

impl<'de> Deserialize<'de> for YamlElement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self(Element::take(&value)))
    }
}

impl From<YamlElement> for Element {
    fn from(element: YamlElement) -> Self {
        element.0
    }
}
