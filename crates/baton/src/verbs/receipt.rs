//! `baton receipt`: what an invocation cost.

use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

use super::talk;
use crate::cli::ReceiptArgs;
use crate::client::{escaped, parse};
use crate::failure::Failure;
use crate::output::{Style, bytes, json_out, line_out, nanos, print_table, table};

#[derive(Debug, Deserialize)]
struct Receipts {
    receipts: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Receipt {
    invocation: String,
    app: String,
    function: String,
    status: u16,
    wall_ns: u64,
    copies: u64,
    bytes_copied: u64,
    bytes_handed: u64,
    crossings: u64,
    switches: u64,
    cpu_ns: u64,
    protocol_passes: u64,
    serialisations: u64,
    #[serde(default)]
    memory_mib_ms: Option<f64>,
    #[serde(default)]
    sidecar_ns: Option<u64>,
    hops: Vec<Hop>,
}

#[derive(Debug, Deserialize)]
struct Hop {
    caller: String,
    function: String,
    operation: u16,
    status: u16,
    copies: u16,
    bytes_copied: u64,
    bytes_handed: u64,
    crossings: u32,
    switches: u32,
    cpu_ns: u64,
    wall_ns: u64,
    protocol_passes: u32,
    serialisations: u32,
    #[serde(default)]
    memory_mib_ms: Option<f64>,
    #[serde(default)]
    sidecar_ns: Option<u64>,
    /// The node that served it, if another one.
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    carried: Carried,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Carried {
    inline_bytes: u64,
    referenced_bytes: u64,
}

pub(super) fn run(home: &Path, args: &ReceiptArgs) -> Result<(), Failure> {
    show(home, &args.id, args.output.json)
}

/// Prints the receipt of an invocation, or the last one.
pub(super) fn show(home: &Path, id: &str, json: bool) -> Result<(), Failure> {
    let receipt: Value = talk(home, async |client| {
        if id == "last" {
            let Receipts { receipts } = client.get("/v1/receipts").await?;
            return receipts.into_iter().next().ok_or_else(|| {
                Failure::failed(
                    "there is no receipt yet",
                    "turn recording on with `baton up --receipts`, then send a request",
                )
            });
        }
        let path = format!("/v1/receipts/{}", escaped(id));
        parse(&client.call(Method::GET, &path, Bytes::new()).await?)
    })?;
    if json {
        return json_out(&receipt);
    }
    let receipt: Receipt = parse(receipt.to_string().as_bytes())?;
    let style = Style::stdout();
    line_out(&format!(
        "{} {}/{} status {}: {} in {}",
        style.green(&receipt.invocation),
        receipt.app,
        receipt.function,
        receipt.status,
        plural(receipt.hops.len(), "hop"),
        nanos(receipt.wall_ns),
    ))?;
    line_out(&format!(
        "{} copies of payload between functions ({}), {} handed over by capability, {} crossings, {} context \
         switches, {} of CPU",
        receipt.copies,
        bytes(receipt.bytes_copied),
        bytes(receipt.bytes_handed),
        receipt.crossings,
        receipt.switches,
        nanos(receipt.cpu_ns),
    ))?;
    line_out(&format!(
        "{} protocol passes and {} (de)serialisations by the node, {} of memory, {} of policies",
        receipt.protocol_passes,
        receipt.serialisations,
        memory(receipt.memory_mib_ms),
        receipt.sidecar_ns.map_or_else(|| "none".to_owned(), nanos),
    ))?;
    if let Some(line) = crossed(&receipt.hops) {
        line_out(&line)?;
    }
    line_out("")?;
    let head = [
        "CALLER",
        "FUNCTION",
        "OP",
        "STATUS",
        "COPIES",
        "COPIED",
        "HANDED",
        "CROSSINGS",
        "SWITCHES",
        "CPU",
        "WALL",
        "PASSES",
        "SERIAL.",
        "MEMORY",
        "SIDECAR",
    ];
    print_table(&table(&head, receipt.hops.iter().map(row)))
}

/// Memory over time.
fn memory(mib_ms: Option<f64>) -> String {
    mib_ms.map_or_else(unknown, |product| format!("{product:.2} MiB ms"))
}

/// What is not known is not said to be nothing.
fn unknown() -> String {
    "-".to_owned()
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// What went to other nodes and came back, if anything did.
fn crossed(hops: &[Hop]) -> Option<String> {
    let away: Vec<&Hop> = hops.iter().filter(|hop| hop.node.is_some()).collect();
    let inline = away.iter().map(|hop| hop.carried.inline_bytes).sum();
    let pulled = away.iter().map(|hop| hop.carried.referenced_bytes).sum();
    let calls = plural(away.len(), "call");
    let to_tell = !away.is_empty();
    to_tell.then(|| format!("{calls} to other nodes: {} inline, {} pulled", bytes(inline), bytes(pulled)))
}

fn row(hop: &Hop) -> Vec<String> {
    vec![
        hop.caller.clone(),
        match &hop.node {
            Some(node) => format!("{}@{node}", hop.function),
            None => hop.function.clone(),
        },
        hop.operation.to_string(),
        hop.status.to_string(),
        hop.copies.to_string(),
        bytes(hop.bytes_copied),
        bytes(hop.bytes_handed),
        hop.crossings.to_string(),
        hop.switches.to_string(),
        nanos(hop.cpu_ns),
        nanos(hop.wall_ns),
        hop.protocol_passes.to_string(),
        hop.serialisations.to_string(),
        memory(hop.memory_mib_ms),
        hop.sidecar_ns.map_or_else(unknown, nanos),
    ]
}
