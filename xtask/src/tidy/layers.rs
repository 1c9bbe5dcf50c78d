//! The crate graph equals the layer table of ARCHITECTURE.md.
//!
//! The table stands between two markers and is the one place where the graph is decided:
//!
//! ```text
//! <!-- layers -->
//! | layer | crate     | may use              |
//! |-------|-----------|----------------------|
//! | 1     | `pool`    | `abi`                |
//! | 0     | `abi`     | –                    |
//! <!-- /layers -->
//! ```
//!
//! Three rules: arrows go down and never sideways; the table has every crate of `crates/` and no other; its edges are exactly
//! those of `cargo metadata`. Dependencies of tests alone need not be in the table, but go down like all others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Finding;
use super::tree::Tree;
use crate::project::{DependencyKind, Package};

/// The page with the table.
const PAGE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- layers -->";
const END: &str = "<!-- /layers -->";

/// The guests' side, which no part of the node may use; and the crates that are functions themselves.
const SDK: &str = "baton-sdk";
const FUNCTIONS: &[&str] = &["shim"];

/// What the crates of `crates/` really use, by directory name.
pub(super) type Graph = BTreeMap<String, Uses>;

/// What one crate uses of this repository.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Crates of `crates/`, in the product.
    product: BTreeSet<String>,
    /// Crates of `crates/`, in tests only.
    tests: BTreeSet<String>,
    /// Packages outside `crates/`, in the product.
    outside: BTreeSet<String>,
}

/// The true graph, from the packages that `cargo metadata` names.
pub(super) fn graph(packages: &[Package], root: &Path) -> Graph {
    let crates = root.join("crates");
    let name_below = |path: &Path| Some(path.strip_prefix(&crates).ok()?.to_str()?.to_owned());
    let mut graph = Graph::new();
    for package in packages {
        let Some(name) = package.manifest_path.parent().and_then(name_below) else { continue };
        let uses = graph.entry(name).or_default();
        for dependency in &package.dependencies {
            let Some(path) = &dependency.path else { continue };
            let tests_only = dependency.kind == Some(DependencyKind::Dev);
            match name_below(path) {
                Some(used) if tests_only => uses.tests.insert(used),
                Some(used) => uses.product.insert(used),
                None if tests_only => continue,
                None => uses.outside.insert(dependency.name.clone()),
            };
        }
    }
    graph
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    layer: u32,
    name: String,
    uses: BTreeSet<String>,
}

/// Violations of the three rules.
pub(super) fn check(tree: &Tree, graph: &Graph) -> Vec<Finding> {
    let Some(page) = tree.file(PAGE) else {
        return vec![Finding::new(PAGE, None, "is missing, and with it the layer table")];
    };
    let rows = match table(&page.text) {
        Ok(rows) => rows,
        Err(finding) => return vec![finding],
    };
    let layers: BTreeMap<&str, u32> = rows.iter().map(|row| (row.name.as_str(), row.layer)).collect();
    let mut findings = Vec::new();
    for row in &rows {
        let at = |message: String| Finding::new(PAGE, Some(row.line), message);
        let Some(uses) = graph.get(&row.name) else {
            findings.push(at(format!("the table has `{}`, crates/ has not", row.name)));
            continue;
        };
        findings.extend(row.uses.iter().filter_map(|used| arrow(row, used, &layers)).map(at));
        findings.extend((uses.tests.difference(&row.uses)).filter_map(|u| arrow(row, u, &layers)).map(at));
        findings.extend(row.uses.difference(&uses.product).map(|used| {
            at(format!("the table lets `{}` use `{used}`, but it does not: remove it", row.name))
        }));
        findings.extend(
            uses.product
                .difference(&row.uses)
                .map(|used| at(format!("`{}` uses `{used}`, which the table does not let it", row.name))),
        );
        let is_function = |used: &&String| *used == SDK && FUNCTIONS.contains(&row.name.as_str());
        findings.extend(
            uses.outside
                .iter()
                .filter(|used| !is_function(used))
                .map(|used| at(format!("`{}` uses `{used}`, which is no product crate", row.name))),
        );
    }
    let missing = graph.keys().filter(|name| !layers.contains_key(name.as_str()));
    findings.extend(missing.map(|name| Finding::new(PAGE, None, format!("the layer table lacks `{name}`"))));
    findings
}

/// What is wrong with the arrow from a row to `used`, if anything.
fn arrow(row: &Row, used: &str, layers: &BTreeMap<&str, u32>) -> Option<String> {
    let Row { layer, name, .. } = row;
    match layers.get(used) {
        None => Some(format!("`{name}` uses `{used}`, which has no row")),
        Some(below) if below < layer => None,
        Some(same) if same == layer => Some(format!("`{name}` uses `{used}` of its own layer {layer}")),
        Some(above) => Some(format!("`{name}` (layer {layer}) uses `{used}` above it (layer {above})")),
    }
}

/// The rows of the table; crates that share a row share its layer and its uses.
fn table(page: &str) -> Result<Vec<Row>, Finding> {
    let numbered = || page.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let between = numbered().skip_while(|(_, line)| *line != BEGIN).take_while(|(_, line)| *line != END);
    let lines: Vec<_> = between.filter(|(_, line)| line.starts_with('|')).collect();
    let closed = numbered().any(|(_, line)| line == END);
    let Some((_header_and_rule, body)) = lines.split_at_checked(2).filter(|_| closed) else {
        return Err(Finding::new(PAGE, None, format!("has no layer table between {BEGIN} and {END}")));
    };
    let mut rows: Vec<Row> = Vec::new();
    for &(line, text) in body {
        let cells: Vec<&str> = text.trim_matches('|').split('|').map(str::trim).collect();
        let [layer, crates, uses] = cells[..] else {
            return Err(Finding::new(
                PAGE,
                Some(line),
                "a row of the layer table has other than three cells",
            ));
        };
        let Ok(layer) = layer.parse() else {
            return Err(Finding::new(PAGE, Some(line), format!("`{layer}` is not the number of a layer")));
        };
        for name in names(crates) {
            if rows.iter().any(|row| row.name == name) {
                return Err(Finding::new(PAGE, Some(line), format!("a second row for `{name}`")));
            }
            rows.push(Row { line, layer, name, uses: names(uses).collect() });
        }
    }
    Ok(rows)
}

/// The crate names in a cell: words with or without backticks, commas and the prefix `baton-`; a dash is no name.
fn names(cell: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (cell.split(move |c| !is_part(c)))
        .map(|word| word.strip_prefix("baton-").unwrap_or(word))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphanumeric()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
