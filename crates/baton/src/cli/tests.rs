//! The command line: what is taken, what is refused.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("baton").chain(line.split_whitespace()))
}

fn verb(line: &str) -> Verb {
    parse(line).unwrap().verb
}

fn refused(line: &str) -> clap::Error {
    let error = parse(line).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{line}");
    error
}

fn node(line: &str) -> NodeArgs {
    match verb(line) {
        Verb::Up(up) => up.node,
        Verb::Node(node) => node,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_line_of_the_benchmarks_is_understood() {
    let Verb::Up(up) = verb("up --port 0 --json --cores 1 --receipts bench/apps/hello") else { panic!() };
    assert_eq!(up.dir, PathBuf::from("bench/apps/hello"));
    assert!(up.node.json && up.node.telemetry.receipts.is_some() && !up.watch && !up.no_build);
    assert_eq!(up.node.gateway_address().to_string(), "127.0.0.1:0");
    assert_eq!(up.node.admin_address().to_string(), "127.0.0.1:0");
}

#[test]
fn addresses_have_their_defaults() {
    let check = |line: &str, gateway: &str, admin: &str| {
        let node = node(line);
        assert_eq!(node.gateway_address().to_string(), gateway, "{line}");
        assert_eq!(node.admin_address().to_string(), admin, "{line}");
    };
    check("up", "127.0.0.1:8080", "127.0.0.1:8081");
    check("node", "127.0.0.1:8080", "127.0.0.1:8081");
    check("up --port 9000", "127.0.0.1:9000", "127.0.0.1:8081");
    check("up --listen 0.0.0.0:80 --admin [::1]:1", "0.0.0.0:80", "[::1]:1");
    check("up --port 0 --admin 127.0.0.1:7", "127.0.0.1:0", "127.0.0.1:7");
}

#[test]
fn contradictions_and_unknown_words_are_bad_usage() {
    refused("up --port 1 --listen 127.0.0.1:2");
    refused("up --watch --no-build");
    refused("up --cores 1-");
    refused("up --admin 0.0.0.0:8081");
    refused("up --admin localhost");
    refused("invoke shop");
    refused("invoke shop/");
    refused("logs a/b/c");
    refused("new x --template cobol");
    refused("caps");
    refused("fly");
    assert_eq!(refused("invoke a/b --header nonsense").kind(), ErrorKind::ValueValidation);
}

#[test]
fn invocations_are_read() {
    let Verb::Invoke(invoke) = verb("invoke shop/cart --data @- --header X-A:b:c --path /x?y=z") else {
        panic!()
    };
    assert_eq!((invoke.target.app.as_str(), invoke.target.function.as_str()), ("shop", "cart"));
    assert_eq!(invoke.headers, [Header { name: "x-a".to_owned(), value: "b:c".to_owned() }]);
    assert_eq!(invoke.data.unwrap(), "@-");
    assert_eq!(invoke.path.as_deref(), Some("/x?y=z"));
}

#[test]
fn scopes_name_an_app_or_a_function() {
    assert_eq!("shop".parse(), Ok(Scope { app: "shop".to_owned(), function: None }));
    let function = Scope { app: "shop".to_owned(), function: Some("cart".to_owned()) };
    assert_eq!("shop/cart".parse(), Ok(function));
}

#[test]
fn everything_after_bench_is_passed_on() {
    let Verb::Bench(bench) = verb("bench hop --quick --json out.json --help") else { panic!() };
    assert_eq!(bench.args, ["hop", "--quick", "--json", "out.json", "--help"]);
}

#[test]
fn the_home_may_stand_anywhere() {
    assert_eq!(parse("ps --home /x").unwrap().home, Some(PathBuf::from("/x")));
    assert_eq!(parse("--home /x ps --json").unwrap().home, Some(PathBuf::from("/x")));
}

#[test]
fn a_program_to_trace_may_have_arguments() {
    let Verb::Doctor(doctor) = verb("doctor --trace-syscalls shop/cart --json -- --fast x") else { panic!() };
    assert_eq!(doctor.trace_syscalls.as_deref(), Some("shop/cart"));
    assert_eq!(doctor.args, ["--fast", "x"]);
    assert!(doctor.output.json);
    refused("doctor -- x");
}
