//! Functions in C: one source in a process, in a compartment and as a Wasm module, which call each other.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use baton_e2e::{App, Node, machine_runs, module_in_c, source_root, wait_until};
use serde_json::Value;

const REST: Duration = Duration::from_secs(5);
const TEXT: &str = "the quick brown fox\njumps over\n  the lazy dog\n";
const COUNTED: &str = "3 lines, 9 words, 46 bytes\n";

/// `native` in a compartment and `module` as a module; `both` and `twice` are the same two, and call those.
fn app() -> Option<App> {
    let module = module_in_c("words.wasm")?;
    if !machine_runs("wasm") {
        return None;
    }
    let app = App::new("letters");
    let (root, directory) = (source_root(), app.directory().to_owned());
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-static-pie", "-I"])
        .arg(root.join("sdk/c/include"));
    gcc.arg("-o").arg(directory.join("words"));
    let built = gcc.args([root.join("examples/c/words.c"), root.join("sdk/c/src/baton.c")]).status();
    if built.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        println!("SKIP: there is no gcc");
        return None;
    }
    assert!(built.is_ok_and(|status| status.success()), "the function does not build");
    fs::copy(module, directory.join("words.wasm")).expect("the module can be copied");
    let calls = "calls = [\"native\", \"module\"]\ntimeout = \"5s\"";
    let mut app = app
        .artifact("native", "words", "compartment", "timeout = \"5s\"")
        .artifact("module", "words.wasm", "wasm", "timeout = \"5s\"")
        .artifact("both", "words", "compartment", calls)
        .artifact("twice", "words.wasm", "wasm", calls);
    for name in ["native", "module", "both", "twice"] {
        app = app.route(&format!("/{name}/{{what}}"), name, "");
    }
    Some(app)
}

#[test]
fn one_source_serves_in_a_compartment_and_as_a_module() {
    let Some(app) = app() else { return };
    let node = Node::start(&app);
    for name in ["native", "module"] {
        let counted = node.post(&format!("/{name}/count"), TEXT.as_bytes());
        assert_eq!((counted.status, counted.text().as_str()), (200, COUNTED), "{name}");
        assert_eq!(counted.header("content-type"), Some("text/plain"), "{name}");
        assert!(counted.header("x-took-ns").and_then(|ns| ns.parse::<u64>().ok()).is_some(), "{name}");
        wait_until(REST, "the line is in the log", || {
            node.log_of(name).iter().any(|line| line.trim_end() == COUNTED.trim_end())
        });
        for len in [0, 1, 8, 9, 64, 65, 5000, 300_000] {
            let body = vec![b'x'; len];
            let echoed = node.post(&format!("/{name}/echo"), &body);
            assert!(echoed.status == 200 && echoed.body == body, "{name} {len}: {}", echoed.status);
        }
        let ids: Vec<_> = (0..2).map(|_| node.get(&format!("/{name}/id"))).collect();
        let [one, other] = ids.as_slice() else { unreachable!() };
        assert!(
            (one.status, one.body.len()) == (201, 32) && one.body != other.body,
            "{name}: {}",
            one.text()
        );
        let missing = node.get(&format!("/{name}/nothing"));
        assert_eq!(missing.status, 404, "{name}");
        assert!(missing.text().contains("count, echo"), "{name}: {}", missing.text());
    }
    node.wait_at_rest(REST);
}

#[test]
fn functions_in_c_call_each_other_whatever_they_are() {
    let Some(app) = app() else { return };
    let node = Node::start(&app);
    for name in ["both", "twice"] {
        for len in [10, 64, 5000, 300_000] {
            let asked = node.post(&format!("/{name}/ask"), "ab ".repeat(len).as_bytes());
            let line = format!("0 lines, {len} words, {} bytes\n", 3 * len);
            let expected = format!("native: {line}module: {line}");
            assert_eq!((asked.status, asked.text()), (200, expected), "{name} {len}");
        }
    }
    // Those that call nobody have nobody to ask.
    assert_eq!(node.post("/native/ask", b"x").status, 200);
    node.wait_at_rest(REST);
}

#[test]
fn calls_between_compartment_and_module_wait_for_answers_that_come_late() {
    let Some(app) = app() else { return };
    let node = Node::start(&app);
    // More at once than there are seats: a busy one answers after the gate of its caller has returned.
    let asked: Vec<_> = (0..24)
        .map(|nth| node.in_background(if nth % 2 == 0 { "/both/ask" } else { "/twice/ask" }, TEXT.as_bytes()))
        .collect();
    for answer in asked {
        let answer = answer.join().unwrap();
        assert_eq!((answer.status, answer.text()), (200, format!("native: {COUNTED}module: {COUNTED}")));
    }
    node.wait_at_rest(REST);
}

/// libbaton beside the node's binaries, or a line that it is not there.
fn library() -> Option<PathBuf> {
    let library = baton_e2e::baton().with_file_name("libbaton.a");
    let there = library.is_file().then_some(library);
    if there.is_none() {
        println!("SKIP: libbaton.a is not beside baton: cargo build --release -p baton-lib");
    }
    there
}

#[test]
fn one_program_serves_as_a_process_and_in_a_compartment() {
    let Some(library) = library() else { return };
    let app = App::new("linked");
    let (root, directory) = (source_root(), app.directory().to_owned());
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-static-pie", "-DBATON_LINK", "-I"]);
    gcc.arg(root.join("sdk/c/include")).arg("-o").arg(directory.join("words"));
    gcc.args([root.join("examples/c/words.c"), root.join("sdk/c/src/baton.c"), library]);
    if gcc.status().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        println!("SKIP: there is no gcc");
        return;
    }
    let module = if machine_runs("compartment") { "compartment" } else { "process" };
    let calls = "calls = [\"native\", \"module\"]\ntimeout = \"5s\"";
    let mut app = app
        .artifact("native", "words", "process", "timeout = \"5s\"")
        .artifact("module", "words", module, "timeout = \"5s\"")
        .artifact("both", "words", "process", calls);
    for name in ["native", "module", "both"] {
        app = app.route(&format!("/{name}/{{what}}"), name, "");
    }
    let node = Node::start(&app);
    for name in ["native", "module"] {
        let counted = node.post(&format!("/{name}/count"), TEXT.as_bytes());
        assert_eq!((counted.status, counted.text().as_str()), (200, COUNTED), "{name}");
        assert!(counted.header("x-took-ns").is_some_and(|ns| ns.parse::<u64>().is_ok()), "{name}");
        for len in [0, 1, 8, 9, 64, 65, 5000, 300_000] {
            let body = vec![b'x'; len];
            let echoed = node.post(&format!("/{name}/echo"), &body);
            assert!(echoed.status == 200 && echoed.body == body, "{name} {len}: {}", echoed.status);
        }
        assert_eq!(node.post(&format!("/{name}/nothing"), b"").status, 404, "{name}");
    }
    for len in [10, 64, 5000, 300_000] {
        let asked = node.post("/both/ask", "ab ".repeat(len).as_bytes());
        let line = format!("0 lines, {len} words, {} bytes\n", 3 * len);
        assert_eq!((asked.status, asked.text()), (200, format!("native: {line}module: {line}")), "{len}");
    }
    wait_until(REST, "the line is in the log", || {
        node.log_of("native").iter().any(|line| line.trim_end() == COUNTED.trim_end())
    });
    node.wait_at_rest(REST);
}

#[test]
fn a_function_in_c_without_libbaton_is_no_process() {
    let Some(app) = app() else { return };
    let program = app.directory().join("words");
    let refused = Command::new(program).output().expect("the program starts");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("isolation"), "{said}");
    let node = Node::start(&app);
    let ps: Value = node.status();
    let functions = ps["functions"].as_array().unwrap();
    let runs_as = |name: &str| functions.iter().find(|f| f["function"] == name).unwrap()["runs_as"].clone();
    assert_eq!((runs_as("native"), runs_as("module")), ("compartment".into(), "wasm".into()));
}
