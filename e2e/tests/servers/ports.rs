//! Ports inside a replica's own network: with `ports`, others are dropped and counted.

use baton_e2e::{kernel_hands_over, need_processes, need_sandbox, wait_until};

use super::REST;
use super::places::Server;

#[test]
fn ports_that_are_not_declared_are_dropped_and_counted() {
    need_processes!();
    need_sandbox!();
    if !kernel_hands_over() {
        return;
    }
    let node = Server::ports("ports = [9000]").start();
    let says = |port: u16| node.get(&format!("/{port}")).text();
    assert_eq!(says(9000), "passed");
    // The program in the kernel comes while the replica starts.
    wait_until(REST, "undeclared ports are dropped", || says(9001) == "dropped");
    assert_eq!((says(9001).as_str(), says(9000).as_str()), ("dropped", "passed"));
    let ports = &node.function("web")["ports"];
    let packets = |of: &serde_json::Value| of["packets"].as_u64().unwrap();
    assert!(packets(&ports["dropped_by_port"]["9001"]) >= 2, "{ports}");
    assert!(packets(&ports["passed"]) > packets(&ports["dropped"]), "{ports}");
}

#[test]
fn without_the_key_every_port_is_the_programs_own() {
    need_processes!();
    need_sandbox!();
    let node = Server::ports("").start();
    assert_eq!(node.get("/9001").text(), "passed");
    assert!(node.function("web").get("ports").is_none());
}
