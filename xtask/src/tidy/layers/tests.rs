//! The three rules of the layer table, each broken in turn.

use super::*;

/// A page whose table has the given rows.
fn page(rows: &str) -> Tree {
    let head = "# Architecture\n\n<!-- layers -->\n| layer | crate | may use |\n|---|---|---|\n";
    Tree::from_pairs([(PAGE, format!("{head}{rows}\n<!-- /layers -->\n\n| 9 | `not`, | in it |\n"))])
}

/// A graph out of `crate: uses` pairs.
fn graph_of(edges: &[(&str, &[&str])]) -> Graph {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let uses = |names| Uses { product: set(names), ..Uses::default() };
    edges.iter().map(|&(name, names)| (name.to_owned(), uses(names))).collect()
}

fn messages(rows: &str, graph: &Graph) -> Vec<String> {
    check(&page(rows), graph).iter().map(ToString::to_string).collect()
}

const GOOD: &str = "| 2 | `replica`, `placement` | `pool` |\n| 1 | `pool` | `abi` |\n| 0 | `abi` | – |";

fn good_graph() -> Graph {
    graph_of(&[("replica", &["pool"]), ("placement", &["pool"]), ("pool", &["abi"]), ("abi", &[])])
}

#[test]
fn a_table_that_equals_the_graph_passes() {
    assert!(messages(GOOD, &good_graph()).is_empty());
}

#[test]
fn an_edge_that_the_table_lacks_is_found() {
    let mut graph = good_graph();
    graph.entry("replica".into()).or_default().product.insert("abi".into());
    let found = messages(GOOD, &graph);
    assert_eq!(found, ["ARCHITECTURE.md:6: `replica` uses `abi`, which the table does not let it"]);
}

#[test]
fn an_edge_that_the_graph_lacks_is_found() {
    let rows = GOOD.replace("| `abi` | – |", "| `abi` | |").replace("| `pool` |\n", "| `pool`, `abi` |\n");
    let found = messages(&rows, &good_graph());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.concat().contains("`replica` use `abi`, but it does not"));
}

#[test]
fn arrows_that_go_sideways_or_up_are_found() {
    let rows = "| 1 | `pool` | `abi`, `link` |\n| 1 | `link` | – |\n| 0 | `abi` | `pool` |";
    let graph = graph_of(&[("pool", &["abi", "link"]), ("link", &[]), ("abi", &["pool"])]);
    let found = messages(rows, &graph);
    assert_eq!(
        found,
        [
            "ARCHITECTURE.md:6: `pool` uses `link` of its own layer 1",
            "ARCHITECTURE.md:8: `abi` (layer 0) uses `pool` above it (layer 1)"
        ]
    );
}

#[test]
fn dependencies_of_tests_go_down_but_need_no_entry() {
    let mut graph = good_graph();
    graph.entry("replica".into()).or_default().tests.insert("abi".into());
    assert!(messages(GOOD, &graph).is_empty());
    graph.entry("abi".into()).or_default().tests.insert("pool".into());
    assert_eq!(messages(GOOD, &graph).len(), 1);
}

#[test]
fn crates_without_a_row_and_rows_without_a_crate_are_found() {
    let found = messages("| 0 | `abi` | – |\n| 0 | `gone` | – |", &graph_of(&[("abi", &[]), ("pool", &[])]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.concat().contains("the table has `gone`"));
    assert!(found.concat().contains("lacks `pool`"));
}

#[test]
fn product_crates_use_nothing_from_outside() {
    let mut graph = good_graph();
    graph.entry("pool".into()).or_default().outside.insert("baton-sdk".into());
    assert_eq!(messages(GOOD, &graph).len(), 1);
}

#[test]
fn a_page_without_a_table_is_one_finding() {
    for text in ["", "<!-- layers -->\n| layer | crate | may use |\n|---|---|---|\n| 0 | `abi` | |\n"] {
        let tree = Tree::from_pairs([(PAGE, text)]);
        assert_eq!(check(&tree, &good_graph()).len(), 1, "{text}");
    }
    assert_eq!(check(&Tree::default(), &good_graph()).len(), 1);
}

#[test]
fn rows_that_cannot_be_read_are_found() {
    for rows in ["| x | `abi` | – |", "| 0 | `abi` |", "| 0 | `abi` | – |\n| 0 | `abi` | – |"] {
        let found = messages(rows, &graph_of(&[("abi", &[])]));
        assert_eq!(found.len(), 1, "{rows}: {found:?}");
    }
}

#[test]
fn the_graph_is_read_from_metadata() {
    let packages: Vec<Package> = serde_json::from_value(serde_json::json!([
        {"name": "baton-pool", "manifest_path": "/r/crates/pool/Cargo.toml", "dependencies": [
            {"name": "baton-abi", "kind": null, "path": "/r/crates/abi"},
            {"name": "baton-sdk", "kind": null, "path": "/r/sdk/rust"},
            {"name": "baton-catalog", "kind": "dev", "path": "/r/crates/catalog"},
            {"name": "libc", "kind": null},
        ]},
        {"name": "xtask", "manifest_path": "/r/xtask/Cargo.toml", "dependencies": []},
    ]))
    .unwrap();
    let graph = graph(&packages, Path::new("/r"));
    assert_eq!(graph.keys().collect::<Vec<_>>(), ["pool"]);
    let uses = &graph["pool"];
    assert!(uses.product.iter().eq(["abi"]));
    assert!(uses.tests.iter().eq(["catalog"]));
    assert!(uses.outside.iter().eq(["baton-sdk"]));
}
