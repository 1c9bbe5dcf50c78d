//! Secrets of a cluster: set on one node, in the environment of functions on all, and in the clear on none of their disks.

use std::fs;

use baton_e2e::{App, Nats, Node, files_with, need_processes, need_sandbox, set_secret, wait_until};

use super::SOON;

const VALUE: &str = "zK3-correct-horse-battery-91";
const OTHER: &str = "qP7-another-stapled-value-55";
const WRONG: &str = "wrong-kG5-stapled-value-17";

fn set(node: &Node, value: &str) -> (i32, String) {
    set_secret(node.home(), "vault/word", value)
}

#[track_caller]
fn all_have(nodes: &[Node], value: &str) {
    for node in nodes {
        wait_until(SOON, "the function has the value", || {
            let answer = node.get("/keeper");
            answer.status == 200 && answer.text() == value
        });
    }
}

#[test]
fn a_secret_set_on_one_node_is_had_by_functions_on_all() {
    need_sandbox!();
    need_processes!();
    let Some(nats) = Nats::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("cluster.key");
    fs::write(&key, "5".repeat(64)).expect("it can be written");
    let more = ["--cluster-secrets", key.to_str().expect("UTF-8")];
    let member = |name: &str, address: &str| Node::member_with(&nats.url(), name, address, "vault", &more);
    let mut nodes = vec![member("a", "127.0.0.1"), member("b", "127.0.0.2")];
    nodes.iter().for_each(|node| super::wait_for_members(node, &["a", "b"]));
    let (code, said) = set(&nodes[1], VALUE);
    assert!(code == 0 && said.contains("on all nodes"), "{said}");
    wait_until(SOON, "it has come", || nodes[0].cli(["secret", "list"]).stdout.contains("vault/word"));
    let app = App::new("vault").function("keeper", "picky", "secrets = { VERSION = \"word\" }");
    let deployed = nodes[0].cli(["deploy", app.directory().to_str().expect("UTF-8")]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    all_have(&nodes, VALUE);
    assert_eq!(set(&nodes[0], OTHER).0, 0);
    all_have(&nodes, OTHER);
    // What does not start where it is set goes to nobody.
    let (code, said) = set(&nodes[1], WRONG);
    assert!(code == 1 && said.contains("does not start with the new value"), "{said}");
    all_have(&nodes, OTHER);
    // One that joins later has it before its functions start.
    nodes.push(member("c", "127.0.0.3"));
    all_have(&nodes, OTHER);
    for value in [VALUE, OTHER, WRONG] {
        assert_eq!(files_with(nats.directory(), value), Vec::<String>::new());
        nodes.iter().for_each(|node| assert_eq!(files_with(node.home(), value), Vec::<String>::new()));
    }
    assert!(!files_with(nats.directory(), "secret.vault.word").is_empty(), "the search finds what is there");
}
