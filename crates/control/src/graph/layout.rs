//! Where things go in a picture of a graph: layers from left to right, few crossings, straight lines.
//!
//! The method of Sugiyama, Tagawa and Toda. Calls that lead back are turned round for the time being, each node is put one
//! layer behind the last of its callers, long calls get a stop in each layer between, stops and nodes are put in an order
//! with few crossings, and then each moves as near to its neighbours as the order allows. The same graph always comes to
//! the same picture. An app has at most 64 functions and 512 calls, which bounds all of it.

use std::collections::BTreeSet;

/// Width of a node.
pub(super) const NODE_WIDTH: f64 = 172.0;
/// Height of a node.
pub(super) const NODE_HEIGHT: f64 = 60.0;
/// Between two layers.
const LAYER_GAP: f64 = 132.0;
/// Between two nodes of a layer.
const ROW_GAP: f64 = 22.0;
/// The height that a call takes where it passes a layer.
const STOP_HEIGHT: f64 = 10.0;
/// Between two calls that leave or enter a node.
const PORT_GAP: f64 = 15.0;
/// Sweeps for an order; more do not improve graphs of this size.
const ORDER_SWEEPS: usize = 12;
/// Sweeps for heights.
const PLACE_SWEEPS: usize = 10;

/// A point of the picture.
pub(super) type Point = (f64, f64);

/// Where everything goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    /// Width of the picture.
    pub(super) width: f64,
    /// Height of the picture.
    pub(super) height: f64,
    /// The middle of each node.
    pub(super) nodes: Vec<Point>,
    /// The points that each edge passes, from its caller to its callee.
    pub(super) edges: Vec<Vec<Point>>,
}

/// A node, or a stop of an edge on its way through a layer.
#[derive(Clone, Copy, Debug)]
struct Item {
    height: f64,
    middle: f64,
}

/// Items by layer, and who is next to whom.
struct Layers {
    items: Vec<Item>,
    layers: Vec<Vec<usize>>,
    before: Vec<Vec<usize>>,
    behind: Vec<Vec<usize>>,
    /// The items of each edge, in the direction in which it is drawn; empty for an edge from a node to itself.
    routes: Vec<Vec<usize>>,
}

/// Lays out a graph of `nodes` nodes; edges name them by number, and none twice.
#[must_use]
pub(super) fn layout(nodes: usize, edges: &[(usize, usize)]) -> Layout {
    if nodes == 0 {
        return Layout::default();
    }
    let turned = turned(nodes, edges);
    let forward: Vec<(usize, usize)> =
        edges.iter().zip(&turned).map(|(&(u, v), &back)| if back { (v, u) } else { (u, v) }).collect();
    let mut layers = Layers::new(nodes, &forward);
    layers.order();
    layers.place();
    layers.drawn(nodes, edges, &turned)
}

/// Which edges lead back to a node that is still being visited.
fn turned(nodes: usize, edges: &[(usize, usize)]) -> Vec<bool> {
    let mut turned = vec![false; edges.len()];
    // 0: not seen, 1: being visited, 2: done.
    let mut state = vec![0u8; nodes];
    let called: BTreeSet<usize> = edges.iter().filter(|(u, v)| u != v).map(|&(_, v)| v).collect();
    let roots = (0..nodes).filter(|node| !called.contains(node));
    for root in roots.chain(0..nodes) {
        if state[root] != 0 {
            continue;
        }
        state[root] = 1;
        let mut path = vec![(root, 0)];
        while let Some((node, from)) = path.last_mut() {
            let found = edges.iter().enumerate().skip(*from).find(|(_, (u, v))| u == node && v != node);
            let Some((number, &(_, to))) = found else {
                state[*node] = 2;
                path.pop();
                continue;
            };
            *from = number + 1;
            match state[to] {
                0 => {
                    state[to] = 1;
                    path.push((to, 0));
                }
                1 => turned[number] = true,
                _ => {}
            }
        }
    }
    turned
}

impl Layers {
    fn new(nodes: usize, forward: &[(usize, usize)]) -> Self {
        let mut layer = vec![0usize; nodes];
        // Without cycles, a longest path has fewer steps than there are nodes.
        for _ in 0..nodes {
            for &(u, v) in forward.iter().filter(|(u, v)| u != v) {
                layer[v] = layer[v].max(layer[u] + 1);
            }
        }
        let count = layer.iter().max().map_or(1, |last| last + 1);
        let mut new = Self {
            items: vec![Item { height: NODE_HEIGHT, middle: 0.0 }; nodes],
            layers: vec![Vec::new(); count],
            before: vec![Vec::new(); nodes],
            behind: vec![Vec::new(); nodes],
            routes: Vec::new(),
        };
        for (node, &at) in layer.iter().enumerate() {
            new.layers[at].push(node);
        }
        for &(u, v) in forward {
            let mut route = Vec::new();
            if u != v {
                route.push(u);
                route.extend((layer[u] + 1..layer[v]).map(|at| new.stop(at)));
                route.push(v);
            }
            for pair in route.windows(2) {
                new.behind[pair[0]].push(pair[1]);
                new.before[pair[1]].push(pair[0]);
            }
            new.routes.push(route);
        }
        new
    }

    fn stop(&mut self, layer: usize) -> usize {
        self.items.push(Item { height: STOP_HEIGHT, middle: 0.0 });
        self.before.push(Vec::new());
        self.behind.push(Vec::new());
        self.layers[layer].push(self.items.len() - 1);
        self.items.len() - 1
    }

    /// Sorts each layer by the mean place of what an item is next to, to and fro, and keeps the best order that came up.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.layers.clone());
        for sweep in 0..ORDER_SWEEPS {
            if best.0 == 0 {
                break;
            }
            let count = self.layers.len();
            let down = sweep % 2 == 0;
            for step in 1..count {
                let layer = if down { step } else { count - 1 - step };
                let places = self.places();
                let beside = if down { &self.before } else { &self.behind };
                let mean = |item: usize| {
                    let near = &beside[item];
                    match near.len() {
                        0 => places[item],
                        n => near.iter().map(|&other| places[other]).sum::<f64>() / n as f64,
                    }
                };
                // Stable: what has no preference keeps its place among its like.
                self.layers[layer].sort_by(|&a, &b| mean(a).total_cmp(&mean(b)));
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    /// The place of each item in its layer, from 0 to 1.
    fn places(&self) -> Vec<f64> {
        let mut places = vec![0.0; self.items.len()];
        for layer in &self.layers {
            for (at, &item) in layer.iter().enumerate() {
                places[item] = (at as f64 + 0.5) / layer.len() as f64;
            }
        }
        places
    }

    /// Pairs of edges that cross.
    fn crossings(&self) -> usize {
        let mut place = vec![0usize; self.items.len()];
        for layer in &self.layers {
            for (at, &item) in layer.iter().enumerate() {
                place[item] = at;
            }
        }
        let mut crossings = 0;
        for (number, layer) in self.layers.iter().enumerate().skip(1) {
            // Edges by where they begin; each crosses those before it that end further down.
            let mut ends: Vec<(usize, usize)> = layer
                .iter()
                .flat_map(|&item| self.before[item].iter().map(move |&from| (from, item)))
                .map(|(from, to)| (place[from], place[to]))
                .collect();
            ends.sort_unstable();
            let mut counted = Counted::new(self.layers[number].len());
            for (_, end) in ends {
                crossings += counted.above(end);
                counted.add(end);
            }
        }
        crossings
    }

    /// Gives each item a height: as near to its neighbours as its layer's order allows.
    fn place(&mut self) {
        for layer in self.layers.clone() {
            let wanted = vec![0.0; layer.len()];
            self.settle(&layer, &wanted);
        }
        let count = self.layers.len();
        for sweep in 0..PLACE_SWEEPS {
            for step in 0..count {
                let number = if sweep % 2 == 0 { step } else { count - 1 - step };
                let layer = self.layers[number].clone();
                let wanted: Vec<f64> = layer.iter().map(|&item| self.wanted(item)).collect();
                self.settle(&layer, &wanted);
            }
        }
    }

    /// The middle of what an item is next to, on both sides.
    fn wanted(&self, item: usize) -> f64 {
        let near = self.before[item].iter().chain(&self.behind[item]);
        let (sum, count) =
            near.fold((0.0, 0usize), |(sum, n), &other| (sum + self.items[other].middle, n + 1));
        if count == 0 { self.items[item].middle } else { sum / count as f64 }
    }

    /// The places nearest to the wanted ones, in the sense of least squares, that keep order and distances: distances taken
    /// off, items that would overlap are merged into blocks that share the mean of what their items want.
    fn settle(&mut self, layer: &[usize], wanted: &[f64]) {
        let mut offsets = Vec::with_capacity(layer.len());
        let mut at = 0.0;
        for (index, &item) in layer.iter().enumerate() {
            if index > 0 {
                let above = self.items[layer[index - 1]].height;
                at += above / 2.0 + ROW_GAP + self.items[item].height / 2.0;
            }
            offsets.push(at);
        }
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        for (want, offset) in wanted.iter().zip(&offsets) {
            blocks.push((want - offset, 1));
            while let [.., (a, n), (b, m)] = blocks[..]
                && a > b
            {
                blocks.pop();
                blocks.pop();
                blocks.push(((a * n as f64 + b * m as f64) / (n + m) as f64, n + m));
            }
        }
        let bases = blocks.into_iter().flat_map(|(base, n)| std::iter::repeat_n(base, n));
        for ((&item, offset), base) in layer.iter().zip(&offsets).zip(bases) {
            self.items[item].middle = base + offset;
        }
    }

    /// Coordinates of the picture, from 0 on.
    fn drawn(&self, nodes: usize, edges: &[(usize, usize)], turned: &[bool]) -> Layout {
        let top = self.items.iter().map(|item| item.middle - item.height / 2.0).fold(f64::MAX, f64::min);
        let end = self.items.iter().map(|item| item.middle + item.height / 2.0).fold(f64::MIN, f64::max);
        let mut points = vec![(0.0, 0.0); self.items.len()];
        for (number, layer) in self.layers.iter().enumerate() {
            let x = number as f64 * (NODE_WIDTH + LAYER_GAP) + NODE_WIDTH / 2.0;
            for &item in layer {
                points[item] = (x, self.items[item].middle - top);
            }
        }
        let (outs, ins) = (self.ports(nodes, &self.behind), self.ports(nodes, &self.before));
        let drawn = |number: usize| -> Vec<Point> {
            let route = &self.routes[number];
            let (Some(&first), Some(&last)) = (route.first(), route.last()) else {
                return own_circle(points[edges[number].0]);
            };
            // Two functions that call each other have two lines to each other: one takes the first port, one the last.
            let port = |ports: &[Vec<(usize, f64)>], node: usize, next: usize| {
                let mut fits = ports[node].iter().filter(|(item, _)| *item == next);
                let fit = if turned[number] { fits.next_back() } else { fits.next() };
                fit.map_or(0.0, |(_, shift)| *shift)
            };
            let mut line = Vec::with_capacity(route.len());
            let (x, y) = points[first];
            line.push((x + NODE_WIDTH / 2.0, y + port(&outs, first, route[1])));
            line.extend(route[1..route.len() - 1].iter().map(|&item| points[item]));
            let (x, y) = points[last];
            line.push((x - NODE_WIDTH / 2.0, y + port(&ins, last, route[route.len() - 2])));
            if turned[number] {
                line.reverse();
            }
            line
        };
        Layout {
            width: self.layers.len() as f64 * (NODE_WIDTH + LAYER_GAP) - LAYER_GAP,
            height: end - top,
            nodes: points[..nodes].to_vec(),
            edges: (0..edges.len()).map(drawn).collect(),
        }
    }

    /// How far from the middle of its side each of a node's lines ends, in the order of where they lead.
    fn ports(&self, nodes: usize, beside: &[Vec<usize>]) -> Vec<Vec<(usize, f64)>> {
        let of = |node: usize| {
            let mut near = beside[node].clone();
            near.sort_by(|&a, &b| self.items[a].middle.total_cmp(&self.items[b].middle));
            let gap = PORT_GAP.min((NODE_HEIGHT - 12.0) / near.len().max(1) as f64);
            let first = -gap * (near.len().saturating_sub(1)) as f64 / 2.0;
            near.into_iter().enumerate().map(|(at, item)| (item, first + gap * at as f64)).collect()
        };
        (0..nodes).map(of).collect()
    }
}

/// A line from a node round to itself, above it.
fn own_circle((x, y): Point) -> Vec<Point> {
    let (right, top) = (x + NODE_WIDTH / 2.0, y - NODE_HEIGHT / 2.0);
    vec![(right, y - 8.0), (right + 26.0, top - 12.0), (x, top - 16.0), (x, top)]
}

/// Counts of numbers below a bound, by a tree of partial sums.
struct Counted {
    sums: Vec<usize>,
    all: usize,
}

impl Counted {
    fn new(bound: usize) -> Self {
        Self { sums: vec![0; bound + 1], all: 0 }
    }

    fn add(&mut self, number: usize) {
        self.all += 1;
        let mut at = number + 1;
        while at < self.sums.len() {
            self.sums[at] += 1;
            at += at & at.wrapping_neg();
        }
    }

    /// How many of those added are above a number.
    fn above(&self, number: usize) -> usize {
        let (mut at, mut sum) = (number + 1, 0);
        while at > 0 {
            sum += self.sums[at];
            at -= at & at.wrapping_neg();
        }
        self.all - sum
    }
}

#[cfg(test)]
mod tests;
