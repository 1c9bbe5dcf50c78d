//! The command line: exit codes, messages, and the way of an app from its template to its removal.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use baton_e2e::{App, Client, Finished, Node, cli, need_sandbox, source_root, wait_until};

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn bad_manifests_name_file_line_and_remedy() {
    let home = home();
    let app = App::new("bad");
    let function = "[functions.f]\nartifact = \"guest\"\nisolation = \"process\"\n";
    for (text, line, words) in [
        (format!("[app]\nname = \"bad\"\ncolour = 1\n{function}"), 3, &["colour"][..]),
        (format!("[app]\nname = \"bad\"\n[pool]\nsize = \"lots\"\n{function}"), 4, &["lots", "MiB"]),
        (format!("[app]\nname = \"bad\"\n[pool]\nsize = \"1KiB\"\n{function}"), 4, &["1MiB"]),
        (format!("[app]\nname = \"bad\"\n{function}calls = [\"ghost\"]\n"), 6, &["ghost"]),
        (
            format!(
                "[app]\nname = \"bad\"\n{function}[[routes]]\npath = \"/x/{{a}}\"\nfunction = \"f\"\n\
                 [[routes]]\npath = \"/x/{{b}}\"\nfunction = \"f\"\n"
            ),
            10,
            &["/x/{"],
        ),
        (format!("[app]\nname = \"bad\"\n{function}[[routes]]\npath = \"/\"\nfunction = \"g\"\n"), 8, &["g"]),
        (format!("[app]\nname = \"bad\"\n{function}timeout = \"soon\"\n"), 6, &["soon"]),
        ("[app\nname = 1\n".to_owned(), 1, &[]),
    ] {
        let directory = app.manifest(&text);
        for verb in ["build", "up"] {
            let refused = cli(home.path(), [verb, path(directory)]);
            assert_eq!(refused.code, 2, "{verb} {text}\n{}", refused.stderr);
            let place = format!("baton.toml:{line}:");
            assert!(refused.stderr.contains(&place), "{place} is not named:\n{text}\n{}", refused.stderr);
            assert!(words.iter().all(|word| refused.stderr.contains(word)), "{text}\n{}", refused.stderr);
            assert!(refused.stderr.contains("help:"), "no remedy:\n{}", refused.stderr);
            assert!(refused.stdout.is_empty() && !refused.stderr.contains('\u{1b}'), "{refused:?}");
        }
    }
}

#[test]
fn exit_codes_say_who_is_at_fault() {
    let home = home();
    let app = App::new("codes");
    // Nobody is there.
    for args in
        [&["ps"][..], &["logs"], &["caps", "ls"], &["invoke", "a/b"], &["receipt", "last"], &["rm", "a"]]
    {
        let refused = cli(home.path(), args);
        assert_eq!(refused.code, 3, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("baton up"), "{args:?}: {}", refused.stderr);
    }
    // The user's mistake.
    for args in
        [&[][..], &["fly"], &["invoke", "no-slash"], &["up", "--port", "many"], &["build", "/no/such"]]
    {
        assert_eq!(cli(home.path(), args).code, 2, "{args:?}");
    }
    let abroad = cli(home.path(), ["node", "--port", "0", "--admin", "0.0.0.0:0"]);
    assert_ne!(abroad.code, 0);
    // The build's.
    let directory = app.manifest(
        "[app]\nname = \"codes\"\n[functions.f]\nisolation = \"process\"\n\
         build = { command = \"echo the compiler is out; exit 3\", output = \"f\" }\n",
    );
    for verb in ["build", "up"] {
        let failed = cli(home.path(), [verb, path(directory)]);
        assert_eq!(failed.code, 1, "{verb}: {}", failed.stderr);
        assert!(failed.stderr.contains("the compiler is out"), "{verb}: {}", failed.stderr);
    }
    let version = cli(home.path(), ["--version"]);
    assert!(version.code == 0 && version.stdout.starts_with("baton "), "{version:?}");
}

#[test]
fn doctor_and_completions_need_no_node() {
    let home = home();
    let doctor = cli(home.path(), ["doctor", "--json"]);
    assert_eq!(doctor.code, 0);
    let machine = doctor.json();
    let settings: Vec<_> =
        machine["isolation"].as_array().unwrap().iter().map(|s| s["isolation"].clone()).collect();
    assert_eq!(settings, ["process", "compartment", "wasm"]);
    assert!(machine["capabilities"].as_array().unwrap().iter().all(|c| c["available"].is_boolean()));
    let plain = cli(home.path(), ["doctor"]);
    assert!(plain.code == 0 && plain.stdout.contains("isolation = \"process\""), "{}", plain.stdout);
    for shell in ["bash", "zsh", "fish"] {
        let script = cli(home.path(), ["completions", shell]);
        assert!(script.code == 0 && script.stdout.contains("invoke"), "{shell}: {}", script.stderr);
    }
    let script = home.path().join("completions");
    std::fs::write(&script, cli(home.path(), ["completions", "bash"]).stdout).unwrap();
    let read = std::process::Command::new("bash").arg("-n").arg(&script).status();
    assert!(read.map_or(true, |status| status.success()), "bash cannot read it");
}

#[test]
fn a_new_project_builds_runs_and_answers() {
    need_sandbox!();
    let home = home();
    let project = home.path().join("greeter");
    let sdk = source_root().join("sdk/rust");
    let made = cli(home.path(), ["new", path(&project), "--sdk", path(&sdk), "--json"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(cli(home.path(), ["new", path(&project)]).code, 2, "it is there already");
    let built = cli(home.path(), ["build", path(&project), "--json"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    built.json();
    let tested = cli(home.path(), ["test", path(&project), "--no-build"]);
    assert_eq!(tested.code, 0, "its own cases: {}\n{}", tested.stdout, tested.stderr);

    let node = Node::up(&project, "greeter");
    assert_eq!(node.get("/hello/you").text(), "Hello, you!\n");
    assert_eq!(node.cli(["invoke", "greeter/hello"]).stdout, "Hello, world!\n");

    // The same on a node that runs another app already.
    let host = Node::start(&App::new("host").function("host", "hello", ""));
    let deployed = host.cli(["deploy", path(&project), "--json"]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let deployed = deployed.json();
    assert_eq!(
        (&deployed["app"], &deployed["version"], &deployed["changed"]),
        (&"greeter".into(), &1.into(), &true.into())
    );
    let again = host.cli(["deploy", path(&project), "--json"]).json();
    assert_eq!((&again["version"], &again["changed"]), (&1.into(), &false.into()), "{again}");
    let answer = host.cli(["invoke", "greeter/hello", "--json"]);
    assert_eq!((answer.code, &answer.json()["body"]), (0, &"Hello, world!\n".into()));
    assert_eq!(host.get("/hello/them").text(), "Hello, them!\n");
}

#[test]
fn what_a_node_runs_is_shown_and_removed() {
    need_sandbox!();
    let app = App::new("shown").function("inspect", "inspect", "").function("hello", "hello", "");
    let node = Node::start(&app);
    assert_eq!(
        node.cli(["invoke", "shown/inspect", "--path", "/x?q=1", "--header", "x-a:b", "--data", "12"]).code,
        0
    );
    let ps = node.cli(["ps", "--json"]).json();
    let function = &ps["apps"][0]["functions"][1];
    assert_eq!(
        (&function["function"], &function["calls"], &function["runs_as"]),
        (&"inspect".into(), &1.into(), &baton_e2e::isolation().into())
    );
    let plain = node.cli(["ps"]);
    assert!(plain.stdout.contains("shown/inspect") && !plain.stdout.contains('\u{1b}'), "{}", plain.stdout);
    let mut lines = Vec::new();
    wait_until(Duration::from_secs(2), "the function's line is there", || {
        lines = node.cli(["logs", "shown/inspect", "--json"]).json_lines();
        !lines.is_empty()
    });
    let line = lines.first().unwrap();
    assert_eq!((&line["message"], &line["level"]), (&"inspected /x".into(), &"info".into()), "{line}");
    assert_eq!(line["invocation"].as_str().map(str::len), Some(16), "{line}");
    assert!(node.cli(["logs", "shown"]).stdout.contains("shown/inspect#"));
    assert!(node.cli(["logs", "shown/hello"]).stdout.is_empty());
    let failed = node.cli(["invoke", "shown/nobody"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);

    let pids = node.replicas();
    let removed = node.cli(["rm", "shown", "--json"]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert_eq!(removed.json()["removed"], "shown");
    assert_eq!(node.get("/hello").status, 404);
    assert!(node.cli(["ps", "--json"]).json()["apps"].as_array().unwrap().is_empty());
    assert!(pids.iter().all(|&pid| !baton_e2e::process::is_alive(pid)));
    assert_eq!(node.cli(["rm", "shown"]).code, 1);
    // It stays removed.
    let home = node.kill();
    let node = Node::restart(home, "shown");
    assert!(node.cli(["ps", "--json"]).json()["apps"].as_array().unwrap().is_empty());
}

#[test]
fn one_state_directory_has_one_node_and_one_port_one_owner() {
    need_sandbox!();
    let app = App::new("single").function("hello", "hello", "");
    let node = Node::start(&app);
    let second = node.cli(["up", path(app.directory()), "--no-build", "--port", "0"]);
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(
        second.stderr.contains(&node.pid().to_string()) || second.stderr.contains("another node"),
        "{}",
        second.stderr
    );
    assert!(second.stderr.contains("hint:"), "{}", second.stderr);

    let home = home();
    let port = node.gateway.port().to_string();
    let taken = cli(
        home.path(),
        ["up", path(app.directory()), "--no-build", "--port", &port, "--admin", "127.0.0.1:0"],
    );
    assert_eq!(taken.code, 1, "{}", taken.stderr);
    assert!(taken.stderr.contains(&port) && taken.stderr.contains("--listen"), "{}", taken.stderr);
    assert_eq!(node.get("/hello").status, 200);
}

fn versioned(version: &str, behaviour: &str) -> App {
    let more =
        format!("env = {{ VERSION = \"{version}\" }}\nscale = {{ min = 1, max = 1, concurrency = 16 }}");
    App::new("versions").function("version", behaviour, &more).function("hello", "hello", "")
}

fn deploy(node: &Node, app: &App) -> Finished {
    node.cli(["deploy", path(app.directory()), "--json"])
}

#[test]
fn a_version_that_does_not_start_changes_nothing() {
    need_sandbox!();
    let node = Node::start(&versioned("one", "version"));
    let pids = node.replicas();
    let refused = deploy(&node, &versioned("two", "stillborn"));
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("version") && refused.stderr.contains("stillborn on purpose"),
        "{}",
        refused.stderr
    );
    assert_eq!(node.get("/version").text(), "one");
    assert_eq!(node.replicas(), pids);
    // Nor is it what a restart restores.
    let node = Node::restart(node.kill(), "versions");
    assert_eq!(node.get("/version").text(), "one");
    // And a node that would start with it says why, and ends.
    let home = home();
    let stillborn = versioned("two", "stillborn");
    let failed = cli(home.path(), ["up", path(stillborn.directory()), "--no-build", "--port", "0"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("stillborn on purpose"), "{}", failed.stderr);
}

/// A body that is on its way when a new version takes over goes to the version that it was sent to.
#[test]
fn a_slow_upload_outlives_its_version() {
    need_sandbox!();
    let node = Node::start(&versioned("0", "version"));
    let mut slow = TcpStream::connect(node.gateway).unwrap();
    slow.write_all(b"POST /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 6\r\n\r\nwhi")
        .unwrap();
    wait_until(Duration::from_secs(5), "the upload began", || node.buffers_in_use() > 0);
    let deployed = deploy(&node, &versioned("1", "version"));
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    assert_eq!(node.get("/version").text(), "1");
    slow.write_all(b"ch?").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('0'), "{answer}");
    node.wait_at_rest(Duration::from_secs(5));
}

#[test]
fn new_versions_take_over_without_a_failed_request() {
    need_sandbox!();
    let node = Node::start(&versioned("0", "version"));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (gateway, stop) = (node.gateway, Arc::clone(&stop));
            thread::spawn(move || {
                let mut client = Client::connect(gateway).unwrap();
                let (mut newest, mut served) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.request("POST", "/version", &[], b"which?").unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let version: u32 = answer.text().parse().unwrap();
                    assert!(version >= newest, "version {version} after {newest}");
                    newest = version;
                    served += 1;
                }
                served
            })
        })
        .collect();
    let mut before = node.replicas();
    for version in 1..=4 {
        let deployed = deploy(&node, &versioned(&version.to_string(), "version"));
        assert_eq!(deployed.code, 0, "{}", deployed.stderr);
        assert_eq!(deployed.json()["version"], version + 1);
        assert_eq!(node.get("/version").text(), version.to_string());
        let now = node.replicas();
        wait_until(Duration::from_secs(12), "the old version ended", || {
            before.iter().all(|&pid| now.contains(&pid) || !baton_e2e::process::is_alive(pid))
        });
        before = now;
    }
    stop.store(true, Ordering::Relaxed);
    let served: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(served > 100, "{served}");
    node.wait_at_rest(Duration::from_secs(5));
}
