//! What all nodes have been told about the load of all others: rows of functions that have a ready replica.
//!
//! Rows reach the nodes milliseconds apart, of a second between two reports: all nodes share one board here.

use std::collections::{HashMap, HashSet};

use baton_placement::{There, reported};

/// How busy a node is with one function.
pub(crate) type Row = (u32, Option<u32>);

/// Rows by function.
pub(crate) struct Board {
    functions: Vec<Peers>,
    /// The functions that each node has rows of.
    of_node: Vec<Vec<u32>>,
    /// How busy each node is, whatever the function.
    nodes: Vec<u32>,
}

/// The nodes with a ready replica of one function.
#[derive(Default)]
pub(crate) struct Peers {
    nodes: Vec<u32>,
    there: Vec<There>,
    places: HashMap<u32, usize>,
}

impl Board {
    pub(crate) fn new(functions: usize, nodes: usize) -> Self {
        Self {
            functions: (0..functions).map(|_| Peers::default()).collect(),
            of_node: vec![Vec::new(); nodes],
            nodes: vec![0; nodes],
        }
    }

    /// A node's report takes the place of its last one.
    pub(crate) fn post(&mut self, node: u32, busy: u32, rows: &[Row]) {
        if let Some(slot) = self.nodes.get_mut(node as usize) {
            *slot = busy;
        }
        let stays: HashSet<u32> = rows.iter().map(|(function, _)| *function).collect();
        self.drop_rows(node, |function| !stays.contains(function));
        for &(function, busy) in rows {
            if let Some(peers) = self.functions.get_mut(function as usize) {
                peers.set(node, There { busy });
            }
        }
        if let Some(of_node) = self.of_node.get_mut(node as usize) {
            *of_node = rows.iter().map(|(function, _)| *function).collect();
        }
    }

    /// What is known of a node that has no ready replica.
    pub(crate) fn cold(&self, node: u32) -> There {
        There { busy: reported(None, self.nodes.get(node as usize).copied().unwrap_or_default()) }
    }

    /// A node is no member any more.
    pub(crate) fn remove(&mut self, node: u32) {
        self.drop_rows(node, |_| true);
    }

    fn drop_rows(&mut self, node: u32, which: impl Fn(&u32) -> bool) {
        let Some(of_node) = self.of_node.get_mut(node as usize) else { return };
        for function in std::mem::take(of_node).into_iter().filter(which) {
            if let Some(peers) = self.functions.get_mut(function as usize) {
                peers.remove(node);
            }
        }
    }

    /// Shows `look` the peers of a node for a function: their loads, and who they are.
    pub(crate) fn look<T>(
        &mut self,
        function: u32,
        from: u32,
        look: impl FnOnce(&[There], &[u32]) -> T,
    ) -> T {
        let Some(peers) = self.functions.get_mut(function as usize) else { return look(&[], &[]) };
        let Some(&own) = peers.places.get(&from) else { return look(&peers.there, &peers.nodes) };
        // The node itself goes to the end for a moment, so that the others are one slice without a copy.
        let last = peers.nodes.len() - 1;
        peers.swap(own, last);
        let seen =
            look(peers.there.get(..last).unwrap_or_default(), peers.nodes.get(..last).unwrap_or_default());
        peers.swap(own, last);
        seen
    }
}

impl Peers {
    fn swap(&mut self, a: usize, b: usize) {
        self.nodes.swap(a, b);
        self.there.swap(a, b);
    }

    fn set(&mut self, node: u32, there: There) {
        match self.places.get(&node).and_then(|place| self.there.get_mut(*place)) {
            Some(known) => *known = there,
            None => {
                self.places.insert(node, self.nodes.len());
                self.nodes.push(node);
                self.there.push(there);
            }
        }
    }

    fn remove(&mut self, node: u32) {
        let Some(place) = self.places.remove(&node) else { return };
        self.nodes.swap_remove(place);
        self.there.swap_remove(place);
        if let Some(moved) = self.nodes.get(place) {
            self.places.insert(*moved, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(board: &mut Board, function: u32, from: u32) -> Vec<(u32, Option<u32>)> {
        board.look(function, from, |there, nodes| {
            let mut seen: Vec<_> = nodes.iter().copied().zip(there.iter().map(|there| there.busy)).collect();
            seen.sort_unstable();
            seen
        })
    }

    #[test]
    fn a_node_sees_its_peers_and_not_itself() {
        let mut board = Board::new(2, 3);
        board.post(0, 0, &[(0, Some(10)), (1, None)]);
        board.post(1, 0, &[(0, Some(20))]);
        board.post(2, 0, &[(0, Some(30))]);
        for _ in 0..2 {
            assert_eq!(seen(&mut board, 0, 1), [(0, Some(10)), (2, Some(30))]);
        }
        board.post(0, 0, &[(1, Some(5))]);
        assert_eq!(seen(&mut board, 0, 1), [(2, Some(30))]);
        assert_eq!(seen(&mut board, 1, 1), [(0, Some(5))]);
        board.remove(2);
        assert_eq!(seen(&mut board, 0, 0), [(1, Some(20))]);
    }
}
