//! `baton versions`, `promote`, `rollback` and `traffic`: which versions of an app there are, and which answer.

use std::path::Path;
use std::time::{Duration, SystemTime};

use baton_control::protocol::{RollbackRequest, TrafficReply, TrafficRequest, VersionRow, Versions};
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;

use super::talk;
use crate::cli::{AppArgs, RollbackArgs, TrafficArgs};
use crate::client::{escaped, parse};
use crate::failure::Failure;
use crate::output::{Style, json_out, line_out, print_table, table};

pub(super) fn list(home: &Path, args: &AppArgs) -> Result<(), Failure> {
    let path = format!("/v1/apps/{}/versions", escaped(&args.app));
    let versions: Versions = talk(home, async |client| client.get(&path).await)?;
    if args.output.json {
        return json_out(&versions);
    }
    let head = ["VERSION", "STATE", "SHARE", "REQUESTS", "FAILURES", "REPLICAS", "DEPLOYED", "BY"];
    print_table(&table(&head, versions.versions.iter().map(row)))?;
    for version in &versions.versions {
        if let Some(why) = &version.undone {
            line_out(&format!(
                "{} {why}",
                Style::stdout().red(&format!("v{} was rolled back:", version.version))
            ))?;
        }
    }
    Ok(())
}

fn row(version: &VersionRow) -> Vec<String> {
    let is_up = version.replicas > 0;
    let figure = |number: u64| if is_up { number.to_string() } else { String::new() };
    vec![
        format!("v{}", version.version),
        version.state.clone(),
        if version.share.hundredths() > 0 { version.share.to_string() } else { String::new() },
        figure(version.requests),
        figure(version.failures),
        figure(u64::from(version.replicas)),
        ago(version.deployed_ms),
        version.deployed_by.clone(),
    ]
}

/// How long ago something was, for people.
pub(super) fn ago(at_ms: u64) -> String {
    if at_ms == 0 {
        return "unknown".to_owned();
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match now.saturating_sub(Duration::from_millis(at_ms)).as_secs() {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

fn body(request: &impl Serialize) -> Result<Bytes, Failure> {
    let json = serde_json::to_vec(request);
    json.map(Bytes::from)
        .map_err(|error| Failure::failed(format_args!("cannot write JSON: {error}"), "report this as a bug"))
}

fn ask(
    home: &Path,
    (method, app, what): (Method, &str, &str),
    body: Bytes,
    json: bool,
) -> Result<(), Failure> {
    let path = format!("/v1/apps/{}/{what}", escaped(app));
    let reply: TrafficReply = talk(home, async |client| parse(&client.call(method, &path, body).await?))?;
    if json {
        return json_out(&reply);
    }
    let shares: Vec<String> =
        reply.shares.iter().map(|(version, share)| format!("v{version} {share}")).collect();
    line_out(&format!("{} of {}: {}", Style::stdout().green("requests"), reply.app, shares.join(", ")))
}

pub(super) fn promote(home: &Path, args: &AppArgs) -> Result<(), Failure> {
    ask(home, (Method::POST, &args.app, "promote"), Bytes::new(), args.output.json)
}

pub(super) fn rollback(home: &Path, args: &RollbackArgs) -> Result<(), Failure> {
    let body = body(&RollbackRequest { version: args.to })?;
    ask(home, (Method::POST, &args.app, "rollback"), body, args.output.json)
}

pub(super) fn traffic(home: &Path, args: &TrafficArgs) -> Result<(), Failure> {
    let mut request = TrafficRequest { shares: Default::default(), sticky: args.sticky.clone() };
    for (version, share) in &args.shares {
        if request.shares.insert(*version, *share).is_some() {
            return Err(Failure::bad_input(
                format_args!("version {version} is named twice"),
                "write shares such as v3=90 v4=10",
            ));
        }
    }
    ask(home, (Method::PUT, &args.app, "traffic"), body(&request)?, args.output.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_said_so() {
        assert_eq!(ago(0), "unknown");
        assert!(ago(1).ends_with(" d ago"));
    }
}
