//! What membership and load reports cost, if every node is told of every other's each second.
//!
//! ```text
//!   n nodes ── one row a second each ──▶ NATS ── every row to every node ──▶ n rows a second each, n² messages in all
//! ```

use serde::Serialize;

/// Bytes of a row around its loads: the frame, subject and headers of the message, name, address, incarnation, capacities.
const ROW_BYTES: f64 = 260.0;
/// Bytes for the load of one function.
const LOAD_BYTES: f64 = 24.0;
/// Messages that one NATS server hands out in a second, by hand on two cores that also ran the receivers; see SPECIFICATION.md.
const SERVER_MESSAGES: f64 = 1_000_000.0;
/// Bytes in a second on one link of 10 Gbit/s.
const LINK_BYTES: f64 = 1.25e9;
/// A node that spends more than this on hearing of others has less for its own work.
const NODE_MESSAGES: f64 = 10_000.0;

/// The traffic of a cluster of one size.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) nodes: u32,
    pub(crate) row_bytes: f64,
    /// What one node sends and gets, in bytes and messages a second.
    pub(crate) node_out_bytes: f64,
    pub(crate) node_in_bytes: f64,
    pub(crate) node_in_messages: f64,
    /// What all NATS servers together hand out.
    pub(crate) served_messages: f64,
    pub(crate) served_bytes: f64,
    /// NATS servers that it takes to hand that out.
    pub(crate) servers: f64,
}

/// The traffic of clusters whose nodes have this many functions with ready replicas.
pub(crate) fn rows(sizes: &[u32], loads_per_row: f64) -> Vec<Row> {
    sizes.iter().map(|&nodes| row(nodes, loads_per_row)).collect()
}

fn row(nodes: u32, loads: f64) -> Row {
    let n = f64::from(nodes);
    let row_bytes = ROW_BYTES + loads * LOAD_BYTES;
    let (served_messages, served_bytes) = (n * n, n * n * row_bytes);
    Row {
        nodes,
        row_bytes,
        node_out_bytes: row_bytes,
        node_in_bytes: n * row_bytes,
        node_in_messages: n,
        served_messages,
        served_bytes,
        servers: (served_messages / SERVER_MESSAGES).max(served_bytes / LINK_BYTES).ceil(),
    }
}

/// The walls in the order in which a growing cluster meets them: nodes, and what it is.
pub(crate) fn walls(loads: f64) -> Vec<(f64, &'static str)> {
    let row_bytes = ROW_BYTES + loads * LOAD_BYTES;
    let mut walls = vec![
        (SERVER_MESSAGES.sqrt(), "one NATS server hands out no more messages"),
        ((LINK_BYTES / row_bytes).sqrt(), "the 10 Gbit/s of one NATS server are full"),
        ((3.0 * SERVER_MESSAGES).sqrt(), "three NATS servers hand out no more messages"),
        (NODE_MESSAGES, "a node hears of 10,000 others each second"),
        (LINK_BYTES / 8.0 / row_bytes, "reports fill 1 Gbit/s at every node"),
    ];
    walls.sort_by(|a, b| a.0.total_cmp(&b.0));
    walls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_the_nodes_are_a_hundred_times_the_messages() {
        let (small, large) = (row(100, 5.0), row(1000, 5.0));
        assert!((large.served_messages / small.served_messages - 100.0).abs() < 1e-9);
        assert!((large.node_in_bytes / small.node_in_bytes - 10.0).abs() < 1e-9);
    }
}
