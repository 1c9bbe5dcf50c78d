//! Functions for AWS Lambda as they are, called by the clients of AWS as they are, and by HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calls;
mod events;
mod place;

use baton_e2e::{need_one_node, need_processes, need_sandbox};
use place::Place;

/// Runs a case of `clients.py` against a node of its own.
fn case(name: &str) {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    place.python(name, &[]);
}

#[test]
fn functions_are_made_changed_called_and_removed() {
    case("functions");
}

#[test]
fn versions_are_published_and_aliases_lead_to_them_by_weight() {
    case("versions");
}

#[test]
fn what_goes_wrong_in_a_function_is_told_as_aws_does() {
    case("errors");
}

#[test]
fn packages_that_nobody_should_unpack_are_refused() {
    case("hostile");
}

#[test]
fn requests_that_are_not_signed_well_are_refused() {
    case("signatures");
}

#[test]
fn answers_come_in_parts_framed_as_event_streams() {
    case("streams");
}

#[test]
fn payloads_beyond_six_megabytes_pass() {
    case("large");
}

#[test]
fn the_javascript_sdk_works_as_it_is() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    place.javascript();
}

#[test]
fn the_command_line_of_aws_works_as_it_is() {
    need_processes!();
    need_one_node!();
    need_sandbox!();
    let Some(place) = Place::start() else { return };
    place.file("app.py", b"def main(event, context):\n    return {'got': event}\n");
    let zip = place.zip("fn.zip", "app.py");
    let made = place.aws(&[
        "create-function",
        "--function-name",
        "cli",
        "--runtime",
        "python3.11",
        "--handler",
        "app.main",
        "--role",
        "arn:aws:iam::000000000000:role/any",
        "--zip-file",
        &format!("fileb://{zip}"),
    ]);
    assert_eq!(made["State"], "Active");
    let out = place.path("out.json");
    let payload = ["--payload", "{\"a\": 1}"];
    let called =
        place.aws(&[&["invoke", "--function-name", "cli"][..], &payload[..], &[out.as_str()]].concat());
    assert_eq!((&called["StatusCode"], &called["ExecutedVersion"]), (&200.into(), &"$LATEST".into()));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "{\"got\": {\"a\": 1}}");
    let listed = place.aws(&["list-functions"]);
    assert_eq!(listed["Functions"][0]["FunctionName"], "cli");
}
