//! Python functions whose replicas are forked from a snapshot of their module: starts, walls, deaths, and what is refused.

mod network;
mod starts;
mod walls;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use baton_e2e::{App, Node, need_one_node, need_processes, python_environment, source_root, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// An app with one function, `snap`, of this module.
fn app(name: &str, module: &str, more: &str) -> Option<App> {
    let python = python_environment()?;
    let app = App::new(name);
    fs::create_dir_all(app.directory().join("app")).expect("a directory");
    fs::write(app.directory().join("app/snap.py"), module).expect("a module");
    let table = format!(
        "runtime = \"python\"\nfiles = \"app\"\nhandler = \"snap\"\npython = \"{}\"\ntimeout = \"20s\"\n{more}",
        python.display()
    );
    Some(app.written("snap", &table).route("/snap/{what}", "snap", "methods = [\"GET\", \"POST\"]"))
}

fn module() -> String {
    fs::read_to_string(source_root().join("e2e/tests/python/app/snap.py")).expect("the module of the tests")
}

fn ask(node: &Node, what: &str, body: &str) -> Value {
    let answer = node.post(&format!("/snap/{what}"), body.as_bytes());
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// The process that a replica was forked from.
fn zygote(node: &Node) -> u32 {
    let replica = node.replica("snap").expect("a replica");
    let status = fs::read_to_string(format!("/proc/{replica}/status")).expect("its status");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    parent.expect("a parent")
}

#[test]
fn replicas_are_forked_differ_and_are_walled_in() {
    need_processes!();
    need_one_node!();
    let Some(app) = app("snaps", &module(), "scale = { min = 3, max = 3 }") else { return };
    let node = Node::start(&app);
    let calls: Vec<_> = (0..6).map(|_| node.in_background("/snap/sleep", b"")).collect();
    calls.into_iter().for_each(|call| assert_eq!(call.join().expect("an answer").status, 200));
    let all: Vec<Value> = (0..12).map(|_| ask(&node, "who", "")).collect();
    let pids: BTreeSet<u64> = all.iter().map(|who| who["pid"].as_u64().expect("a number")).collect();
    assert!(pids.len() > 1, "several replicas answer: {all:?}");
    for who in &all {
        assert_eq!((&who["imported"], &who["parent"]), (&Value::from(1), &Value::from(1)), "forked: {who}");
        assert_eq!(
            who["seen"],
            Value::from(vec![who["pid"].clone()]),
            "each hook once in its replica: {who}"
        );
    }
    let draws: BTreeSet<String> = all.iter().map(|who| who["random"].to_string()).collect();
    assert_eq!(draws.len(), all.len(), "randomness is seeded anew");
    let home = node.home().display().to_string();
    let seen = ask(&node, "look", &format!("{home} /etc/shadow /home /var /app/snap.py /usr/bin"));
    for (path, there) in seen.as_object().expect("an object") {
        let expect = matches!(path.as_str(), "/app/snap.py" | "/usr/bin");
        assert_eq!(there == "there", expect, "{path}: {there}");
    }
    assert_ne!(ask(&node, "tmp", "")["tmp"], "/tmp");
    node.wait_at_rest(PATIENCE);
}

#[test]
fn deaths_are_explained_and_mended() {
    need_processes!();
    need_one_node!();
    let Some(app) = app("deaths", &module(), "") else { return };
    let node = Node::start(&app);
    for (what, how) in [("die", "killed by signal 9"), ("exit", "exited with status 7")] {
        let before = ask(&node, "who", "")["pid"].clone();
        let answer = node.get(&format!("/snap/{what}"));
        assert!(answer.status == 502 && answer.text().contains("died"), "{what}: {}", answer.text());
        wait_until(PATIENCE, how, || node.cli(["logs", "deaths"]).stdout.contains(how));
        wait_until(PATIENCE, "another replica", || {
            let answer = node.get("/snap/who");
            answer.status == 200
                && serde_json::from_slice::<Value>(&answer.body).is_ok_and(|who| who["pid"] != before)
        });
    }
    let answer = node.get("/snap/memory");
    assert!(answer.status == 500 && answer.text().contains("MemoryError"), "{}", answer.text());
    // Nothing inside reaches the zygote; killed from outside, it takes its replica along and comes back.
    let reached = node.get("/snap/zygote");
    assert_eq!(reached.status, 500, "{}", reached.text());
    let old = node.replica("snap").expect("a replica");
    assert!(baton_e2e::process::kill(zygote(&node)), "the zygote is there");
    node.wait_for_replica("snap", old, PATIENCE);
    wait_until(PATIENCE, "answers again", || node.get("/snap/who").status == 200);
}

#[test]
fn what_cannot_be_imported_is_told_to_who_deploys() {
    need_processes!();
    need_one_node!();
    let Some(first) = app("imports", &module(), "") else { return };
    let node = Node::start(&first);
    let threads = "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), name=\"ticker\", daemon=True).start()\n";
    for (text, parts) in [
        (
            "def f():\n    raise ValueError(\"no oven\")\nf()\n",
            &["ValueError: no oven", "snap.py", "line 2, in f"][..],
        ),
        ("import no_such_package\n", &["No module named 'no_such_package'"]),
        (
            &format!("{threads}def handler(request): pass\n"),
            &["ticker", "baton.after_fork", "snapshot = false"],
        ),
        ("raise SystemExit(3)\n", &["SystemExit"]),
        ("def (:\n", &["SyntaxError"]),
    ] {
        fs::write(first.directory().join("app/snap.py"), text).expect("a module");
        let deployed = node.cli(["deploy", &first.directory().to_string_lossy()]);
        assert_eq!(deployed.code, 1, "{text}: {}", deployed.stderr);
        for part in parts {
            assert!(
                deployed.stderr.replace(['\n', '│'], " ").contains(part),
                "{part} is not in: {}",
                deployed.stderr
            );
        }
        assert_eq!(node.get("/snap/who").status, 200, "what ran before runs on");
    }
}
