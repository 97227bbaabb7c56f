//! Files that change while they are being followed.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use shunt_core::{
    ServiceSource as _, Update,
    source::{Completeness, Object, SourceName, UpdateSender},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{chain, service};
use crate::sources::r#static::{StaticError, StaticSource};

/// Long enough for the slowest machine; nothing waits for it to pass unless the test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// A source that runs over a folder.
struct Following {
    folder: tempfile::TempDir,
    updates: mpsc::Receiver<(SourceName, Update)>,
    /// The ClusterIP of every Service, by name, as the engine would have it.
    served: BTreeMap<String, String>,
    /// Everything said so far.
    said: Vec<String>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    /// Prepares a folder and follows what `paths` names in it.
    async fn start(prepare: impl FnOnce(&Path), paths: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let paths: Vec<PathBuf> = paths.iter().map(|path| folder.path().join(path)).collect();
        let source = Box::new(StaticSource::open(&paths).unwrap());
        let (sender, updates) = mpsc::channel(16);
        let sender = UpdateSender::new(SourceName::new("static"), sender);
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { source.run(sender, token).await.unwrap() });
        let (served, said) = (BTreeMap::new(), Vec::new());
        let mut following = Self { folder, updates, served, said, shutdown, task };
        following
            .until(|following| following.said.iter().any(|said| said.starts_with("synced")))
            .await;
        following
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    /// Takes updates until the condition holds.
    async fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                let (_, update) = self.updates.recv().await.unwrap();
                self.take(update);
            }
        };
        if timeout(DEADLINE, wait).await.is_err() {
            panic!("still waiting; said {:?}", self.said);
        }
    }

    async fn until_served(&mut self, expected: &[(&str, &str)]) {
        let owned = |(name, ip): &(&str, &str)| ((*name).to_owned(), (*ip).to_owned());
        let expected: BTreeMap<_, _> = expected.iter().map(owned).collect();
        self.until(|following| following.served == expected).await;
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Reset => self.said.push("reset".into()),
            Update::Upsert(object) => {
                self.said.push(format!("+{}", object.id()));
                if let Object::Service(service) = object {
                    let cluster_ip = service.cluster_ips[0].to_string();
                    self.served.insert(service.name.name.as_ref().to_owned(), cluster_ip);
                }
            }
            Update::Remove(id) => {
                self.said.push(format!("-{id}"));
                self.served.remove(id.to_string().trim_start_matches("Service default/"));
            }
            Update::Synced(Completeness::Complete) => self.said.push("synced".into()),
            Update::Synced(Completeness::Partial) => self.said.push("synced in part".into()),
        }
    }

    async fn stop(self) -> Vec<String> {
        self.shutdown.cancel();
        timeout(DEADLINE, self.task).await.unwrap().unwrap();
        self.said
    }
}

#[tokio::test]
async fn an_empty_folder_is_fine_and_fills() {
    let mut following = Following::start(|_| (), &[""]).await;
    assert_eq!(following.said, ["synced"]);
    following.write("web.yaml", &service("web", "10.0.0.1"));
    following.until_served(&[("web", "10.0.0.1")]).await;
    following.write("web.yaml", &service("web", "10.0.0.2"));
    following.until_served(&[("web", "10.0.0.2")]).await;
    fs::remove_file(following.path("web.yaml")).unwrap();
    following.until_served(&[]).await;
    let expected =
        ["synced", "+Service default/web", "+Service default/web", "-Service default/web"];
    assert_eq!(following.stop().await, expected);
}

#[tokio::test]
async fn a_file_is_not_read_while_it_is_being_written() {
    let start = |folder: &Path| {
        let both = format!("{}---\n{}", service("a", "10.0.0.1"), service("b", "10.0.0.2"));
        fs::write(folder.join("ab.yaml"), both).unwrap();
    };
    let mut following = Following::start(start, &[""]).await;
    let mut writer = fs::File::create(following.path("ab.yaml")).unwrap();
    writer.write_all(service("a", "10.0.0.3").as_bytes()).unwrap();
    // What is told of another file shows that the first one has been passed over.
    following.write("c.yaml", &service("c", "10.0.0.9"));
    following.until_served(&[("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.9")]).await;
    drop(writer);
    following.until_served(&[("a", "10.0.0.3"), ("c", "10.0.0.9")]).await;
}

#[tokio::test]
async fn a_file_is_replaced_by_renaming() {
    let start = |folder: &Path| fs::write(folder.join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    // Beside the whole folder, the same file alone.
    for paths in [[""], ["a.yaml"]] {
        let mut following = Following::start(start, &paths).await;
        following.write(".new", &service("a", "10.0.0.2"));
        fs::rename(following.path(".new"), following.path("a.yaml")).unwrap();
        following.until_served(&[("a", "10.0.0.2")]).await;
        // As editors do: the old one is put away, and the new one written in its place.
        fs::rename(following.path("a.yaml"), following.path("a.yaml~")).unwrap();
        following.write("a.yaml", &service("a", "10.0.0.3"));
        following.until_served(&[("a", "10.0.0.3")]).await;
        let said = following.stop().await;
        assert!(!said.iter().any(|said| said.starts_with('-')), "{said:?}");
    }
}

#[tokio::test]
async fn a_file_that_gets_another_name_is_never_gone() {
    let start = |folder: &Path| fs::write(folder.join("a.yaml"), service("a", "10.0.0.1")).unwrap();
    let mut following = Following::start(start, &[""]).await;
    fs::rename(following.path("a.yaml"), following.path("b.yaml")).unwrap();
    following.write("b.yaml", &service("a", "10.0.0.2"));
    following.until_served(&[("a", "10.0.0.2")]).await;
    fs::remove_file(following.path("b.yaml")).unwrap();
    following.until_served(&[]).await;
    let expected = ["+Service default/a", "synced", "+Service default/a", "-Service default/a"];
    assert_eq!(following.stop().await, expected);
}

#[tokio::test]
async fn the_content_of_a_config_map_is_swapped() {
    let start = |folder: &Path| {
        for (version, cluster_ip) in [("..1", "10.0.0.1"), ("..2", "10.0.0.2")] {
            fs::create_dir(folder.join(version)).unwrap();
            let text = service("web", cluster_ip);
            fs::write(folder.join(version).join("web.yaml"), text).unwrap();
        }
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/web.yaml", folder.join("web.yaml")).unwrap();
    };
    for paths in [[""], ["web.yaml"]] {
        let mut following = Following::start(start, &paths).await;
        following.until_served(&[("web", "10.0.0.1")]).await;
        symlink("..2", following.path("..data_tmp")).unwrap();
        fs::rename(following.path("..data_tmp"), following.path("..data")).unwrap();
        following.until_served(&[("web", "10.0.0.2")]).await;
        let said = following.stop().await;
        assert_eq!(said, ["+Service default/web", "synced", "+Service default/web"]);
    }
}

#[tokio::test]
async fn a_folder_is_replaced_as_a_whole() {
    let start = |folder: &Path| {
        for (version, cluster_ip) in [("one", "10.0.0.1"), ("two", "10.0.0.2")] {
            fs::create_dir(folder.join(version)).unwrap();
            let text = service("web", cluster_ip);
            fs::write(folder.join(version).join("web.yaml"), text).unwrap();
        }
        symlink("one", folder.join("current")).unwrap();
    };
    let mut following = Following::start(start, &["current"]).await;
    symlink("two", following.path("next")).unwrap();
    fs::rename(following.path("next"), following.path("current")).unwrap();
    following.until_served(&[("web", "10.0.0.2")]).await;
    following.write("two/web.yaml", &service("web", "10.0.0.3"));
    following.until_served(&[("web", "10.0.0.3")]).await;
    fs::remove_file(following.path("current")).unwrap();
    following.until_served(&[]).await;
    fs::create_dir(following.path("current")).unwrap();
    following.write("current/web.yaml", &service("web", "10.0.0.4"));
    following.until_served(&[("web", "10.0.0.4")]).await;
}

#[tokio::test]
async fn what_is_broken_at_the_start_is_told_when_it_is_mended() {
    let start = |folder: &Path| {
        fs::write(folder.join("good.yaml"), service("good", "10.0.0.1")).unwrap();
        fs::write(folder.join("bad.yaml"), "kind: [\n").unwrap();
        fs::write(folder.join("empty.yaml"), "").unwrap();
    };
    let mut following = Following::start(start, &[""]).await;
    assert_eq!(following.said, ["+Service default/good", "synced in part"]);
    following.write("bad.yaml", &service("bad", "10.0.0.2"));
    following.until_served(&[("good", "10.0.0.1"), ("bad", "10.0.0.2")]).await;
    fs::remove_file(following.path("empty.yaml")).unwrap();
    following.until(|following| following.said.last().is_some_and(|said| said == "synced")).await;
    let expected = [
        "+Service default/good",
        "synced in part",
        "+Service default/bad",
        "reset",
        "+Service default/bad",
        "+Service default/good",
        "synced",
    ];
    assert_eq!(following.said, expected);
    // From now on a broken file keeps what it held.
    following.write("bad.yaml", "");
    following.write("bad.yaml", "kind: [\n");
    following.write("c.yaml", &service("c", "10.0.0.3"));
    following.until(|following| following.served.len() == 3).await;
    assert!(!following.stop().await.iter().any(|said| said.starts_with('-')));
}

#[tokio::test]
async fn the_second_file_takes_over_when_the_first_goes() {
    let start = |folder: &Path| {
        fs::write(folder.join("a.yaml"), service("web", "10.0.0.1")).unwrap();
        fs::write(folder.join("b.yaml"), service("web", "10.0.0.2")).unwrap();
    };
    let mut following = Following::start(start, &[""]).await;
    following.until_served(&[("web", "10.0.0.1")]).await;
    fs::remove_file(following.path("a.yaml")).unwrap();
    following.until_served(&[("web", "10.0.0.2")]).await;
    let expected = ["+Service default/web", "synced", "+Service default/web"];
    assert_eq!(following.stop().await, expected);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_an_error_at_once() {
    let error = StaticSource::open(&[]).unwrap_err();
    assert_eq!(chain(&error), "no file or folder of manifests is given (--manifests)");
    let error = StaticSource::open(&["/nonexistent/x.yaml".into()]).unwrap_err();
    let expected = "failed to open manifests in /nonexistent/x.yaml: \
                    No such file or directory (os error 2)";
    assert_eq!(chain(&error), expected);
    let error = StaticSource::open(&["/dev/null".into()]).unwrap_err();
    assert!(matches!(error, StaticError::NotAFile { .. }));
    assert_eq!(chain(&error), "/dev/null is neither a file nor a folder");
}

#[tokio::test]
async fn a_thousand_files_are_fine() {
    let start = |folder: &Path| {
        for n in 0..1000 {
            let text = service(&format!("s{n}"), &format!("10.0.{}.{}", n / 250, n % 250 + 1));
            fs::write(folder.join(format!("{n}.yaml")), text).unwrap();
        }
    };
    let mut following = Following::start(start, &[""]).await;
    assert_eq!(following.served.len(), 1000);
    following.write("500.yaml", &service("s500", "10.0.0.250"));
    following.until(|following| following.served["s500"] == "10.0.0.250").await;
    assert_eq!(following.stop().await.len(), 1002, "only what changed is sent");
}
