//! `baton new` in each of its templates: what it writes builds, starts, and passes its own cases.

use std::path::{Path, PathBuf};
use std::process::Command;

use baton_e2e::{cli, machine_runs, need_one_node, source_root};

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Makes a project in a directory that goes with the test, and gives it.
fn project(template: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path().join("demo");
    let sdk = source_root().join("sdk/rust");
    let made = cli(directory.path(), ["new", text(&at), "--template", template, "--sdk", text(&sdk)]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(at.join("README.md").is_file());
    (directory, at)
}

/// Its own cases, on a node of their own.
fn passes(directory: &Path, at: &Path) {
    let tested = cli(directory, ["test", text(at)]);
    assert_eq!(tested.code, 0, "{}\n{}", tested.stdout, tested.stderr);
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIP: there is no {program} here");
    }
    found
}

/// What `isolation` the template needs does not follow the suite's: once is enough.
fn once() -> bool {
    baton_e2e::isolation() == "process"
}

#[test]
fn c() {
    need_one_node!();
    if !once() || !has("cc") || !machine_runs("compartment") {
        return;
    }
    let (directory, at) = project("c");
    passes(directory.path(), &at);
}

#[test]
fn python() {
    need_one_node!();
    if !once() || !machine_runs("process") || !has("python3") {
        return;
    }
    let (directory, at) = project("python");
    passes(directory.path(), &at);
}

#[test]
fn a_python_file_needs_no_manifest() {
    need_one_node!();
    if !once() || !machine_runs("process") || !has("python3") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("handler.py");
    std::fs::write(&file, "import baton\n\n@baton.function\ndef answer(request, ctx):\n    return f'{request.method} {request.path}'\n")
        .expect("it can be written");
    let node = baton_e2e::Node::up(&file, "handler");
    assert_eq!(node.get("/any/path").text(), "GET /any/path");
    assert_eq!(node.post("/", b"x").text(), "POST /");
}

#[test]
fn lambda_python() {
    need_one_node!();
    if !once() || !machine_runs("process") || !has("python3") {
        return;
    }
    let (directory, at) = project("lambda-python");
    let unit =
        Command::new("python3").args(["-m", "unittest", "discover", "tests"]).current_dir(&at).output();
    assert!(unit.is_ok_and(|output| output.status.success()), "the handler by itself");
    passes(directory.path(), &at);
}

#[test]
fn http() {
    need_one_node!();
    if !once() || !machine_runs("process") || !has("python3") {
        return;
    }
    let (directory, at) = project("http");
    passes(directory.path(), &at);
}

/// Its compiler comes from npm: only where the tests of components have it installed already.
#[test]
fn wasm_js() {
    need_one_node!();
    let modules = source_root().join("target/modules/components/tools/node_modules");
    if !once() || !machine_runs("wasm") || !has("npm") {
        return;
    }
    if !modules.join(".bin/componentize-qjs").exists() {
        println!("SKIP: {} has no componentize-qjs: cargo xtask guests", modules.display());
        return;
    }
    let (directory, at) = project("wasm-js");
    std::os::unix::fs::symlink(&modules, at.join("node_modules")).expect("a link");
    // Without the registry: what is to be installed is there.
    let manifest = at.join("baton.toml");
    let text = std::fs::read_to_string(&manifest).expect("it is written");
    let without = text.replace("npm install --silent --no-audit --no-fund && ", "");
    assert_ne!(without, text);
    std::fs::write(&manifest, without).expect("it can be written");
    passes(directory.path(), &at);
}
