//! Every path that a page names exists.
//!
//! Two kinds are looked at: words in backticks that begin with a directory of this repository, and relative links. Fenced
//! blocks are left alone, since they show output and other people's directories.

use std::path::{Component, Path};

use super::Finding;
use super::tree::Tree;

/// What a path in backticks begins with.
const PLACES: &[&str] = &[
    ".ci/",
    ".config/",
    "bench/",
    "crates/",
    "docs/",
    "e2e/",
    "examples/",
    "fuzz/",
    "sdk/",
    "sim/",
    "xtask/",
];

/// Directories that a build makes, so that no clone has them.
const MADE: &[&str] = &["target", "artifacts"];

/// Paths that lead nowhere.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in tree.markdown() {
        let directory = page.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for (line, text) in prose(&page.text) {
            let spans = code_spans(text).flat_map(str::split_whitespace).filter_map(path_in);
            let exists = |path: &str| tree.has(path) || tree.has(&format!("{directory}/{path}"));
            let named = spans.filter(|path| !exists(path));
            let linked = links(text).filter(|link| !resolve(directory, link).is_some_and(|p| tree.has(&p)));
            findings.extend(named.chain(linked).map(|path| {
                Finding::new(&page.path, Some(line), format!("names `{path}`, which does not exist"))
            }));
        }
    }
    findings
}

/// Lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        fenced ^= fence;
        (!fence && !fenced).then_some((index + 1, line))
    })
}

/// What stands between backticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    let closed = line.matches('`').count() / 2;
    line.split('`').skip(1).step_by(2).take(closed)
}

/// The path that a word in backticks is, if it is one of this repository: without a line number, an item after `::` and
/// punctuation. Patterns (`*`, `{…}`, `<…>`) and what a build makes are no paths to check.
fn path_in(word: &str) -> Option<&str> {
    let word = word.trim_start_matches("./");
    let word = word.split("::").next()?;
    let word = word.split(':').next()?.trim_end_matches(['.', ',', ';', ')', '/']);
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let here = PLACES.iter().any(|place| word.starts_with(place));
    let made = word.split('/').any(|part| MADE.contains(&part));
    (plain && here && !made).then_some(word)
}

/// The targets of relative links, without what follows `#`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
}

/// A link of a page in `directory` as a path of the repository; `None` if it leads out of it.
fn resolve(directory: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for component in Path::new(link).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let files = [
            ("crates/pool/src/ledger.rs", ""),
            ("docs/adr/0001-process.md", ""),
            ("examples/boutique/functions/cart/src/main.rs", ""),
            ("examples/boutique/docs/menu.md", ""),
            ("SAFETY.md", ""),
        ];
        let tree = Tree::from_pairs(files.into_iter().chain([(path, text)]));
        check(&tree).iter().map(ToString::to_string).collect()
    }

    fn check_good(path: &str, text: &str) {
        assert_eq!(messages(path, text), Vec::<String>::new());
    }

    fn check_bad(path: &str, text: &str, named: &str) {
        let found = messages(path, text);
        assert_eq!(found, [format!("{path}:1: names `{named}`, which does not exist")]);
    }

    #[test]
    fn paths_in_backticks_exist() {
        check_good(
            "README.md",
            "`crates/pool/src/ledger.rs:12`, `crates/pool/`, `crates/pool/src/ledger.rs::Ledger`",
        );
        check_good("README.md", "run `baton up examples/boutique --watch`");
        check_bad("README.md", "see `crates/pool/src/gone.rs`.", "crates/pool/src/gone.rs");
        check_bad("docs/x.md", "run `baton up examples/shop`", "examples/shop");
    }

    #[test]
    fn patterns_products_and_foreign_paths_are_left_alone() {
        check_good("README.md", "`crates/*`, `crates/<name>/src`, `e2e/artifacts/shop.png`, `src/gone.rs`");
        check_good("README.md", "```\n`crates/gone`\n```\n");
        check_good("README.md", "an open ` crates/gone");
    }

    #[test]
    fn a_page_may_name_paths_from_its_own_directory() {
        check_good("examples/boutique/README.md", "`docs/menu.md`");
    }

    #[test]
    fn relative_links_lead_somewhere() {
        check_good(
            "docs/README.md",
            "[a](adr/0001-process.md#why) [b](../SAFETY.md) [c](https://example.org/x)",
        );
        check_good("README.md", "[here](#below) [d](docs/adr/)");
        check_bad("docs/README.md", "[a](adr/0002.md)", "adr/0002.md");
        check_bad("README.md", "[up](../other/README.md)", "../other/README.md");
    }
}
