//! Text and what it holds.

use super::{DOCUMENTS, LIST, LIST_JSON, chain, service};
use crate::sources::r#static::{error::ReadError, manifest::Reading};

/// What was read, or why not, as lines.
fn summary(reading: Result<Reading, ReadError>) -> Vec<String> {
    let reading = match reading {
        Ok(reading) => reading,
        Err(error) => return vec![chain(&error)],
    };
    let objects = reading.objects.iter().map(|(object, _)| object.id().to_string());
    let unknown = reading.unknown.iter().map(|kind| format!("unknown {kind}"));
    let errors = reading.errors.iter().map(|error| chain(error));
    objects.chain(unknown).chain(errors).collect()
}

fn yaml(text: &str) -> Vec<String> {
    summary(Reading::from_yaml(text.as_bytes()))
}

fn json(text: &str) -> Vec<String> {
    summary(Reading::from_json(text.as_bytes()))
}

#[test]
fn what_kubectl_prints_is_read() {
    let expected = [
        "Service default/kubernetes",
        "Service kube-system/kube-dns",
        "EndpointSlice kube-system/kube-dns-7j2bk",
    ];
    assert_eq!(yaml(LIST), expected);
    assert_eq!(json(LIST_JSON), expected);
    assert_eq!(yaml(LIST_JSON), expected, "JSON is YAML");
    let objects = |reading: Result<Reading, _>| reading.unwrap().objects;
    let from_yaml = objects(Reading::from_yaml(LIST.as_bytes()));
    assert_eq!(from_yaml, objects(Reading::from_json(LIST_JSON.as_bytes())));
}

#[test]
fn documents_are_read_one_after_the_other() {
    let expected =
        ["Service shop/web", "EndpointSlice shop/web-1", "Node node-a", "ServiceCIDR kubernetes"];
    assert_eq!(yaml(DOCUMENTS), expected);
    let node =
        r#"{ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" }, "status": {} }"#;
    assert_eq!(json(&format!("{node}\n{node}")), ["Node a", "Node a"]);
    assert_eq!(yaml("---\n# nothing\n---\n"), [EMPTY]);
}

const EMPTY: &str = "it holds no object (to remove its objects, remove it, or leave an empty List)";

#[test]
fn what_cannot_be_read_is_explained() {
    #[rustfmt::skip]
    let cases = [
        ("", EMPTY),
        ("# only a comment\n", EMPTY),
        ("apiVersion: v1\nitems: []\nkind: List\n", ""),
        ("apiVersion: v1\nitems:\nkind: List\n", ""),
        ("apiVersion: v1\nitems:\n- kind: Node\n", "a document with items is of kind \"\" and not a List: it looks cut off"),
        ("apiVersion: v1\nitems: []\nkind: Li", "a document with items is of kind \"Li\" and not a List: it looks cut off"),
        ("apiVersion: v1\n", "object without a name: kind: missing or empty"),
        ("apiVersion: v1\nkind: Serv", "Serv without a name: metadata.name: missing or empty"),
        ("kind: Service\n", "Service without a name: apiVersion: missing or empty"),
        ("apiVersion: v1\nkind: Pod\nmetadata: { name: a }\n", "unknown v1 Pod"),
    ];
    for (text, expected) in cases {
        assert_eq!(yaml(text).join("\n"), expected, "{text:?}");
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let broken = format!("{}spec: [\n", service("web", "10.0.0.1"));
    for (text, line) in [
        ("hello\n", "line 1"),
        ("- a\n- b\n", "line 1"),
        ("a: b\n- c\n", "line 2"),
        ("a: {\n", "line 1"),
        ("a: b\na: c\n", "line 2"),
        (broken.as_str(), "line 5"),
    ] {
        let errors = yaml(text).join("\n");
        assert!(errors.contains("failed to parse YAML: ") && errors.contains(line), "{errors}");
        assert!(!errors.contains('\n'), "{errors}");
    }
    for (text, line) in [("hello\n", "line 1"), ("[]", "line 1"), ("{\n\"a\": \n", "line 3")] {
        let errors = json(text).join("\n");
        assert!(errors.contains("failed to parse JSON: ") && errors.contains(line), "{errors}");
    }
    assert_eq!(json("  \n"), [EMPTY]);
}

#[test]
fn one_bad_object_does_not_spoil_the_others() {
    let port_0 = service("bad", "10.0.0.2").replace("80", "0");
    let text = [service("a", "10.0.0.1"), port_0, service("b", "10.0.0.3")].join("---\n");
    let expected = [
        "Service default/a",
        "Service default/b",
        "Service default/bad: spec.ports[0].port: 0 is not a port (1 to 65535)",
    ];
    assert_eq!(yaml(&text), expected);
}

#[test]
fn the_kind_of_a_list_is_the_kind_of_its_objects() {
    let items = r#""items": [{ "metadata": { "name": "a" }, "status": {} },
                                { "metadata": { "name": "b" }, "status": {} }]"#;
    let cases = [
        (r#""kind": "NodeList", "apiVersion": "v1""#, vec!["Node a", "Node b"]),
        (r#""kind": "PodList", "apiVersion": "v1""#, vec!["unknown v1 Pod"]),
        (
            r#""kind": "List", "apiVersion": "v1""#,
            vec![
                "object default/a: kind: missing or empty",
                "object default/b: kind: missing or empty",
            ],
        ),
    ];
    for (head, expected) in cases {
        for text in [format!("{{ {head}, {items} }}"), format!("{{ {items}, {head} }}")] {
            assert_eq!(json(&text), expected);
            assert_eq!(yaml(&text), expected);
        }
    }
}

/// A list of 50,000 Services has 1.5 million of what the parser counts and by default stops at one
/// million of.
#[test]
fn a_large_file_is_within_the_limits() {
    let numbers = "0, ".repeat(1_050_000);
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{ name: a, x: [{numbers}] }}\n");
    assert_eq!(yaml(&pod), ["unknown v1 Pod"]);
}

/// How long it takes, as a table; not a test. `cargo test --release -p shunt-plugins figures --
/// --ignored --nocapture`
#[test]
#[ignore = "figures, not a test"]
fn figures() {
    for pairs in [10_000, 50_000] {
        let list = serde_json::json!({ "apiVersion": "v1", "items": large(pairs), "kind": "List" });
        let json = serde_json::to_string_pretty(&list).unwrap();
        let yaml = serde_saphyr::to_string(&list).unwrap();
        for (format, read) in [("JSON", json), ("YAML", yaml)] {
            let start = std::time::Instant::now();
            let bytes = read.as_bytes();
            let reading = if format == "JSON" {
                Reading::from_json(bytes)
            } else {
                Reading::from_yaml(bytes)
            };
            let (objects, elapsed) = (reading.unwrap().objects.len(), start.elapsed());
            assert_eq!(objects, 2 * pairs);
            println!("{pairs} pairs, {} MB of {format}: {elapsed:?}", bytes.len() >> 20);
        }
    }
}

/// Services and slices of three endpoints, as large as those of a cluster.
fn large(pairs: usize) -> Vec<serde_json::Value> {
    let list: serde_json::Value = serde_json::from_str(LIST_JSON).unwrap();
    let (service, slice) = (&list["items"][1], &list["items"][2]);
    let mut items = Vec::with_capacity(2 * pairs);
    for n in 0..pairs {
        let (mut service, mut slice) = (service.clone(), slice.clone());
        service["metadata"]["name"] = format!("service-{n}").into();
        slice["metadata"]["name"] = format!("service-{n}-x7k2d").into();
        slice["metadata"]["labels"]["kubernetes.io/service-name"] = format!("service-{n}").into();
        items.extend([service, slice]);
    }
    items
}
