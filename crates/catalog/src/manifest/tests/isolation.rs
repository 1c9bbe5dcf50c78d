//! Settings that mean something for one isolation and not for another.

use super::*;

#[test]
fn settings_that_cannot_both_be_meant_are_refused() {
    check_cart(
        "scale = { min = 3, max = 2 }",
        "7:17: scale.min is 3, above scale.max, which is 2; raise scale.max or lower scale.min",
    );
    check_cart(
        "artifact = \"a.wasm\"\nisolation = \"wasm\"\nfallback = \"process\"",
        "8:12: a Wasm module cannot run as a process; remove fallback, or choose isolation = \"process\"",
    );
    check_cart(
        "artifact = \"a.wasm\"",
        "6:12: the artifact is not what isolation = \"process\" runs; use a .wasm artifact with isolation = \
         \"wasm\", and no other artifact with it",
    );
    check_cart(
        "network = [\"[::1]:9000\"]\npool = \"read\"",
        "7:11: requests to the network are written to the pool; set pool = \"write\", or remove network",
    );
    check_error(
        &with("", "[pool]\nsize = \"3MiB\"\nhuge_pages = true"),
        "9:8: a pool of 3MiB does not consist of whole huge pages; choose a size that is a multiple of 2MiB, or \
         remove huge_pages",
    );
}

#[test]
fn a_process_has_a_time_to_come_up_of_its_own_and_a_compartment_has_not() {
    let within = |text: &str| {
        let manifest = parse(&with(text, "")).unwrap();
        manifest.function("cart").unwrap().start_within().to_string()
    };
    assert_eq!(within(""), "10s");
    assert_eq!(within("start_timeout = \"90s\""), "90s");
    check_cart(
        "start_timeout = \"90s\"\nisolation = \"compartment\"",
        "7:17: start_timeout means something for isolation = \"process\" only; remove it, or choose isolation = \
         \"process\"",
    );
    for bad in ["99ms", "16m"] {
        check_cart(
            &format!("start_timeout = \"{bad}\""),
            &format!("7:17: start_timeout is {bad}, outside 100ms to 15m; choose a value from 100ms to 15m"),
        );
    }
}

#[test]
fn settings_of_compartments_are_refused_where_they_would_not_hold() {
    let compartment = "isolation = \"compartment\"";
    let remedy = "remove it, or choose isolation = \"compartment\"";
    check_cart(
        "reset = true",
        &format!("7:9: reset means something for isolation = \"compartment\" only; {remedy}"),
    );
    check_cart(
        "share_key = \"one\"",
        &format!("7:13: share_key means something for isolation = \"compartment\" only; {remedy}"),
    );
    check_cart(
        &format!("reset = true\nfallback = \"process\"\n{compartment}"),
        "7:9: a process is not reset after each request; remove fallback, or remove reset",
    );
    check_cart(
        &format!("reset = true\nscale = {{ concurrency = 4 }}\n{compartment}"),
        "7:9: a reset after each request would end 4 requests at once; set scale.concurrency to 1, or remove reset",
    );
    check_cart(
        &format!("memory = \"33GiB\"\n{compartment}"),
        "7:10: memory of a compartment is 33GiB, outside 1MiB to 32GiB; choose a value from 1MiB to 32GiB",
    );
    check_cart(
        "share_key = \"ONE\"",
        "7:13: bad name \"ONE\": the name starts with 'O', not with a lower-case letter; use at most 48 \
         lower-case letters, digits and -, a letter first",
    );
    let manifest = parse(&with(&format!("{compartment}\nreset = true\nshare_key = \"one\""), "")).unwrap();
    assert!(manifest.function("cart").unwrap().reset);
}

#[test]
fn settings_of_wasm_functions_are_checked() {
    let wasm = "artifact = \"a.wasm\"\nisolation = \"wasm\"";
    check_cart(
        &format!("{wasm}\nreset = true"),
        "8:9: a Wasm function begins anew with each request as it is; remove reset; reuse = true would have it go on \
         instead",
    );
    check_cart(
        &format!("{wasm}\nscale = {{ concurrency = 4 }}"),
        "8:25: a Wasm function that begins anew with each request cannot have 4 at once; set scale.concurrency to 1, \
         or reuse = true",
    );
    check_cart(
        "reuse = true",
        "7:9: reuse means something for isolation = \"wasm\" only; remove it, or choose isolation = \"wasm\"",
    );
    check_error(
        &with(wasm, "[pool]\nsize = \"4GiB\""),
        "9:8: pool.size of an app with Wasm functions is 4GiB, outside 1MiB to 2031MiB; choose a value from 1MiB to \
         2031MiB",
    );
    let text = with(&format!("{wasm}\nreuse = true\nshare_key = \"one\"\nscale = {{ concurrency = 4 }}"), "");
    let manifest = parse(&text).unwrap();
    let cart = manifest.function("cart").unwrap();
    assert!(cart.reuse && !cart.begins_anew() && cart.wants_cell());
}

#[test]
fn a_stored_manifest_without_settings_of_compartments_is_read() {
    let mut json = serde_json::to_value(parse(BOUTIQUE).unwrap()).unwrap();
    let cart = json.pointer_mut("/functions/cart").unwrap().as_object_mut().unwrap();
    assert!(
        cart.remove("reset").is_some()
            && cart.remove("reuse").is_some()
            && cart.remove("share_key").is_some()
    );
    let manifest: Manifest = serde_json::from_value(json).unwrap();
    assert_eq!(manifest.function("cart").unwrap().share_key, None);
}

#[test]
fn who_hands_over_is_said_for_the_app_and_not_with_cells() {
    let app = |keys: &str, function: &str| {
        format!("[app]\nname = \"shop\"\n{keys}\n[functions.cart]\nartifact = \"cart\"\n{function}\n")
    };
    for (word, wake) in [("auto", Wake::Auto), ("ebpf", Wake::Ebpf), ("ring", Wake::Ring)] {
        let read = parse(&app(&format!("wake = \"{word}\""), "")).unwrap();
        assert_eq!(read.app.wake, wake);
        let again: Manifest = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }
    check_error(&app("wake = \"bpf\"", ""), "3:8: app.wake does not take \"bpf\"; did you mean \"ebpf\"?");
    check_error(
        &app("wake = \"ebpf\"", "isolation = \"compartment\""),
        "3:8: wake = \"ebpf\" is for processes, and function \"cart\" has isolation = \"compartment\"; choose isolation = \
         \"process\" for all functions, or remove wake: cells hand over by themselves",
    );
    // What is not said stays unsaid on its way to the node: `auto` looks at that.
    for (keys, trust) in [("", None), ("trust = \"buffer\"", Some(Trust::Buffer))] {
        let read = parse(&app(keys, "")).unwrap();
        let again: Manifest = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!((read.app.trust, again.app.trust), (trust, trust));
    }
    for wake in ["auto", "ring"] {
        assert!(parse(&app(&format!("wake = \"{wake}\""), "isolation = \"compartment\"")).is_ok());
    }
}
