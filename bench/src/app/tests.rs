//! Variants, as the node would read them.

use super::*;

const SHOP: &str = r#"
    [app]
    name = "shop"
    [functions.cart]
    build = { cargo = "functions/cart" }
    isolation = "compartment"
    fallback = "process"
    scale = { min = 1, max = 1, concurrency = 64 }
    [functions.front]
    build = { cargo = "functions/front" }
    calls = ["cart"]
    [[routes]]
    path = "/"
    function = "front"
"#;

fn app(text: &str) -> App {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(MANIFEST), text).unwrap();
    let artifacts = ["cart", "front"].map(|name| (name.to_owned(), PathBuf::from(format!("/built/{name}"))));
    App::read(directory.path(), &artifacts.into()).unwrap()
}

/// What the node would read of a variant.
fn written(app: &App) -> baton_catalog::Manifest {
    let directory = tempfile::tempdir().unwrap();
    app.write(directory.path()).unwrap();
    let file = directory.path().join(MANIFEST);
    let text = fs::read_to_string(&file).unwrap();
    baton_catalog::Manifest::parse(&text, &file).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn a_component_is_an_app() {
    let manifest = written(&App::of_component(Path::new("/built/hello.wasm"), true));
    let (name, function) = manifest.functions.iter().next().unwrap();
    assert!(name.as_str() == "hello" && function.reuse && manifest.routes.len() == 1);
}

#[test]
fn a_variant_runs_what_was_built_in_another_way() {
    let shop = app(SHOP);
    assert_eq!((shop.name(), shop.artifact("cart")), ("shop", Some("/built/cart".into())));
    let manifest = written(&shop.clone().isolated(Isolation::Compartment).unwrap().trusting("app"));
    assert_eq!(manifest.app.trust, Some(baton_catalog::Trust::App));
    for (name, function) in &manifest.functions {
        assert_eq!(function.isolation, baton_catalog::Isolation::Compartment);
        assert_eq!(function.fallback, baton_catalog::Fallback::Refuse);
        let path = PathBuf::from(format!("/built/{name}"));
        assert_eq!(function.build, baton_catalog::Build::Artifact { path });
    }
    let manifest = written(&shop.with_replicas(0).marked("7"));
    let cart = manifest.function("cart").unwrap();
    assert_eq!((cart.scale.min, cart.scale.max, cart.scale.concurrency), (0, 1, 64));
    assert_eq!(cart.env["BENCH_MARK"], "7");
    let placed = written(&app(SHOP).placed(|name| if name == "cart" { "b" } else { "a" }));
    let nodes =
        |name| placed.function(name).unwrap().nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((nodes("cart"), nodes("front")), (vec!["b".to_owned()], vec!["a".to_owned()]));
}

#[test]
fn processes_hand_over_as_they_are_told() {
    let wake = |wake| {
        let shop = app(SHOP).isolated(Isolation::Process).unwrap();
        written(&shop.waking(wake)).app.wake
    };
    assert_eq!(wake(Wake::Ring), baton_catalog::Wake::Ring);
    assert_eq!(wake(Wake::Ebpf), baton_catalog::Wake::Ebpf);
}

#[test]
fn a_function_can_be_many_functions() {
    let many = written(&app(SHOP).scaled(0, 4, "2s").multiplied("rest-3", 12));
    assert_eq!((many.app.name.as_str(), many.functions.len(), many.routes.len()), ("rest-3", 12, 12));
    let scale = many.function("f11").unwrap().scale;
    assert_eq!((scale.min, scale.max, scale.idle.duration().as_secs()), (0, 4, 2));
}

#[test]
fn modules_take_the_places_of_executables() {
    let directory = tempfile::tempdir().unwrap();
    let error = app(SHOP).of_modules(directory.path()).unwrap_err();
    assert!(error.to_string().contains("cart.wasm") && error.to_string().contains("xtask guests"), "{error}");
    for name in ["cart", "front"] {
        fs::write(directory.path().join(name).with_extension("wasm"), "").unwrap();
    }
    let modules = |shop: &str| {
        let text = shop.replace("isolation = \"compartment\"", "isolation = \"wasm\"");
        let front = "build = { cargo = \"functions/front\" }";
        let text = text.replace(front, &format!("{front}\nisolation = \"wasm\""));
        app(&text.replace("fallback = \"process\"", "")).of_modules(directory.path()).unwrap()
    };
    let cart = |app: &App| written(app).function("cart").unwrap().clone();
    let kept = cart(&modules(SHOP));
    assert_eq!((kept.reuse, kept.scale.concurrency), (true, 64));
    let path = directory.path().join("cart.wasm");
    assert_eq!(kept.build, baton_catalog::Build::Artifact { path });
    let anew = cart(&modules(SHOP).beginning_anew());
    assert_eq!((anew.reuse, anew.scale.concurrency), (false, 1));
    // What compartments put back begins anew.
    let reset = SHOP.replace("concurrency = 64 }", "concurrency = 1 }\nreset = true");
    assert!(cart(&modules(&reset)).begins_anew());
}

#[test]
fn functions_move_in_with_their_routes() {
    let text = SHOP.replace("shop", "other").replace("front", "first").replace("\"/\"", "\"/first\"");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(MANIFEST), text).unwrap();
    let artifacts = ["cart", "first"].map(|name| (name.to_owned(), PathBuf::from("/x")));
    let other = App::read(directory.path(), &artifacts.into()).unwrap();
    let both = app(SHOP).with_functions(&other, &["first"]).with_call("first", "front");
    let manifest = written(&both);
    assert_eq!((manifest.functions.len(), manifest.routes.len()), (3, 2));
    let calls: Vec<&str> =
        manifest.function("first").unwrap().calls.iter().map(|name| name.as_str()).collect();
    assert_eq!(calls, ["cart", "front"]);
}

#[test]
fn what_is_not_built_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(MANIFEST), SHOP).unwrap();
    let error = App::read(directory.path(), &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("cart"), "{error}");
    fs::write(directory.path().join(MANIFEST), "functions = 3").unwrap();
    assert!(matches!(App::read(directory.path(), &BTreeMap::new()), Err(AppError::Malformed { .. })));
}
