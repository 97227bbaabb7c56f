//! Rules about what stands in Rust files.

use super::{Finding, SourceFile};

/// Every place in a file that breaks a rule.
pub(super) fn findings(file: &SourceFile) -> Vec<Finding> {
    let path = file.path.to_string_lossy();
    // The rules' own words would be found in here.
    if !path.ends_with(".rs") || path.starts_with("xtask/src/lint/") {
        return Vec::new();
    }
    let mut findings = error_texts(&path, &file.text);
    for (number, line) in file.text.lines().enumerate() {
        let place = || format!("{path}:{}", number + 1);
        findings.extend(
            RULES
                .iter()
                .filter(|rule| (rule.broken)(&path, line))
                .map(|rule| Finding { place: place(), rule: rule.says.into() }),
        );
    }
    findings
}

/// A rule that one line can break.
struct Rule {
    says: &'static str,
    broken: fn(path: &str, line: &str) -> bool,
}

const RULES: [Rule; 5] = [
    Rule {
        says: "features decide about items, never inside a function: make two files, one chosen in mod.rs",
        broken: |path, line| {
            let indent = line.len() - line.trim_start().len();
            !path.starts_with("examples/")
                && (line.contains("cfg!(feature") || line.contains("#[cfg(feature") && indent > 4)
        },
    },
    Rule {
        says: "the registry has no global mutable state",
        broken: |path, line| {
            path.starts_with("plugins/")
                && ["static mut ", "LazyLock", "OnceLock", "OnceCell", "lazy_static"]
                    .iter()
                    .any(|word| line.contains(word))
        },
    },
    Rule {
        says: "every unsafe call of user space is in backends/src/connect/sys",
        broken: |path, line| {
            (line.contains("expect(unsafe_code") || line.contains("allow(unsafe_code"))
                && !path.starts_with("backends/src/connect/sys")
                // Where that module is declared, with the exception for it.
                && path != "backends/src/connect/mod.rs"
        },
    },
    Rule {
        says: "a link into source code names a commit",
        broken: |_, line| {
            line.split_once("/blob/").is_some_and(|(_, rest)| {
                rest.chars().take_while(char::is_ascii_hexdigit).count() < 12
            })
        },
    },
    Rule {
        says: "no TODO without an issue",
        broken: |_, line| line.contains("TODO") && !line.contains("TODO(#"),
    },
];

/// `#[error(…)]`: lower case, no full stop, and the cause only through `#[source]`.
fn error_texts(path: &str, text: &str) -> Vec<Finding> {
    text.match_indices("#[error(")
        .filter_map(|(at, attribute)| {
            let rest = &text[at + attribute.len()..];
            let message = literal(rest.trim_start())?;
            let rule = broken_error_rule(message)?;
            let line = text[..at].lines().count() + 1;
            Some(Finding { place: format!("{path}:{line}"), rule: format!("{rule}: {message:?}") })
        })
        .collect()
}

/// The string literal that `rest` begins with, if it begins with one.
fn literal(rest: &str) -> Option<&str> {
    let body = rest.strip_prefix('"')?;
    let mut escaped = false;
    let end = body.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    Some(&body[..end])
}

fn broken_error_rule(message: &str) -> Option<&'static str> {
    let mut letters = message.chars();
    let (first, second) = (letters.next()?, letters.next());
    // A name like CAP_BPF or EndpointSlice keeps its capitals.
    let word = message.split_whitespace().next().unwrap_or_default();
    let is_name =
        word.chars().skip(1).any(char::is_uppercase) || ["Service", "Node"].contains(&word);
    if first.is_uppercase() && second.is_some_and(char::is_lowercase) && !is_name {
        return Some("an error begins in lower case");
    }
    if message.ends_with('.') && !message.ends_with("...") {
        return Some("an error ends without a full stop");
    }
    if ["{source}", "{cause}", "{source:", "{cause:"].iter().any(|part| message.contains(part)) {
        return Some("the cause is told by #[source], not by the text too");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: usize) {
        let file = SourceFile { path: path.into(), text: text.into() };
        let found = findings(&file);
        assert_eq!(found.len(), expected, "{text}: {found:?}");
    }

    #[test]
    fn error_texts_are_lower_case_and_without_cause() {
        check("a.rs", "#[error(\"cannot open {path}\")]", 0);
        check("a.rs", "#[error(\n    \"Cannot open {path}\"\n)]", 1);
        check("a.rs", "#[error(\"cannot open {path}.\")]", 1);
        check("a.rs", "#[error(\"cannot open: {source}\")]", 1);
        check("a.rs", "#[error(\"EndpointSlice {0} is odd\")]", 0);
        check("a.rs", "#[error(transparent)]", 0);
    }

    #[test]
    fn lines_are_checked_by_place() {
        check("plugins/src/a.rs", "static CELL: OnceLock<u8> = OnceLock::new();", 1);
        check("core/src/a.rs", "static CELL: OnceLock<u8> = OnceLock::new();", 0);
        check("src/a.rs", "    #[cfg(feature = \"x\")]\n    entry,", 0);
        check("src/a.rs", "        #[cfg(feature = \"x\")]\n        let x = 1;", 1);
        check("src/a.rs", "if cfg!(feature = \"x\") {}", 1);
        check("src/a.rs", "// https://github.com/torvalds/linux/blob/master/x", 1);
        check("src/a.rs", "// https://github.com/torvalds/linux/blob/0123456789abcdef/x", 0);
    }
}
