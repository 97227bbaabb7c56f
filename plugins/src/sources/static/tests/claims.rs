//! Readings of several files, and what is used.

use std::path::PathBuf;

use super::{chain, service};
use crate::sources::r#static::{
    claims::{Claims, Outcome},
    manifest::Reading,
    paths::{FileKey, Roots},
};

/// A folder with files `a.yaml`, `b.yaml`, `c.yaml` that exist only in memory.
struct Folder {
    _folder: tempfile::TempDir,
    path: PathBuf,
    roots: Roots,
    claims: Claims,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_path_buf();
        let roots = Roots::open(std::slice::from_ref(&path)).unwrap();
        Self { _folder: folder, path, roots, claims: Claims::default() }
    }

    fn key(&self, file: &str) -> FileKey {
        self.roots.file(&self.path.join(file)).unwrap()
    }

    /// A file is read and holds this.
    fn read(&mut self, file: &str, text: &str) -> Vec<String> {
        let mut outcome = Outcome::default();
        let reading = Reading::from_yaml(text.as_bytes()).unwrap();
        self.claims.take(&self.key(file), reading, &mut outcome);
        self.lines(&outcome)
    }

    fn remove(&mut self, file: &str) -> Vec<String> {
        let mut outcome = Outcome::default();
        self.claims.remove(&self.key(file), &mut outcome);
        self.lines(&outcome)
    }

    fn lines(&self, outcome: &Outcome) -> Vec<String> {
        let mut changes: Vec<_> = outcome.changes.iter().collect();
        changes.sort_by_key(|(id, _)| *id);
        let changes = changes
            .into_iter()
            .map(|(id, object)| format!("{}{id}", if object.is_some() { '+' } else { '-' }));
        let problems = outcome.problems.iter().map(|problem| chain(problem));
        let wanted = outcome.wanted.iter().map(|file| format!("read {file}"));
        let prefix = format!("{}/", self.path.display());
        changes.chain(problems).chain(wanted).map(|line| line.replace(&prefix, "")).collect()
    }
}

#[test]
fn only_what_changed_is_sent() {
    let mut folder = Folder::new();
    let (web, dns) = (service("web", "10.0.0.1"), service("dns", "10.0.0.2"));
    let both = format!("{web}---\n{dns}");
    assert_eq!(folder.read("a.yaml", &both), ["+Service default/dns", "+Service default/web"]);
    assert_eq!(folder.read("a.yaml", &both), [""; 0]);
    let changed = both.replace("10.0.0.2", "10.0.0.3");
    assert_eq!(folder.read("a.yaml", &changed), ["+Service default/dns"]);
    assert_eq!(folder.read("a.yaml", &format!("# comment\n{changed}")), [""; 0]);
    assert_eq!(folder.read("a.yaml", &web), ["-Service default/dns"]);
    assert_eq!(folder.remove("a.yaml"), ["-Service default/web"]);
    assert_eq!(folder.remove("a.yaml"), [""; 0]);
}

#[test]
fn a_broken_object_keeps_its_last_good_version_and_nothing_goes() {
    let mut folder = Folder::new();
    let (web, dns) = (service("web", "10.0.0.1"), service("dns", "10.0.0.2"));
    folder.read("a.yaml", &format!("{web}---\n{dns}"));
    let broken = web.replace("80", "0");
    let error = "failed to take an object of a.yaml: its last good version stays: \
                 Service default/web: spec.ports[0].port: 0 is not a port (1 to 65535)";
    let api = service("api", "10.0.0.3");
    assert_eq!(
        folder.read("a.yaml", &format!("{broken}---\n{api}")),
        ["+Service default/api", error]
    );
    assert!(!folder.claims.is_whole());
    let whole = format!("{web}---\n{api}");
    assert_eq!(folder.read("a.yaml", &whole), ["-Service default/dns"], "mended");
    assert!(folder.claims.is_whole());
}

#[test]
fn of_two_files_the_first_counts_and_the_second_takes_over() {
    let web = |cluster_ip| service("web", cluster_ip);
    let twice = "Service default/web is in a.yaml and in b.yaml: the first is used";
    let mut folder = Folder::new();
    assert_eq!(folder.read("b.yaml", &web("10.0.0.2")), ["+Service default/web"]);
    assert_eq!(folder.read("a.yaml", &web("10.0.0.1")), ["+Service default/web", twice]);
    assert_eq!(folder.read("b.yaml", &web("10.0.0.3")), [""; 0], "said once, and not used");
    // What a.yaml said is served until b.yaml has been read.
    assert_eq!(folder.remove("a.yaml"), ["read b.yaml"]);
    assert_eq!(folder.read("b.yaml", &web("10.0.0.3")), ["+Service default/web"]);
    assert_eq!(folder.remove("b.yaml"), ["-Service default/web"]);
}

#[test]
fn of_three_files_the_next_takes_over() {
    let mut folder = Folder::new();
    for file in ["a.yaml", "b.yaml", "c.yaml"] {
        folder.read(file, &service("web", "10.0.0.1"));
    }
    assert_eq!(folder.remove("b.yaml"), [""; 0]);
    assert_eq!(
        folder.read("a.yaml", &service("x", "10.0.0.9")),
        ["+Service default/x", "read c.yaml"]
    );
    // The heir does not hold it any more.
    assert_eq!(
        folder.read("c.yaml", &service("y", "10.0.0.8")),
        ["-Service default/web", "+Service default/y"]
    );
}

#[test]
fn an_object_that_is_twice_in_a_file_counts_once() {
    let mut folder = Folder::new();
    let text = format!("{}---\n{}", service("web", "10.0.0.1"), service("web", "10.0.0.2"));
    let expected = [
        "+Service default/web",
        "Service default/web is in a.yaml and in a.yaml: the first is used",
    ];
    assert_eq!(folder.read("a.yaml", &text), expected);
}

#[test]
fn a_file_that_is_renamed_is_no_clash() {
    let mut folder = Folder::new();
    let web = service("web", "10.0.0.1");
    folder.read("a.yaml", &web);
    let key = folder.key("a.yaml");
    folder.claims.depart(&key);
    assert_eq!(folder.read("b.yaml", &web), [""; 0]);
    assert_eq!(folder.remove("a.yaml"), [""; 0]);
    assert_eq!(folder.remove("b.yaml"), ["-Service default/web"]);
}

#[test]
fn paths_come_in_the_order_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["b.yaml", "a.json", "c.yml", ".hidden.yaml", "d.txt", "z"] {
        std::fs::write(path(name), "").unwrap();
    }
    std::fs::create_dir(path("sub.yaml")).unwrap();
    let roots = Roots::open(&[path("z"), path("b.yaml"), path("")]).unwrap();
    let scan = |index| {
        let files = roots.scan(index).unwrap();
        let name = |file: &FileKey| file.file_name().unwrap().to_str().unwrap().to_owned();
        files.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(scan(0), ["z"], "a file that is named may be called anything");
    assert_eq!(scan(1), ["b.yaml"]);
    assert_eq!(scan(2), ["a.json", "c.yml", "sub.yaml"], "b.yaml has been named before");
}
