//! `cargo xtask lint`: format, clippy, and the rules of the house that no other tool checks.

mod arrows;
mod layout;
mod text;

use std::{fmt, fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    ebpf,
    process::{cargo, require_all, run as run_command, say},
    tools, workspace,
};

/// Runs every lint.
pub(crate) fn run() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    run_command(
        cargo()
            .args(["clippy", "--locked", "--workspace", "--all-targets"])
            .args(["--", "--deny", "warnings"]),
    )?;
    if std::path::Path::new(tools::CLIPPY).exists() || require_all() {
        ebpf::clippy()?;
    } else {
        say(&format!("SKIP clippy for BPF: {} is not there (cargo xtask setup)", tools::CLIPPY));
    }
    house()
}

/// The rules that are text, layout and dependencies.
fn house() -> Result<()> {
    let files = sources()?;
    let metadata = workspace::metadata()?;
    let mut findings: Vec<Finding> = files.iter().flat_map(text::findings).collect();
    findings.extend(files.iter().filter_map(|file| layout::forbidden_name(&file.path)));
    findings.extend(layout::undocumented_crates(&metadata)?);
    findings.extend(arrows::findings(&metadata));
    for finding in &findings {
        say(&finding.to_string());
    }
    ensure!(findings.is_empty(), "{} rules of the house are broken", findings.len());
    say(&format!("house rules: {} files are as they should be", files.len()));
    Ok(())
}

/// One file that git tracks or would track.
struct SourceFile {
    /// Relative to the root.
    path: PathBuf,
    /// Empty for what is not UTF-8.
    text: String,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Where: a path, with a line where there is one.
    place: String,
    /// What is wrong, and what is right.
    rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.rule)
    }
}

fn sources() -> Result<Vec<SourceFile>> {
    let root = workspace::root();
    let list = crate::process::output(crate::process::command("git").current_dir(&root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    list.lines()
        .map(|path| (PathBuf::from(path), root.join(path)))
        .filter(|(_, full)| full.is_file())
        .map(|(path, full)| {
            let bytes = fs::read(&full).with_context(|| format!("cannot read {path:?}"))?;
            Ok(SourceFile { path, text: String::from_utf8(bytes).unwrap_or_default() })
        })
        .collect()
}
