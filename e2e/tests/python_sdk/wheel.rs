//! The wheel, as people install it: built by pip, into an environment that has nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use baton_e2e::{baton, need_one_node, need_processes, python_interpreter, source_root};

/// A unit test as the docs show one, in a module of its own beside a function.
const TEST: &str = r#"
import sys
import baton
from baton.testing import Client

@baton.function
def brighten(request):
    return bytes(byte + 10 for byte in request.body)

assert Client(brighten).post("/", b"\x01\x02").body == b"\x0b\x0c"
assert baton.__file__.startswith(sys.prefix), baton.__file__
print("brighter")
"#;

/// Runs it to its end; gives what it printed.
fn run(command: &mut Command) -> String {
    command
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    let output = command.output().expect("it starts");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}:\n{said}\n{complained}");
    said.into_owned()
}

/// The package's sources in a directory of their own, with what they are built from: a build leaves files beside them.
fn sources(to: &Path) -> PathBuf {
    for part in ["sdk/python", "sdk/python/baton", "sdk/python/src", "sdk/c/include", "sdk/c/include/baton"] {
        let (from, to) = (source_root().join(part), to.join(part));
        fs::create_dir_all(&to).expect("a directory");
        let entries = fs::read_dir(&from).expect("the sources").flatten().map(|entry| entry.path());
        for file in entries.filter(|path| path.is_file()) {
            fs::copy(&file, to.join(file.file_name().unwrap_or_default())).expect("a copy");
        }
    }
    to.join("sdk/python")
}

#[test]
fn the_wheel_installs_into_a_clean_environment() {
    need_processes!();
    need_one_node!();
    let Some(python) = python_interpreter() else { return };
    let place = tempfile::tempdir().expect("a directory");
    let wheels = place.path().join("wheels");
    let mut build = Command::new(&python);
    build.args(["-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir"]);
    build.arg(&wheels).arg(sources(place.path())).env("BATON_LIB", baton().with_file_name("libbaton.a"));
    run(&mut build);
    let built: Vec<_> = fs::read_dir(&wheels).expect("wheels").flatten().map(|entry| entry.path()).collect();
    let [wheel] = built.as_slice() else { panic!("one wheel: {built:?}") };
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    assert!(name.contains("-cp310-abi3-linux_"), "for every CPython from 3.10 on: {name}");
    let clean = place.path().join("clean");
    run(Command::new(&python).args(["-m", "venv", "--without-pip"]).arg(&clean));
    let inside = clean.join("bin/python3");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "--python"]).arg(&inside).args(["install", "--no-index", "--no-deps"]);
    run(install.arg(wheel));
    let said = run(Command::new(&inside).args(["-c", TEST]).current_dir(place.path()));
    assert_eq!(said, "brighter\n");
    let tests = source_root().join("sdk/python/tests");
    run(Command::new(&inside).args(["-m", "unittest", "discover", "-s"]).arg(tests));
}
