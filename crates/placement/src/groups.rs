//! Which functions of an app share a cell.
//!
//! Memory keys are finite: a cell holds so many functions and no more. An app that fits is one group. One that does
//! not is split so that functions that call each other stay together, because a call inside a cell costs a gate
//! and a call between cells costs a wake:
//!
//! ```text
//!   every function alone ─▶ join the two groups with most call edges between them, as long as any two fit ─▶ groups
//! ```
//!
//! Functions that share a key start as one: the key is worth nothing between cells. Ties are broken by the order of
//! the functions, so the same app is always split the same way.

/// What one function needs of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The key that it shares with all others of the same number; its own if `None`.
    pub shared_key: Option<usize>,
}

/// What one cell has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Functions that it holds.
    pub seats: usize,
    /// Memory keys that it can give them.
    pub keys: usize,
}

/// More functions share one key than fit in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTooCrowded {
    /// The key's number.
    pub key: usize,
    /// How many share it.
    pub functions: usize,
}

/// Functions that stay together, and how many keys they take.
#[derive(Clone, Debug)]
struct Group {
    members: Vec<usize>,
    keys: usize,
}

impl Group {
    fn fits_beside(&self, other: &Group, room: Room) -> bool {
        self.members.len() + other.members.len() <= room.seats && self.keys + other.keys <= room.keys
    }
}

/// Splits functions into groups for one cell each. `calls` are pairs of indices into `tenants`; the direction of a call
/// does not matter, pairs out of range count for nothing. Groups, and functions in a group, are in order of index.
///
/// # Errors
/// [`KeyTooCrowded`]: functions that must stay together do not fit in one cell.
pub fn group(
    tenants: &[Tenant],
    calls: &[(usize, usize)],
    room: Room,
) -> Result<Vec<Vec<usize>>, KeyTooCrowded> {
    let mut groups = units(tenants);
    for group in &groups {
        if group.members.len() > room.seats.max(1) {
            let first = group.members.first().and_then(|&member| tenants.get(member));
            let key = first.and_then(|tenant| tenant.shared_key).unwrap_or_default();
            return Err(KeyTooCrowded { key, functions: group.members.len() });
        }
    }
    let mut edges = edges_between(&groups, tenants.len(), calls);
    while let Some((into, from)) = best_pair(&groups, &edges, room) {
        let joined = groups.remove(from);
        let row = edges.remove(from);
        if let Some(group) = groups.get_mut(into) {
            group.members.extend(joined.members);
            group.keys += joined.keys;
        }
        fold_edges(&mut edges, into, from, &row);
    }
    let mut found: Vec<Vec<usize>> = groups.into_iter().map(|group| group.members).collect();
    for members in &mut found {
        members.sort_unstable();
    }
    found.sort_unstable();
    Ok(found)
}

/// Every function alone, or with those of its key.
fn units(tenants: &[Tenant]) -> Vec<Group> {
    let mut groups: Vec<(Option<usize>, Group)> = Vec::new();
    for (index, tenant) in tenants.iter().enumerate() {
        let of_key = groups.iter_mut().find(|(key, _)| key.is_some() && *key == tenant.shared_key);
        match of_key {
            Some((_, group)) => group.members.push(index),
            None => groups.push((tenant.shared_key, Group { members: vec![index], keys: 1 })),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Call edges between every two groups.
fn edges_between(groups: &[Group], functions: usize, calls: &[(usize, usize)]) -> Vec<Vec<u32>> {
    let mut home = vec![None; functions];
    for (number, group) in groups.iter().enumerate() {
        for &member in &group.members {
            if let Some(home) = home.get_mut(member) {
                *home = Some(number);
            }
        }
    }
    let mut edges = vec![vec![0; groups.len()]; groups.len()];
    let mut count = |a: usize, b: usize| {
        if let Some(edge) = edges.get_mut(a).and_then(|row| row.get_mut(b)) {
            *edge += 1;
        }
    };
    for &(caller, callee) in calls {
        let home = |function: usize| home.get(function).copied().flatten();
        if let (Some(a), Some(b)) = (home(caller), home(callee))
            && a != b
        {
            count(a, b);
            count(b, a);
        }
    }
    edges
}

/// The two groups with most edges between them among those that fit in one cell; the first of equals.
fn best_pair(groups: &[Group], edges: &[Vec<u32>], room: Room) -> Option<(usize, usize)> {
    let mut best: Option<(u32, usize, usize)> = None;
    for (a, first) in groups.iter().enumerate() {
        for (b, second) in groups.iter().enumerate().skip(a + 1) {
            let between = edges.get(a).and_then(|row| row.get(b)).copied().unwrap_or_default();
            if first.fits_beside(second, room) && best.is_none_or(|(most, ..)| between > most) {
                best = Some((between, a, b));
            }
        }
    }
    best.map(|(_, a, b)| (a, b))
}

/// Group `from`, whose row is `row`, has become part of group `into`.
fn fold_edges(edges: &mut [Vec<u32>], into: usize, from: usize, row: &[u32]) {
    for (other, theirs) in edges.iter_mut().enumerate() {
        if from >= theirs.len() {
            continue;
        }
        let moved = theirs.remove(from);
        if let Some(edge) = theirs.get_mut(into) {
            *edge = if other == into { 0 } else { *edge + moved };
        }
    }
    let mut row = row.to_vec();
    if from < row.len() {
        row.remove(from);
    }
    let Some(own) = edges.get_mut(into) else { return };
    for (other, (edge, moved)) in own.iter_mut().zip(row).enumerate() {
        *edge = if other == into { 0 } else { *edge + moved };
    }
}

#[cfg(test)]
mod tests;
