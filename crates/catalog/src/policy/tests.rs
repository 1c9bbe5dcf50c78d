//! What may be written, what is refused, and where the message points.

use std::path::Path;

use super::*;
use crate::manifest::Manifest;

const APP: &str = "[app]\nname = \"a\"\n[functions.f]\nartifact = \"f\"\n[functions.g]\nartifact = \"g\"\n";

fn parse(policy: &str) -> Result<Manifest, String> {
    Manifest::parse(&format!("{APP}{policy}"), Path::new("baton.toml")).map_err(|error| error.to_string())
}

/// The handler's table begins in line 8 of the file: its `use` stands in line 9.
fn check(policy: &str, expect: &str) {
    let error = parse(&format!("\n[[functions.f.policy.handlers]]\n{policy}")).expect_err(policy);
    assert!(error.contains(expect), "{policy}\n  said: {error}\n  not:  {expect}");
}

#[test]
fn every_handler_can_be_written_and_survives_json() {
    let text = include_str!("tests/all.toml");
    let manifest = parse(text).unwrap();
    let words: Vec<_> = manifest.policies().handlers().map(|handler| handler.kind().as_str()).collect();
    for word in Kind::WORDS {
        assert!(words.contains(word), "{word} is not in all.toml");
    }
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    let alone = parse_policies(PolicyFile { text, file: Path::new("policy.toml") }).unwrap();
    assert_eq!(alone, manifest.policies());
    assert_eq!(manifest.with_policies(&alone).unwrap(), manifest);
}

#[test]
fn a_manifest_without_policies_does_not_mention_them() {
    let json = serde_json::to_string(&parse("").unwrap()).unwrap();
    assert!(!json.contains("policy"), "{json}");
}

#[test]
fn faults_name_the_line_and_what_to_do() {
    check(
        "use = \"rate-limit\"\nrat = \"1/s\"",
        "baton.toml:10:1: policy handler \"rate-limit\": unknown field `rat`",
    );
    check(
        "use = \"rate-limit\"\nrate = \"fast\"",
        "baton.toml:10:8: policy handler \"rate-limit\": \"fast\" is no rate; write a whole",
    );
    check(
        "use = \"ratelimit\"",
        "baton.toml:9:7: functions.f.policy.handlers.use does not take \"ratelimit\"; did you mean \"rate-limit\"?",
    );
    check("rate = \"1/s\"", "has no \"use\"; add use =");
    check("use = \"retry\"\nattempts = 9", "attempts is 9, outside 2 to 5");
    check("use = \"timeout\"\nafter = \"0ms\"", "after is 0ms, outside 1ms to 15m");
    check(
        "use = \"jwt\"\njwks = \"/k\"\nalgorithms = [\"none\"]\naudiences = [\"a\"]",
        "baton.toml:11:15: policy handler \"jwt\": unknown variant `none`",
    );
    check(
        "use = \"jwt\"\njwks = \"/k\"\nalgorithms = [\"HS256\", \"RS256\"]\naudiences = [\"a\"]",
        "both secrets (HS…) and key pairs",
    );
    check("use = \"jwt\"\njwks = \"k\"\nalgorithms = [\"RS256\"]\naudiences = [\"a\"]", "is not absolute");
    check("use = \"jwt\"\njwks = \"/k\"\nalgorithms = [\"RS256\"]\naudiences = []", "audiences names none");
    check("use = \"api-key\"\nkeys = [{ name = \"a\", hash = \"12\" }]", "`baton policy key` makes");
    check("use = \"headers\"\nrequest = { set = { x-baton-identity = \"me\" } }", "is the gateway's own");
    check("use = \"headers\"\nrequest = { set = { \"x y\" = \"me\" } }", "is no name of a header");
    check("use = \"headers\"\nrequest = { set = { x = \"a{b}\" } }", "is no source of a text");
    check("use = \"forwarded\"\ntrusted = [\"10.0.0.0/33\"]", "is no network");
    check("use = \"ask\"\nfunction = \"nobody\"", "has no function \"nobody\"");
    check("use = \"route\"\nrules = [{ equals = \"1\", to = \"g\" }]", "either header or field");
    check("use = \"schema\"", "no schema is given");
    check("use = \"authorize\"", "it asks for nothing");
    check("use = \"log\"\nonly = { path = [\"/\"] }", "unknown field `path`, expected one of");
}

#[test]
fn policies_alone_may_hold_nothing_else() {
    let parse =
        |text| parse_policies(PolicyFile { text, file: Path::new("p.toml") }).map_err(|e| e.to_string());
    assert!(parse("[app]\nname = \"a\"").unwrap_err().contains("unknown key \"app\""));
    assert!(parse("[functions.f]\ncalls = []").unwrap_err().contains("p.toml:2:1: unknown key \"calls\""));
    let other = parse("[[functions.h.policy.handlers]]\nuse = \"log\"").unwrap();
    let error = super::tests::parse("").unwrap().with_policies(&other).unwrap_err();
    assert!(error.contains("functions.h"), "{error}");
}

#[test]
fn a_function_has_the_apps_handlers_before_its_own_unless_it_does_not_want_them() {
    let manifest = parse(
        "[[policy.handlers]]\nuse = \"log\"\n[[functions.f.policy.handlers]]\nuse = \"metrics\"\n\
         [functions.g.policy]\ninherit = false\n",
    );
    let policies = manifest.unwrap().policies();
    let count = |name: &str| (policies.of(name).0.len(), policies.of(name).1.len());
    assert_eq!((count("f"), count("g")), ((1, 1), (0, 0)));
}
