//! An app as a graph: who may call whom, which routes lead where, and where all that goes in a picture.
//!
//! Everything here follows from the manifest, so that it only changes with the version; what happens on it is told by
//! [`Overview`](crate::protocol::Overview).

mod layout;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::layout::{NODE_HEIGHT, NODE_WIDTH, layout};
use crate::store::Deployment;

/// Who calls the functions that routes lead to.
pub const GATEWAY: &str = "gateway";

/// `GET /v1/apps/{app}/graph`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The app.
    pub app: String,
    /// Its version.
    pub version: u64,
    /// Width of the picture.
    pub width: f64,
    /// Height of the picture.
    pub height: f64,
    /// Width of a node.
    pub node_width: f64,
    /// Height of a node.
    pub node_height: f64,
    /// The gateway, if a route leads in, then the functions by name.
    pub nodes: Vec<GraphNode>,
    /// The calls.
    pub edges: Vec<GraphEdge>,
    /// The routes, in the order of the manifest.
    pub routes: Vec<GraphRoute>,
}

/// A function, or the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Its name.
    pub name: String,
    /// Whether it is the gateway, and no function.
    pub gateway: bool,
    /// Its middle.
    pub x: f64,
    /// Its middle.
    pub y: f64,
    /// What the manifest says of it; `None` for the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Declared>,
}

/// What a manifest says of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// `process`, `compartment` or `wasm`.
    pub isolation: String,
    /// How long a call may take, milliseconds.
    pub timeout_ms: u64,
    /// Memory of one replica, bytes.
    pub memory_bytes: u64,
    /// Fewest replicas.
    pub scale_min: u32,
    /// Most replicas.
    pub scale_max: u32,
    /// Calls that one replica takes at once.
    pub concurrency: u32,
    /// Hosts that it may reach.
    pub network: Vec<String>,
}

/// A call that may be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphEdge {
    /// Who calls: a function, or `gateway`.
    pub caller: String,
    /// Who is called.
    pub callee: String,
    /// Who calls, by the place in the list of nodes.
    pub from: usize,
    /// Who is called, by the place in the list of nodes.
    pub to: usize,
    /// Where its line goes, from caller to callee.
    pub points: Vec<[f64; 2]>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphRoute {
    /// The paths that it answers.
    pub path: String,
    /// The methods that it answers.
    pub methods: Vec<String>,
    /// The function that answers.
    pub function: String,
}

impl Graph {
    /// The graph of a version.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let manifest = &deployment.manifest;
        let names: BTreeMap<&str, usize> =
            manifest.functions.keys().map(|name| name.as_str()).zip(1..).collect();
        let number = |name: &str| names.get(name).copied();
        // The gateway is node 0, also of an app without routes: it is left out below.
        let mut calls: Vec<(usize, usize)> =
            manifest.routes.iter().filter_map(|route| Some((0, number(route.function.as_str())?))).collect();
        calls.sort_unstable();
        for (caller, function) in &manifest.functions {
            let callees = function.calls.iter().filter_map(|callee| number(callee.as_str()));
            calls.extend(
                number(caller.as_str())
                    .into_iter()
                    .flat_map(|from| callees.clone().map(move |to| (from, to))),
            );
        }
        calls.dedup();
        let skipped = usize::from(manifest.routes.is_empty());
        let shifted: Vec<(usize, usize)> = calls.iter().map(|&(u, v)| (u - skipped, v - skipped)).collect();
        let picture = layout(names.len() + 1 - skipped, &shifted);

        let all: Vec<&str> = std::iter::once(GATEWAY).chain(names.keys().copied()).skip(skipped).collect();
        let nodes = all.iter().zip(&picture.nodes).enumerate().map(|(at, (name, &(x, y)))| GraphNode {
            name: (*name).to_owned(),
            gateway: at + skipped == 0,
            x: tenths(x),
            y: tenths(y),
            declared: (at + skipped > 0).then(|| declared(deployment, name)).flatten(),
        });
        let edges = shifted.iter().zip(&picture.edges).map(|(&(u, v), points)| GraphEdge {
            caller: all.get(u).copied().unwrap_or_default().to_owned(),
            callee: all.get(v).copied().unwrap_or_default().to_owned(),
            from: u,
            to: v,
            points: points.iter().map(|&(x, y)| [tenths(x), tenths(y)]).collect(),
        });
        let routes = manifest.routes.iter().map(|route| GraphRoute {
            path: route.path.to_string(),
            methods: route.methods.iter().map(ToString::to_string).collect(),
            function: route.function.to_string(),
        });
        Self {
            app: deployment.app().to_string(),
            version: deployment.version,
            width: tenths(picture.width),
            height: tenths(picture.height),
            node_width: NODE_WIDTH,
            node_height: NODE_HEIGHT,
            nodes: nodes.collect(),
            edges: edges.collect(),
            routes: routes.collect(),
        }
    }
}

fn declared(deployment: &Deployment, name: &str) -> Option<Declared> {
    let (_, function) = deployment.manifest.functions.iter().find(|(key, _)| key.as_str() == name)?;
    Some(Declared {
        isolation: function.isolation.as_str().to_owned(),
        timeout_ms: function.timeout.millis(),
        memory_bytes: function.memory.bytes(),
        scale_min: function.scale.min,
        scale_max: function.scale.max,
        concurrency: function.scale.concurrency,
        network: function.network.clone(),
    })
}

/// A tenth of a pixel is enough, and short in JSON.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
