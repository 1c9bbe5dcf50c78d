//! `baton lambda`: who may use the Lambda API. The file is the node's, and is changed whether one runs or not.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use baton_control::lambda::{Keys, KeysError};
use serde_json::json;

use crate::cli::{KeysVerb, LambdaVerb};
use crate::failure::Failure;
use crate::output::{json_out, line_out, print_table, table};

pub(super) fn run(home: &Path, verb: &LambdaVerb) -> Result<(), Failure> {
    let LambdaVerb::Keys(verb) = verb;
    let keys = Keys::of(home);
    let told = |error: KeysError| Failure::failed(&error, error.hint());
    match verb {
        KeysVerb::Add(args) => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(home);
            made.map_err(|error| {
                Failure::failed(format_args!("cannot make {}: {error}", home.display()), "set BATON_HOME")
            })?;
            let (id, secret) = keys.add(&args.comment).map_err(told)?;
            if args.output.json {
                return json_out(&json!({ "AccessKeyId": id, "SecretAccessKey": secret }));
            }
            line_out(&format!("export AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}"))
        }
        KeysVerb::List(args) => {
            let all = keys.list().map_err(told)?;
            if args.json {
                return json_out(&json!({ "keys": all }));
            }
            if all.is_empty() {
                return line_out("no keys; `baton lambda keys add` makes one");
            }
            print_table(&table(&["KEY", "COMMENT"], all.into_iter().map(|key| vec![key.id, key.comment])))
        }
        KeysVerb::Remove(args) => {
            keys.remove(&args.id).map_err(told)?;
            if args.output.json {
                return json_out(&json!({ "removed": args.id }));
            }
            line_out(&format!("removed {}", args.id))
        }
    }
}
