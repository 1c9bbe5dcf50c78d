//! What a manifest says, and what is said of a bad one.

mod isolation;

mod rollout;
mod runtime;

use proptest::prelude::*;

use super::*;

const BOUTIQUE: &str = r#"
[app]
name  = "boutique"
trust = "app"

[pool]
size = "64MiB"
huge_pages = true

[placement]
policy = "pack"

[functions.cart]
build     = { cargo = "functions/cart" }
isolation = "compartment"
fallback  = "process"
calls     = ["catalog"]
timeout   = "500ms"
memory    = "32MiB"
cpu       = 0.5
pool      = "read"
scale     = { min = 0, max = 8, concurrency = 4, idle = "30s", queue = 16 }
env       = { LOG = "info" }
args      = ["--fast"]
share_key = "carts"
files = "data/cart"
references = true
nodes = ["a", "b"]
durable = ["catalog"]
idempotent = true

[functions.catalog]
artifact = "catalog.bin"

[functions.filter]
build = { command = "make filter", output = "out/filter.wasm" }
isolation = "wasm"
network   = ["api.example.com:443", "[::1]:9000"]

[[routes]]
path = "/cart/{user}"
methods = ["GET", "POST"]
function = "cart"

[[routes]]
path = "/{*rest}"
function = "catalog"
"#;

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, Path::new("baton.toml"))
}

/// A manifest with one good function `cart`, one good function `catalog`, and more lines.
fn with(cart: &str, after: &str) -> String {
    let cart = if cart.contains("build") || cart.contains("artifact") {
        cart.to_owned()
    } else {
        format!("artifact = \"c\"\n{cart}")
    };
    format!(
        "[app]\nname = \"shop\"\n[functions.catalog]\nartifact = \"k\"\n[functions.cart]\n{cart}\n{after}\n"
    )
}

fn check_error(text: &str, expect: &str) {
    let error = parse(text).map(|_| "no error").unwrap_err();
    assert_eq!(error.to_string(), format!("baton.toml:{expect}"), "in:\n{text}");
}

/// The message of a fault in line 7, the first one of function `cart` that a case writes.
fn check_cart(cart: &str, expect: &str) {
    check_error(&with(cart, ""), expect);
}

#[test]
fn every_setting_is_read() {
    let manifest = parse(BOUTIQUE).unwrap();
    assert_eq!(manifest.app.name.as_str(), "boutique");
    assert_eq!(manifest.app.trust, Some(Trust::App));
    assert_eq!(manifest.pool, Pool { size: ByteSize::from_mib(64), huge_pages: true });
    let cart = manifest.function("cart").unwrap();
    let expect = Function {
        runtime: Runtime::Native,
        build: Build::Cargo { dir: "functions/cart".into() },
        isolation: Isolation::Compartment,
        fallback: Fallback::Process,
        calls: vec![FunctionName::new("catalog").unwrap()],
        timeout: TimeSpan::from_millis(500),
        start_timeout: None,
        memory: ByteSize::from_mib(32),
        cpu: Some(Cores::from_milli(500)),
        pool: PoolRights::Read,
        scale: Scale { min: 0, max: 8, concurrency: 4, idle: TimeSpan::from_millis(30_000), queue: 16 },
        network: Vec::new(),
        env: [("LOG".to_owned(), "info".to_owned())].into(),
        secrets: std::collections::BTreeMap::new(),
        args: vec!["--fast".to_owned()],
        reset: false,
        reuse: false,
        share_key: Some(KeyName::new("carts").unwrap()),
        files: Some("data/cart".into()),
        references: true,
        nodes: vec![NodeName::new("a").unwrap(), NodeName::new("b").unwrap()],
        durable: vec![FunctionName::new("catalog").unwrap()],
        idempotent: true,
        policy: Policies::default(),
        stream: false,
        timeouts: Timeouts::default(),
        events: super::Events::default(),
    };
    assert_eq!(cart, &expect);
    assert_eq!(manifest.placement, Placement { policy: Policy::Pack });
    let filter = manifest.function("filter").unwrap();
    let expect = Build::Command { command: "make filter".to_owned(), output: "out/filter.wasm".into() };
    assert_eq!(filter.build, expect);
    assert_eq!(filter.network, ["api.example.com:443", "[::1]:9000"]);
    let methods: Vec<&str> = manifest.routes[0].methods.iter().map(crate::Method::as_str).collect();
    assert_eq!(methods, ["GET", "POST"]);
    assert_eq!(manifest.edges().count(), 1);
}

#[test]
fn streams_have_times_of_their_own() {
    let text = "stream = true\ntimeout = \"5s\"\ntimeouts = { idle = \"250ms\", total = \"2h\" }";
    let manifest = parse(&with(text, "")).unwrap();
    let cart = manifest.function("cart").unwrap();
    assert!(cart.stream);
    assert_eq!(cart.first_byte(), TimeSpan::from_millis(5000), "as its timeout");
    assert_eq!(cart.stream_idle(), TimeSpan::from_millis(250));
    assert_eq!(cart.timeouts.total, Some(TimeSpan::from_millis(2 * 3600 * 1000)));
    for bad in [
        "timeouts = { idle = \"1s\" }",
        "stream = true\ntimeouts = { idle = \"8d\" }",
        "stream = true\ntimeouts = { ilde = \"1s\" }",
        "stream = true\ntimeouts = { idle = \"30000h\" }",
        "stream = true\npool = \"read\"",
    ] {
        assert!(parse(&with(bad, "")).is_err(), "{bad}");
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    let manifest = parse(&with("", "")).unwrap();
    assert_eq!(
        (manifest.app.trust, manifest.app.trust(), manifest.app.wake),
        (None, Trust::Buffer, Wake::Auto)
    );
    assert_eq!(manifest.pool, Pool { size: ByteSize::from_mib(256), huge_pages: false });
    let cart = manifest.function("cart").unwrap();
    assert_eq!((cart.isolation, cart.fallback), (Isolation::Process, Fallback::Refuse));
    assert_eq!((cart.timeout.to_string(), cart.memory.to_string()), ("2s".to_owned(), "64MiB".to_owned()));
    assert_eq!(cart.pool, PoolRights::Write);
    let scale = Scale { min: 1, max: 1, concurrency: 1, idle: TimeSpan::from_millis(60_000), queue: 128 };
    assert_eq!((cart.scale, cart.cpu), (scale, None));
    assert_eq!((cart.reset, &cart.share_key, &cart.files), (false, &None, &None));
    assert_eq!((manifest.placement.policy, cart.idempotent), (Policy::Spread, false));
    assert!(cart.nodes.is_empty());
    assert!(cart.calls.is_empty() && cart.network.is_empty() && cart.env.is_empty() && cart.args.is_empty());
}

#[test]
fn a_floor_without_a_ceiling_is_a_fixed_number() {
    let manifest = parse(&with("scale = { min = 3 }", "")).unwrap();
    assert_eq!(manifest.function("cart").unwrap().scale.max, 3);
}

#[test]
fn json_carries_a_manifest_whole() {
    let manifest = parse(BOUTIQUE).unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

#[test]
fn json_is_held_to_the_same_rules() {
    let json = serde_json::to_value(parse(BOUTIQUE).unwrap()).unwrap();
    let broken = |path: &str, value: serde_json::Value| {
        let mut json = json.clone();
        *json.pointer_mut(path).unwrap() = value;
        serde_json::from_value::<Manifest>(json).unwrap_err().to_string()
    };
    assert_eq!(
        broken("/functions/cart/calls/0", "catalogue".into()),
        "functions.cart.calls[0]: function \"cart\" calls \"catalogue\", which does not exist; did you mean \"catalog\"?"
    );
    assert_eq!(
        broken("/pool/size", "4KiB".into()),
        "pool.size: pool.size is 4KiB, outside 1MiB to 1TiB; choose a value from 1MiB to 1TiB"
    );
    assert!(broken("/functions/cart/scale/max", 0.into()).starts_with("functions.cart.scale.max:"));
    assert!(broken("/routes/1/function", "x y".into()).contains("which no name may hold"));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    check_error(
        "[app]\nname = \"shop\"\nnmae = 1\n",
        "3:1: unknown key \"nmae\" in [app]; did you mean \"name\"?",
    );
    check_error(
        "[application]\n",
        "1:2: unknown key \"application\" in the manifest; known: app, pool, placement, deploy, policy, functions, routes, cron, subscriptions",
    );
    check_cart(
        "timout = \"2s\"",
        "7:1: unknown key \"timout\" in [functions.cart]; did you mean \"timeout\"?",
    );
    check_cart(
        "scale = { maximum = 2 }",
        "7:11: unknown key \"maximum\" in [functions.cart.scale]; known: min, max, concurrency, idle, queue",
    );
    check_error(
        &with("", "[[routes]]\npath = \"/\"\nfunction = \"cart\"\nmethod = [\"GET\"]"),
        "11:1: unknown key \"method\" in [routes]; did you mean \"methods\"?",
    );
}

#[test]
fn bad_values_are_refused_with_a_remedy() {
    let unit = "write a whole number and one of ms, s, m, h, such as \"500ms\" or \"2s\"";
    check_cart(
        "memory = \"64MB\"",
        "7:10: bad size \"64MB\" of functions.cart.memory: \"MB\" is no unit of size; did you mean \"MiB\"?",
    );
    check_cart(
        "timeout = \"2 days\"",
        &format!("7:11: bad time \"2 days\" of functions.cart.timeout: \"days\" is no unit of time; {unit}"),
    );
    check_cart(
        "timeout = 2",
        "7:11: functions.cart.timeout takes a time such as \"2s\", not this number; write a time such as \"2s\"",
    );
    check_cart("timeout = \"1h\"", "7:11: timeout is 1h, outside 1ms to 15m; choose a value from 1ms to 15m");
    check_cart("memory = 5", "7:10: memory is 5B, outside 1MiB to 1TiB; choose a value from 1MiB to 1TiB");
    check_cart("cpu = 0.0", "7:7: cpu is 0, outside 0.01 to 1024; choose a value from 0.01 to 1024");
    check_cart(
        "isolation = \"proces\"",
        "7:13: functions.cart.isolation does not take \"proces\"; did you mean \"process\"?",
    );
    check_cart("pool = \"rw\"", "7:8: functions.cart.pool does not take \"rw\"; known: write, read, none");
    check_cart(
        "calls = \"catalog\"",
        "7:9: functions.cart.calls takes a list of texts, not text; write a list of texts",
    );
    check_cart(
        "network = [\"https://example.com\"]",
        "7:12: \"https://example.com\" is no host or host:port; write a host such as \"api.example.com\" or \
         \"api.example.com:443\"",
    );
    check_cart(
        "env = { \"A=B\" = \"1\" }",
        "7:17: \"A=B\" cannot name an environment entry; use a name without = and NUL",
    );
}

#[test]
fn bad_names_are_refused() {
    let remedy = "use at most 48 lower-case letters, digits and -, a letter first";
    check_error(
        "[app]\nname = \"My Shop\"",
        &format!(
            "2:8: bad name \"My Shop\": the name starts with 'M', not with a lower-case letter; {remedy}"
        ),
    );
    check_error(
        &with("", "[functions.a_b]\nartifact = \"x\""),
        &format!("8:12: bad name \"a_b\": character 2 of the name is '_', which no name may hold; {remedy}"),
    );
}

#[test]
fn an_artifact_comes_from_exactly_one_place() {
    let none = "add build = { cargo = \"DIRECTORY\" } or artifact = \"FILE\"";
    let two = "keep one of build = { cargo = … }, build = { command = …, output = … } and artifact";
    check_error(
        "[app]\nname = \"shop\"\n[functions.cart]\ntimeout = \"1s\"",
        &format!("3:12: function \"cart\" has neither build nor artifact; {none}"),
    );
    check_cart("build = {}", &format!("6:1: function \"cart\" has neither build nor artifact; {none}"));
    check_cart(
        "build = { cargo = \"a\" }\nartifact = \"b\"",
        &format!("6:1: function \"cart\" gets its artifact in two ways; {two}"),
    );
    check_cart(
        "build = { command = \"make\" }",
        "6:1: a build by command has no \"output\"; write build = { command = \"COMMAND\", output = \"FILE\" }",
    );
    check_cart(
        "artifact = \"\"",
        "6:12: the path of the artifact is empty or holds a NUL character; write some text without NUL",
    );
}

#[test]
fn call_edges_lead_to_other_functions_of_the_app() {
    check_cart(
        "calls = [\"catalog\", \"curency\"]",
        "7:21: function \"cart\" calls \"curency\", which does not exist; add the function or remove it from calls",
    );
    check_cart(
        "calls = [\"catlog\"]",
        "7:10: function \"cart\" calls \"catlog\", which does not exist; did you mean \"catalog\"?",
    );
    check_cart(
        "calls = [\"cart\"]",
        "7:10: function \"cart\" calls itself; remove it from its calls; write a loop instead",
    );
    check_cart(
        "calls = [\"catalog\", \"catalog\"]",
        "7:21: function \"cart\" names \"catalog\" twice in its calls; remove one of the two",
    );
}

#[test]
fn routes_lead_to_functions_and_do_not_clash() {
    let routes = |routes: &[&str]| {
        let tables = routes.iter().map(|route| format!("[[routes]]\n{route}\n")).collect::<String>();
        with("", &tables)
    };
    check_error(
        &routes(&["path = \"/\"\nfunction = \"crat\"", "path = \"/x\"\nfunction = \"cart\""]),
        "10:12: route \"/\" leads to function \"crat\", which does not exist; did you mean \"cart\"?",
    );
    check_error(
        &routes(&["path = \"/\"\nfunction = \"email\""]),
        "10:12: route \"/\" leads to function \"email\", which does not exist; add the function or remove the route",
    );
    check_error(
        &routes(&["path = \"/c/{a}\"\nfunction = \"cart\"", "path = \"/c/{b}\"\nfunction = \"catalog\""]),
        "12:8: route \"/c/{b}\" answers GET on the paths of \"/c/{a}\" in line 9; change the path or the methods \
         of one of them; names in braces make no difference",
    );
    check_error(
        &routes(&["path = \"cart\"\nfunction = \"cart\""]),
        "9:8: bad path \"cart\": the path does not start with \"/\"; start the path with \"/\"",
    );
    check_error(
        &routes(&["path = \"/\"\nmethods = [\"get\"]\nfunction = \"cart\""]),
        "10:12: bad method \"get\": a method is written in upper case; write a method in upper case, such as \"GET\"",
    );
    check_error(
        &routes(&["path = \"/\"\nmethods = []\nfunction = \"cart\""]),
        "10:11: route \"/\" answers no method; name a method, or leave methods out for GET",
    );
    check_error(
        &routes(&["path = \"/\"\nmethods = [\"GET\", \"GET\"]\nfunction = \"cart\""]),
        "10:19: method GET stands twice in the route; remove one of the two",
    );
    check_error(&routes(&["path = \"/\""]), "8:1: [routes] has no \"function\"; add function = \"NAME\"");
}

#[test]
fn files_lie_in_the_directory_of_the_manifest() {
    for path in ["../data", "/etc", "data/../../etc", "data/..", "/"] {
        check_cart(
            &format!("files = \"{path}\""),
            &format!(
                "7:9: files \"{path}\" are not in the manifest's directory; name a directory or file by a path from \
                 the manifest's directory, without `..`"
            ),
        );
    }
    check_cart(
        "files = \"\"",
        "7:9: the path of the files is empty or holds a NUL character; write some text without NUL",
    );
    check_cart(
        "files = [\"a\"]",
        "7:9: functions.cart.files takes text in quotes, not a list; write text in quotes",
    );
    for path in [".", "./data", "data/cart", "index.html"] {
        let manifest = parse(&with(&format!("files = \"{path}\""), "")).unwrap();
        assert_eq!(manifest.function("cart").unwrap().files.as_deref(), Some(Path::new(path)));
    }
}

#[test]
fn missing_parts_are_named() {
    check_error("", "1:1: the manifest has no \"app\"; add a table [app] with name = \"NAME\"");
    check_error("[app]", "1:2: [app] has no \"name\"; add name = \"NAME\"");
    check_error(
        "[app]\nname = \"shop\"",
        "1:1: the app has no function; add a table [functions.NAME] with build or artifact",
    );
}

#[test]
fn what_is_no_toml_is_pointed_at() {
    let error = parse("[app]\nname = \"shop\n").unwrap_err();
    assert!(matches!(*error.fault, ManifestFault::Syntax { .. }), "{error}");
    assert_eq!(error.location.line, 2);
    let error = parse("[app]\nname = \"a\"\nname = \"b\"\n").unwrap_err();
    assert_eq!((error.location.line, error.location.column), (3, 1), "{error}");
}

#[test]
fn every_list_has_a_maximum() {
    let many = |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<String>();
    let functions = many(63, &|n| format!("[functions.f{n}]\nartifact = \"x\"\n"));
    check_error(
        &with("", &functions),
        "3:2: 65 functions, the most is 64; remove some functions, or split the app",
    );
    let routes = many(1025, &|n| format!("[[routes]]\npath = \"/{n}\"\nfunction = \"cart\"\n"));
    assert!(matches!(
        *parse(&with("", &routes)).unwrap_err().fault,
        ManifestFault::TooMany { what: "routes", .. }
    ));
    let args = format!("args = [{}]", many(129, &|_| "\"a\",".to_owned()));
    check_cart(&args, "7:8: 129 arguments, the most is 128; remove some arguments, or split the app");
    let text = format!("{BOUTIQUE}#{}", "x".repeat(limits::MANIFEST_BYTES_MAX));
    assert!(matches!(*parse(&text).unwrap_err().fault, ManifestFault::FileTooLarge { .. }));
}

#[test]
fn columns_count_characters() {
    let error = parse("[app]\nname = \"é\"\n[functions]\n\"é\" = 1\n").unwrap_err();
    assert_eq!((error.location.line, error.location.column), (2, 8));
    assert_eq!(Location::of("éé!", 4..5).column, 3);
    assert_eq!(Location::of("a", 99..100).line, 1);
}

#[test]
fn routes_compile_from_the_manifest() {
    let table = parse(BOUTIQUE).unwrap().route_table().unwrap();
    let crate::Match::Found { target, params, .. } = table.find("POST", "/cart/ann") else {
        panic!("no match")
    };
    assert_eq!((target.as_str(), params.get("user")), ("cart", Some("ann")));
}

proptest! {
    #[test]
    fn no_text_makes_parsing_panic(text in any::<String>()) {
        let _ = parse(&text).map_err(|error| error.to_string());
    }

    /// Texts that are nearly manifests: lines of a good one, cut, swapped and spliced.
    #[test]
    fn no_mangled_manifest_makes_parsing_panic(
        picks in prop::collection::vec((0..60_usize, 0..80_usize, 0..4_u8), 0..40),
    ) {
        let lines: Vec<&str> = BOUTIQUE.lines().collect();
        let mut text = String::new();
        for (line, cut, how) in picks {
            let line = lines[line % lines.len()];
            let cut = line.floor_char_boundary(cut.min(line.len()));
            match how {
                0 => text.push_str(&line[..cut]),
                1 => text.push_str(&line[cut..]),
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        if let Err(error) = parse(&text) {
            prop_assert!(error.location.line <= text.lines().count() + 1);
            prop_assert!(!error.remedy().is_empty());
        }
    }
}
