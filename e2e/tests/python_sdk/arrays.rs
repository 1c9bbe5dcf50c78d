//! NumPy arrays and Arrow tables where they lie.

use baton_e2e::{Node, need_one_node, need_processes, wait_until};
use serde_json::Value;

use super::{REST, app, python, start};

fn receipt_of(node: &Node, id: &str) -> Value {
    let mut found = Value::Null;
    wait_until(REST, "every hop's row is in the receipt", || {
        found = node.cli(["receipt", id, "--json"]).json();
        found["hops"].as_array().is_some_and(|hops| hops.len() >= 3)
    });
    found
}

#[test]
fn a_frame_goes_from_python_through_python_and_rust_without_a_copy() {
    need_processes!();
    need_one_node!();
    let calls = "calls = [\"total\", \"rust\"]";
    let app = python(app("frames"), "bright", "frames:bright", calls).function("rust", "echo", "");
    let app = python(app, "total", "frames:total", "");
    let Some(node) = start(&app) else { return };
    for len in [1usize, 4096, 4 << 20] {
        let answered = node.post("/bright", &vec![7; len]);
        assert!(answered.status == 200, "{len}: {}", answered.text());
        assert!(answered.body == vec![8; len], "{len}");
        let id = answered.header("x-baton-invocation").expect("its number").to_owned();
        let receipt = receipt_of(&node, &id);
        // Every copy that there is: a sum as text, on its way back to the first function.
        let largest = receipt["hops"].as_array().expect("hops").iter();
        let copied: u64 = largest.filter_map(|hop| hop["bytes_copied"].as_u64()).sum();
        assert!(copied < 32, "{len}: {receipt}");
        assert!(receipt["bytes_handed"].as_u64().expect("a number") >= 3 * len as u64, "{receipt}");
    }
    node.wait_at_rest(REST);
}

#[test]
fn arrays_are_returned_and_scattered_where_they_lie() {
    need_processes!();
    need_one_node!();
    let app = python(app("made"), "made", "frames:made", "");
    let app = python(app, "split", "frames:split", "calls = [\"addends\"]");
    let app = python(app, "addends", "frames:addends", "");
    let Some(node) = start(&app) else { return };
    let made = node.get("/made");
    let expected: Vec<u8> = 2.5f32.to_le_bytes().into_iter().cycle().take(4 * 64 * 1024).collect();
    assert!(made.status == 200 && made.body == expected, "{}", made.status);
    let id = made.header("x-baton-invocation").expect("its number").to_owned();
    let found = node.cli(["receipt", &id, "--json"]).json();
    assert_eq!(found["copies"], 0, "{found}");
    let split = node.post("/split", &vec![2; 1 << 20]);
    let quarter = 2 * (1 << 18);
    assert_eq!(split.text(), format!("[{quarter},{quarter},{quarter},{quarter}]"), "{}", split.status);
    node.wait_at_rest(REST);
}

#[test]
fn an_arrow_table_is_read_in_place_by_the_next_function() {
    need_processes!();
    need_one_node!();
    let app = python(app("tables"), "table", "frames:table", "calls = [\"rows\"]");
    let app = python(app, "rows", "frames:rows", "");
    let Some(node) = start(&app) else { return };
    let answered = node.get("/table");
    assert_eq!(answered.text(), "{\"rows\":1000,\"sum\":499500}", "{}", answered.status);
    node.wait_at_rest(REST);
}
