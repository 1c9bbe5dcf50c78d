//! Files of a function: bundled with the app, the same under either isolation, replaced by the next deployment.

use std::fs;
use std::time::Duration;

use baton_e2e::{App, Node, Response, need_native, need_sandbox};

const LARGE_BYTES: usize = 1_000_003;

fn large() -> Vec<u8> {
    (0..LARGE_BYTES).map(|place| (place.wrapping_mul(31) >> 3).to_le_bytes()[0]).collect()
}

fn app() -> App {
    let app = App::new("files")
        .function("reader", "files", "files = \"data\"")
        .function("single", "files", "files = \"data/greeting\"")
        .function("without", "files", "");
    let data = app.directory().join("data");
    fs::create_dir_all(data.join("deep/er")).expect("the files can be written");
    fs::write(data.join("greeting"), "hello").expect("the files can be written");
    fs::write(data.join("deep/er/file"), "deep").expect("the files can be written");
    fs::write(data.join("large"), large()).expect("the files can be written");
    app
}

fn check(answer: &Response, expected: &[(&str, &str)]) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (name, value) in expected {
        assert_eq!(answer.line(name).as_deref(), Some(*value), "{name} in:\n{}", answer.text());
    }
}

fn check_reader(node: &Node, greeting: &str) {
    let sum: u64 = large().iter().zip(1..).map(|(byte, place)| u64::from(*byte) * place).sum();
    let middle = format!("{:?}", &large()[LARGE_BYTES - 10..]);
    let expected = [
        ("at start", greeting),
        ("place", "/app"),
        ("greeting", greeting),
        ("relative", "deep"),
        ("large", &sum.to_string()),
        ("middle", &middle),
        ("size", "1000003 100444"),
        ("list", "deep/ greeting large"),
        ("deep", "er/"),
        ("missing", "NotFound"),
        ("outside", "NotFound"),
        ("below", "NotADirectory"),
        ("write", "ReadOnlyFilesystem"),
        ("append", "ReadOnlyFilesystem"),
        ("create", "ReadOnlyFilesystem"),
        ("remove", "ReadOnlyFilesystem"),
        ("mkdir", "ReadOnlyFilesystem"),
    ];
    check(&node.get("/reader"), &expected);
    // Once more, in case a reset or the request before took something away.
    check(&node.get("/reader"), &expected);
}

#[test]
fn a_function_reads_the_files_that_it_was_deployed_with() {
    need_sandbox!();
    need_native!("modules have no files");
    let app = app();
    let node = Node::start(&app);
    check_reader(&node, "hello");
    check(&node.get("/single"), &[("at start", "hello"), ("list", "greeting"), ("large", "NotFound")]);
    let without = node.get("/without");
    assert_eq!(
        (without.line("place").as_deref(), without.line("list")),
        (Some(""), without.line("greeting"))
    );
    assert_ne!(without.line("greeting").as_deref(), Some("hello"));

    // What changes on the disk is another version once it is deployed, and not before.
    fs::write(app.directory().join("data/greeting"), "good day").unwrap();
    check(&node.get("/reader"), &[("greeting", "hello")]);
    let deploy = || {
        let deployed = node.cli(["deploy", &app.directory().to_string_lossy(), "--json"]).json();
        node.wait_followed(deployed["version"].as_u64().expect("a version"));
        deployed
    };
    let deployed = deploy();
    assert_eq!((deployed["version"].as_u64(), deployed["changed"].as_bool()), (Some(2), Some(true)));
    check_reader(&node, "good day");
    check(&node.get("/single"), &[("at start", "good day")]);
    assert_eq!(deploy()["changed"].as_bool(), Some(false));

    // And back: what started from the first files is not mistaken for what starts from these.
    fs::write(app.directory().join("data/greeting"), "hello").unwrap();
    assert_eq!(deploy()["version"].as_u64(), Some(3));
    check_reader(&node, "hello");

    // Without the directory that they came from.
    fs::remove_dir_all(app.directory().join("data")).unwrap();
    let node = Node::restart(node.kill(), "files");
    check_reader(&node, "hello");
    node.wait_at_rest(Duration::from_secs(2));
}

#[test]
fn files_that_cannot_be_bundled_are_refused_with_their_names() {
    need_sandbox!();
    need_native!("modules have no files");
    let app = app();
    let node = Node::start(&app);
    let refused = |words: &[&str]| {
        let refused = node.cli(["deploy", &app.directory().to_string_lossy()]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        for word in words.iter().chain(&["reader"]) {
            assert!(refused.stderr.replace('\n', " ").contains(word), "{word} in: {}", refused.stderr);
        }
    };
    let data = app.directory().join("data");
    std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
    refused(&["symbolic", "link"]);
    fs::remove_file(data.join("link")).unwrap();
    fs::rename(&data, app.directory().join("moved")).unwrap();
    refused(&["not there", "data"]);
    check_reader(&node, "hello");
}
