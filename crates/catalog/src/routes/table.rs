//! The compiled routes: a trie of segments.
//!
//! ```text
//!   /            node 0 ── "cart" ─▶ node 1 ── {·} ─▶ node 2   leaf: GET → route 0, POST → route 3
//!                  └────── {*·}   leaf: GET → route 1
//! ```
//!
//! A lookup walks the path once, allocates nothing and keeps parameters as they stand in the path: what they
//! decode to is the function's to judge. Where literal text leads into a dead end, the walk returns to the
//! parameter beside it; since the trie is a tree, no node is entered twice. The depth of the walk is bounded by
//! [`SEGMENTS_MAX`](crate::limits::SEGMENTS_MAX).

use std::fmt;

use super::pattern::is_dot_segment;
use super::{Method, Route, RoutePattern, Segment};
use crate::limits::PARAMS_MAX;

/// Routes, compiled for lookup; each leads to a target of the caller's choosing.
#[derive(Clone, Debug)]
pub struct RouteTable<T> {
    nodes: Vec<Node>,
    entries: Vec<(Route, T)>,
}

/// What a path and a method lead to.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for every request")]
#[derive(Clone, Debug)]
pub enum Match<'a, T> {
    /// A route answers.
    Found {
        /// The route.
        route: &'a Route,
        /// What was compiled with it.
        target: &'a T,
        /// What the pattern's parameters stand for.
        params: Params<'a>,
    },
    /// The path is known, the method is not.
    MethodNotAllowed {
        /// The methods that the path answers, as the `Allow` header lists them.
        allow: &'a str,
    },
    /// No route has this path.
    NotFound,
}

/// Two routes that answer the same paths and method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteClash {
    /// The place of the earlier route, counted from 0.
    pub first: usize,
    /// The place of the later route.
    pub second: usize,
    /// The earlier route's pattern.
    pub first_path: RoutePattern,
    /// The later route's pattern.
    pub second_path: RoutePattern,
    /// The method that both answer.
    pub method: Method,
}

impl fmt::Display for RouteClash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first_path, second_path, method, .. } = self;
        write!(f, "{method} {second_path} is taken by the route {first_path}")
    }
}

impl std::error::Error for RouteClash {}

/// The parameters of a matched path, in the pattern's order, undecoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    pairs: [(&'a str, &'a str); PARAMS_MAX],
    len: usize,
}

impl<'a> Params<'a> {
    /// The pairs of name and value.
    #[must_use]
    pub fn as_slice(&self) -> &[(&'a str, &'a str)] {
        self.pairs.get(..self.len).unwrap_or_default()
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.as_slice().iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Sorted by text.
    literals: Vec<(Box<str>, usize)>,
    param: Option<usize>,
    wildcard: Option<Leaf>,
    leaf: Option<Leaf>,
}

#[derive(Clone, Debug, Default)]
struct Leaf {
    methods: Vec<(Method, usize)>,
    allow: String,
}

/// Parameter values met on the way down; a stack, since the walk may return.
#[derive(Default)]
struct Values<'p> {
    values: [&'p str; PARAMS_MAX],
    len: usize,
}

impl<T> RouteTable<T> {
    /// A table without routes.
    #[must_use]
    pub fn empty() -> Self {
        Self { nodes: vec![Node::default()], entries: Vec::new() }
    }

    /// Compiles routes, each with what it leads to.
    ///
    /// # Errors
    /// Two routes of one shape answer the same method: `/cart/{a}` and `/cart/{b}` are of one shape.
    pub fn compile(routes: impl IntoIterator<Item = (Route, T)>) -> Result<Self, Box<RouteClash>> {
        let mut table = Self::empty();
        for (route, target) in routes {
            table.insert(&route)?;
            table.entries.push((route, target));
        }
        Ok(table)
    }

    /// The route for a method and a path; the path carries no query.
    ///
    /// `HEAD` goes where `GET` goes unless a route names it. A path that is not plainly written (empty segments
    /// but for one at the end, `.` or `..`, NUL, each also percent-encoded) matches nothing, wildcards included.
    #[must_use]
    pub fn find<'a>(&'a self, method: &str, path: &'a str) -> Match<'a, T> {
        let Some(rest) = plain(path) else { return Match::NotFound };
        let mut values = Values::default();
        let Some(leaf) = self.descend(0, rest, &mut values) else { return Match::NotFound };
        match leaf.route(method).and_then(|index| self.entries.get(index)) {
            Some((route, target)) => Match::Found { route, target, params: values.named(&route.path) },
            None => Match::MethodNotAllowed { allow: &leaf.allow },
        }
    }

    /// The routes in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Route, &T)> {
        self.entries.iter().map(|(route, target)| (route, target))
    }

    fn descend<'a>(
        &'a self,
        node: usize,
        rest: Option<&'a str>,
        values: &mut Values<'a>,
    ) -> Option<&'a Leaf> {
        let node = self.nodes.get(node)?;
        let Some(rest) = rest else { return node.leaf.as_ref() };
        let (segment, deeper) = match rest.split_once('/') {
            Some((segment, deeper)) => (segment, Some(deeper)),
            None => (rest, None),
        };
        let literal = node.literals.binary_search_by(|(text, _)| (**text).cmp(segment));
        if let Some((_, next)) = literal.ok().and_then(|index| node.literals.get(index))
            && let Some(leaf) = self.descend(*next, deeper, values)
        {
            return Some(leaf);
        }
        if let Some(next) = node.param.filter(|_| !segment.is_empty()) {
            let before = values.len;
            values.push(segment);
            if let Some(leaf) = self.descend(next, deeper, values) {
                return Some(leaf);
            }
            values.len = before;
        }
        let leaf = node.wildcard.as_ref().filter(|_| !rest.is_empty())?;
        values.push(rest);
        Some(leaf)
    }

    fn insert(&mut self, route: &Route) -> Result<(), Box<RouteClash>> {
        let index = self.entries.len();
        let mut node = 0;
        let mut wild = false;
        for segment in route.path.segments() {
            match segment {
                Segment::Literal(text) => node = self.literal_child(node, text),
                Segment::Param(_) => node = self.param_child(node),
                Segment::Wildcard(_) => wild = true,
            }
        }
        let node = &mut self.nodes[node];
        let leaf = if wild { &mut node.wildcard } else { &mut node.leaf }.get_or_insert_default();
        for method in &route.methods {
            if let Some((_, first)) = leaf.methods.iter().find(|(known, _)| known == method) {
                let first_path = self.entries.get(*first).map_or(&route.path, |(route, _)| &route.path);
                return Err(Box::new(RouteClash {
                    first: *first,
                    second: index,
                    first_path: first_path.clone(),
                    second_path: route.path.clone(),
                    method: method.clone(),
                }));
            }
            leaf.methods.push((method.clone(), index));
        }
        leaf.list_methods();
        Ok(())
    }

    fn literal_child(&mut self, node: usize, text: &str) -> usize {
        let fresh = self.nodes.len();
        let literals = &mut self.nodes[node].literals;
        match literals.binary_search_by(|(known, _)| (**known).cmp(text)) {
            Ok(place) => literals[place].1,
            Err(place) => {
                literals.insert(place, (text.into(), fresh));
                self.nodes.push(Node::default());
                fresh
            }
        }
    }

    fn param_child(&mut self, node: usize) -> usize {
        let fresh = self.nodes.len();
        let param = &mut self.nodes[node].param;
        if let Some(known) = *param {
            return known;
        }
        *param = Some(fresh);
        self.nodes.push(Node::default());
        fresh
    }
}

impl Leaf {
    fn route(&self, method: &str) -> Option<usize> {
        let named = |name: &str| self.methods.iter().find(|(known, _)| known.as_str() == name);
        let found = named(method).or_else(|| if method == "HEAD" { named("GET") } else { None });
        found.map(|(_, index)| *index)
    }

    fn list_methods(&mut self) {
        let mut names: Vec<&str> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.sort_unstable();
        names.dedup();
        self.allow = names.join(", ");
    }
}

impl<'p> Values<'p> {
    fn push(&mut self, value: &'p str) {
        // A pattern has at most PARAMS_MAX parameters, and the trie holds nothing but patterns.
        if let Some(place) = self.values.get_mut(self.len) {
            *place = value;
            self.len += 1;
        }
    }

    fn named<'a>(&self, pattern: &'a RoutePattern) -> Params<'a>
    where
        'p: 'a,
    {
        let mut params = Params::default();
        let pairs = pattern.param_names().zip(self.values.iter().take(self.len));
        for (place, (name, value)) in params.pairs.iter_mut().zip(pairs) {
            *place = (name, value);
            params.len += 1;
        }
        params
    }
}

/// What follows the first slash of a plainly written path: `Some(None)` for the root, nothing for a path that no
/// route may match.
fn plain(path: &str) -> Option<Option<&str>> {
    let rest = path.strip_prefix('/')?;
    if rest.is_empty() {
        return Some(None);
    }
    let bytes = rest.as_bytes();
    let nul = bytes.contains(&0) || (bytes.contains(&b'%') && rest.contains("%00"));
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let empty_inside = segment.is_empty() && segments.peek().is_some();
        if empty_inside || is_dot_segment(segment) {
            return None;
        }
    }
    (!nul).then_some(Some(rest))
}

#[cfg(test)]
mod tests;
