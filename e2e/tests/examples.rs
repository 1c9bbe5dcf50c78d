//! The examples that work on large payloads, as they are in the project.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use baton_e2e::{
    App, Node, need_one_node, need_processes, need_sandbox, python_environment, source_root, wait_until,
};
use serde_json::{Value, json};

const REST: std::time::Duration = std::time::Duration::from_secs(10);

/// An example by its manifest, with the programs that are built already.
fn example(name: &str, environment: Option<&Path>) -> App {
    let source = source_root().join("examples").join(name);
    let manifest = fs::read_to_string(source.join("baton.toml")).expect("the example is there");
    let programs = source.join("target/x86_64-unknown-linux-gnu/release");
    let mut app = App::new(name);
    let directory = app.directory().to_owned();
    for section in manifest.split("\n[").skip(1) {
        let (head, lines) = section.split_once("]\n").expect("a table has a head");
        let value = |key: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('='));
            line.map(|value| value.trim().trim_matches('"').to_owned()).unwrap_or_default()
        };
        match head.split_once('.') {
            Some(("functions", function)) => {
                let mut lines: Vec<String> =
                    lines.lines().filter(|line| !line.starts_with('[')).map(str::to_owned).collect();
                if let Some(build) = lines.iter_mut().find(|line| line.starts_with("build")) {
                    let program = format!("{name}-{function}");
                    fs::copy(programs.join(&program), directory.join(&program))
                        .expect("`cargo xtask test --only guests` builds the examples");
                    *build = format!("artifact = \"{program}\"");
                } else if let Some(environment) = environment {
                    lines.push(format!("python = \"{}\"", environment.display()));
                }
                app = app.written(function, &lines.join("\n"));
            }
            _ if head == "pool" => app = app.pool(&value("size")),
            _ if head == "[routes]" || head == "[routes" => {
                let methods = format!("methods = {}", value("methods"));
                app = app.route(&value("path"), &value("function"), &methods);
            }
            _ => {}
        }
    }
    let python = source.join("python");
    if python.is_dir() {
        fs::create_dir(directory.join("python")).expect("a directory");
        for file in fs::read_dir(python).expect("a directory").flatten().filter(|file| file.path().is_file())
        {
            fs::copy(file.path(), directory.join("python").join(file.file_name())).expect("a file");
        }
    }
    app
}

fn value(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

#[test]
fn words_are_counted_as_one_loop_counts_them() {
    need_processes!();
    need_one_node!();
    let app = example("wordcount", None);
    let node = Node::start(&app);
    let text = node.get("/text?megabytes=2&seed=5").body;
    assert_eq!(text.len(), 2 << 20);
    let mut counts = BTreeMap::<&[u8], u64>::new();
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1;
    }
    let told = value(&node.post("/count", &text).body);
    assert_eq!(told["words"], json!(counts.values().sum::<u64>()), "{told}");
    assert_eq!(told["distinct"], json!(counts.len()), "{told}");
    for pair in told["most_frequent"].as_array().expect("a list") {
        let word = pair[0].as_str().expect("a word");
        assert_eq!(pair[1], json!(counts[word.as_bytes()]), "{word}");
    }
    let drawn = value(&node.get("/count?megabytes=2&seed=5").body);
    assert_eq!(drawn["most_frequent"], told["most_frequent"]);
    assert_eq!(value(&node.post("/count", b"One, two - one!").body)["most_frequent"][0], json!(["one", 2]));
    for (path, status) in [("/count?megabytes=many", 400), ("/count?megabytes=0", 400)] {
        let answer = node.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    assert_eq!(node.post("/count", b"").status, 400);
    node.wait_at_rest(REST);
}

#[test]
fn a_frame_goes_through_rust_and_python_and_is_copied_by_none() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(environment) = python_environment() else { return };
    let app = example("vision", Some(&environment));
    let node = Node::start_with(&app, &["--receipts"]);
    let picture = node.get("/scene?side=300&seed=2").body;
    assert!(picture.starts_with(b"\x89PNG"));
    let answer = node.post("/?size=512", &picture);
    let told = value(&answer.body);
    let report = &told["report"];
    assert_eq!(
        (&report["width"], &report["height"], &report["marks"]),
        (&json!(512), &json!(512), &json!(6))
    );
    assert!(report["small_png"].as_str().is_some_and(|png| png.starts_with("iVBORw0KGgo")), "{told}");
    let light = report["features"]["light"].as_array().expect("eight shares");
    let sum: f64 = light.iter().filter_map(Value::as_f64).sum();
    assert!(light.len() == 8 && (sum - 1.0).abs() < 0.01, "{told}");
    let steps: Vec<_> = told["steps_ms"].as_object().expect("steps").keys().cloned().collect();
    assert_eq!(steps.len(), 5, "{steps:?}");
    let id = answer.header("x-baton-invocation").expect("receipts are on").to_owned();
    let mut receipt = Value::Null;
    // The functions tell of their hops when they look up next.
    wait_until(REST, "all five steps have told what they cost", || {
        receipt = node.cli(["receipt", &id, "--json"]).json();
        receipt["hops"].as_array().is_some_and(|hops| hops.len() >= 5)
    });
    // What is copied is the picture on its way in, and words; never a frame.
    let copied = receipt["bytes_copied"].as_u64().expect("a number");
    assert!(copied < 512 * 512 * 4, "{receipt}");
    for bad in [&picture[..picture.len() / 2], b"no picture".as_slice(), b""] {
        let answer = node.post("/?size=512", bad);
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert_eq!(node.post("/?size=0", &picture).status, 400);
    node.wait_at_rest(REST);
}
