//! Names that say nothing are refused; crate names are made of known words.

use std::path::Path;

use super::Finding;
use super::tree::Tree;

/// File and directory names (without `.rs`) that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["common", "data", "helper", "helpers", "manager", "managers", "misc", "util", "utils"];

/// What a package of the workspace may be called: with the prefix `baton-`, but for `baton` and `xtask`.
const CRATE_WORDS: &[&str] = &[
    "abi",
    "bench",
    "catalog",
    "cell",
    "control",
    "e2e",
    "flow",
    "fuzz",
    "gateway",
    "grpc",
    "host",
    "kernel",
    "lib",
    "placement",
    "policy",
    "pool",
    "replica",
    "sdk",
    "shim",
    "netns",
    "sim",
    "transfer",
    "wasm",
    "component",
];

/// Rust files and the directories above them that have an empty name.
pub(super) fn check_files(tree: &Tree) -> Vec<Finding> {
    let empty = |path: &&str| {
        Path::new(path)
            .with_extension("")
            .components()
            .any(|part| part.as_os_str().to_str().is_some_and(|name| EMPTY_NAMES.contains(&name)))
    };
    (tree.rust().map(|file| file.path.as_str()).filter(empty))
        .map(|path| Finding::new(path, None, "a name that says nothing: name it after what it does"))
        .collect()
}

/// Packages of the workspace with a word that nobody knows.
pub(super) fn check_packages<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Finding> {
    let known = |name: &str| {
        matches!(name, "baton" | "xtask")
            || name
                .strip_prefix("baton-")
                .is_some_and(|rest| rest.split('-').all(|w| CRATE_WORDS.contains(&w)))
    };
    (names.into_iter().filter(|name| !known(name)))
        .map(|name| {
            Finding::new("Cargo.toml", None, format!("package `{name}`: not a known word of the house"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_refused_for_files_and_directories() {
        let names = ["a/utils.rs", "a/common/mod.rs", "a/data.rs", "a/database.rs", "a/data/table.json"];
        let tree = Tree::from_pairs(names.map(|name| (name, "")));
        let paths: Vec<_> = check_files(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["a/common/mod.rs", "a/data.rs", "a/utils.rs"]);
    }

    #[test]
    fn crate_names_are_made_of_known_words() {
        assert!(check_packages(["baton", "xtask", "baton-pool", "baton-sdk"]).is_empty());
        assert_eq!(check_packages(["pool", "baton-stuff", "baton-"]).len(), 3);
    }
}
