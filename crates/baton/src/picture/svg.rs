//! A graph as SVG: one file without anything from elsewhere, readable on light and dark paper.

use std::fmt::Write as _;

use baton_control::{GraphEdge, GraphNode};

use super::Picture;

/// Room round the picture.
const PAD: f64 = 28.0;
/// Room for the heading.
const HEAD: f64 = 34.0;
/// Characters of a name that fit into a node.
const NAME_CHARS: usize = 22;

const STYLE: &str = "\
svg{--paper:#fff;--ink:#1d2326;--quiet:#6b757a;--line:#c6c2b6;--brand:#17586b;--hand:#b3541e;--bad:#b3261e;--soft:#dcebee}\
@media(prefers-color-scheme:dark){svg{--paper:#1a2125;--ink:#e8ebe9;--quiet:#8f9ba1;--line:#43515a;--brand:#6fc1d6;--hand:#f0a06c;--bad:#ff8a80;--soft:#1d3841}}\
text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:var(--ink)}\
.paper{fill:var(--paper)}.name{font-size:13px;font-weight:600}.quiet{fill:var(--quiet);font-size:11px}\
.box{fill:var(--paper);stroke:var(--line)}.gateway{fill:var(--soft);stroke:var(--brand)}.ailing{stroke:var(--bad);stroke-width:2}\
.edge{fill:none;stroke:var(--line);stroke-width:1.4}.live{stroke:var(--brand)}.failing{stroke:var(--bad)}\
.head{fill:var(--line)}.live.head{fill:var(--brand);stroke:none}.failing.head{fill:var(--bad);stroke:none}\
.label{font-size:10.5px;fill:var(--hand);paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}";

/// The picture.
pub(super) fn draw(picture: &Picture) -> String {
    let graph = &picture.graph;
    let (width, height) = (graph.width + 2.0 * PAD, graph.height + 2.0 * PAD + HEAD);
    let title = format!("{}, version {}", escaped(&graph.app), graph.version);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"{left} {top} {width} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"12\"/>\n\
         <text class=\"name\" x=\"0\" y=\"{heading}\">{title}</text>\n",
        left = -PAD,
        top = -PAD - HEAD,
        heading = -HEAD,
    );
    graph.edges.iter().for_each(|edge| line(&mut svg, picture, edge));
    graph.nodes.iter().for_each(|node| function(&mut svg, picture, node));
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, picture: &Picture, edge: &GraphEdge) {
    let [.., [from, _], [x, y]] = edge.points.as_slice() else { return };
    let rates = picture.edge(edge);
    let failing = rates.is_some_and(|rates| rates.errors_per_s > 0.0);
    let live = rates.is_some_and(|rates| rates.calls_per_s > 0.0);
    let state = if failing {
        " failing"
    } else if live {
        " live"
    } else {
        ""
    };
    let (arrow, label, anchor) = if from < x { (-7, x - 11.0, "end") } else { (7, x + 11.0, "start") };
    let title = format!("{} to {}", escaped(&edge.caller), escaped(&edge.callee));
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<g><title>{title}</title><path class=\"edge{state}\" d=\"{}\"/><path class=\"head{state}\" d=\"M{x},{y}l{arrow},-3.6v7.2z\"/>",
        curve(&edge.points)
    );
    if let Some(text) = picture.label(edge) {
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{label:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y - 4.0,
            escaped(&text)
        );
    }
    svg.push_str("</g>\n");
}

/// A line through points, level where it passes them.
fn curve(points: &[[f64; 2]]) -> String {
    let Some([x, y]) = points.first() else { return String::new() };
    let mut path = format!("M{x},{y}");
    for pair in points.windows(2) {
        let [[x1, y1], [x2, y2]] = pair else { continue };
        let bend = (x2 - x1) / 2.0;
        let _ = write!(path, "C{:.1},{y1} {:.1},{y2} {x2},{y2}", x1 + bend, x2 - bend);
    }
    path
}

fn function(svg: &mut String, picture: &Picture, node: &GraphNode) {
    let (width, height) = (picture.graph.node_width, picture.graph.node_height);
    let (left, top) = (node.x - width / 2.0, node.y - height / 2.0);
    let rates = picture.function(node);
    let ailing = rates.is_some_and(|rates| rates.ailing || rates.errors_per_s > 0.0);
    let class = if node.gateway {
        "box gateway"
    } else if ailing {
        "box ailing"
    } else {
        "box"
    };
    let name = if node.gateway { "Gateway" } else { node.name.as_str() };
    let short: String = if name.chars().count() > NAME_CHARS {
        name.chars().take(NAME_CHARS - 1).chain(['…']).collect()
    } else {
        name.to_owned()
    };
    let state = rates.map_or_else(String::new, |rates| {
        format!("{} of {} ready, {}", rates.ready, rates.replicas, rates.runs_as)
    });
    let _ = writeln!(
        svg,
        "<g><title>{}</title><rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width}\" height=\"{height}\" rx=\"10\"/>\
         <text class=\"name\" x=\"{text:.1}\" y=\"{first:.1}\">{}</text><text x=\"{text:.1}\" y=\"{second:.1}\">{}</text>\
         <text class=\"quiet\" x=\"{text:.1}\" y=\"{third:.1}\">{}</text></g>",
        escaped(name),
        escaped(&short),
        escaped(&picture.figures(node)),
        escaped(&state),
        text = left + 12.0,
        first = top + 19.0,
        second = top + 36.0,
        third = top + 51.0,
    );
}

/// Text as XML has it; what XML cannot have at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::picture;
    use super::*;

    #[test]
    fn functions_calls_and_figures_are_drawn() {
        let svg = draw(&picture("shop"));
        for part in [
            "shop, version 2",
            ">Gateway<",
            ">front<",
            "100/s, p99 50.0 µs",
            "200/s, 9.7 KiB/s",
            "1 of 1 ready, compartment",
        ] {
            assert!(svg.contains(part), "{part} is missing:\n{svg}");
        }
        assert_eq!(svg.matches("<g>").count(), svg.matches("</g>").count());
        assert!(svg.contains("class=\"edge live\""), "{svg}");
    }

    #[test]
    fn names_are_no_markup() {
        let svg = draw(&picture("\"><script>alert('&')</script>\u{0}"));
        assert!(!svg.contains("<script>") && !svg.contains('\u{0}'), "{svg}");
        assert!(svg.contains("&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)"), "{svg}");
    }
}
