//! What calls through the admin API are to functions for AWS Lambda: the payload itself, unless a path says otherwise.

use baton_catalog::Runtime;
use baton_flow::DirectCall;

use super::Api;
use crate::deploy::Deployer;

/// A call without a path of its own is no request of HTTP to a function for AWS Lambda.
pub(super) fn as_meant(api: &Api, target: (&str, &str), call: DirectCall, has_path: bool) -> DirectCall {
    if has_path || !is_lambda(&api.deployer, target) {
        return call;
    }
    let body = if call.body.is_empty() { b"{}".to_vec() } else { call.body };
    DirectCall { path: String::new(), body, ..call }
}

fn is_lambda(deployer: &Deployer, (app, function): (&str, &str)) -> bool {
    let is_one = |runtime: &Runtime| matches!(runtime, Runtime::Lambda(_));
    let found = deployer
        .declared(app, |manifest| manifest.function(function).is_some_and(|found| is_one(&found.runtime)));
    found.unwrap_or(false)
}
