//! Where things are, and what this machine can do.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;

/// The clone's root.
pub fn source_root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.parent().expect("the package lies in the clone").to_owned()
    })
}

/// The program under test: `BATON_BIN`, or the release build of this clone.
pub fn baton() -> PathBuf {
    let built = || source_root().join("target/release/baton");
    let path = env::var_os("BATON_BIN").map_or_else(built, PathBuf::from);
    assert!(path.is_file(), "{} is missing: cargo build --release -p baton", path.display());
    path
}

/// The interpreter that has the packages of `xtask/python.txt`, as `BATON_TEST_PYTHON` names it; or says loudly that there is none.
pub fn python_interpreter() -> Option<PathBuf> {
    let there = env::var_os("BATON_TEST_PYTHON").map(PathBuf::from).filter(|path| path.is_file());
    if there.is_none() {
        println!(
            "SKIP: BATON_TEST_PYTHON names no interpreter: `cargo xtask test --only tools` installs one"
        );
    }
    there
}

/// The virtual environment of [`python_interpreter`].
pub fn python_environment() -> Option<PathBuf> {
    Some(python_interpreter()?.parent()?.parent()?.to_owned())
}

/// How the functions of tests are isolated: `BATON_E2E_ISOLATION`, or `process`. The same tests hold for all settings.
pub fn isolation() -> String {
    env::var("BATON_E2E_ISOLATION").unwrap_or_else(|_| "process".to_owned())
}

/// Who hands payloads over between the processes of tests: `BATON_E2E_WAKE`, or what the node chooses. The same tests hold for all.
pub fn wake() -> Option<String> {
    env::var("BATON_E2E_WAKE").ok().filter(|wake| !wake.is_empty())
}

/// Names of nodes, where there are several.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];

/// On how many nodes the functions of an app are: `BATON_E2E_NODES`, or one. The same tests hold for one and several.
pub fn nodes() -> usize {
    let named = env::var("BATON_E2E_NODES").ok().and_then(|count| count.parse().ok());
    named.filter(|count| (2..=NODES.len()).contains(count)).unwrap_or(1)
}

/// Whether functions run in cells: then several share a process, and one that fails is reset in it, not replaced.
pub fn in_cells() -> bool {
    isolation() == "compartment" || in_modules()
}

/// Whether functions are Wasm modules.
pub fn in_modules() -> bool {
    isolation() == "wasm"
}

/// Whether functions can be isolated here.
pub fn sandboxed() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| offers(&isolation()))
}

/// Whether functions can be isolated so here; says so loudly if not.
pub fn machine_runs(isolation: &str) -> bool {
    let runs = offers(isolation);
    if !runs {
        println!("SKIP: this machine cannot run functions with isolation = \"{isolation}\"");
    }
    runs
}

/// What `baton doctor` says of this machine.
fn doctor() -> Value {
    let output = Command::new(baton()).args(["doctor", "--json"]).output().expect("doctor runs");
    serde_json::from_slice(&output.stdout).expect("doctor prints JSON")
}

/// Whether the memory of functions is bounded by control groups here; says so loudly if not.
pub fn memory_is_bounded() -> bool {
    let machine = doctor();
    let all = machine["capabilities"].as_array().expect("doctor lists capabilities");
    let groups = all.iter().find(|found| found["name"] == "memory control group").expect("it is among them");
    let found = groups["available"] == true && sandboxed();
    if !found {
        println!("SKIP: no memory control groups for functions here: {groups}");
    }
    found
}

/// Whether the kernel hands over between processes here; says so loudly if not.
pub fn kernel_hands_over() -> bool {
    let machine = doctor();
    let found = machine["wake"]["ebpf"] == true;
    if !found {
        println!("SKIP: the kernel does not hand over here: {}", machine["wake"]["why"]);
    }
    found
}

/// Whether `baton doctor` says that a setting is available.
fn offers(isolation: &str) -> bool {
    let machine = doctor();
    let settings = machine["isolation"].as_array().expect("doctor lists settings");
    settings.iter().any(|setting| setting["isolation"] == isolation && setting["available"] == true)
}

/// What the guest program is made of.
const GUEST_SOURCES: [&str; 4] = ["e2e/guests/src", "sdk/rust/src", "crates/abi/src", "crates/pool/src"];

/// Where the guest program lies in a target directory, and what it is called in an app's directory.
pub(crate) struct Guest {
    pub(crate) path: PathBuf,
    pub(crate) name: &'static str,
}

/// The guest program, native or a module, built if it is missing or older than its sources.
pub(crate) fn guest() -> &'static Guest {
    static GUEST: OnceLock<Guest> = OnceLock::new();
    GUEST.get_or_init(|| {
        if in_modules() {
            return module();
        }
        let path = source_root().join("e2e/guests/target/x86_64-unknown-linux-gnu/release/guest");
        build_if_old(&path, &[], "the guests do not build");
        Guest { path, name: "guest" }
    })
}

/// The module: `BATON_MODULES` names the directory of those that `cargo xtask guests` has just built.
fn module() -> Guest {
    const PLACE: &str = "wasm32-wasip1/release/guest.wasm";
    let name = "guest.wasm";
    if let Some(built) = env::var_os("BATON_MODULES") {
        return Guest { path: Path::new(&built).join(PLACE), name };
    }
    let directory = source_root().join("target/modules");
    let path = directory.join(PLACE);
    let more =
        ["--target".as_ref(), "wasm32-wasip1".as_ref(), "--target-dir".as_ref(), directory.as_os_str()];
    build_if_old(&path, &more, "the guests do not build as modules: see `cargo xtask guests`");
    Guest { path, name }
}

/// A module in C that `cargo xtask guests` built; says loudly that there is none, or that it is older than what it is made of.
pub fn module_in_c(name: &str) -> Option<PathBuf> {
    let built =
        env::var_os("BATON_MODULES").map_or_else(|| source_root().join("target/modules"), PathBuf::from);
    let path = built.join("c").join(name);
    let example = changed(&source_root().join("examples/c/words.c"));
    let sources = newest(&source_root().join("sdk/c")).max(example);
    if changed(&path) < sources {
        println!("SKIP: {} is missing or old: `cargo xtask guests` builds it", path.display());
        return None;
    }
    Some(path)
}

/// A component that `cargo xtask guests` built; says loudly that there is none, or that it is older than its source.
pub fn component(name: &str) -> Option<PathBuf> {
    let built =
        env::var_os("BATON_MODULES").map_or_else(|| source_root().join("target/modules"), PathBuf::from);
    let path = built.join("components").join(name);
    if changed(&path) < newest(&source_root().join("e2e/components")) {
        println!("SKIP: {} is missing or old: `cargo xtask guests` builds it", path.display());
        return None;
    }
    Some(path)
}

/// Builds the guests, if a program of theirs is missing or older than its sources.
fn build_if_old(program: &Path, more: &[&OsStr], complaint: &str) {
    let newest = GUEST_SOURCES.iter().map(|source| newest(&source_root().join(source))).max();
    if changed(program) >= newest.flatten() {
        return;
    }
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--quiet"]).args(more).current_dir(source_root().join("e2e/guests"));
    let built = build.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").status();
    assert!(built.is_ok_and(|status| status.success()), "{complaint}");
    // Cargo leaves a program alone whose sources changed in nothing that matters.
    let now = std::fs::File::open(program).and_then(|file| file.set_modified(SystemTime::now()));
    now.expect("the guest program is there");
}

fn changed(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// When anything below a directory changed last.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = directory.read_dir().expect("the guests' sources are there").flatten();
    let times = entries.map(|entry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path => changed(&path),
    });
    times.max().flatten()
}
