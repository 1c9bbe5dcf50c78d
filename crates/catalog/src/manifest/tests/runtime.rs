//! Functions that are not native.

use super::*;
use crate::words::LambdaRuntime;

fn runtime(lines: &str) -> Function {
    let text = with(lines, "").replace("artifact = \"c\"\n", "");
    parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).functions.remove("cart").unwrap()
}

/// The fault of a function without artifact.
#[track_caller]
fn check_bare(lines: &str, expect: &str) {
    check_error(&with(lines, "").replace("artifact = \"c\"\n", ""), expect);
}

#[test]
fn every_runtime_is_read_and_survives_json() {
    let python =
        runtime("runtime = \"python\"\nfiles = \"cart\"\nhandler = \"shop.cart:add\"\npython = \"venv\"");
    assert_eq!(
        python.runtime,
        Runtime::Python(Python {
            handler: Some("shop.cart:add".to_owned()),
            python: Some("venv".into()),
            snapshot: true,
        })
    );
    assert_eq!((python.build.clone(), python.bundled()), (Build::Files, Some(Path::new("cart"))));
    assert_eq!(python.memory, limits::RUNTIME_MEMORY_DEFAULT);
    assert_eq!(python.start_within(), limits::IMPORT_DEFAULT);
    let plain = runtime("runtime = \"python\"\nartifact = \"handler.py\"\nsnapshot = false");
    assert_eq!(plain.bundled(), Some(Path::new("handler.py")));
    assert_eq!(plain.runtime, Runtime::Python(Python { handler: None, python: None, snapshot: false }));

    let http = runtime(
        "runtime = \"http\"\ncommand = [\"python3\", \"app.py\"]\nport = 8000\nready = \"/ok\"\nfiles = \"site\"\n\
         network = [\"*.example.org:443\"]\npool = \"read\"",
    );
    let Runtime::Http(inner) = &http.runtime else { panic!("{http:?}") };
    assert_eq!((&inner.listen, inner.ready.as_deref()), (&Listen::Port(8000), Some("/ok")));
    let socket = runtime("runtime = \"http\"\ncommand = [\"x\"]\nsocket = \"/tmp/x.sock\"");
    assert_eq!(socket.bundled(), None);
    assert!(matches!(&socket.runtime, Runtime::Http(Http { listen: Listen::Socket(_), .. })));

    assert_eq!(inner.ports, None);
    let ports = runtime("runtime = \"http\"\ncommand = [\"x\"]\nport = 8000\nports = [9000, 53]");
    assert!(matches!(&ports.runtime, Runtime::Http(http) if http.ports.as_deref() == Some(&[9000, 53])));

    let lambda = runtime(
        "runtime = \"lambda\"\nhandler = \"app.main\"\nartifact = \"f.zip\"\nlambda = { runtime = \"nodejs20.x\" }",
    );
    let Runtime::Lambda(inner) = &lambda.runtime else { panic!("{lambda:?}") };
    assert_eq!((inner.runtime, inner.aws_limits), (LambdaRuntime::Node20, false));
    assert!(inner.runtime.is_node() && !inner.runtime.is_python());

    for function in [python, plain, http, socket, ports, lambda] {
        let json = serde_json::to_string(&function).unwrap();
        assert_eq!(serde_json::from_str::<Function>(&json).unwrap(), function, "{json}");
    }
}

#[test]
fn a_native_function_is_stored_as_ever() {
    let json = serde_json::to_value(parse(BOUTIQUE).unwrap()).unwrap();
    assert_eq!(json.pointer("/functions/cart/runtime"), None);
}

#[test]
fn keys_of_another_runtime_are_refused() {
    check_cart(
        "port = 80",
        "7:8: port means something for runtime = \"http\", not for \"native\"; remove port, or set runtime = \"http\"",
    );
    check_cart(
        "runtime = \"http\"\ncommand = [\"x\"]\nport = 8000\nhandler = \"a:b\"",
        "10:11: handler means something for runtime = \"python\" or \"lambda\", not for \"http\"; remove handler, or set \
         runtime = \"python\" or \"lambda\"",
    );
    check_cart(
        "runtime = \"lambda\"\nlambda = { runtime = \"python3.11\" }\nhandler = \"a.b\"\nsnapshot = true",
        "10:12: snapshot means something for runtime = \"python\", not for \"lambda\"; remove snapshot, or set runtime = \
         \"python\"",
    );
    check_cart(
        "runtime = \"pyhton\"",
        "7:11: functions.cart.runtime does not take \"pyhton\"; did you mean \"python\"?",
    );
    check_cart(
        "runtime = \"lambda\"\nlambda = { runtime = \"python3.1\" }\nhandler = \"a.b\"",
        "8:22: functions.cart.lambda.runtime does not take \"python3.1\"; did you mean \"python3.10\"?",
    );
}

#[test]
fn code_comes_from_one_place_and_runs_in_a_process() {
    check_cart(
        "runtime = \"python\"\nisolation = \"compartment\"",
        "8:13: runtime = \"python\" runs as a process only; remove isolation, or set it to \"process\"",
    );
    check_cart(
        "runtime = \"python\"\nfiles = \"x\"",
        "8:9: the code of a function with runtime = \"python\" comes from two places; keep one of files and artifact (or \
         build); a directory in files can hold all of it",
    );
    check_bare(
        "runtime = \"python\"",
        "5:12: function \"cart\" has no code for runtime = \"python\"; add files = \"DIRECTORY\" or artifact = \"FILE\"",
    );
    check_cart(
        "build = { cargo = \"x\" }\nruntime = \"http\"\ncommand = [\"x\"]\nport = 8000",
        "6:1: build = { cargo = … } makes native functions, not code for runtime = \"http\"; use files = \"DIRECTORY\", \
         artifact = \"FILE\" or build = { command = …, output = … }",
    );
    check_cart(
        "runtime = \"python\"\nargs = [\"x\"]",
        "8:8: runtime = \"python\" takes no args; remove args; use env, or command with runtime = \"http\"",
    );
}

#[test]
fn bad_values_of_runtimes_are_refused() {
    for handler in ["", ":", "a:", "a b", "1a:f", "a.:f", "../a:f", "a:f:g", "a-b:f"] {
        let text = with(&format!("runtime = \"python\"\nhandler = {handler:?}"), "");
        assert!(parse(&text).unwrap_err().to_string().contains(":8:11: "), "{handler}");
    }
    let http = "runtime = \"http\"\ncommand = [\"x\"]\n";
    for (line, expect) in [
        ("port = 80", "9:8: port is 80, outside 1024 to 65535"),
        ("port = 65536", "9:8: port is 65536, outside 1024 to 65535"),
        ("socket = \"/run/x\"", "9:10: no socket can be at \"/run/x\""),
        ("socket = \"/tmp/../x\"", "9:10: no socket can be at \"/tmp/../x\""),
        ("socket = \"/tmp\"", "9:10: no socket can be at \"/tmp\""),
        ("port = 8000\nready = \"ok\"", "10:9: \"ok\" is no path of a request"),
        ("port = 8000\nsocket = \"/tmp/x\"", "10:10: the program listens on port or on socket, not on both"),
        ("port = 8000\nnetwork = [\"example.org\"]", "10:12: \"example.org\" is no host:port"),
        ("port = 8000\npython = \"\"", "10:10: the path of python is empty or holds a NUL character"),
    ] {
        let error = parse(&with(&format!("{http}{line}"), "")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("baton.toml:{expect}")), "{error}");
    }
    check_cart(
        "runtime = \"http\"\nport = 8000",
        "5:12: [functions.cart] has no \"command\"; add command = [\"PROGRAM\", \"ARGUMENT\"]",
    );
    check_cart(
        "runtime = \"lambda\"\nlambda = { runtime = \"python3.11\" }",
        "5:12: [functions.cart] has no \"handler\"; add handler = \"FILE.FUNCTION\"",
    );
    check_cart(
        "runtime = \"lambda\"\nhandler = \"a.b\"",
        "5:12: [functions.cart] has no \"lambda\"; add lambda = { runtime = \"python3.11\" }",
    );
}
