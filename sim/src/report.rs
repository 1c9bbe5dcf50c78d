//! Tables for people, JSON for the rest.

use comfy_table::Table;
use serde::Serialize;

use crate::measure::Summary;
use crate::{planner, scaling, traffic};

/// Everything that was found.
#[derive(Serialize)]
pub(crate) struct Report {
    simulation: &'static str,
    seed: u64,
    load: f64,
    cases: Vec<Summary>,
    pub(crate) planner: Vec<planner::Row>,
    pub(crate) traffic: Vec<traffic::Row>,
    pub(crate) scaling: Vec<scaling::Row>,
}

impl Report {
    pub(crate) const fn new(seed: u64, load: f64) -> Self {
        Self {
            simulation: "cluster",
            seed,
            load,
            cases: Vec::new(),
            planner: Vec::new(),
            traffic: Vec::new(),
            scaling: Vec::new(),
        }
    }

    /// Takes a case's figures, and says that they are there.
    pub(crate) fn add(&mut self, summary: Summary) {
        for violation in &summary.violations {
            println!("BROKEN: {violation}");
        }
        let case = &summary.case;
        println!("done: {} nodes, {}, {}: {} calls", case.nodes, case.policy, case.router, summary.calls);
        self.cases.push(summary);
    }

    /// Whether every rule held.
    pub(crate) fn holds(&self) -> bool {
        self.cases.iter().all(|case| case.violations.is_empty())
    }

    /// Functions with ready replicas that a node of Baton's largest spread cluster reports.
    pub(crate) fn loads_per_row(&self) -> f64 {
        let spread = |case: &&Summary| {
            let it = &case.case;
            it.policy == "spread" && it.router.starts_with("baton") && it.report_ms == 1000
        };
        self.cases.iter().rfind(spread).map_or(0.0, |case| case.rows_per_report)
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    pub(crate) fn print(&self) {
        println!("\nCalls. Time beside the handlers' own, in ms; load is cores wanted over cores there.");
        println!("{}", self.calls());
        println!("\nEnds. Lost: the client's node died, or the function's and it is not idempotent.");
        println!("{}", self.ends());
        println!("\nPlans, one for each change of the members or deployments.");
        println!("{}", self.plans());
        println!("\nScale on one node. Time beside the handlers' own, in ms; the same calls for each row.");
        println!("{}", self.scales());
        println!("\nReports, each second from each node to each node.");
        println!("{}", self.reports());
        for (nodes, wall) in traffic::walls(self.loads_per_row()) {
            println!("  at {nodes:.0} nodes: {wall}");
        }
    }

    fn calls(&self) -> Table {
        let mut table = headed([
            "nodes",
            "policy",
            "router",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "local",
            "cold",
            "load p50",
            "load p99",
            "load max",
            "nodes at work",
        ]);
        for case in &self.cases {
            let minds = if case.case.minds_cores { "" } else { ", cores not minded" };
            let every = match case.case.report_ms {
                1000 => String::new(),
                ms => format!(", reports each {} s", ms as f64 / 1e3),
            };
            let back = match case.case.bounces {
                0 => String::new(),
                most => format!(", sent back {most} times"),
            };
            table.add_row([
                case.case.nodes.to_string(),
                case.case.policy.to_owned(),
                format!("{}{minds}{every}{back}", case.case.router),
                format!("{:.2}", case.added_ms_p50),
                format!("{:.2}", case.added_ms_p90),
                format!("{:.1}", case.added_ms_p99),
                format!("{:.0}", case.added_ms_p999),
                percent(case.local),
                percent(case.cold),
                format!("{:.2}", case.load_p50),
                format!("{:.2}", case.load_p99),
                format!("{:.2}", case.load_max),
                percent(case.nodes_used),
            ]);
        }
        table
    }

    fn ends(&self) -> Table {
        let mut table = headed([
            "nodes",
            "policy",
            "router",
            "invocations",
            "answered",
            "refused",
            "lost",
            "nowhere",
            "calls",
            "tried again",
        ]);
        for case in &self.cases {
            let numbers = [
                case.invocations,
                case.answered,
                case.refused,
                case.lost,
                case.nowhere,
                case.calls,
                case.tried_again,
            ];
            let names =
                [case.case.nodes.to_string(), case.case.policy.to_owned(), case.case.router.to_owned()];
            table.add_row(names.into_iter().chain(numbers.map(|number| number.to_string())));
        }
        table
    }

    fn plans(&self) -> Table {
        let mut table = headed([
            "apps",
            "functions",
            "nodes",
            "policy",
            "ms",
            "rendezvous ms",
            "moved when a node goes",
            "on the average node",
            "nodes used",
            "most on one",
            "crowded",
        ]);
        for row in &self.planner {
            table.add_row([
                row.apps.to_string(),
                row.functions.to_string(),
                row.nodes.to_string(),
                row.policy.to_owned(),
                format!("{:.2}", row.plan_ms),
                row.rendezvous_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}")),
                format!("{:.1}", row.moved),
                format!("{:.1}", row.even_share),
                row.nodes_used.to_string(),
                row.most_on_a_node.to_string(),
                row.crowded.to_string(),
            ]);
        }
        table
    }

    fn scales(&self) -> Table {
        let mut table = headed([
            "functions",
            "who decides",
            "calls",
            "warm",
            "p50",
            "p99",
            "p99.9",
            "starts",
            "GiB·s",
            "of that idle",
            "most replicas",
        ]);
        for row in &self.scaling {
            table.add_row([
                row.functions.to_string(),
                row.policy.clone(),
                row.calls.to_string(),
                format!("{:.2} %", row.warm * 100.0),
                format!("{:.2}", row.added_ms_p50),
                format!("{:.1}", row.added_ms_p99),
                format!("{:.0}", row.added_ms_p999),
                row.starts.to_string(),
                format!("{:.0}", row.gib_seconds),
                percent(row.idle_share),
                row.replicas_most.to_string(),
            ]);
        }
        table
    }

    fn reports(&self) -> Table {
        let mut table = headed([
            "nodes",
            "bytes a row",
            "out of a node, B/s",
            "into a node, MB/s",
            "into a node, rows/s",
            "out of NATS, messages/s",
            "out of NATS, GB/s",
            "NATS servers",
        ]);
        for row in &self.traffic {
            table.add_row([
                row.nodes.to_string(),
                format!("{:.0}", row.row_bytes),
                format!("{:.0}", row.node_out_bytes),
                format!("{:.2}", row.node_in_bytes / 1e6),
                format!("{:.0}", row.node_in_messages),
                format!("{:.0}", row.served_messages),
                format!("{:.3}", row.served_bytes / 1e9),
                format!("{:.0}", row.servers),
            ]);
        }
        table
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A table in Markdown with these names over its columns.
fn headed<const COLUMNS: usize>(names: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(names);
    table
}
