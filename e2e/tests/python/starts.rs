//! Imports that take too long, and imports that take too much memory.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use baton_e2e::{App, Node, memory_is_bounded, need_one_node, need_processes, wait_until};

use super::{PATIENCE, app, ask, module, zygote};

/// Three starts that end for want of memory, on a machine that is busy with others.
const LONG: Duration = Duration::from_secs(90);

/// Serves once it has slept at its import.
const SLOW: &str = r#"
import time
import baton

time.sleep(2)

@baton.function
def ask(request):
    return {"what": "slow"}
"#;

/// Takes more memory at its import than it may have, once it is late enough. Shared memory: no bound but the control group's ends it.
const GREEDY: &str = r#"
import mmap, os, time
import baton

if time.time() >= float(os.environ["FROM"]):
    memory = mmap.mmap(-1, 1 << 30)
    for page in range(0, 1 << 30, 4096):
        memory[page] = 1

@baton.function
def ask(request):
    return {"parent": os.getppid()}
"#;

/// What `deploy` says of the app's directory as it is now.
fn refused(node: &Node, app: &App) -> String {
    let deployed = node.cli(["deploy", &app.directory().to_string_lossy()]);
    assert_eq!(deployed.code, 1, "{}", deployed.stdout);
    deployed.stderr.replace(['\n', '│'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_module_has_the_time_that_the_manifest_gives_it_and_no_more() {
    need_processes!();
    need_one_node!();
    for snapshot in ["", "snapshot = false\n"] {
        let Some(first) = app("patient", SLOW, &format!("start_timeout = \"20s\"\n{snapshot}")) else {
            return;
        };
        let node = Node::start(&first);
        assert_eq!(ask(&node, "who", "")["what"], "slow");
        let short = app("patient", SLOW, &format!("start_timeout = \"500ms\"\n{snapshot}")).expect("an app");
        let began = Instant::now();
        let said = refused(&node, &short);
        let expect = if snapshot.is_empty() { "not imported within 500ms" } else { "ready within 500ms" };
        assert!(said.contains(expect) && said.contains("start_timeout"), "{snapshot}: {said}");
        assert!(began.elapsed() < PATIENCE, "told in time: {:?}", began.elapsed());
        assert_eq!(ask(&node, "who", "")["what"], "slow", "what ran before runs on");
    }
}

/// Seconds since 1970.
fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs_f64()
}

fn greedy(name: &str, from: f64) -> Option<App> {
    app(name, GREEDY, &format!("memory = \"128MiB\"\nenv = {{ FROM = \"{from}\" }}\n"))
}

#[test]
fn a_module_that_takes_too_much_memory_is_told_to_who_deploys() {
    need_processes!();
    need_one_node!();
    if !memory_is_bounded() {
        return;
    }
    let Some(first) = app("starved", &module(), "") else { return };
    let node = Node::start(&first);
    let said = refused(&node, &greedy("starved", 0.0).expect("an app"));
    assert!(said.contains("needed more memory than its `memory` allows"), "{said}");
    fs::write(first.directory().join("app/snap.py"), "hoard = b'x' * (1 << 30)\n").expect("a module");
    assert!(refused(&node, &first).contains("MemoryError"), "what the module is told itself");
    assert_eq!(node.get("/snap/who").status, 200, "what ran before runs on");
}

#[test]
fn a_zygote_that_runs_out_of_memory_again_and_again_is_started_less_and_less_often() {
    need_processes!();
    need_one_node!();
    if !memory_is_bounded() {
        return;
    }
    let from = clock() + 8.0;
    let Some(app) = greedy("starving", from) else { return };
    let node = Node::start(&app);
    assert_eq!(ask(&node, "who", "")["parent"], 1);
    assert!(clock() < from, "it came up in time");
    std::thread::sleep(Duration::from_secs_f64((from - clock()).max(0.0)));
    let began = Instant::now();
    assert!(baton_e2e::process::kill(zygote(&node)), "the zygote is there");
    let deaths = || {
        let log = node.cli(["logs", "starving"]).stdout;
        log.matches("its zygote needed more memory than its `memory` allows").count()
    };
    wait_until(LONG, "it has died for want of memory, more than once", || deaths() >= 3);
    // Nobody hangs on it, and what it said is what callers hear.
    let asked = Instant::now();
    let answer = node.get("/snap/who");
    assert!(answer.status >= 500 && asked.elapsed() < 2 * PATIENCE, "{}", answer.text());
    let (count, took) = (deaths(), began.elapsed());
    // 50 ms, 100 ms, 200 ms and so on: twelve starts would be more than three minutes.
    assert!(count < 12, "{count} deaths in {took:?}");
}
