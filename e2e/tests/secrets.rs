//! Secrets: who gets them, who does not, and where they are not.

use std::fs;
use std::time::Duration;

use baton_e2e::{
    App, Node, cli, contains, files_with, need_one_node, need_sandbox, set_secret as set, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const VALUE: &str = "zK3-correct-horse-battery-91";
const OTHER: &str = "qP7-another-stapled-value-55";

/// Processes in whose arguments a text stands.
fn arguments_with(part: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| contains(line, part))
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

fn app(name: &str, more: &str) -> App {
    App::new(name).function("keeper", "version", more).function(
        "other",
        "version",
        "env = { VERSION = \"none\" }",
    )
}

#[test]
fn a_granted_function_has_it_and_it_is_nowhere_else() {
    need_sandbox!();
    need_one_node!();
    let app = app("kept", "secrets = { VERSION = \"db-password\" }");
    let home = tempfile::tempdir().expect("a directory");
    // Before there is a node: the state directory is used as it is.
    let (code, said) = set(home.path(), "kept/db-password", &format!("{VALUE}\n"));
    assert!(code == 0 && said.contains("revision 1") && !said.contains(VALUE), "{said}");
    let node = Node::restart(home, "kept");
    let deployed = node.cli(["deploy", app.directory().to_str().expect("UTF-8")]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    assert_eq!(node.get("/keeper").text(), VALUE);
    assert_eq!(node.get("/other").text(), "none");
    // Cells have their snapshots stored by now, where they store any.
    node.wait_at_rest(SOON);
    let shown = [
        node.cli(["ps", "--json"]).stdout,
        node.cli(["secret", "list", "--json"]).stdout,
        node.cli(["secret", "list"]).stdout,
        node.cli(["versions", "kept", "--json"]).stdout,
        node.cli(["logs", "kept", "--json"]).stdout,
        node.ask("/v1/overview").to_string(),
        node.words(),
        deployed.stdout,
    ];
    for text in &shown {
        assert!(!text.contains(VALUE), "{text}");
    }
    assert!(shown[1].contains("\"granted_to\":[\"keeper\"]"), "{}", shown[1]);
    assert_eq!(files_with(node.home(), VALUE), Vec::<String>::new());
    assert!(!files_with(node.home(), "kept/db-password").is_empty(), "the search finds what is there");
    assert_eq!(arguments_with(VALUE), Vec::<String>::new());

    // After a restart it is there again.
    let home = node.kill();
    let node = Node::restart(home, "kept");
    wait_until(SOON, "it answers", || node.get("/keeper").status == 200);
    assert_eq!(node.get("/keeper").text(), VALUE);
}

#[test]
fn a_new_value_reaches_what_runs_without_a_lost_request() {
    need_sandbox!();
    need_one_node!();
    let app = app("turned", "secrets = { VERSION = \"word\" }");
    let home = tempfile::tempdir().expect("a directory");
    assert_eq!(set(home.path(), "turned/word", VALUE).0, 0);
    let node = Node::restart(home, "turned");
    let deployed = node.cli(["deploy", app.directory().to_str().expect("UTF-8")]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let version = node.cli(["versions", "turned", "--json"]).json_lines();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = node.http();
            let mut seen = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = client.request("GET", "/keeper", &[], b"").expect("it is answered");
                assert_eq!(answer.status, 200, "{}", answer.text());
                seen.push(answer.text());
            }
            seen
        });
        let (code, said) = set(node.home(), "turned/word", OTHER);
        assert!(code == 0 && said.contains("started anew") && said.contains("revision 2"), "{said}");
        assert_eq!(node.get("/keeper").text(), OTHER);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = asking.join().expect("no request was lost");
        let first_new = seen.iter().position(|text| text == OTHER).unwrap_or(seen.len());
        assert!(seen.iter().take(first_new).all(|text| text == VALUE));
        assert!(seen.iter().skip(first_new).all(|text| text == OTHER), "nobody goes back");
    });
    // It is the same version, with another value.
    assert_eq!(node.cli(["versions", "turned", "--json"]).json_lines().len(), version.len());
    let (code, said) = set(node.home(), "turned/word", OTHER);
    assert!(code == 0 && said.contains("already"), "{said}");
    for value in [VALUE, OTHER] {
        assert_eq!(files_with(node.home(), value), Vec::<String>::new());
    }
    let removed = node.cli(["secret", "remove", "turned/word"]);
    assert!(removed.code == 1 && removed.stderr.contains("keeper"), "{}", removed.stderr);
    assert_eq!(node.cli(["rm", "turned"]).code, 0);
    assert_eq!(node.cli(["secret", "remove", "turned/word"]).code, 0);
    assert!(node.cli(["secret", "list", "--json"]).stdout.is_empty());
}

#[test]
fn a_value_with_which_a_function_does_not_start_leaves_the_one_before() {
    need_sandbox!();
    need_one_node!();
    const WRONG: &str = "wrong-kG5-stapled-value-17";
    let app = App::new("picky").function("keeper", "picky", "secrets = { VERSION = \"word\" }");
    let home = tempfile::tempdir().expect("a directory");
    assert_eq!(set(home.path(), "picky/word", VALUE).0, 0);
    let node = Node::restart(home, "picky");
    let deployed = node.cli(["deploy", app.directory().to_str().expect("UTF-8")]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = node.http();
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = client.request("GET", "/keeper", &[], b"").expect("it is answered");
                assert_eq!((answer.status, answer.text().as_str()), (200, VALUE));
                count += 1;
            }
            count
        });
        let (code, said) = set(node.home(), "picky/word", WRONG);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(code == 1 && !said.contains(WRONG), "{said}");
        for part in ["keeper", "does not start with the new value", "the server does not take this password"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(asking.join().expect("no request was lost") > 0);
    });
    // On the disk, too: a restart finds the value of before, and the next one takes its number.
    let rows = node.cli(["secret", "list", "--json"]).json_lines();
    assert_eq!(rows[0]["revision"], 1, "{rows:?}");
    let home = node.kill();
    let node = Node::restart(home, "picky");
    wait_until(SOON, "it answers", || node.get("/keeper").status == 200);
    assert_eq!(node.get("/keeper").text(), VALUE);
    let (code, said) = set(node.home(), "picky/word", OTHER);
    assert!(code == 0 && said.contains("revision 2"), "{said}");
    assert_eq!(node.get("/keeper").text(), OTHER);
    assert_eq!(files_with(node.home(), WRONG), Vec::<String>::new());
}

#[test]
fn what_is_missing_or_wrong_is_told_and_nothing_changes() {
    need_sandbox!();
    need_one_node!();
    let plain = App::new("bare").function("keeper", "version", "env = { VERSION = \"one\" }");
    let node = Node::start(&plain);
    let granted = App::new("bare").function("keeper", "version", "secrets = { VERSION = \"word\" }");
    let refused = node.cli(["deploy", granted.directory().to_str().expect("UTF-8")]);
    assert_eq!(refused.code, 1);
    for part in ["keeper", "word", "baton secret set bare/word"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(node.get("/keeper").text(), "one");
    // Another app's secret of that name is another secret.
    assert_eq!(set(node.home(), "other/word", VALUE).0, 0);
    assert_eq!(node.cli(["deploy", granted.directory().to_str().expect("UTF-8")]).code, 1);
    for (secret, value, said) in
        [("bare/word", "", "empty"), ("bare/word", "a\0b", "NUL"), ("bare/Word", "x", "letter")]
    {
        let (code, told) = set(node.home(), secret, value);
        assert!(code == 2 && told.contains(said), "{secret}: {told}");
    }
    let long = "x".repeat(40_000);
    let (code, told) = set(node.home(), "bare/word", &long);
    assert!(code == 2 && told.contains("the most is"), "{told}");
    let gone = node.cli(["secret", "remove", "bare/word"]);
    assert!(gone.code == 1 && gone.stderr.contains("no secret word"), "{}", gone.stderr);
    let typed = cli(node.home(), ["secret", "set", "bare/word", VALUE]);
    assert_eq!(typed.code, 2, "a value is no argument");
}
