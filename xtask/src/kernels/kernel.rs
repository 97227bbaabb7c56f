//! The kernels that are booted, and what makes one of them the same as another.

use std::collections::HashSet;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

/// Debian's package with the source.
pub(super) const SOURCE_PACKAGE: &str = "linux-source-6.1";

/// What all kernels have.
const OPTIONS: &str = include_str!("options.config");

/// One kernel. All are built from one tree, one after the other, so that what does not depend on
/// the difference is compiled once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What it is called on the command line and in the output.
    pub(super) name: &'static str,
    /// Lines beyond [`OPTIONS`].
    options: &'static str,
}

/// Has everything that the connect-time dataplane needs.
pub(super) static CGROUP_BPF: Kernel =
    Kernel { name: "6.1-cgroup-bpf", options: "CONFIG_CGROUP_BPF=y\n" };

/// Has no programs on cgroups: the packet path is all that there is.
pub(super) static PLAIN: Kernel = Kernel { name: "6.1-plain", options: "CONFIG_CGROUP_BPF=n\n" };

/// Every kernel.
pub(super) static KERNELS: [&Kernel; 2] = [&CGROUP_BPF, &PLAIN];

impl Kernel {
    /// The kernel called `name`.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        KERNELS.into_iter().find(|kernel| kernel.name == name).ok_or_else(|| {
            let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
            anyhow::anyhow!("there is no kernel {name}; there are {}", known.join(", "))
        })
    }

    /// What the tree is given to complete: `defaults`, with our lines instead of theirs. A line
    /// that comes twice is a warning each.
    pub(super) fn configuration(&self, defaults: &str) -> String {
        let ours = self.options();
        let taken: HashSet<_> = ours.lines().filter_map(option).collect();
        let kept = defaults.lines().filter(|line| option(line).is_none_or(|o| !taken.contains(o)));
        kept.map(|line| format!("{line}\n")).collect::<String>() + &ours
    }

    /// Everything that is asked of the kernel's configuration.
    fn options(&self) -> String {
        format!("{OPTIONS}{}", self.options)
    }

    /// What the folder of a built one begins with: its name and its configuration.
    pub(super) fn identity(&self) -> String {
        let hash = Sha256::digest(self.options());
        let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{short}", self.name)
    }

    /// The lines asked for that `config`, what the kernel's tree made of them, does not have.
    pub(super) fn refused(&self, config: &str) -> Vec<String> {
        let is_off = |option: &str| {
            let set = format!("{option}=");
            !config.lines().any(|line| line.starts_with(&set))
        };
        self.options()
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .filter(|line| match line.strip_suffix("=n") {
                Some(option) => !is_off(option),
                None => !config.lines().any(|set| set == *line),
            })
            .map(str::to_owned)
            .collect()
    }
}

/// The option that a line of a configuration is about.
fn option(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    line.starts_with("CONFIG_").then(|| line.split(['=', ' ']).next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_differ_and_are_found_by_name() {
        assert_ne!(CGROUP_BPF.identity(), PLAIN.identity());
        for kernel in KERNELS {
            assert_eq!(Kernel::named(kernel.name).unwrap(), kernel);
        }
        let error = Kernel::named("2.4").unwrap_err().to_string();
        assert!(error.contains("6.1-cgroup-bpf, 6.1-plain"), "{error}");
    }

    #[test]
    fn ours_replaces_the_line_of_the_defaults() {
        let text = PLAIN.configuration("# CONFIG_PID_NS is not set\nCONFIG_FRAME_WARN=1024\n");
        assert!(text.starts_with("CONFIG_FRAME_WARN=1024\n"), "{text}");
        assert!(text.ends_with("CONFIG_CGROUP_BPF=n\n"), "{text}");
        assert_eq!(text.matches("CONFIG_PID_NS").count(), 1);
    }

    #[test]
    fn what_the_tree_did_not_grant_is_named() {
        let granted = |kernel: &Kernel| {
            kernel
                .options()
                .lines()
                .filter(|line| !line.ends_with("=n"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let check = |kernel: &Kernel, config: &str, expected: &[&str]| {
            assert_eq!(kernel.refused(config), expected, "{}", kernel.name);
        };
        check(&PLAIN, &granted(&PLAIN), &[]);
        check(&PLAIN, &granted(&CGROUP_BPF), &["CONFIG_CGROUP_BPF=n"]);
        check(&CGROUP_BPF, &granted(&PLAIN), &["CONFIG_CGROUP_BPF=y"]);
        let module = granted(&CGROUP_BPF).replace("CONFIG_VETH=y", "CONFIG_VETH=m");
        check(&CGROUP_BPF, &module, &["CONFIG_VETH=y"]);
    }
}
