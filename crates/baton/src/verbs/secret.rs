//! `baton secret`: values go to the node and come back from nowhere.
//!
//! Where no node runs, the verbs use the state directory themselves: an app's secrets can be there before `baton up`.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use baton_catalog::limits::SECRET_BYTES_MAX;
use baton_control::protocol::SecretReply;
use baton_control::{Home, SecretError, SecretReport, SecretValue, Store};
use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use super::talk;
use super::versions::ago;
use crate::cli::{SecretListArgs, SecretRemoveArgs, SecretSetArgs, SecretVerb};
use crate::client::parse;
use crate::failure::{Failure, Kind};
use crate::output::{Style, json_out, line_out, print_table, table};

pub(super) fn run(home: &Path, verb: &SecretVerb) -> Result<(), Failure> {
    match verb {
        SecretVerb::Set(args) => set(home, args),
        SecretVerb::List(args) => list(home, args),
        SecretVerb::Remove(args) => remove(home, args),
    }
}

fn set(home: &Path, args: &SecretSetArgs) -> Result<(), Failure> {
    let bytes = match &args.file {
        Some(file) => from_file(file)?,
        None => from_input()?,
    };
    // Checked here too, so that a mistake is told without a node.
    let bad =
        |fault| Failure::bad_input(fault, "give the value on standard input, or name a file: --file PATH");
    let value = SecretValue::new(bytes.clone()).map_err(bad)?;
    let secret = &args.secret;
    let path = format!("/v1/secrets/{secret}");
    let sent = talk(home, async |client| client.call(Method::PUT, &path, Bytes::from(bytes)).await);
    let reply = match or_here(home, sent)? {
        Said::Node(answer) => parse(&answer)?,
        Said::Here(_home, store) => {
            let set = store.set_secret(&secret.app, &secret.name, &value, now_ms());
            let (revision, changed) = set.map_err(refused)?;
            let (app, name) = (secret.app.to_string(), secret.name.to_string());
            SecretReply { app, name, revision, changed, started: false, shared: false }
        }
    };
    if args.output.json {
        return json_out(&reply);
    }
    let style = Style::stdout();
    let what = match (reply.changed, reply.started) {
        (false, _) => "has that value already",
        (true, false) => "is set",
        (true, true) => "is set, and what is granted it was started anew",
    };
    let where_to = if reply.shared { " on all nodes" } else { "" };
    line_out(&format!("{} {secret} {what}{where_to} (revision {})", style.green("secret"), reply.revision))
}

fn list(home: &Path, args: &SecretListArgs) -> Result<(), Failure> {
    let asked = talk(home, async |client| client.call(Method::GET, "/v1/secrets", Bytes::new()).await);
    let mut secrets: Vec<SecretReport> = match or_here(home, asked)? {
        Said::Node(answer) => parse(&answer)?,
        Said::Here(_home, store) => store.secrets().map_err(refused)?,
    };
    secrets.retain(|secret| args.app.as_ref().is_none_or(|app| *app == secret.app));
    if args.output.json {
        for secret in &secrets {
            json_out(secret)?;
        }
        return Ok(());
    }
    let rows = secrets.into_iter().map(|secret| {
        let path = format!("{}/{}", secret.app, secret.name);
        vec![path, secret.revision.to_string(), ago(secret.set_ms), secret.granted_to.join(", ")]
    });
    print_table(&table(&["SECRET", "REVISION", "SET", "GRANTED TO"], rows))
}

fn remove(home: &Path, args: &SecretRemoveArgs) -> Result<(), Failure> {
    let secret = &args.secret;
    let path = format!("/v1/secrets/{secret}");
    let asked = talk(home, async |client| client.call(Method::DELETE, &path, Bytes::new()).await);
    if let Said::Here(_home, store) = or_here(home, asked)? {
        store.remove_secret(&secret.app, &secret.name).map_err(refused)?;
    }
    if args.output.json {
        return json_out(&json!({ "removed": secret.to_string() }));
    }
    line_out(&format!("removed {secret}"))
}

/// Who did it.
enum Said {
    Node(Bytes),
    /// No node runs: the state directory is this process's own, for as long as the value lives.
    Here(Home, Store),
}

/// What the node answered, or the state directory where none runs.
fn or_here(home: &Path, asked: Result<Bytes, Failure>) -> Result<Said, Failure> {
    match asked {
        Ok(answer) => Ok(Said::Node(answer)),
        Err(failure) if failure.is(Kind::Unreachable) => {
            // Locked by a node that does not answer: that is what there is to say.
            let Ok(home) = Home::open(home) else { return Err(failure) };
            let store = Store::open(&home.state())?;
            Ok(Said::Here(home, store))
        }
        Err(failure) => Err(failure),
    }
}

fn refused(error: SecretError) -> Failure {
    let hint = error.hint();
    Failure::failed(error, hint)
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn from_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: io::Error| {
        Failure::bad_input(
            format_args!("cannot read {}: {error}", file.display()),
            "name a file that holds the value and nothing else",
        )
    };
    whole(std::fs::File::open(file).map_err(unreadable)?).map_err(unreadable)
}

fn from_input() -> Result<Vec<u8>, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        return Err(Failure::bad_input(
            "a value that is typed at a terminal is shown there",
            "pipe it: baton secret set APP/NAME < FILE, or name a file: --file PATH",
        ));
    }
    let mut value = whole(input.lock())
        .map_err(|error| Failure::failed(format_args!("cannot read standard input: {error}"), ""))?;
    // `echo` and `pass` put it there, and nobody means it.
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    Ok(value)
}

/// All that comes, or enough of it to be refused for its length.
fn whole(from: impl Read) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    from.take(SECRET_BYTES_MAX as u64 + 3).read_to_end(&mut value)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_is_and_no_further_than_needed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("value");
        std::fs::write(&file, "line\n").unwrap();
        assert_eq!(from_file(&file).unwrap(), b"line\n");
        std::fs::write(&file, vec![b'x'; SECRET_BYTES_MAX * 3]).unwrap();
        let read = from_file(&file).unwrap();
        assert!(read.len() > SECRET_BYTES_MAX && read.len() < SECRET_BYTES_MAX + 4);
        assert!(from_file(directory.path()).is_err());
    }

    #[test]
    fn names_are_checked_before_anything_is_asked() {
        use crate::cli::Cli;
        use clap::Parser;
        let parse = |secret: &str| Cli::try_parse_from(["baton", "secret", "set", secret]).is_ok();
        assert!(parse("shop/db-password"));
        for wrong in ["shop", "shop/", "/db", "shop/DB", "shop/a/b", "Shop/db", "shop/../x"] {
            assert!(!parse(wrong), "{wrong}");
        }
        assert!(Cli::try_parse_from(["baton", "secret", "set", "shop/db", "value"]).is_err());
    }
}
