//! `[deploy]`, and what `[app]` gives to all functions.

use std::path::Path;

use super::super::Manifest;
use crate::{Canary, Percent, Rollback, Rollout, Sticky, TimeSpan};

fn parse(app: &str, function: &str) -> Result<Manifest, String> {
    let text = format!("[app]\nname = \"shop\"\n{app}\n[functions.cart]\nartifact = \"cart\"\n{function}\n");
    Manifest::parse(&text, Path::new("baton.toml")).map_err(|error| error.to_string())
}

#[test]
fn how_new_versions_take_over_is_read_with_defaults() {
    let plain = parse("", "").unwrap();
    assert_eq!(plain.deploy, Rollout::default());
    assert!(
        !serde_json::to_string(&plain).unwrap().contains("deploy"),
        "older nodes read what does not use it"
    );
    let text = "[deploy]\ncanary = { share = \"10%\", sticky = \"cookie:sid\" }\nrollback = { errors = \"2.5%\", after = 50, window = \"30s\" }";
    let manifest = parse(text, "").unwrap();
    let percent = |hundredths| Percent::from_hundredths(hundredths).unwrap();
    let expect = Rollout {
        canary: Some(Canary { share: percent(1000), sticky: Some(Sticky::Cookie("sid".to_owned())) }),
        rollback: Some(Rollback { errors: percent(250), after: 50, window: TimeSpan::from_millis(30_000) }),
    };
    assert_eq!(manifest.deploy, expect);
    let again: Manifest = serde_json::from_str(&serde_json::to_string(&manifest).unwrap()).unwrap();
    assert_eq!(again, manifest);
    assert_eq!(parse("[deploy]\nrollback = {}", "").unwrap().deploy.rollback, Some(Rollback::default()));
}

#[test]
fn bad_rollouts_are_refused_with_their_place() {
    let check = |app: &str, expect: &str| {
        let error = parse(app, "").unwrap_err();
        assert!(error.contains(expect), "{error}");
    };
    check("[deploy]\ncanary = { share = \"110%\" }", "bad deploy.canary.share \"110%\"");
    check("[deploy]\ncanary = { }", "has no \"share\"");
    check("[deploy]\ncanary = { share = \"10%\", sticky = \"ip\" }", "bad deploy.canary.sticky \"ip\"");
    check("[deploy]\ncanaries = 1", "known: canary, rollback");
    check("[deploy]\nrollback = { window = \"10ms\" }", "deploy.rollback.window is 10ms");
    check("[deploy]\nrollback = { after = 0 }", "deploy.rollback.after is 0");
}

#[test]
fn what_the_app_gives_is_every_functions_unless_it_has_its_own() {
    let app = "env = { LOG = \"info\", REGION = \"eu\" }";
    let manifest = parse(app, "env = { LOG = \"debug\" }").unwrap();
    let cart = manifest.function("cart").unwrap();
    let env: Vec<_> = cart.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("LOG", "debug"), ("REGION", "eu")]);
}
