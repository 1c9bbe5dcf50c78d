//! Every Rust file says on its first line what it is for.

use super::Finding;
use super::tree::Tree;

/// Rust files that do not open with `//!`.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let opens_well = |text: &str| {
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_some_and(|rest| !rest.trim().is_empty())
    };
    (tree.rust().filter(|file| !opens_well(&file.text)))
        .map(|file| Finding::new(&file.path, Some(1), "does not open with `//!` and what the file is for"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_must_be_a_module_comment() {
        let tree = Tree::from_pairs([
            ("a.rs", "//! Good.\n"),
            ("b.rs", "use std::fmt;\n"),
            ("c.rs", "//!\n//! Late.\n"),
            ("d.rs", ""),
            ("e.md", "# No Rust\n"),
        ]);
        let paths: Vec<_> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["b.rs", "c.rs", "d.rs"]);
    }
}
