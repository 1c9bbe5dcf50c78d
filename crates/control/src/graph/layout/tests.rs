//! Pictures of small graphs, and what holds for all of them.

use proptest::prelude::*;

use super::*;

/// Nodes do not overlap, edges begin and end at theirs, and everything lies within the picture.
fn check(nodes: usize, edges: &[(usize, usize)]) -> Layout {
    let layout = layout(nodes, edges);
    assert_eq!(layout.nodes.len(), nodes);
    assert_eq!(layout.edges.len(), edges.len());
    let inside =
        |(x, y): Point| (0.0..=layout.width).contains(&x) && (0.0..=layout.height + 1e-6).contains(&y);
    for (number, &(x, y)) in layout.nodes.iter().enumerate() {
        assert!(inside((x, y)), "node {number} at {x}, {y} of {}, {}", layout.width, layout.height);
        for &(other_x, other_y) in &layout.nodes[..number] {
            let apart =
                (x - other_x).abs() >= NODE_WIDTH || (y - other_y).abs() >= NODE_HEIGHT + ROW_GAP - 1e-6;
            assert!(apart, "({x}, {y}) and ({other_x}, {other_y}) overlap");
        }
    }
    for (line, &(u, v)) in layout.edges.iter().zip(edges) {
        let at = |(x, y): Point, node: usize| {
            let (node_x, node_y) = layout.nodes[node];
            (x - node_x).abs() <= NODE_WIDTH / 2.0 + 1e-6 && (y - node_y).abs() <= NODE_HEIGHT / 2.0 + 1e-6
        };
        assert!(at(line[0], u) && at(line[line.len() - 1], v), "{u} -> {v}: {line:?}");
    }
    layout
}

#[test]
fn a_chain_is_a_straight_line() {
    let layout = check(4, &[(0, 1), (1, 2), (2, 3)]);
    assert!(layout.nodes.windows(2).all(|pair| pair[0].0 < pair[1].0), "{layout:?}");
    assert!(layout.nodes.iter().all(|node| (node.1 - layout.nodes[0].1).abs() < 1e-6), "{layout:?}");
    assert_eq!(layout.height, NODE_HEIGHT);
}

#[test]
fn callees_lie_right_of_all_their_callers() {
    let edges = [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3)];
    let layout = check(4, &edges);
    assert!(edges.iter().all(|&(u, v)| layout.nodes[u].0 < layout.nodes[v].0));
    assert_eq!(layout.edges[4].len(), 4, "a long call passes a stop in each layer: {:?}", layout.edges[4]);
}

#[test]
fn crossings_that_need_not_be_are_not() {
    // As given, all of these cross.
    let edges = [(0, 5), (1, 4), (2, 3)];
    let mut layers = Layers::new(6, &edges);
    assert_eq!(layers.crossings(), 3);
    layers.order();
    assert_eq!(layers.crossings(), 0);
}

#[test]
fn circles_and_calls_to_oneself_are_drawn_too() {
    let layout = check(3, &[(0, 1), (1, 2), (2, 0), (1, 1)]);
    assert!(layout.edges[2][0].0 > layout.edges[2][1].0, "the call back leads back");
}

#[test]
fn nothing_is_an_empty_picture() {
    assert_eq!(layout(0, &[]), Layout::default());
    check(1, &[]);
}

proptest! {
    #[test]
    fn any_graph_has_a_picture(nodes in 1usize..24, pairs in prop::collection::btree_set((0usize..24, 0usize..24), 0..60)) {
        let pairs: BTreeSet<_> = pairs.into_iter().map(|(u, v)| (u % nodes, v % nodes)).collect();
        let edges: Vec<_> = pairs.into_iter().collect();
        let first = check(nodes, &edges);
        prop_assert_eq!(first, layout(nodes, &edges));
    }
}

#[test]
fn the_largest_app_is_drawn() {
    // 64 functions in a row, each calling up to 8 that follow, far ones as well: a stop in each layer between.
    let edges: Vec<_> = (0..65usize)
        .flat_map(|u| [1, 2, 3, 5, 8, 20, 40, 60].map(|step| (u, u + step)))
        .filter(|&(_, v)| v < 65)
        .collect();
    let layout = check(65, &edges);
    assert!(layout.width > 64.0 * NODE_WIDTH);
}
