//! The manifests of the measured apps are what the node accepts, and say what the suites rely on.

use std::path::Path;

use baton_catalog::{Isolation, Manifest};

fn manifest(app: &str) -> Manifest {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(app).join("baton.toml");
    let text = std::fs::read_to_string(&file).expect("the manifest is there");
    Manifest::parse(&text, &file).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn hello_has_one_resident_replica() {
    let hello = manifest("hello");
    assert_eq!((hello.functions.len(), hello.routes.len()), (1, 1));
    assert!(
        hello.functions.values().all(|function| function.scale.min == 1 && function.scale.concurrency >= 64)
    );
}

#[test]
fn hop_has_one_edge_and_room_for_the_largest_payload() {
    let hop = manifest("hop");
    let calls: Vec<usize> = hop.functions.values().map(|function| function.calls.len()).collect();
    assert_eq!(calls, [0, 1], "callee calls nobody, caller calls it");
    assert!(hop.functions.values().all(|function| function.scale.min == 1 && function.scale.max == 1));
}

#[test]
fn transfer_calls_from_one_node_to_another_and_to_its_own() {
    let transfer = manifest("transfer");
    let nodes = |name| {
        let function = transfer.function(name).unwrap();
        function.nodes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        (nodes("caller"), nodes("nearby"), nodes("callee")),
        (vec!["a".into()], vec!["a".into()], vec!["b".into()])
    );
    let [callee, nearby] = ["callee", "nearby"].map(|name| transfer.function(name).unwrap());
    assert_eq!(callee.build, nearby.build, "the same runs on both nodes");
    assert!(callee.scale.concurrency >= 100, "a hundred parts are handed out at once");
}

#[test]
fn coldstart_has_what_says_when_it_began_and_a_twin_with_reset() {
    let coldstart = manifest("coldstart");
    let is_reset = |name| coldstart.function(name).map(|function| (function.reset, function.build.clone()));
    let (dirty, twin) = (is_reset("dirty").unwrap(), is_reset("dirty-reset").unwrap());
    assert_eq!((dirty.0, twin.0, dirty.1), (false, true, twin.1));
    let first = coldstart.function("first").unwrap();
    assert_eq!(first.calls.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["second"]);
    assert!(coldstart.functions.values().all(|function| function.isolation == Isolation::Compartment));
}
