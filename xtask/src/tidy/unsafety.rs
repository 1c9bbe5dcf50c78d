//! `unsafe` stays where it is allowed, and every file that has it says why.

use super::Finding;
use super::source;
use super::tree::Tree;

/// Where `unsafe` may be: a directory (with `/`) or one file.
const ALLOWED: &[&str] = &[
    "crates/cell/",
    "crates/kernel/src/sys.rs",
    "crates/pool/",
    "crates/wasm-host/",
    "crates/replica/src/sys/",
    "crates/replica/src/sys.rs",
    "sdk/component/src/single.rs",
    "sdk/lib/",
    "sdk/rust/",
    "bench/src/yardstick/sys.rs",
    // Programs that misbehave on purpose: what no safe function would do is what they are for.
    "e2e/guests/",
    "e2e/villain/",
    "e2e/stub-cell/",
];

/// The line that such a file carries.
const NOTICE: &str = "// UNSAFETY:";

/// `unsafe` outside the allowed places, and files without the notice.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let lines = source::lines_with_word(&source::code_only(&file.text), "unsafe");
        let Some(&first) = lines.first() else { continue };
        let allowed = ALLOWED.iter().any(|place| match place.strip_suffix('/') {
            Some(_) => file.path.starts_with(place),
            None => file.path == *place,
        });
        if !allowed {
            let message = "`unsafe` is not allowed here (see SAFETY.md): move it behind a safe function of a crate that may";
            findings.extend(lines.iter().map(|&line| Finding::new(&file.path, Some(line), message)));
        } else if !has_notice(&file.text) {
            let message = format!("uses `unsafe` without a `{NOTICE} why` line");
            findings.push(Finding::new(&file.path, Some(first), message));
        }
    }
    findings
}

fn has_notice(text: &str) -> bool {
    let reason = |line: &str| line.trim_start().strip_prefix(NOTICE).map(|why| !why.trim().is_empty());
    text.lines().any(|line| reason(line) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&Tree::from_pairs([(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unsafe_outside_the_allowed_places_is_found_line_by_line() {
        let text = "//! A.\nunsafe fn f() {}\n// unsafe in a comment\nfn g() { unsafe { f() } }\n";
        let found = messages("crates/flow/src/lib.rs", text);
        assert_eq!(found.len(), 2);
        assert!(found.concat().contains("crates/flow/src/lib.rs:4:"));
        assert_eq!(messages("crates/replica/src/system.rs", text).len(), 2);
    }

    #[test]
    fn an_allowed_file_needs_its_notice_with_a_reason() {
        let code = "unsafe fn f() {}\n";
        assert_eq!(messages("crates/pool/src/region.rs", code).len(), 1);
        assert_eq!(messages("crates/pool/src/region.rs", &format!("{NOTICE}\n{code}")).len(), 1);
        assert!(messages("crates/pool/src/region.rs", &format!("{NOTICE} maps memory\n{code}")).is_empty());
        assert!(messages("bench/src/yardstick/sys.rs", &format!("{NOTICE} futexes\n{code}")).is_empty());
    }

    #[test]
    fn lints_about_unsafe_code_are_not_unsafe() {
        assert!(messages("crates/flow/src/lib.rs", "#![forbid(unsafe_code)]\n").is_empty());
    }
}
