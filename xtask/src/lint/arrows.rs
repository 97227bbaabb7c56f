//! Which crate may depend on what: arrows point one way.

use cargo_metadata::{DependencyKind, Metadata, Package};

use super::Finding;

/// What one package may not depend on, and why.
struct Arrow {
    package: &'static str,
    /// Names; one that ends in `*` is a prefix.
    forbidden: &'static [&'static str],
    why: &'static str,
}

/// Names that speak to a kernel, a network or a cluster.
const OUTSIDE: &[&str] = &[
    "aya*",
    "caps",
    "hyper*",
    "axum*",
    "k8s-openapi",
    "kube*",
    "libc",
    "libbpf*",
    "mio",
    "netlink*",
    "nftables",
    "nix",
    "nlink",
    "notify",
    "rustix",
    "socket2",
    "rtnetlink",
];

const ARROWS: [Arrow; 8] = [
    Arrow {
        package: "shunt-core",
        forbidden: OUTSIDE,
        why: "the core does no I/O and knows neither kernel nor cluster",
    },
    Arrow {
        package: "shunt-core",
        forbidden: &["shunt-*"],
        why: "the core knows none of the other crates",
    },
    Arrow {
        package: "shunt-backends",
        forbidden: &["shunt-plugins", "shunt-harness", "shunt", "kube*", "k8s-openapi"],
        why: "a backend knows the core only",
    },
    Arrow {
        package: "shunt-plugins",
        forbidden: &["shunt-harness", "shunt", "aya*"],
        why: "plug-ins know sources and backends, not what tests them",
    },
    Arrow { package: "shunt-ebpf", forbidden: &["shunt*"], why: "the programs know nobody" },
    Arrow {
        package: "shunt-harness",
        forbidden: &["shunt", "aya*", "shunt-ebpf"],
        why: "the harness uses what is public",
    },
    Arrow {
        package: "shunt-xtask",
        forbidden: &["shunt*"],
        why: "the tasks must run where nothing else compiles yet",
    },
    Arrow {
        package: "shunt",
        forbidden: &["aya*", "kube*", "k8s-openapi", "nix", "nlink"],
        why: "the binary wires; it does none of the work",
    },
];

/// The crates that are libraries: they have errors of their own.
const LIBRARIES: [&str; 4] = ["shunt-core", "shunt-plugins", "shunt-backends", "shunt-ebpf"];

/// Every dependency that points the wrong way. What only tests use does not count.
pub(super) fn findings(metadata: &Metadata) -> Vec<Finding> {
    let packages = metadata.workspace_packages();
    let mut findings = Vec::new();
    for package in packages {
        let own = ARROWS.iter().filter(|arrow| arrow.package == package.name.as_str());
        for arrow in own {
            findings.extend(wrong(package, arrow.forbidden, arrow.why));
        }
        if LIBRARIES.contains(&package.name.as_str()) {
            findings.extend(wrong(package, &["anyhow"], "a library's errors are types"));
        }
    }
    findings
}

fn wrong(package: &Package, forbidden: &[&str], why: &str) -> Vec<Finding> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .filter(|dependency| forbidden.iter().any(|name| matches(name, &dependency.name)))
        .map(|dependency| Finding {
            place: package.manifest_path.to_string(),
            rule: format!("{} may not depend on {}: {why}", package.name, dependency.name),
        })
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_and_prefixes() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        };
        check("kube*", "kube-client", true);
        check("shunt", "shunt-core", false);
        check("shunt", "shunt", true);
        check("aya*", "ayah", true);
    }
}
