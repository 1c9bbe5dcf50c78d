//! No file names a path that only the author's machine has.

use super::Finding;
use super::config::{self, Config};
use super::tree::Tree;

/// Where such paths begin. Written in two parts, so that this file does not find itself.
const BEGINNINGS: &[&str] = &[concat!("/wo", "rk"), concat!("/ro", "ot"), concat!("/tmp/", "t-")];

/// Lines with such a path, and exceptions that excuse nothing.
pub(super) fn check(tree: &Tree, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        let excused = config.machine_path.iter().any(|exception| exception.path == file.path);
        let mut found = file.text.lines().enumerate().filter_map(|(n, l)| Some((n + 1, machine_path(l)?)));
        if excused {
            if found.next().is_none() {
                let message = format!("the machine-path exception for {} is not needed any more", file.path);
                findings.push(Finding::new(config::PATH, None, message));
            }
            continue;
        }
        findings.extend(found.map(|(line, beginning)| {
            Finding::new(&file.path, Some(line), format!("`{beginning}…` is a path of one machine only"))
        }));
    }
    let gone = config.machine_path.iter().filter(|exception| tree.file(&exception.path).is_none());
    findings.extend(gone.map(|exception| {
        let message = format!("the machine-path exception for {} names no file: remove it", exception.path);
        Finding::new(config::PATH, None, message)
    }));
    findings
}

/// The beginning of the first machine path in a line. A beginning counts only where a path can begin and where its last
/// name ends: `$HOME/…`, `pivot…` and `…shop` are something else.
fn machine_path(line: &str) -> Option<&'static str> {
    let is_name = |c: char| c.is_alphanumeric() || "_-.~".contains(c);
    BEGINNINGS.iter().copied().find(|beginning| {
        line.match_indices(beginning).any(|(at, _)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            let after = line.get(at + beginning.len()..).and_then(|text| text.chars().next());
            let begins = !before.is_some_and(|c| is_name(c) || "/})*$>".contains(c));
            let ends = beginning.ends_with('-') || !after.is_some_and(is_name);
            begins && ends
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: &str = concat!("/wo", "rk");
    const ROOT: &str = concat!("/ro", "ot");

    fn check_line(line: &str, expect: Option<&str>) {
        assert_eq!(machine_path(line), expect, "{line}");
    }

    #[test]
    fn paths_are_found_where_they_begin() {
        check_line(&format!("see {WORK}/main"), Some(WORK));
        check_line(&format!("\"{ROOT}\""), Some(ROOT));
        check_line(&format!("CARGO_TARGET_DIR={}x", concat!("/tmp/", "t-")), Some(concat!("/tmp/", "t-")));
    }

    #[test]
    fn parts_of_other_paths_are_not_found() {
        check_line(&format!("${{HOME}}{WORK}/x"), None);
        check_line(&format!("bench{WORK}.rs"), None);
        check_line(&format!("{WORK}shop/x"), None);
        check_line("pivot_root(new, old)", None);
    }

    #[test]
    fn an_exception_excuses_its_file_and_goes_stale() {
        let exception = "[[machine-path]]\npath = \"a.rs\"\nreason = \"a refused path\"\n";
        let config = Config::parse(exception).unwrap();
        let with = Tree::from_pairs([("a.rs", format!("//! {WORK}/x\n"))]);
        assert!(check(&with, &config).is_empty());
        assert_eq!(check(&with, &Config::default()).len(), 1);
        assert_eq!(check(&Tree::from_pairs([("a.rs", "//! A.\n")]), &config).len(), 1);
        assert_eq!(check(&Tree::default(), &config).len(), 1);
    }
}
