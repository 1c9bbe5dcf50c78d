//! What replicas of one zygote can do to each other, and Python without a sandbox.

use std::collections::BTreeSet;

use baton_e2e::{Node, need_one_node, need_processes, need_sandbox, wait_until};

use super::{PATIENCE, app, ask};

/// Tells who it is, and tries at others what its walls should not let it.
const MODULE: &str = r#"
import os, signal, time
import baton

def attempt(do):
    try:
        do()
        return "done"
    except (OSError, AttributeError) as error:
        return type(error).__name__

def peek(path):
    with open(path, "rb") as file:
        file.read(1)

@baton.function
def ask(request, ctx):
    what = request.path.rsplit("/", 1)[-1]
    if what == "who":
        time.sleep(0.2)
        return {"pid": os.getpid()}
    own, tried = os.getpid(), {}
    for pid in map(int, request.text().split()):
        if pid == own:
            continue
        tried[f"kill {pid}"] = attempt(lambda: os.kill(pid, signal.SIGKILL))
        tried[f"pidfd {pid}"] = attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL))
        tried[f"mem {pid}"] = attempt(lambda: peek(f"/proc/{pid}/mem"))
        tried[f"environ {pid}"] = attempt(lambda: peek(f"/proc/{pid}/environ"))
    return tried
"#;

fn pids(node: &Node) -> BTreeSet<u64> {
    let calls: Vec<_> = (0..6).map(|_| node.in_background("/snap/who", b"")).collect();
    let answers = calls.into_iter().map(|call| call.join().expect("an answer"));
    let pid = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).ok()?["pid"].as_u64();
    answers.filter_map(|answer| pid(&answer.body)).collect()
}

#[test]
fn replicas_of_one_zygote_neither_end_nor_read_each_other() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(app) = app("siblings", MODULE, "scale = { min = 3, max = 3 }") else { return };
    let node = Node::start(&app);
    let before = pids(&node);
    assert!(before.len() > 1, "several replicas answer: {before:?}");
    let list = before.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    for _ in 0..6 {
        let tried = ask(&node, "try", &list);
        let tried = tried.as_object().expect("an object");
        assert!(!tried.is_empty());
        for (what, came) in tried {
            assert_ne!(came, "done", "{what}");
        }
    }
    assert!(pids(&node).is_superset(&before), "all of them live");
    assert_eq!(node.restarts("snap"), 0);
}

#[test]
fn without_a_sandbox_python_runs_or_says_why_it_cannot() {
    need_processes!();
    need_one_node!();
    let Some(app) = app("open", &super::module(), "") else { return };
    let node = Node::bare("open", &["--insecure-no-sandbox"]);
    let deployed = node.cli(["deploy", &app.directory().to_string_lossy()]);
    if rustix::process::geteuid().is_root() {
        // Its replicas are nobody, to whom the state directory of root is closed.
        assert_eq!(deployed.code, 1, "{}", deployed.stdout);
        let told = deployed.stderr.replace(['\n', '│'], " ");
        assert!(told.contains("closed to it") && told.contains("run the node as another user"), "{told}");
        return;
    }
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    assert_eq!(ask(&node, "who", "")["seen"].as_array().map(Vec::len), Some(1));
    let answer = node.get("/snap/exit");
    assert_eq!(answer.status, 502, "{}", answer.text());
    wait_until(PATIENCE, "another replica", || node.get("/snap/who").status == 200);
}
