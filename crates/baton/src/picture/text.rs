//! A graph in the words of Graphviz and of Mermaid.

use std::fmt::Write as _;

use super::Picture;

/// For `dot -Tsvg`.
pub(super) fn dot(picture: &Picture) -> String {
    let graph = &picture.graph;
    let mut dot =
        format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box, style=rounded];\n", quoted(&graph.app));
    for (number, node) in graph.nodes.iter().enumerate() {
        let shape = if node.gateway { ", style=\"rounded,filled\", fillcolor=lightgrey" } else { "" };
        // A line break of DOT's own, which no name can bring in: its backslashes are doubled.
        let label = format!("{}\\n{}", quoted(&node.name), quoted(&picture.figures(node)));
        // Writing to a string does not fail.
        let _ = writeln!(dot, "  n{number} [label=\"{label}\"{shape}];");
    }
    for edge in &graph.edges {
        let label =
            picture.label(edge).map_or_else(String::new, |label| format!(" [label=\"{}\"]", quoted(&label)));
        let _ = writeln!(dot, "  n{} -> n{}{label};", edge.from, edge.to);
    }
    dot.push_str("}\n");
    dot
}

/// For a block of Markdown.
pub(super) fn mermaid(picture: &Picture) -> String {
    let graph = &picture.graph;
    let mut text = "flowchart LR\n".to_owned();
    for (number, node) in graph.nodes.iter().enumerate() {
        let label = format!("{}<br/>{}", entities(&node.name), entities(&picture.figures(node)));
        let (open, close) = if node.gateway { ("([", "])") } else { ("[", "]") };
        let _ = writeln!(text, "  n{number}{open}\"{label}\"{close}");
    }
    for edge in &graph.edges {
        let label =
            picture.label(edge).map_or_else(String::new, |label| format!("|\"{}\"|", entities(&label)));
        let _ = writeln!(text, "  n{} -->{label} n{}", edge.from, edge.to);
    }
    text
}

/// Text between the quotes of DOT.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Text between the quotes of Mermaid, which knows entities by number and takes some markup otherwise.
fn entities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || " -_./,:%µ".contains(c) => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => {
                let _ = write!(out, "#{};", u32::from(c));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::picture;
    use super::*;

    #[test]
    fn graphviz_gets_nodes_and_edges() {
        let text = dot(&picture("shop"));
        assert!(text.starts_with("digraph \"shop\" {") && text.ends_with("}\n"), "{text}");
        assert!(text.contains("n1 [label=\"front\\n100/s, p99 50.0 µs\"]"), "{text}");
        assert!(text.contains("n1 -> n2 [label=\"200/s, 9.7 KiB/s\"];"), "{text}");
    }

    #[test]
    fn mermaid_gets_nodes_and_edges() {
        let text = mermaid(&picture("shop"));
        assert!(text.contains("n0([\"gateway<br/>1 route\"])"), "{text}");
        assert!(text.contains("n1 -->|\"200/s, 9.7 KiB/s\"| n2"), "{text}");
    }

    #[test]
    fn names_end_no_string() {
        let name = "a\"]; evil\\";
        assert!(dot(&picture(name)).contains("a\\\"]; evil\\\\\\n"), "{}", dot(&picture(name)));
        let text = mermaid(&picture(name));
        assert!(text.contains("a#34;#93;#59; evil#92;"), "{text}");
    }
}
