//! `baton nodes`, `baton cluster status` and `baton drain`: several nodes as one.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use baton_control::protocol::{DrainReply, NodeRow, Nodes};
use baton_control::{AppReport, ClusterReport, NodePart};
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use tokio::time::sleep;

use super::talk;
use crate::cli::{DrainArgs, JsonArgs};
use crate::client::{Client, escaped, parse};
use crate::failure::Failure;
use crate::output::{Style, bytes, json_out, line_out, print_table, table};

/// Between two looks at what a node still has to do.
const DRAIN_LOOK: Duration = Duration::from_millis(500);
/// Looks in a row that find nothing: what was on its way at the first has arrived by the last.
const QUIET_LOOKS: u32 = 3;

pub(super) fn nodes(home: &Path, args: &JsonArgs) -> Result<(), Failure> {
    let answer = talk(home, async |client| client.get::<Nodes>("/v1/nodes").await)?;
    if args.json {
        return json_out(&answer);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let rows = answer.nodes.iter().map(|node| {
        let NodeRow { row, in_flight, queued } = node;
        let up = now.saturating_sub(Duration::from_millis(row.since_ms));
        let apps = row.apps.iter().map(|(app, part)| match (part.version, &part.error) {
            (Some(version), None) => format!("{app} v{version}"),
            (Some(version), Some(_)) => format!("{app} v{version} (!)"),
            (None, _) => format!("{app} (!)"),
        });
        vec![
            row.name.clone(),
            row.gateway.to_string(),
            row.transfer.to_string(),
            row.version.clone(),
            span(up),
            row.cores.to_string(),
            bytes(row.memory),
            in_flight.to_string(),
            queued.to_string(),
            if row.draining { "draining" } else { "" }.to_owned(),
            apps.collect::<Vec<_>>().join(", "),
        ]
    });
    let head = [
        "NODE",
        "GATEWAY",
        "NODES TO",
        "VERSION",
        "UP",
        "CORES",
        "MEMORY",
        "IN FLIGHT",
        "QUEUED",
        "STATE",
        "APPS",
    ];
    print_table(&table(&head, rows))?;
    for node in &answer.nodes {
        for (app, part) in &node.row.apps {
            if let Some(error) = &part.error {
                line_out(&format!("{} on {}: {error}", Style::stdout().red(app), node.row.name))?;
            }
        }
    }
    Ok(())
}

/// A time for people: its largest unit.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

pub(super) fn status(home: &Path, args: &JsonArgs) -> Result<(), Failure> {
    let report = talk(home, async |client| client.get::<ClusterReport>("/v1/cluster").await)?;
    if args.json {
        return json_out(&report);
    }
    let style = Style::stdout();
    line_out(&format!("cluster {}, told by node {}", report.cluster, report.node))?;
    let store = &report.store;
    let reachable = if store.reachable { style.green("reachable") } else { style.red("not reachable") };
    line_out(&format!("store {}: {reachable}", store.servers))?;
    for bucket in &store.buckets {
        let leader = match bucket.leader.as_str() {
            "" => "one server".to_owned(),
            leader => format!("led by {leader}"),
        };
        let behind: Vec<&str> =
            bucket.copies.iter().filter(|copy| !copy.current).map(|copy| copy.server.as_str()).collect();
        let behind = if behind.is_empty() {
            String::new()
        } else {
            style.yellow(&format!(", behind: {}", behind.join(", ")))
        };
        let plural = if bucket.replicas == 1 { "copy" } else { "copies" };
        line_out(&format!("  {}: {} {plural}, {leader}{behind}", bucket.bucket, bucket.replicas))?;
    }
    line_out(&format!("members: {}", report.members.join(", ")))?;
    if !report.last_error.is_empty() {
        line_out(&format!("{} {}", style.yellow("last error:"), report.last_error))?;
    }
    let rows = report.apps.iter().flat_map(|app| app.nodes.iter().map(|part| app_row(app, part)));
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return line_out("no app is deployed");
    }
    line_out("")?;
    print_table(&table(&["APP", "WANTED", "NODE", "RUNS", "TO HOST", "HOSTS", "ERROR"], rows))
}

fn app_row(app: &AppReport, part: &NodePart) -> Vec<String> {
    let version =
        |version: Option<u64>| version.map_or_else(|| "nothing".to_owned(), |version| format!("v{version}"));
    let names = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(" ") };
    vec![
        app.app.clone(),
        version(app.version),
        part.node.clone(),
        version(part.version),
        names(&part.wanted),
        names(&part.hosted),
        part.error.clone(),
    ]
}

/// What became of `baton drain`.
#[derive(Debug, Serialize)]
struct Drained<'a> {
    node: &'a str,
    draining: bool,
    /// Requests that the node still has.
    in_flight: u64,
    /// Functions that it hosts still: those that no other node may host.
    hosts: Vec<String>,
}

pub(super) fn drain(home: &Path, args: &DrainArgs) -> Result<(), Failure> {
    let path = format!("/v1/nodes/{}/drain", escaped(&args.node));
    let method = if args.undo { Method::DELETE } else { Method::POST };
    talk(home, async |client| {
        let reply: DrainReply = parse(&client.call(method, &path, Bytes::new()).await?)?;
        if !reply.draining {
            let drained = Drained { node: &reply.node, draining: false, in_flight: 0, hosts: Vec::new() };
            return match args.output.json {
                true => json_out(&drained),
                false => line_out(&format!("{} takes work again", reply.node)),
            };
        }
        let left = emptied(&client, args).await?;
        let hosts = hosted(&left);
        if args.output.json {
            let in_flight = left.in_flight + left.queued;
            return json_out(&Drained { node: &args.node, draining: true, in_flight, hosts });
        }
        line_out(&format!("{} drains: nothing is in flight there", args.node))?;
        match hosts.is_empty() {
            true => line_out("it hosts no function any more, and can be stopped"),
            false => line_out(&format!("it still hosts what no other node may: {}", hosts.join(" "))),
        }
    })
}

/// Waits until a node has nothing to do.
async fn emptied(client: &Client, args: &DrainArgs) -> Result<NodeRow, Failure> {
    let until = Instant::now() + Duration::from_secs(args.within);
    let mut quiet = 0;
    loop {
        let Nodes { nodes, .. } = client.get("/v1/nodes").await?;
        let Some(row) = nodes.into_iter().find(|row| row.row.name == args.node) else {
            return Err(Failure::failed(
                format_args!("node {} is gone", args.node),
                "what it had was finished by it, or failed with it",
            ));
        };
        let is_quiet = row.row.draining && row.in_flight + row.queued == 0;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet >= QUIET_LOOKS {
            return Ok(row);
        }
        if Instant::now() > until {
            let count = row.in_flight + row.queued;
            return Err(Failure::failed(
                format_args!("node {} still has {count} requests after {} s", args.node, args.within),
                "it goes on draining: ask again, or let it wait longer with --within",
            ));
        }
        sleep(DRAIN_LOOK).await;
    }
}

fn hosted(row: &NodeRow) -> Vec<String> {
    let apps = row.row.apps.iter();
    apps.flat_map(|(app, part)| part.functions.keys().map(move |name| format!("{app}/{name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 d")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
