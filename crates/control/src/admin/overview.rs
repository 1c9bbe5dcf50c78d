//! What the dashboard, `baton top` and `baton graph` look at: everything of the moment in one answer, and apps as graphs.
//!
//! The data plane copies its counters once for each answer; cells are not asked for theirs, so that who looks each second
//! costs the functions nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use baton_flow::status::AppStatus;

use super::Api;
use super::fault::Fault;
use super::reads::no_app;
use crate::graph::Graph;
use crate::limits;
use crate::procs::{self, Used};
use crate::protocol::{NodeRow, Nodes, Overview, ProcessFigures};

pub(super) async fn overview(State(api): State<Arc<Api>>) -> Result<Json<Overview>, Fault> {
    let (apps, beside) = leading(api.plane.load().await?);
    let at_ms = u64::try_from(api.node.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let replicas = apps
        .iter()
        .chain(&beside)
        .flat_map(|app| app.functions.iter().flat_map(|function| &function.replicas));
    let pids: BTreeSet<u32> = replicas.map(|replica| replica.pid).filter(|&pid| pid != 0).collect();
    let pids: Vec<u32> =
        std::iter::once(std::process::id()).chain(pids).take(limits::PROCESSES_SHOWN_MAX).collect();
    // Off this thread: the kernel takes its time over many processes.
    let processes = tokio::task::spawn_blocking(move || pids.into_iter().filter_map(figures).collect()).await;
    let cluster = api.cluster.as_ref().map(|cluster| Nodes {
        node: cluster.node().to_owned(),
        nodes: cluster.rows().iter().map(NodeRow::of).collect(),
    });
    Ok(Json(Overview {
        node: api.info(),
        at_ms,
        totals: api.plane.totals().await?,
        recording: api.plane.recording().await?,
        apps,
        beside,
        failed: api.deployer.failed(),
        cluster,
        processes: processes.unwrap_or_default(),
    }))
}

pub(super) async fn graph(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<Json<Graph>, Fault> {
    let deployment = api.deployer.leading(&app).ok_or_else(|| no_app(&app))?;
    // Off this thread: an app of the largest size takes a while.
    let graph = tokio::task::spawn_blocking(move || Graph::of(&deployment)).await;
    graph.map(Json).map_err(|_| {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "the graph was not laid out", "see the node's output")
    })
}

/// Of each app the version that leads, and what runs beside those.
fn leading(all: Vec<AppStatus>) -> (Vec<AppStatus>, Vec<AppStatus>) {
    let mut seen = BTreeSet::new();
    all.into_iter().partition(|app| seen.insert(app.app.clone()))
}

fn figures(pid: u32) -> Option<ProcessFigures> {
    let Used { cpu_ns, resident_bytes } = procs::used(pid)?;
    Some(ProcessFigures { pid, cpu_ms: cpu_ns / 1_000_000, resident_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures_and_one_that_is_gone_has_none() {
        assert!(figures(std::process::id()).unwrap().resident_bytes > 0);
        assert_eq!(figures(u32::MAX), None);
    }
}
