//! `baton secret`: what functions are given that nobody else may read. Values go to the node and never come back.

use std::io::{self, Read};
use std::path::Path;

use baton_catalog::SecretName;
use baton_control::limits::SECRET_BYTES_MAX;
use baton_control::protocol::{SecretReply, Secrets};
use bytes::Bytes;
use hyper::Method;

use super::talk;
use crate::cli::{SecretRmArgs, SecretSetArgs, SecretVerb};
use crate::client::{escaped, parse};
use crate::failure::Failure;
use crate::output::{json_out, line_out, print_table, table};

pub(super) fn run(home: &Path, verb: &SecretVerb) -> Result<(), Failure> {
    match verb {
        SecretVerb::Set(args) => set(home, args),
        SecretVerb::Ls(args) => {
            let path = format!("/v1/apps/{}/secrets", escaped(&args.app));
            let secrets: Secrets = talk(home, async |client| client.get(&path).await)?;
            if args.output.json {
                return json_out(&secrets);
            }
            if secrets.secrets.is_empty() {
                return line_out(&format!("{} has no secrets; `baton secret set` sets one", args.app));
            }
            let rows = secrets.secrets.iter().map(|secret| {
                vec![secret.name.to_string(), secret.generation.to_string(), secret.used_by.join(" ")]
            });
            print_table(&table(&["SECRET", "SET", "USED BY"], rows))
        }
        SecretVerb::Rm(args) => remove(home, args),
    }
}

fn path(app: &str, name: &str) -> Result<String, Failure> {
    let name = SecretName::new(name)
        .map_err(|fault| Failure::bad_input(format_args!("bad name {name:?} of a secret: {fault}"), ""))?;
    Ok(format!("/v1/apps/{}/secrets/{name}", escaped(app)))
}

fn set(home: &Path, args: &SecretSetArgs) -> Result<(), Failure> {
    let path = path(&args.app, &args.name)?;
    let value = match &args.from_file {
        Some(file) => {
            let unreadable = |error: io::Error| {
                Failure::bad_input(format_args!("cannot read {}: {error}", file.display()), "")
            };
            bounded(std::fs::File::open(file).map_err(unreadable)?).map_err(unreadable)?
        }
        None => {
            let unreadable = |error: io::Error| {
                Failure::bad_input(format_args!("cannot read standard input: {error}"), "")
            };
            let mut value = bounded(io::stdin().lock()).map_err(unreadable)?;
            // The end of the line is the terminal's, or that of `echo`.
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            value
        }
    };
    if value.len() > SECRET_BYTES_MAX {
        return Err(Failure::bad_input(
            format_args!("the secret is larger than {} KiB", SECRET_BYTES_MAX >> 10),
            "give large things as `files`, encrypted under a secret",
        ));
    }
    let reply: SecretReply =
        talk(home, async |client| parse(&client.call(Method::PUT, &path, Bytes::from(value)).await?))?;
    told(&reply, args.output.json, "set")
}

/// What there is, up to a little more than may be.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    from.take(SECRET_BYTES_MAX as u64 + 2).read_to_end(&mut value)?;
    Ok(value)
}

fn remove(home: &Path, args: &SecretRmArgs) -> Result<(), Failure> {
    let path = path(&args.app, &args.name)?;
    let reply: SecretReply =
        talk(home, async |client| parse(&client.call(Method::DELETE, &path, Bytes::new()).await?))?;
    told(&reply, args.output.json, "removed")
}

fn told(reply: &SecretReply, json: bool, what: &str) -> Result<(), Failure> {
    if json {
        return json_out(reply);
    }
    let rollout = reply.version.map(|version| format!("; version {version} of {} has it", reply.app));
    line_out(&format!("{what} {} of {}{}", reply.name, reply.app, rollout.unwrap_or_default()))
}
