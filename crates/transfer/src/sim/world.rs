//! The world: time, chance, faults, users, and the judge.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::memory::{SLOT, payload};
use super::net::{Chance, Conn};
use super::node::turn::Net;
use super::node::{For, Node, Told};
use super::{Bug, Totals};
use crate::bulk::PullError;
use crate::call::CallError;
use crate::payload::{AnswerKind, Arrived, Incoming};
use crate::vault::Refusal;
use crate::wire::hello::Lane;

/// Turns in which users and faults are at work.
const BUSY: u64 = 70;
/// Time in which everything has to come to its end afterwards.
const QUIET: Duration = Duration::from_secs(20);
/// Longest step of it: a lane is looked at more often than its peer's silence is suffered.
const QUIET_STEP_MAX: Duration = Duration::from_millis(400);

/// What is known of a call.
struct Record {
    caller: usize,
    life: u64,
    callee: usize,
    begun: u32,
    ended: Option<Ended>,
    /// Something was done that may have taken its bytes away.
    disturbed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Told(Result<AnswerKind, CallError>),
    Cancelled,
}

pub(super) struct World {
    chance: Chance,
    seed: u64,
    bug: Option<Bug>,
    now: Duration,
    nodes: Vec<Node>,
    conns: BTreeMap<usize, Conn>,
    next_conn: usize,
    records: Vec<Record>,
    /// Who learns when that a node lives again.
    news: Vec<(Duration, usize, usize)>,
    totals: Totals,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut chance = Chance::new(seed);
        let count = 2 + usize::try_from(chance.below(3)).unwrap();
        let mut nodes: Vec<Node> = (0..count).map(|index| Node::new(index, 1, seed, bug)).collect();
        for node in &mut nodes {
            node.known = (0..count).filter(|peer| *peer != node.index).map(|peer| (peer, 1)).collect();
        }
        let (conns, records, news, totals) = (BTreeMap::new(), Vec::new(), Vec::new(), Totals::default());
        World {
            chance,
            seed,
            bug,
            now: Duration::from_secs(1),
            nodes,
            conns,
            next_conn: 0,
            records,
            news,
            totals,
        }
    }

    pub(super) fn run(mut self) -> Totals {
        for _ in 0..BUSY {
            let step = self.chance.below(40_000);
            self.now += Duration::from_micros(step);
            self.users();
            self.faults();
            self.step();
        }
        let end = self.now + QUIET;
        for node in &mut self.nodes {
            node.slow = false;
        }
        let mut step = Duration::from_millis(15);
        while self.now < end {
            // Small steps at first, so that what is under way comes to its end; then up to all expiries.
            self.now += step;
            step = (step * 21 / 20).min(QUIET_STEP_MAX);
            self.step();
        }
        self.judge();
        self.totals
    }

    fn step(&mut self) {
        self.connect();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        for at in (1..order.len()).rev() {
            let with = usize::try_from(self.chance.below(at as u64 + 1)).unwrap();
            order.swap(at, with);
        }
        for index in order {
            if self.nodes[index].alive {
                let World { chance, conns, nodes, now, .. } = self;
                nodes[index].turn(&mut Net { now: *now, conns, chance });
            }
            self.told(index);
            self.bury();
        }
    }

    /// Ends of connections that broke.
    fn bury(&mut self) {
        if !self.conns.values().any(|conn| conn.dead) {
            return;
        }
        let dead: Vec<(usize, Conn)> = self.conns.extract_if(.., |_, conn| conn.dead).collect();
        for (id, conn) in dead.into_iter().filter(|(_, conn)| conn.opened) {
            for (end, life) in conn.ends.into_iter().zip(conn.lives) {
                let node = &mut self.nodes[end];
                if node.alive && node.life == life {
                    node.closed(self.now + node.jump, id);
                }
            }
        }
        for index in 0..self.nodes.len() {
            self.told(index);
        }
    }

    /// Nodes dial; connections open.
    fn connect(&mut self) {
        for index in 0..self.nodes.len() {
            if !self.nodes[index].alive {
                continue;
            }
            let peers: Vec<usize> = self.nodes[index].known.keys().copied().collect();
            for peer in peers {
                self.dial(index, peer, Lane::Call);
                let fetch = self.nodes[index].fetch(peer);
                if fetch.fetcher.lanes_wanted() > fetch.fetcher.lanes() + fetch.dialling {
                    fetch.dialling += 1;
                    self.dial(index, peer, Lane::Bulk);
                }
            }
        }
        let due = |conn: &Conn| !conn.opened && !conn.dead && conn.open_at <= self.now;
        let due: Vec<usize> = self.conns.iter().filter(|(_, conn)| due(conn)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.open(id));
    }

    fn open(&mut self, id: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let ([from, to], [life, theirs], lane) = (conn.ends, conn.lives, conn.lane);
        let known = self.nodes[to].known.get(&from) == Some(&life);
        let good = self.nodes[from].alive && self.nodes[from].life == life && self.nodes[to].alive;
        if !good || self.nodes[to].life != theirs || !known {
            conn.dead = true;
            if lane == Lane::Bulk && self.nodes[from].life == life {
                let fetch = self.nodes[from].fetch(to);
                fetch.dialling = fetch.dialling.saturating_sub(1);
            }
            return;
        }
        conn.opened = true;
        for (end, other, dialled) in [(from, to, true), (to, from, false)] {
            let now = self.now + self.nodes[end].jump;
            self.nodes[end].opened(now, id, other, lane == Lane::Call, dialled);
        }
    }

    fn dial(&mut self, from: usize, to: usize, lane: Lane) {
        let life = self.nodes[from].life;
        let there = |conn: &Conn| {
            conn.lane == Lane::Call && !conn.dead && conn.ends == [from, to] && conn.lives[0] == life
        };
        if lane == Lane::Call && self.conns.values().any(there) {
            return;
        }
        let lives = [life, self.nodes[from].known[&to]];
        let open_at = self.now + Duration::from_micros(self.chance.below(30_000));
        let (ends, ways) = ([from, to], Default::default());
        self.next_conn += 1;
        self.conns
            .insert(self.next_conn, Conn { lane, ends, lives, open_at, opened: false, dead: false, ways });
    }

    fn users(&mut self) {
        for _ in 0..1 + self.chance.below(3) {
            let from = usize::try_from(self.chance.below(self.nodes.len() as u64)).unwrap();
            let to = usize::try_from(self.chance.below(self.nodes.len() as u64)).unwrap();
            if from != to && self.nodes[from].alive {
                self.call(from, to);
            }
        }
        if self.chance.one_in(6) {
            let index = usize::try_from(self.chance.below(self.nodes.len() as u64)).unwrap();
            let node = &mut self.nodes[index];
            let chosen = node.waiting.keys().copied().min_by_key(|_| self.chance.next());
            if let Some(number) = chosen.and_then(|(peer, id)| node.cancel(peer, id)) {
                self.end(number, Ended::Cancelled);
            }
        }
    }

    fn call(&mut self, from: usize, to: usize) {
        let number = self.records.len() as u64;
        let timeout = Duration::from_millis(20 + self.chance.below(1500));
        let node = &mut self.nodes[from];
        let now = self.now + node.jump;
        let body = match self.chance.below(3) {
            0 => Arrived::Empty,
            1 => Arrived::Inline(Bytes::from(payload(number, self.chance.below(900)))),
            _ => {
                let len = 1 + self.chance.below(SLOT - 1);
                let held = node.hold(now, to, number, len, timeout);
                held.map_or(Arrived::Empty, Arrived::Referenced)
            }
        };
        let call = Incoming {
            app: "app".to_owned(),
            function: "function".to_owned(),
            invocation: number,
            timeout,
            head: number.to_le_bytes().to_vec(),
            body,
            ..Incoming::default()
        };
        let life = node.life;
        self.records.push(Record { caller: from, life, callee: to, begun: 0, ended: None, disturbed: false });
        if let Err(error) = self.nodes[from].call(now, to, call, number) {
            self.end(number, Ended::Told(Err(error)));
        }
    }

    fn faults(&mut self) {
        let index = usize::try_from(self.chance.below(self.nodes.len() as u64)).unwrap();
        if self.chance.one_in(8) && !self.conns.is_empty() {
            let nth = usize::try_from(self.chance.below(self.conns.len() as u64)).unwrap();
            if let Some(conn) = self.conns.values_mut().nth(nth).filter(|conn| conn.opened) {
                conn.kill();
                self.totals.broken += 1;
                self.bury();
            }
        }
        if self.chance.one_in(90) && self.nodes[index].alive {
            self.crash(index);
        } else if !self.nodes[index].alive && self.chance.one_in(6) {
            self.restart(index);
        }
        let node = &mut self.nodes[index];
        match self.chance.below(60) {
            0 => node.slow = !node.slow,
            1 => {
                node.jump += Duration::from_millis(self.chance.below(4000));
                self.disturb(|record| record.caller == index || record.callee == index);
            }
            2 => {
                node.draining = true;
                node.ins.values_mut().for_each(|called| called.callee.drain());
            }
            3 | 4 => {
                let pick = u32::try_from(self.chance.below(48)).unwrap();
                node.vault.revoke_where(|held, _| held.buffer().0 % 4 == pick % 4);
                self.disturb(|record| record.caller == index || record.callee == index);
            }
            _ => {}
        }
        for (at, who, of) in std::mem::take(&mut self.news) {
            if at > self.now {
                self.news.push((at, who, of));
            } else if self.nodes[who].alive {
                self.learn(who, of);
            }
        }
    }

    /// `who` learns that `of` is another incarnation.
    fn learn(&mut self, who: usize, of: usize) {
        let life = self.nodes[of].life;
        if self.nodes[who].known.insert(of, life) == Some(life) {
            return;
        }
        self.nodes[who].vault.revoke_where(|_, receiver| receiver == of.to_string());
        for conn in self.conns.values_mut() {
            let with = conn.ends.contains(&who) && conn.ends.contains(&of);
            let stale = conn.ends.iter().zip(conn.lives).any(|(end, its)| *end == of && its != life);
            if with && stale {
                conn.kill();
            }
        }
        self.bury();
    }

    fn crash(&mut self, index: usize) {
        self.totals.crashes += 1;
        self.nodes[index].alive = false;
        for conn in self.conns.values_mut().filter(|conn| conn.ends.contains(&index)) {
            conn.kill();
        }
        self.bury();
        self.disturb(|record| record.caller == index || record.callee == index);
    }

    fn restart(&mut self, index: usize) {
        let life = self.nodes[index].life + 1;
        let mut node = Node::new(index, life, self.seed, self.bug);
        let lives = self.nodes.iter().map(|node| (node.index, node.life));
        node.known = lives.filter(|(peer, _)| *peer != index).collect();
        node.time = self.now;
        self.nodes[index] = node;
        for who in 0..self.nodes.len() {
            if who != index {
                let at = self.now + Duration::from_micros(self.chance.below(200_000));
                self.news.push((at, who, index));
            }
        }
    }

    fn disturb(&mut self, which: impl Fn(&Record) -> bool) {
        self.records.iter_mut().filter(|record| which(record)).for_each(|record| record.disturbed = true);
    }

    fn end(&mut self, number: u64, how: Ended) {
        let record = &mut self.records[usize::try_from(number).unwrap()];
        assert_eq!(record.ended, None, "call {number} ended twice, now {how:?}");
        record.ended = Some(how);
        match how {
            Ended::Told(Ok(_)) => self.totals.answered += 1,
            Ended::Told(Err(_)) => self.totals.failed += 1,
            Ended::Cancelled => self.totals.cancelled += 1,
        }
    }

    fn told(&mut self, index: usize) {
        self.totals.resets += std::mem::take(&mut self.nodes[index].resets);
        for (peer, number, call) in std::mem::take(&mut self.nodes[index].again) {
            let now = self.now + self.nodes[index].jump;
            if let Err(error) = self.nodes[index].call(now, peer, call, number) {
                self.end(number, Ended::Told(Err(error)));
            }
        }
        let resumed: u64 =
            self.nodes[index].fetches.values_mut().map(|fetch| fetch.fetcher.take_resumed()).sum();
        self.totals.resumed += resumed;
        for told in std::mem::take(&mut self.nodes[index].told) {
            match told {
                Told::Begun(number) => {
                    let record = &mut self.records[usize::try_from(number).unwrap()];
                    record.begun += 1;
                    assert_eq!(record.begun, 1, "call {number} began twice");
                }
                Told::Ended(number, how) => self.end(number, Ended::Told(how)),
                Told::Pulled(_, Ok(())) => self.totals.pulled += 1,
                Told::Pulled(what, Err(error)) => self.pull_failed(what, error),
            }
        }
    }

    /// A pull may be late; what is held and wanted must not be refused.
    fn pull_failed(&mut self, what: For, error: PullError) {
        self.totals.refused += 1;
        let PullError::Refused(refusal) = error else { return };
        let (For::Body { number, .. } | For::Answer { number }) = what;
        let record = &self.records[usize::try_from(number).unwrap()];
        let wanted = match what {
            For::Body { .. } => record.ended.is_none(),
            For::Answer { .. } => true,
        };
        let crowded = refusal == Refusal::Crowded;
        assert!(!wanted || record.disturbed || crowded, "{what:?} was refused though it is held: {refusal}");
    }

    fn judge(&self) {
        for (number, record) in self.records.iter().enumerate() {
            let caller = &self.nodes[record.caller];
            let lives = caller.alive && caller.life == record.life;
            assert!(record.ended.is_some() || !lives, "call {number} never ended");
            let not_begun = match record.ended {
                Some(Ended::Told(Ok(kind))) => kind.retryable(),
                Some(Ended::Told(Err(error))) => error.retryable(),
                _ => false,
            };
            assert!(
                !not_begun || record.begun == 0,
                "call {number} began, its caller was told that it did not"
            );
            let answered = record.ended == Some(Ended::Told(Ok(AnswerKind::Reply)));
            assert!(!answered || record.begun == 1, "call {number} was answered and never began");
        }
        for node in self.nodes.iter().filter(|node| node.alive) {
            let index = node.index;
            assert_eq!(node.vault.len(), 0, "node {index} still holds something");
            assert_eq!(node.memory.taken(), 0, "memory of node {index} is still taken");
            assert!(
                node.waiting.is_empty() && node.tasks.is_empty(),
                "node {index} still waits for something"
            );
            let mut pulling: BTreeMap<_, _> = node.fetches.iter().collect();
            pulling.retain(|_, fetch| !fetch.pulling.is_empty() || fetch.fetcher.pulls() > 0);
            assert!(pulling.is_empty(), "node {index} still pulls");
        }
    }
}
