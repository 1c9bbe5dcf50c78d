//! Who is alive: one row a node, put again each second, gone when it is not.
//!
//! A row counts from the moment at which it was heard here; what clocks of other machines say does not matter. And silence
//! counts only while this node hears itself: if its own row does not come back either, it is the way to the others that is
//! silent, not they, and everybody stays until the way is open again.
//!
//! ```text
//!   heard ──▶ alive ── not heard for ROW_LIVES, own rows heard meanwhile ──▶ gone
//!               └──── its own farewell ──────────────────────────────────▶ gone
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use baton_flow::{Host, Hosts, Peer};
use serde::{Deserialize, Serialize};

use crate::limits::{OWN_ROW_WITHIN, ROW_LIVES};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name, unique among those that live.
    pub name: String,
    /// Another number at each start.
    pub incarnation: u64,
    /// Where it takes calls of other nodes.
    pub transfer: SocketAddr,
    /// Where it takes requests.
    pub gateway: SocketAddr,
    /// Version of the program.
    pub version: String,
    /// Cores that it may use.
    pub cores: u32,
    /// Bytes of memory of its machine.
    pub memory: u64,
    /// How busy its machine's cores were in the last second, in thousandths.
    #[serde(default)]
    pub cpu: u32,
    /// Whether it gives its work to others.
    pub draining: bool,
    /// When it started, milliseconds since the epoch by its own clock.
    pub since_ms: u64,
    /// What it has of each app.
    pub apps: BTreeMap<String, AppRow>,
}

/// What a node has of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRow {
    /// The version that runs; `None` if none does.
    pub version: Option<u64>,
    /// Why what is wanted does not run there.
    pub error: Option<String>,
    /// The functions that it hosts, and what they have to do.
    pub functions: BTreeMap<String, Load>,
    /// The version beside it, if two answer there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<BesideRow>,
}

/// What a node has of a version beside the leading one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BesideRow {
    /// Its number.
    pub version: u64,
    /// The functions of it that the node hosts.
    pub functions: BTreeMap<String, Load>,
}

/// What a function has to do on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Replicas that are ready.
    pub ready: u32,
    /// Requests in their hands.
    pub in_flight: u32,
    /// Calls that wait for one.
    pub queued: u32,
}

/// The table of those that live. Times are since some moment of this process.
#[derive(Clone, Debug)]
pub(super) struct Members {
    own: (String, u64),
    rows: BTreeMap<String, Heard>,
    /// When this node heard its own row last; `None` while it hears nothing.
    own_heard: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Heard {
    row: Row,
    at: Duration,
}

/// What a row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Figures of a node that was known, or nothing.
    Figures,
    /// A node came, started anew, or began or ceased to drain.
    Members,
    /// Another node has this one's name.
    Namesake,
}

impl Members {
    pub(super) fn new(name: &str, incarnation: u64) -> Self {
        Self { own: (name.to_owned(), incarnation), rows: BTreeMap::new(), own_heard: None }
    }

    /// Takes a row that was heard now.
    pub(super) fn heard(&mut self, row: Row, now: Duration) -> News {
        if row.name == self.own.0 {
            if row.incarnation != self.own.1 {
                return News::Namesake;
            }
            if self.is_deaf(now) {
                // The others were silent for the same reason as this node's own row, whatever that was.
                self.rows.values_mut().for_each(|heard| heard.at = now);
            }
            self.own_heard = Some(now);
        }
        let before = self.rows.get(&row.name).map(|heard| &heard.row);
        let same = before.is_some_and(|before| {
            before.incarnation == row.incarnation
                && before.draining == row.draining
                && (before.cores, before.memory) == (row.cores, row.memory)
                && (before.transfer, before.gateway) == (row.transfer, row.gateway)
        });
        self.rows.insert(row.name.clone(), Heard { row, at: now });
        if same { News::Figures } else { News::Members }
    }

    /// A node said farewell; says whether it was there.
    pub(super) fn left(&mut self, name: &str) -> bool {
        name != self.own.0 && self.rows.remove(name).is_some()
    }

    /// Drops those that were silent for too long; says whether there were any.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        if self.is_deaf(now) {
            return false;
        }
        let before = self.rows.len();
        let own = &self.own.0;
        self.rows.retain(|name, heard| name == own || now.saturating_sub(heard.at) < ROW_LIVES);
        self.rows.len() != before
    }

    /// Whether this node does not hear its own row, and so can say nothing of others.
    pub(super) fn is_deaf(&self, now: Duration) -> bool {
        self.own_heard.is_none_or(|at| now.saturating_sub(at) > OWN_ROW_WITHIN)
    }

    /// The rows, this node's own among them, by name.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().map(|heard| &heard.row)
    }
}

/// The table as the data plane takes it: everybody but `own`.
pub(super) fn hosts<'a>(own: &str, rows: impl Iterator<Item = &'a Row>) -> Hosts {
    let mut hosts = Hosts::default();
    for row in rows {
        let Row { name, incarnation, transfer: address, draining, cpu, .. } = row;
        if name == own {
            hosts.own_cpu = *cpu;
            continue;
        }
        let peer = Peer { address: *address, incarnation: *incarnation, draining: *draining, cpu: *cpu };
        hosts.peers.insert(name.clone(), peer);
        let leading =
            |(app, row): (&'_ String, &'_ AppRow)| (app.clone(), row.version, row.functions.clone());
        let beside = |(app, row): (&'_ String, &'_ AppRow)| {
            let beside = row.beside.clone()?;
            Some((app.clone(), Some(beside.version), beside.functions))
        };
        for (app, version, functions) in
            row.apps.iter().map(leading).chain(row.apps.iter().filter_map(beside))
        {
            // A name that is none here cannot be called here either.
            let (Some(version), Ok(app)) = (version, app.parse()) else { continue };
            let table = hosts.functions.entry(app).or_default();
            for (function, load) in &functions {
                let Ok(function) = function.parse() else { continue };
                let Load { ready, in_flight, queued } = *load;
                let (node, address, incarnation, version) = (name.clone(), *address, *incarnation, version);
                let host = Host { node, address, incarnation, version, ready, in_flight, queued };
                table.entry(function).or_insert_with(Vec::new).push(host);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn row(name: &str, incarnation: u64) -> Row {
        let address = SocketAddr::from(([127, 0, 0, 1], 7000));
        Row {
            name: name.to_owned(),
            incarnation,
            transfer: address,
            gateway: address,
            version: "1".to_owned(),
            cores: 2,
            cpu: 0,
            memory: 1 << 30,
            draining: false,
            since_ms: 0,
            apps: BTreeMap::new(),
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn names(members: &Members) -> Vec<&str> {
        members.rows().map(|row| row.name.as_str()).collect()
    }

    /// `a`, which hears itself each second from 0 on and looks ten times a second, up to a moment.
    fn live(members: &mut Members, from: u64, to: u64) -> Option<u64> {
        let mut out = None;
        for ms in (from..=to).step_by(100) {
            if ms % 1000 == 0 {
                members.heard(row("a", 1), at(ms));
            }
            if members.look(at(ms)) && out.is_none() {
                out = Some(ms);
            }
        }
        out
    }

    #[test]
    fn a_silent_node_is_out_within_three_seconds_and_not_before_it_missed_two_rows() {
        let mut members = Members::new("a", 1);
        members.heard(row("a", 1), at(0));
        assert_eq!(members.heard(row("b", 7), at(0)), News::Members);
        let out = live(&mut members, 0, 4000).unwrap();
        assert!((2100..=3000).contains(&out), "{out}");
        assert_eq!(names(&members), ["a"]);
    }

    #[test]
    fn nobody_is_out_while_this_node_does_not_hear_itself() {
        let mut members = Members::new("a", 1);
        members.heard(row("a", 1), at(0));
        members.heard(row("b", 7), at(0));
        for ms in (0..60_000).step_by(100) {
            assert!(!members.look(at(ms)), "{ms}");
        }
        // The way is open again: the other has as long as at first.
        members.heard(row("a", 1), at(60_000));
        assert!(!members.look(at(60_000)));
        let out = live(&mut members, 60_000, 64_000).unwrap();
        assert!((62_100..=63_000).contains(&out), "{out}");
    }

    #[test]
    fn what_is_news_is_told_from_figures() {
        let mut members = Members::new("a", 1);
        assert_eq!(members.heard(row("b", 7), at(0)), News::Members);
        let mut busy = row("b", 7);
        busy.apps.insert("shop".to_owned(), AppRow::default());
        assert_eq!(members.heard(busy, at(1)), News::Figures);
        assert_eq!(members.heard(row("b", 8), at(2)), News::Members, "it started anew");
        assert_eq!(members.heard(Row { draining: true, ..row("b", 8) }, at(3)), News::Members);
        assert_eq!(members.heard(row("a", 2), at(4)), News::Namesake);
        assert_eq!(names(&members), ["b"], "a namesake is not this node");
        assert!(members.left("b") && !members.left("b"));
    }

    #[test]
    fn the_data_plane_is_told_of_the_others_only() {
        let mut other = row("b", 7);
        let load = Load { ready: 2, in_flight: 1, queued: 3 };
        let functions = BTreeMap::from([("cart".to_owned(), load), ("no name".to_owned(), load)]);
        other.apps.insert("shop".to_owned(), AppRow { version: Some(4), functions, ..AppRow::default() });
        other.apps.insert("broken".to_owned(), AppRow { version: None, ..AppRow::default() });
        let mut own = row("a", 1);
        own.apps = other.apps.clone();
        let hosts = hosts("a", [&own, &other].into_iter());
        assert_eq!(hosts.peers.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(hosts.functions.len(), 1);
        let [host] = hosts.of("shop", "cart") else { panic!("{hosts:?}") };
        assert_eq!((host.node.as_str(), host.version, host.ready, host.queued), ("b", 4, 2, 3));
        assert!(hosts.of("shop", "other").is_empty() && hosts.of("shop", "no name").is_empty());
    }
}
