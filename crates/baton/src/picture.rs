//! `baton graph`: an app's functions and calls, drawn with what goes on between them.
//!
//! The node says where things go; here they become SVG, or text for Graphviz and Mermaid, which lay out by themselves.
//! Names and paths are escaped by the rules of each: what an app is called never becomes part of a picture's markup.

mod svg;
mod text;

use std::fs;
use std::path::Path;
use std::time::Duration;

use baton_control::{Graph, GraphEdge, GraphNode};
use serde_json::json;

use crate::cli::{GraphArgs, GraphFormat};
use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{bytes, bytes_out, json_out, nanos};
use crate::overview::{EdgeRates, FunctionRates, Overview, Rates};
use crate::verbs::block_on;

/// A graph, and what goes on in it.
struct Picture {
    graph: Graph,
    rates: Rates,
    /// Whether figures are totals and not rates.
    totals: bool,
}

/// Runs the verb.
pub(crate) fn run(home: &Path, args: &GraphArgs) -> Result<(), Failure> {
    let client = Client::new(home);
    let picture = block_on(look(&client, args))?;
    if args.json {
        return json_out(&json!({ "graph": picture.graph, "rates": picture.rates }));
    }
    let drawn = match args.format {
        GraphFormat::Svg => svg::draw(&picture),
        GraphFormat::Dot => text::dot(&picture),
        GraphFormat::Mermaid => text::mermaid(&picture),
    };
    match &args.output {
        None => bytes_out(drawn.as_bytes()),
        Some(file) => fs::write(file, drawn).map_err(|error| {
            Failure::failed(
                format_args!("cannot write {}: {error}", file.display()),
                "name a file in a directory that is there",
            )
        }),
    }
}

async fn look(client: &Client, args: &GraphArgs) -> Result<Picture, Failure> {
    let mut before: Overview = client.get("/v1/overview").await?;
    let app = chosen(&before, args.app.as_deref())?;
    let graph: Graph = client.get(&format!("/v1/apps/{}/graph", escaped(&app))).await?;
    let totals = args.over == 0;
    let now = if totals {
        let now = before.clone();
        // Everything since the start: no moment before.
        before.at_ms = u64::MAX;
        now
    } else {
        tokio::time::sleep(Duration::from_secs(args.over)).await;
        client.get("/v1/overview").await?
    };
    let mut rates = Rates::between(&before, &now);
    rates.only(Some(&app))?;
    Ok(Picture { graph, rates, totals })
}

/// The app that is meant: the one that is named, or the only one.
fn chosen(overview: &Overview, named: Option<&str>) -> Result<String, Failure> {
    let names: Vec<&str> = overview.apps.iter().map(|app| app.app.as_str()).collect();
    match (named, names.as_slice()) {
        (Some(name), _) if names.contains(&name) => Ok(name.to_owned()),
        (Some(name), _) => {
            Err(Failure::failed(format_args!("no app {name} runs"), "`baton ps` lists what runs"))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, []) => Err(Failure::failed("nothing is deployed", "`baton deploy DIR` deploys an app")),
        (None, several) => Err(Failure::bad_input(
            format_args!(
                "{} apps run: {}",
                several.len(),
                several.iter().take(8).copied().collect::<Vec<_>>().join(", ")
            ),
            "name one: `baton graph APP`",
        )),
    }
}

impl Picture {
    fn function(&self, node: &GraphNode) -> Option<&FunctionRates> {
        self.rates.functions.iter().find(|function| !node.gateway && function.function == node.name)
    }

    fn edge(&self, edge: &GraphEdge) -> Option<&EdgeRates> {
        self.rates.edges.iter().find(|rates| rates.caller == edge.caller && rates.callee == edge.callee)
    }

    /// What is written beside a call: how often, and how much is handed over.
    fn label(&self, edge: &GraphEdge) -> Option<String> {
        let rates = self.edge(edge)?;
        let handed = |value: u64, per: &str| {
            if value > 0 { format!(", {}{per}", bytes(value)) } else { String::new() }
        };
        let refused = match rates.refusals {
            0 => String::new(),
            count => format!(", {count} refused"),
        };
        if self.totals {
            return (rates.calls > 0 || rates.refusals > 0)
                .then(|| format!("{} calls{refused}", rates.calls));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate that is not negative; casts saturate"
        )]
        let per_second = rates.bytes_per_s as u64;
        (rates.calls_per_s > 0.0)
            .then(|| format!("{}/s{}{refused}", amount(rates.calls_per_s), handed(per_second, "/s")))
    }

    /// What is written below a function's name.
    fn figures(&self, node: &GraphNode) -> String {
        let Some(rates) = self.function(node) else {
            return match self.graph.routes.len() {
                1 => "1 route".to_owned(),
                n => format!("{n} routes"),
            };
        };
        let often = if self.totals {
            format!("{} calls", rates.calls)
        } else {
            format!("{}/s", amount(rates.calls_per_s))
        };
        match (rates.p99_ns, rates.mean_ns) {
            (Some(p99), _) => format!("{often}, p99 {}", nanos(p99)),
            (None, Some(mean)) => format!("{often}, {}", nanos(mean)),
            (None, None) => often,
        }
    }
}

/// Three digits.
fn amount(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        0.0 => "0".to_owned(),
        v => format!("{v:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::overview;

    /// The shop of the tests, with a name that would be markup if it were not escaped.
    pub(super) fn picture(name: &str) -> Picture {
        let node = |name: &str, gateway, x| json!({ "name": name, "gateway": gateway, "x": x, "y": 40.0 });
        let edge = |caller: &str, callee: &str, from, to| json!({ "caller": caller, "callee": callee, "from": from, "to": to, "points": [[10.0, 40.0], [80.0, 20.0], [150.0, 40.0]] });
        let graph = json!({
            "app": name, "version": 2, "width": 780.0, "height": 80.0, "node_width": 172.0, "node_height": 60.0,
            "nodes": [node("gateway", true, 86.0), node("front", false, 390.0), node(name, false, 694.0)],
            "edges": [edge("gateway", "front", 0, 1), edge("front", "cart", 1, 2), edge("front", name, 1, 2)],
            "routes": [{ "path": "/", "methods": ["GET"], "function": "front" }],
        });
        let rates = Rates::between(&overview(10_000, 100), &overview(12_000, 300));
        Picture { graph: serde_json::from_value(graph).unwrap(), rates, totals: false }
    }

    #[test]
    fn labels_are_rates_or_totals() {
        let mut picture = picture("shop");
        let edge = picture.graph.edges[1].clone();
        assert_eq!(picture.label(&edge).as_deref(), Some("200/s, 9.7 KiB/s"));
        assert_eq!(picture.figures(&picture.graph.nodes[0]), "1 route");
        assert_eq!(picture.figures(&picture.graph.nodes[1]), "100/s, p99 50.0 µs");
        picture.totals = true;
        assert_eq!(picture.label(&edge).as_deref(), Some("600 calls"));
    }

    #[test]
    fn the_only_app_needs_no_name() {
        let one = overview(1_000, 1);
        assert_eq!(chosen(&one, None).unwrap(), "shop");
        assert_eq!(chosen(&one, Some("shop")).unwrap(), "shop");
        assert!(format!("{:?}", chosen(&one, Some("x")).unwrap_err()).contains("baton ps"));
        let mut two = one.clone();
        two.apps.push(one.apps[0].clone());
        assert!(format!("{:?}", chosen(&two, None).unwrap_err()).contains("baton graph APP"));
        two.apps.clear();
        assert!(format!("{:?}", chosen(&two, None).unwrap_err()).contains("nothing is deployed"));
    }
}
