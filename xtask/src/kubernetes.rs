//! Building the API server and the kube-proxy that Shunt is tested against, once for each version
//! of `harness/kubernetes/`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{
    process::{command, output, require_all, run, say},
    setup, tools, workspace,
};

/// The programs, and the folders of the module that hold them.
const PROGRAMS: [&str; 2] = ["kube-apiserver", "kube-proxy"];

/// What the programs are built from.
const SOURCES: [&str; 4] = ["go.mod", "go.sum", "kube-apiserver/main.go", "kube-proxy/main.go"];

/// Where Go is looked for beside PATH: where its makers say it is to be unpacked.
const GO: &str = "/usr/local/go/bin/go";

/// What kube-proxy calls in the modes in which it is compared.
const PACKAGES: [&str; 2] = ["nftables", "iptables"];

/// Debian's package of Go.
const GO_PACKAGE: &str = "golang-go";

/// Builds the programs unless they are cached, which costs nothing.
pub(crate) fn build() -> Result<()> {
    setup::packages(&PACKAGES)?;
    let module = workspace::root().join("harness/kubernetes");
    let folder = tools::folder()?.join("kubernetes");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let result = folder.join(identity(&module)?);
    // The second of two builds at once finds what the first has made.
    let lock = folder.join("lock");
    let file = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
    if result.exists() {
        say(&format!("kubernetes: {} are in {}", PROGRAMS.join(" and "), result.display()));
        return Ok(());
    }
    let go = go(&fs::read_to_string(module.join("go.mod")).context("cannot read go.mod")?)?;
    let start = Instant::now();
    say("kubernetes: compiling kube-apiserver and kube-proxy; this takes minutes");
    let part = folder.join("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    compile(&go, &module, &part)?;
    for source in SOURCES {
        let copy = part.join("source").join(source);
        let parent = copy.parent().unwrap_or(&part);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::copy(module.join(source), &copy).with_context(|| format!("cannot copy {source}"))?;
    }
    fs::rename(&part, &result).with_context(|| format!("cannot make {}", result.display()))?;
    say(&format!("kubernetes: built in {} s", start.elapsed().as_secs()));
    Ok(())
}

/// [`build`] for the tests, which do without where that is allowed: returns what then is skipped.
pub(crate) fn set_up() -> Result<Option<String>> {
    match build() {
        Ok(()) => Ok(None),
        Err(error) if require_all() => Err(error),
        Err(error) => Ok(Some(format!("tests with a real API server: {error:#}"))),
    }
}

fn compile(go: &Path, module: &Path, part: &Path) -> Result<()> {
    let version = required(&fs::read_to_string(module.join("go.mod"))?, "k8s.io/kubernetes")?;
    let minor = version.split('.').nth(1).context("Kubernetes' version has no dot")?.to_owned();
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    // What the programs say about themselves, as in Kubernetes' own build.
    let flags = [
        "-s -w".to_owned(),
        set("gitVersion", &version),
        set("gitMajor", "1"),
        set("gitMinor", &minor),
    ];
    let jobs = thread::available_parallelism().map_or(1, usize::from).to_string();
    // Below everything else that runs here: it is long, and nobody waits at a keyboard for it.
    let mut build = command("nice");
    build
        .args(["-n", "15"])
        .arg(go)
        .args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-p", &jobs])
        .arg(format!("-ldflags={}", flags.join(" ")))
        .arg("-o")
        // The slash makes it a folder for several programs.
        .arg(part.join(""))
        .args(PROGRAMS.map(|program| format!("./{program}")))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "auto")
        .env_remove("GOFLAGS")
        .current_dir(module);
    run(&mut build)
}

/// A name that is another one as soon as the source is.
fn identity(module: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for source in SOURCES {
        let text =
            fs::read(module.join(source)).with_context(|| format!("cannot read {source}"))?;
        hash.update(source);
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

/// A Go that is new enough for the module, which is installed if Debian has one.
fn go(module: &str) -> Result<PathBuf> {
    let wanted = go_version(module)?;
    let found: Vec<(PathBuf, String)> = ["go", GO]
        .into_iter()
        .filter_map(|go| Some((PathBuf::from(go), version_of(go)?)))
        .collect();
    if let Some((go, _)) = found.iter().find(|(_, version)| is_new_enough(version, &wanted)) {
        return Ok(go.clone());
    }
    let debian = match candidate(GO_PACKAGE) {
        Some(version) if is_new_enough(&version, &wanted) => {
            setup::packages(&[GO_PACKAGE])?;
            return Ok("go".into());
        }
        Some(version) => format!("Debian's {GO_PACKAGE} is {version}, which is too old"),
        None => format!("there is no package {GO_PACKAGE}"),
    };
    let old = found.first().map(|(go, version)| format!(", {} is {version}", go.display()));
    bail!(
        "Go {wanted} is needed to build Kubernetes{}, and {debian}: https://go.dev/dl/ has one to \
         unpack into /usr/local",
        old.unwrap_or_default()
    )
}

/// The version of a package that Debian would install.
fn candidate(package: &str) -> Option<String> {
    let said = output(command("apt-cache").args(["policy", package])).ok()?;
    let version = said.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    Some(version.to_owned()).filter(|version| version != "(none)")
}

fn version_of(go: &str) -> Option<String> {
    let said = command(go).arg("version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    Some(format!("1.{version}"))
}

/// Go 1.21 and newer fetch the Go that a module asks for.
fn is_new_enough(version: &str, wanted: &str) -> bool {
    minor(version) >= minor(wanted).min(Some(21))
}

/// The second number of a version, whatever comes before and after: `2:1.19~1`.
fn minor(version: &str) -> Option<u32> {
    let (_, rest) = version.split_once("1.")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The version of Go in a module's file.
fn go_version(module: &str) -> Result<String> {
    let line = module.lines().find_map(|line| line.strip_prefix("go "));
    Ok(line.context("go.mod does not name a version of Go")?.trim().to_owned())
}

/// The version of a module that another one requires.
fn required(module: &str, name: &str) -> Result<String> {
    let version = module.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()).flatten()
    });
    Ok(version.with_context(|| format!("go.mod does not require {name}"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "module a\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n";

    #[test]
    fn versions_are_read() {
        assert_eq!(go_version(MODULE).unwrap(), "1.26.0");
        assert_eq!(required(MODULE, "k8s.io/kubernetes").unwrap(), "v1.36.3");
        assert!(required(MODULE, "k8s.io/api").is_err());
        for (text, expected) in
            [("1.26.8", Some(26)), ("2:1.19~1", Some(19)), ("1.27rc1", Some(27)), ("devel", None)]
        {
            assert_eq!(minor(text), expected, "{text}");
        }
    }

    #[test]
    fn a_go_that_fetches_no_other_is_too_old() {
        assert!(!is_new_enough("2:1.19~1", "1.26.0"));
        assert!(is_new_enough("1.26.8", "1.26.0"));
        assert!(!is_new_enough("nonsense", "1.26.0"));
    }
}
