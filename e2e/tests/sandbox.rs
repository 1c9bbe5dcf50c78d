//! The sandbox as a function sees it from inside, through the node.

use std::time::Duration;

use baton_e2e::{App, Node, need_native, need_sandbox};

#[test]
fn a_function_reaches_nothing_but_its_link() {
    need_sandbox!();
    need_native!("a module can name neither files nor sockets nor programs: what imports them is refused");
    let app =
        App::new("walls").function("probe", "sandbox", "timeout = \"10s\"\nenv = { COLOUR = \"green\" }");
    let node = Node::start(&app);
    // The gateway itself is what it could reach if it had the machine's network.
    let seen = node.get(&format!("/probe?connect={}", node.gateway));
    assert_eq!(seen.status, 200, "{}", seen.text());
    let attempts = seen.text();
    // The library OS of a compartment has a null device of its own.
    let harmless = |line: &&str| baton_e2e::in_cells() && line.contains("/dev/null");
    for line in attempts
        .lines()
        .filter(|line| !harmless(line))
        .filter(|line| line.ends_with("=yes") || line.ends_with("=no"))
    {
        assert!(line.ends_with("=no"), "{line} in\n{attempts}");
    }
    assert!(attempts.contains("read /etc/passwd=no") && attempts.contains("connect=no"), "{attempts}");
    // Standard streams, the control socket, and what the SDK keeps of the link.
    if baton_e2e::in_cells() {
        assert_eq!(node.get("/probe").status, 200);
        node.wait_at_rest(Duration::from_secs(2));
        return;
    }
    let fds: Vec<u32> = seen.line("fds").unwrap().split(',').map(|fd| fd.parse().unwrap()).collect();
    assert!(fds.starts_with(&[0, 1, 2, 3]) && fds.len() <= 6, "{fds:?}");
    let mut names: Vec<_> = seen.line("env").unwrap().split(',').map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["BATON_APP", "BATON_CALLS", "BATON_FUNCTION", "COLOUR", "GLIBC_TUNABLES"]);
    assert!(["1", "2"].contains(&seen.line("pid").unwrap().as_str()), "{attempts}");
    // It lives on and serves.
    assert_eq!(node.get("/probe").status, 200);
    node.wait_at_rest(Duration::from_secs(2));
}

#[test]
fn a_function_that_starts_a_program_gets_none() {
    need_sandbox!();
    need_native!("a module can name neither files nor sockets nor programs: what imports them is refused");
    let node = Node::start(&App::new("walls").function("probe", "sandbox", "").route("/fork", "probe", ""));
    let tried = node.get("/fork");
    let refused = tried.status == 200 && tried.text() == "no";
    assert!(refused || tried.status == 502, "{} {}", tried.status, tried.text());
    assert!(std::fs::read_dir("/proc").is_ok());
    node.wait_at_rest(Duration::from_secs(5));
}
