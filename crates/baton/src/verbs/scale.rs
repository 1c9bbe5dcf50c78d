//! `baton scale`: how many replicas a function has at least and at most, until it is deployed again.

use std::path::Path;

use baton_control::protocol::{ScaleReply, ScaleWish};
use bytes::Bytes;
use hyper::Method;

use super::talk;
use crate::cli::ScaleArgs;
use crate::client::{escaped, parse};
use crate::failure::Failure;
use crate::output::{json_out, line_out};

pub(super) fn run(home: &Path, args: &ScaleArgs) -> Result<(), Failure> {
    let (app, function) = (escaped(&args.target.app), escaped(&args.target.function));
    let path = format!("/v1/apps/{app}/functions/{function}/scale");
    let wish = serde_json::to_vec(&ScaleWish { min: args.min, max: args.max }).unwrap_or_default();
    talk(home, async |client| {
        let answer = client.call(Method::PUT, &path, Bytes::from(wish)).await?;
        let reply: ScaleReply = parse(&answer)?;
        if args.output.json {
            return json_out(&reply);
        }
        let ScaleReply { app, function, min, max, wanted } = reply;
        line_out(&format!("{app}/{function}: {min} to {max} replicas, {wanted} now"))?;
        line_out("until it is deployed again or the node ends: `scale` in the manifest is what lasts")
    })
}
