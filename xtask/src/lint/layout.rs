//! Rules about names of files, and about what the code map names.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use cargo_metadata::Metadata;

use super::Finding;
use crate::workspace;

/// Names that say nothing about what is inside.
const FORBIDDEN: [&str; 8] =
    ["util", "utils", "helper", "helpers", "misc", "common", "types", "manager"];

/// A path of which a part has a forbidden word.
pub(super) fn forbidden_name(path: &Path) -> Option<Finding> {
    let text = path.to_string_lossy();
    let word = text
        .split(['/', '.', '_', '-'])
        .find(|word| FORBIDDEN.contains(&word.to_lowercase().as_str()))?;
    Some(Finding {
        place: text.to_string(),
        rule: format!("{word:?} does not say what is inside: name the file after its subject"),
    })
}

/// Crates of the workspace whose folder `docs/ARCHITECTURE.md` does not name.
pub(super) fn undocumented_crates(metadata: &Metadata) -> Result<Vec<Finding>> {
    const MAP: &str = "docs/ARCHITECTURE.md";
    let map = fs::read_to_string(workspace::root().join(MAP))
        .with_context(|| format!("cannot read {MAP}"))?;
    let root = workspace::root();
    Ok(metadata
        .workspace_packages()
        .into_iter()
        .filter_map(|package| package.manifest_path.parent()?.strip_prefix(&root).ok())
        .map(|folder| if folder.as_str().is_empty() { "src/" } else { folder.as_str() })
        .filter(|folder| !map.contains(&format!("`{}", folder.trim_end_matches('/'))))
        .map(|folder| Finding {
            place: MAP.into(),
            rule: format!("crate folder `{folder}` is not on the map"),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_words_are_found_as_words() {
        let check = |path: &str, forbidden: bool| {
            assert_eq!(forbidden_name(Path::new(path)).is_some(), forbidden, "{path}");
        };
        check("core/src/utils.rs", true);
        check("core/src/net_util.rs", true);
        check("plugins/src/common/mod.rs", true);
        check("harness/src/prototypes.rs", false);
        check("core/src/model/objects.rs", false);
    }
}
