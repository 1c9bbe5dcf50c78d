//! Files and function bodies stay short; the exceptions are a ratchet.

use super::Finding;
use super::config::{self, Config, SLACK_LINES};
use super::source;
use super::tree::Tree;

/// Lines that a Rust file may have.
const FILE_LINES_MAX: usize = 500;
/// Lines that a function may have between its braces.
const FUNCTION_LINES_MAX: usize = 70;
/// Pages that have a length of their own.
const PAGE_LINES_MAX: &[(&str, usize)] = &[("ARCHITECTURE.md", 400)];

/// What is too long, and which exceptions are stale.
pub(super) fn check(tree: &Tree, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut lengths = Vec::new();
    for file in tree.rust() {
        let lines = file.text.lines().count();
        let allowed = config.file.iter().find(|e| e.path == file.path).map_or(FILE_LINES_MAX, |e| e.lines);
        if lines > allowed.max(FILE_LINES_MAX) {
            let message = format!("{lines} lines, at most {allowed} are allowed: split it");
            findings.push(Finding::new(&file.path, None, message));
        }
        let functions = source::functions(&source::code_only(&file.text));
        findings.extend(functions.iter().filter_map(|function| too_long(&file.path, function, config)));
        lengths.push((file.path.as_str(), lines, functions));
    }
    for &(path, max) in PAGE_LINES_MAX {
        let lines = tree.file(path).map_or(0, |page| page.text.lines().count());
        if lines > max {
            findings.push(Finding::new(path, None, format!("{lines} lines, at most {max} are allowed")));
        }
    }
    findings.extend(stale_exceptions(config, &lengths));
    findings
}

fn too_long(path: &str, function: &source::Function, config: &Config) -> Option<Finding> {
    let exception = config.function.iter().find(|e| e.path == path && e.name == function.name);
    let allowed = exception.map_or(FUNCTION_LINES_MAX, |e| e.lines).max(FUNCTION_LINES_MAX);
    (function.body_lines > allowed).then(|| {
        let source::Function { name, line, body_lines } = function;
        let message =
            format!("the body of `{name}` has {body_lines} lines, at most {allowed} are allowed: split it");
        Finding::new(path, Some(*line), message)
    })
}

/// Exceptions that nothing needs, or that leave too much room.
fn stale_exceptions(config: &Config, lengths: &[(&str, usize, Vec<source::Function>)]) -> Vec<Finding> {
    let files = config.file.iter().map(|exception| {
        let actual = lengths.iter().find(|(path, ..)| *path == exception.path).map(|&(_, lines, _)| lines);
        (exception.path.clone(), actual, exception.lines, FILE_LINES_MAX)
    });
    let functions = config.function.iter().map(|exception| {
        let actual = (lengths.iter().filter(|(path, ..)| *path == exception.path))
            .flat_map(|(.., functions)| functions)
            .filter(|function| function.name == exception.name)
            .map(|function| function.body_lines)
            .max();
        (format!("{}, `{}`", exception.path, exception.name), actual, exception.lines, FUNCTION_LINES_MAX)
    });
    let stale = |(what, actual, excused, max): (String, Option<usize>, usize, usize)| match actual {
        None => Some(format!("the exception for {what} excuses nothing: remove it")),
        Some(actual) if actual <= max => {
            Some(format!("the exception for {what} is not needed any more: remove it"))
        }
        Some(actual) if excused > actual + SLACK_LINES => {
            Some(format!("the exception for {what} allows {excused} lines, it has {actual}: lower it"))
        }
        Some(_) => None,
    };
    files.chain(functions).filter_map(stale).map(|m| Finding::new(config::PATH, None, m)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_file(lines: usize) -> Tree {
        Tree::from_pairs([("crates/a/src/lib.rs", "//! A.\n".repeat(lines))])
    }

    fn long_function(body_lines: usize) -> Tree {
        let text = format!("//! A.\nfn long() {{\n{}}}\n", "    x();\n".repeat(body_lines));
        Tree::from_pairs([("crates/a/src/lib.rs", text)])
    }

    fn messages(tree: &Tree, config: &str) -> Vec<String> {
        let config = Config::parse(config).unwrap();
        check(tree, &config).iter().map(ToString::to_string).collect()
    }

    fn file_exception(lines: usize) -> String {
        format!("[[file]]\npath = \"crates/a/src/lib.rs\"\nlines = {lines}\nreason = \"a table\"\n")
    }

    fn function_exception(lines: usize) -> String {
        let place = "path = \"crates/a/src/lib.rs\"\nname = \"long\"";
        format!("[[function]]\n{place}\nlines = {lines}\nreason = \"a table\"\n")
    }

    #[test]
    fn a_file_at_the_limit_passes_and_one_above_fails() {
        assert!(messages(&long_file(500), "").is_empty());
        let found = messages(&long_file(501), "");
        assert_eq!(found, ["crates/a/src/lib.rs: 501 lines, at most 500 are allowed: split it"]);
    }

    #[test]
    fn a_function_at_the_limit_passes_and_one_above_fails() {
        assert!(messages(&long_function(70), "").is_empty());
        let found = messages(&long_function(71), "");
        assert_eq!(found.len(), 1);
        assert!(found.concat().starts_with("crates/a/src/lib.rs:2: the body of `long` has 71 lines"));
    }

    #[test]
    fn an_exception_excuses_up_to_its_length() {
        assert!(messages(&long_file(600), &file_exception(610)).is_empty());
        assert_eq!(messages(&long_file(611), &file_exception(610)).len(), 1);
        assert!(messages(&long_function(80), &function_exception(80)).is_empty());
        assert_eq!(messages(&long_function(81), &function_exception(80)).len(), 1);
    }

    #[test]
    fn an_exception_that_is_not_needed_any_more_fails() {
        let found = messages(&long_file(500), &file_exception(600)).concat();
        assert!(found.contains("not needed any more"), "{found}");
        let found = messages(&long_function(70), &function_exception(80)).concat();
        assert!(found.contains("not needed any more"), "{found}");
        let found = messages(&Tree::default(), &file_exception(600)).concat();
        assert!(found.contains("excuses nothing"), "{found}");
    }

    #[test]
    fn an_exception_with_too_much_room_fails() {
        let found = messages(&long_file(600), &file_exception(621)).concat();
        assert!(found.contains("lower it"), "{found}");
    }

    #[test]
    fn the_architecture_page_has_a_limit() {
        let tree = Tree::from_pairs([("ARCHITECTURE.md", "x\n".repeat(401))]);
        assert_eq!(messages(&tree, "").len(), 1);
    }
}
