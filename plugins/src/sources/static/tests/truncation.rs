//! Files that end too early.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shunt_core::{
    model::ObjectName,
    source::{Object, ObjectId},
};

use super::{DOCUMENTS, LIST, LIST_JSON};
use crate::sources::r#static::{
    claims::{Claims, Outcome},
    error::ReadError,
    manifest::Reading,
    paths::Roots,
};

type Objects = BTreeMap<ObjectId, Object>;
type Read = fn(&[u8]) -> Result<Reading, ReadError>;

const YAML: Read = |text| Reading::from_yaml(text);
const JSON: Read = |text| Reading::from_json(text);

/// What is served after a file was good and then became `then`.
fn served(read: Read, good: &str, then: &[u8]) -> (Objects, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots::open(&[folder.path().to_path_buf()]).unwrap();
    let file = roots.file(&folder.path().join("a.yaml")).unwrap();
    let mut claims = Claims::default();
    let mut objects = Objects::new();
    let mut take = |reading, objects: &mut Objects| {
        let mut outcome = Outcome::default();
        claims.take(&file, reading, &mut outcome);
        for (id, object) in outcome.changes {
            match object {
                Some(object) => objects.insert(id, object),
                None => objects.remove(&id),
            };
        }
    };
    take(read(good.as_bytes()).unwrap(), &mut objects);
    let before = objects.clone();
    if let Ok(reading) = read(then) {
        take(reading, &mut objects);
    }
    (before, objects)
}

proptest! {
    /// A list, as kubectl prints it, is known to be cut off wherever that is.
    #[test]
    fn a_list_that_is_cut_off_changes_nothing(cut in 0..LIST.len(), json_cut in 0..LIST_JSON.len()) {
        let (before, after) = served(YAML, LIST, &LIST.as_bytes()[..cut]);
        prop_assert_eq!(before, after);
        let (before, after) = served(JSON, LIST_JSON, &LIST_JSON.as_bytes()[..json_cut]);
        prop_assert_eq!(before, after);
    }

    /// Where the cut is between two documents, or at the end of a line of the last one, what is
    /// left is a valid file that says less; everything before the last document stays.
    #[test]
    fn documents_that_are_cut_off_lose_nothing_before_the_cut(cut in 0..DOCUMENTS.len()) {
        let (before, after) = served(YAML, DOCUMENTS, &DOCUMENTS.as_bytes()[..cut]);
        let whole = DOCUMENTS[..cut].matches("---\n").count();
        let order = [
            ObjectId::Service(ObjectName::new("shop", "web")),
            ObjectId::EndpointSlice(ObjectName::new("shop", "web-1")),
            ObjectId::Node("node-a".into()),
            ObjectId::ServiceCidr("kubernetes".into()),
        ];
        for id in &order[..whole] {
            prop_assert_eq!(before.get(id), after.get(id));
        }
        let ends_whole = DOCUMENTS[..cut].ends_with("---") || DOCUMENTS[..cut].ends_with("---\n");
        if !ends_whole && after.len() < before.len() {
            // Then the last document is an object all the same.
            prop_assert!(after.contains_key(&order[whole.min(3)]), "{}", &DOCUMENTS[..cut]);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        served(YAML, LIST, &bytes);
        served(JSON, LIST_JSON, &bytes);
    }

    /// One byte changed: whatever it means, reading it is survived.
    #[test]
    fn a_flipped_byte_is_survived(position in 0..LIST.len(), byte in any::<u8>()) {
        let mut bytes = LIST.as_bytes().to_vec();
        bytes[position] = byte;
        served(YAML, LIST, &bytes);
    }
}
